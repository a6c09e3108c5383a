"""Tiles as the C2SP specification tlog-tiles lays them out: paths, widths, entry bundles, and proofs made from them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tallystick.errors import NoteInvalid, ProofInvalid
from tallystick.events import MAX_EVENT_BYTES
from tallystick.journal.merkle import (
    MAX_SIZE,
    check_consistency,
    check_inclusion,
    consistency_proof,
    inclusion_proof,
    tree_root,
)
from tallystick.journal.tiles import (
    MAX_ENTRY_BYTES,
    WIDTH,
    Bundle,
    Tile,
    decode_bundle,
    encode_bundle,
    hash_reader,
    parse_path,
)
from tests.journal.tree_model import LEAVES, Log, leaf_of
from tests.support.tiles import bundles_of, tiles_of

LOG = Log(LEAVES)
PLACES = [0, 1, 255, 256, 257, 511, 512, 65_535, 65_536, 65_537, 69_999]


# ---------------------------------------------------------------- paths


@pytest.mark.parametrize(
    ("tile", "path"),
    [
        (Tile(0, 0), "tile/0/000"),
        (Tile(0, 999), "tile/0/999"),
        (Tile(0, 1000), "tile/0/x001/000"),
        (Tile(0, 1067, 5), "tile/0/x001/067.p/5"),
        (Tile(3, 1_234_067), "tile/3/x001/x234/067"),
        (Tile(63, 1_000_000, 255), "tile/63/x001/x000/000.p/255"),
        (Tile(0, MAX_SIZE, 1), "tile/0/x009/x223/x372/x036/x854/x775/807.p/1"),
        (Bundle(0, 1), "tile/entries/000.p/1"),
        (Bundle(1067, 5), "tile/entries/x001/067.p/5"),
        (Bundle(1_234_067), "tile/entries/x001/x234/067"),
    ],
)
def test_a_tile_lies_where_the_specification_puts_it(tile: Tile | Bundle, path: str):
    assert tile.path == path
    assert parse_path(path) == tile


NUMBERS = st.one_of(st.integers(0, 2000), st.integers(0, MAX_SIZE))
TILES = st.builds(Tile, st.integers(0, 63), NUMBERS, st.integers(1, WIDTH))
BUNDLES = st.builds(Bundle, NUMBERS, st.integers(1, WIDTH))


@given(st.one_of(TILES, BUNDLES))
@settings(deadline=None)
def test_every_path_names_its_tile(tile: Tile | Bundle):
    assert parse_path(tile.path) == tile


@pytest.mark.parametrize(
    "path",
    [
        "",
        "tile",
        "tile/0",
        "tile/0/",
        "tile/0/0",
        "tile/0/00",
        "tile/0/0000",
        "tile/0/x000",
        "tile/0/x000/001",
        "tile/0/000/001",
        "tile/0/x001/x067",
        "tile/0/001/067",
        "tile/0/x1/067",
        "tile/0/x0001/067",
        "tile/00/000",
        "tile/01/000",
        "tile/64/000",
        "tile/100/000",
        "tile/-1/000",
        "tile/+1/000",
        "tile//000",
        "tile/0/-01",
        "tile/0/0 1",
        "tile/0/000.p",
        "tile/0/000.p/",
        "tile/0/000.p/0",
        "tile/0/000.p/05",
        "tile/0/000.p/256",
        "tile/0/000.p/257",
        "tile/0/000.p/999",
        "tile/0/000.p/1000",
        "tile/0/000.p/-1",
        "tile/0/000.p/5/",
        "tile/0/000/",
        "tile/0/000\n",
        "/tile/0/000",
        "x/tile/0/000",
        "tile/0/../0/000",
        "tile/8/0/000",  # Go's older layout, with the height in front
        "tile/data/000",  # certificate logs
        "tile/entries",
        "tile/entries/0/000",
        "tile/Entries/000",
        "tile/entries/000.p/0",
        "tile/entries/000.p/256",
        "tile/0/\u0660\u0660\u0660",
        "tile/0/000.p/\u0665",
        "tile/0/x009/x223/x372/x036/x854/x775/808",
        "tile/0/x001/x009/x223/x372/x036/x854/x775/807",
        pytest.param("tile/0/" + "x001/" * 100_000 + "000", id="endless"),
        "checkpoint",
    ],
)
def test_a_path_written_in_any_other_way_is_refused(path: str):
    with pytest.raises(NoteInvalid, match=r"is not the path of a tile|is above level 63") as refusal:
        parse_path(path)
    assert len(str(refusal.value)) < 200


# ---------------------------------------------------------------- which tiles there are


def test_a_log_of_70_000_has_the_tiles_that_the_specification_counts():
    tiles = list(tiles_of(70_000))
    assert [sum(tile.level == level for tile in tiles) for level in range(4)] == [274, 2, 1, 0]
    assert [tile.path for tile in tiles if tile.width < WIDTH] == [
        "tile/0/273.p/112",
        "tile/1/001.p/17",
        "tile/2/000.p/1",
    ]


def test_a_log_of_256_has_a_full_tile_and_one_hash_above_it():
    assert list(tiles_of(256)) == [Tile(0, 0), Tile(1, 0, 1)]
    assert list(bundles_of(256)) == [Bundle(0)]


@pytest.mark.parametrize("size", [0, 1, 255, 256, 257, 511, 512, 65_535, 65_536, 65_537, 65_792, 131_072, 300_000])
def test_each_level_has_a_tile_for_every_256_hashes_of_the_level_below_and_the_remainder(size: int):
    by_level: dict[int, list[Tile]] = {}
    for tile in tiles_of(size):
        by_level.setdefault(tile.level, []).append(tile)
    for level in range(8):
        tiles = by_level.pop(level, [])
        assert [tile.number for tile in tiles] == list(range(len(tiles)))
        assert all(tile.width == WIDTH for tile in tiles[:-1])
        assert sum(tile.width for tile in tiles) == size // 256**level
    assert by_level == {}
    bundles = list(bundles_of(size))
    assert [Tile(0, bundle.number, bundle.width) for bundle in bundles] == [t for t in tiles_of(size) if t.level == 0]


def test_an_empty_log_has_no_tiles():
    assert list(tiles_of(0)) == list(bundles_of(0)) == []


# ---------------------------------------------------------------- entry bundles


def test_each_entry_stands_behind_its_length_high_byte_first():
    data = b"\x00\x01a" + b"\x00\x00" + b"\x01\x02" + b"b" * 258
    assert encode_bundle([b"a", b"", b"b" * 258]) == data
    assert decode_bundle(data, 3) == [b"a", b"", b"b" * 258]


@given(st.lists(st.binary(max_size=300), min_size=1, max_size=WIDTH))
@settings(deadline=None)
def test_a_bundle_gives_back_its_entries_and_no_other_number_of_them(bodies: list[bytes]):
    data = encode_bundle(bodies)
    assert decode_bundle(data, len(bodies)) == bodies
    for width in {len(bodies) - 1, len(bodies) + 1}:
        with pytest.raises(NoteInvalid):
            decode_bundle(data, width)


def test_a_bundle_that_is_cut_short_or_goes_on_is_refused():
    bodies = [b"first", b"", b"third" * 60, b""]
    data = encode_bundle(bodies)
    for end in range(len(data)):
        with pytest.raises(NoteInvalid, match="ends within entry"):
            decode_bundle(data[:end], len(bodies))
    for more in (b"\0", b"\0\0", b"\0\1x"):
        with pytest.raises(NoteInvalid, match="bytes behind its 4 entries"):
            decode_bundle(data + more, len(bodies))


def test_an_entry_has_65535_bytes_at_most_and_every_event_fits():
    assert MAX_EVENT_BYTES <= MAX_ENTRY_BYTES == 65_535
    longest = b"x" * MAX_ENTRY_BYTES
    assert decode_bundle(encode_bundle([longest, b"y"]), 2) == [longest, b"y"]
    with pytest.raises(NoteInvalid, match="takes 65536 bytes"):
        encode_bundle([longest + b"x"])


@pytest.mark.parametrize("width", [0, WIDTH + 1])
def test_a_bundle_has_one_entry_at_least_and_256_at_most(width: int):
    assert len(decode_bundle(encode_bundle([b"x"] * WIDTH), WIDTH)) == WIDTH
    with pytest.raises(NoteInvalid, match="holds 1 to 256 entries"):
        encode_bundle([b"x"] * width)
    with pytest.raises(NoteInvalid, match="holds 1 to 256 entries"):
        decode_bundle(b"\0\1x" * width, width)


# ---------------------------------------------------------------- reading the tree


class Shelf:
    """The tiles of a log, and every request made for them. What is asked for must be a tile of a log of ``size``."""

    def __init__(self, log: Log, size: int, *, is_wide: bool = False) -> None:
        self.log = log
        self.size = size
        self.is_wide = is_wide
        self.requests: list[list[Tile]] = []

    def __call__(self, tiles: Sequence[Tile]) -> list[bytes]:
        self.requests.append(list(tiles))
        for tile in tiles:
            assert 1 <= tile.width == min(WIDTH, self.size // 256**tile.level - tile.number * WIDTH)
        return [self.log.tile(tile.level, tile.number, WIDTH if self.is_wide else tile.width) for tile in tiles]

    @property
    def paths(self) -> list[str]:
        return [tile.path for request in self.requests for tile in request]


@pytest.mark.parametrize("size", [1, 2, 255, 256, 257, 300, 511, 512, 513, 1000])
def test_every_complete_subtree_of_a_log_is_read_from_its_tiles(size: int):
    nodes = [(level, index) for level in range(size.bit_length()) for index in range(size >> level)]
    expected = [LOG.mth(index << level, (index + 1) << level) for level, index in nodes]
    shelf = Shelf(LOG, size)
    assert hash_reader(shelf, size)(nodes) == expected
    assert sorted(shelf.paths) == sorted(tile.path for tile in tiles_of(size))
    assert hash_reader(Shelf(LOG, size, is_wide=True), size)(nodes) == expected


@pytest.mark.parametrize("size", [0, 5, 300])
def test_a_subtree_that_is_not_within_the_log_is_refused(size: int):
    read = hash_reader(Shelf(LOG, size), size)
    for level in range(12):
        for node in (level, size >> level), (level, -1), (-1, 0):
            with pytest.raises(ProofInvalid, match="has no complete subtree"):
                read([node])


@given(st.data())
@settings(deadline=None)
def test_proofs_made_from_tiles_hold_at_any_size(data: st.DataObject):
    old, new = sorted([data.draw(st.integers(1, MAX_SIZE)), data.draw(st.integers(1, MAX_SIZE))])
    log = Log({place: leaf_of(place) for place in (0, old - 2, old - 1, old, new - 2, new - 1) if place >= 0})
    shelf = Shelf(log, new)
    read = hash_reader(shelf, new)
    root = tree_root(new, read)
    assert root == log.mth(0, new)
    check_inclusion(old - 1, new, log.leaf(old - 1), inclusion_proof(old - 1, new, read), root)
    check_consistency(old, new, log.mth(0, old), root, consistency_proof(old, new, read))
    assert all(len(set(request)) == len(request) for request in shelf.requests)
    assert max(len(request) for request in shelf.requests) <= 16


def test_a_proof_asks_at_once_for_the_tiles_it_needs_and_for_no_others():
    log = Log({place: leaf_of(place) for place in PLACES})

    def asked(make: Callable[..., object], *sizes: int) -> list[str]:
        shelf = Shelf(log, 70_000)
        make(*sizes, hash_reader(shelf, 70_000))
        assert len(shelf.requests) == 1
        return sorted(shelf.paths)

    edge = ["tile/0/273.p/112", "tile/1/001.p/17"]
    assert asked(inclusion_proof, 0, 70_000) == ["tile/0/000", *edge[:1], "tile/1/000", *edge[1:]]
    assert asked(inclusion_proof, 69_999, 70_000) == [*edge, "tile/2/000.p/1"]
    assert asked(consistency_proof, 65_536, 70_000) == edge
    assert asked(consistency_proof, 69_888, 70_000) == [*edge, "tile/2/000.p/1"]
    assert asked(tree_root, 70_000) == [*edge, "tile/2/000.p/1"]
    assert asked(tree_root, 65_536) == ["tile/2/000.p/1"]


def test_nothing_asked_for_reads_no_tile():
    shelf = Shelf(LOG, 300)
    assert hash_reader(shelf, 300)([]) == []
    assert shelf.requests == []


@pytest.mark.parametrize("data", [b"", bytes(31), bytes(32 * 4), bytes(32 * 5 - 1), bytes(32 * 5 + 1), bytes(8224)])
def test_a_tile_that_is_short_or_long_or_not_whole_hashes_is_refused(data: bytes):
    read = hash_reader(lambda tiles: [data], 5)
    with pytest.raises(ProofInvalid, match=rf"tile/0/000.p/5 has {len(data)} bytes"):
        read([(0, 0)])


@pytest.mark.parametrize("answer", [[], [bytes(160), bytes(160)]])
def test_a_source_that_gives_more_or_fewer_tiles_than_asked_is_refused(answer: list[bytes]):
    with pytest.raises(ProofInvalid, match="1 tiles were asked for"):
        hash_reader(lambda tiles: answer, 5)([(0, 0), (1, 0)])


def test_a_tile_with_a_hash_altered_gives_proofs_that_are_refused():
    data = bytearray(LOG.tile(0, 0, 7))
    data[32 * 4] ^= 1
    read = hash_reader(lambda tiles: [bytes(data)], 7)
    with pytest.raises(ProofInvalid):
        check_inclusion(0, 7, LEAVES[0], inclusion_proof(0, 7, read), LOG.mth(0, 7))
