// A judge that shares nothing with this project: the Go packages golang.org/x/mod/sumdb/note and .../tlog, unmodified, open
// every checkpoint of a published log, hash every entry, and check proofs of inclusion and of consistency.

package main

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

type reader struct{ dir string }

func path(n int64) string {
	s := fmt.Sprintf("%03d", n%1000)
	for n >= 1000 {
		n /= 1000
		s = fmt.Sprintf("x%03d/%s", n%1000, s)
	}
	return s
}
func (r reader) Height() int { return 8 }
func (r reader) ReadTiles(tiles []tlog.Tile) ([][]byte, error) {
	var out [][]byte
	for _, t := range tiles {
		p := fmt.Sprintf("tile/%d/%s", t.L, path(t.N))
		if t.W != 256 {
			p += fmt.Sprintf(".p/%d", t.W)
		}
		b, err := os.ReadFile(filepath.Join(r.dir, p))
		if err != nil {
			return nil, err
		}
		out = append(out, b)
	}
	return out, nil
}
func (r reader) SaveTiles(tiles []tlog.Tile, data [][]byte) {}
func must(err error) {
	if err != nil {
		fmt.Println("REFUSED:", err)
		os.Exit(1)
	}
}
func main() {
	dir, vkey := os.Args[1], os.Args[2]
	v, err := note.NewVerifier(vkey)
	must(err)
	open := func(file string) (int64, tlog.Hash) {
		data, err := os.ReadFile(file)
		must(err)
		n, err := note.Open(data, note.VerifierList(v))
		must(err)
		lines := strings.Split(n.Text, "\n")
		size, err := strconv.ParseInt(lines[1], 10, 64)
		must(err)
		h, err := base64.StdEncoding.DecodeString(lines[2])
		must(err)
		var hash tlog.Hash
		copy(hash[:], h)
		return size, hash
	}
	size, root := open(filepath.Join(dir, "checkpoint"))
	hr := tlog.TileHashReader(tlog.Tree{N: size, Hash: root}, reader{dir})
	th, err := tlog.TreeHash(size, hr)
	must(err)
	if th != root {
		fmt.Println("REFUSED: root")
		os.Exit(1)
	}
	for n := int64(0); n*256 < size; n++ {
		w := size - n*256
		p := "tile/entries/" + path(n)
		if w < 256 {
			p += fmt.Sprintf(".p/%d", w)
		}
		data, err := os.ReadFile(filepath.Join(dir, p))
		must(err)
		i := n * 256
		for len(data) > 0 {
			l := int(binary.BigEndian.Uint16(data))
			rec := data[2 : 2+l]
			data = data[2+l:]
			hs, err := hr.ReadHashes([]int64{tlog.StoredHashIndex(0, i)})
			must(err)
			want := tlog.RecordHash(rec)
			if !bytes.Equal(hs[0][:], want[:]) {
				fmt.Println("REFUSED: record", i)
				os.Exit(1)
			}
			if i%97 == 0 {
				pr, err := tlog.ProveRecord(size, i, hr)
				must(err)
				must(tlog.CheckRecord(pr, size, root, i, want))
			}
			i++
		}
	}
	files, _ := os.ReadDir(filepath.Join(dir, "checkpoints"))
	for _, f := range files {
		s, r := open(filepath.Join(dir, "checkpoints", f.Name()))
		pr, err := tlog.ProveTree(size, s, hr)
		must(err)
		must(tlog.CheckTree(pr, size, root, s, r))
	}
	fmt.Println("ok", size, "events,", len(files), "checkpoints")
}
