"""Publishing: a log is whole at every moment, and what was published is never taken back and never contradicted."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tallystick.errors import LedgerCorrupt, LogForked, NoteInvalid, TallystickError, Unavailable
from tallystick.evidence.publications import (
    DirectoryPublication,
    Publication,
    changed_tiles,
)
from tallystick.journal.checkpoints import Checkpoint, cosign, sign_checkpoint, with_signatures
from tallystick.journal.notes import COSIGNATURE, SecretKey
from tallystick.journal.tiles import Bundle, Tile
from tests.evidence.published import (
    FORK,
    KEY,
    LOG,
    ORIGIN,
    Log,
    MemoryPublication,
    check_readable,
    names_in,
    published,
)
from tests.support.tiles import tiles_of

# ---------------------------------------------------------------- publishing


def test_a_log_is_published_as_it_grows(place: Publication) -> None:
    before = 0
    for size in (0, 1, 5, 255, 256, 257, 512, 700):
        done = LOG.publish(place, size, published=before)
        assert (done.before, done.size) == (before, size)
        assert check_readable(place) == size
        before = size
    for size in (1, 5, 255, 256, 257, 512):  # what was published for them is still there
        assert place.read(f"checkpoints/{size}") == LOG.note(size)
        assert all(place.read(tile.path) == LOG.tile(tile) for tile in tiles_of(size))


def test_a_log_of_three_levels_is_published_at_once_and_then_only_what_is_new() -> None:
    place = MemoryPublication()
    LOG.publish(place, 65_700)
    assert check_readable(place) == 65_700
    written = len(place.writes)
    LOG.asked.clear()
    LOG.publish(place, 66_000)
    assert place.writes[written:] == [
        "tile/entries/256",
        "tile/entries/257.p/208",
        "tile/0/256",
        "tile/0/257.p/208",
        "tile/1/001.p/1",
        "checkpoints/66000",
        "checkpoint",
    ]
    assert len(LOG.asked) < 30
    assert check_readable(place) == 66_000


@given(st.integers(0, 70_000), st.integers(0, 70_000))
@settings(deadline=None, max_examples=60)
def test_the_tiles_that_change_are_those_of_the_new_size_that_the_old_one_has_not(one: int, other: int) -> None:
    old, new = sorted((one, other))
    had = set(tiles_of(old))
    assert list(changed_tiles(old, new)) == [tile for tile in tiles_of(new) if tile not in had]


@given(st.lists(st.integers(0, 800), min_size=1, max_size=5).map(sorted))
@settings(deadline=None, max_examples=15)
def test_whatever_the_steps_every_checkpoint_is_covered(sizes: list[int]) -> None:
    place = MemoryPublication()
    for size in sizes:
        LOG.publish(place, size)
        assert check_readable(place) == size


def test_checkpoint_is_written_last_and_its_copy_before_it() -> None:
    place, private = MemoryPublication(), MemoryPublication()
    LOG.publish(place, 600)
    assert place.writes[-2:] == ["checkpoints/600", "checkpoint"]
    LOG.publish(private, 600, entries=MemoryPublication())
    assert private.writes[-2:] == ["checkpoints/600", "checkpoint"]


@pytest.mark.parametrize("private", [False, True])
def test_a_crash_at_any_write_leaves_a_log_that_can_be_read_and_published_on(private: bool) -> None:
    for at in range(100):
        place, entries = MemoryPublication(), MemoryPublication() if private else None
        LOG.publish(place, 300, entries=entries)
        crashed = 0
        for target in filter(None, (place, entries)):
            target.fail_at = len(target.writes) + at
            try:
                LOG.publish(place, 600, entries=entries)
            except Unavailable:
                crashed += 1
                assert check_readable(place, entries=entries) == 300
            target.fail_at = None
        LOG.publish(place, 700, entries=entries)
        assert check_readable(place, entries=entries) == 700
        if not crashed:
            break
    assert at > 3


def test_publishing_again_changes_nothing() -> None:
    place = MemoryPublication()
    LOG.publish(place, 300)
    writes = list(place.writes)
    assert LOG.publish(place, 300).files == 0
    assert place.writes == writes


def test_a_folder_published_by_two_at_once_is_whole(tmp_path: Path) -> None:
    def run(sizes: Iterable[int]) -> int:
        lost = 0
        for size in sizes:
            try:
                LOG.publish(DirectoryPublication(tmp_path), size)
            except (Unavailable, LogForked):  # the other was quicker, perhaps with a later checkpoint
                lost += 1
        return lost

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(run, [range(10, 600, 90), range(40, 600, 70)]))
    assert check_readable(DirectoryPublication(tmp_path)) > 500


# ---------------------------------------------------------------- what is refused


def refused(place: Publication, log: Log, size: int, problem: str, error: type = LogForked, **options: Any) -> None:
    before = dict(place.files) if isinstance(place, MemoryPublication) else None
    with pytest.raises(error, match=problem):
        log.publish(place, size, **options)
    if before is not None:
        assert place.files == before


def test_a_smaller_checkpoint_is_refused() -> None:
    for size in (0, 1, 256, 299):
        refused(published(300), LOG, size, "size 300 is published")


@pytest.mark.parametrize("size", [300, 301, 512, 700])
def test_a_checkpoint_that_does_not_extend_what_is_published_is_refused(size: int) -> None:
    refused(published(300), FORK, size, "the first 300 events are not those that were published")


def test_a_fork_after_what_is_published_is_no_fork() -> None:
    place = published(250)
    FORK.publish(place, 700)
    assert check_readable(place, FORK) == 700


def test_a_place_that_was_emptied_or_taken_back_is_refused_unless_it_is_meant(place: Publication) -> None:
    refused(place, LOG, 300, "there is no checkpoint, though one of size 200 was published", published=200)
    LOG.publish(place, 100)
    refused(place, LOG, 300, "has size 100, though one of size 200 was published", published=200)
    assert LOG.publish(place, 300).before == 100
    assert LOG.publish(place, 400, published=250).before == 300  # whoever remembers less has just not been told


def test_a_published_checkpoint_that_is_not_the_logs_own_is_refused() -> None:
    stranger = SecretKey.from_seed(ORIGIN, bytes(31) + b"x")
    other = SecretKey.from_seed("other.example", bytes(32))
    notes = [
        b"",
        b"garbage",
        LOG.note(100)[:-3],
        sign_checkpoint(LOG.checkpoint(100), stranger),
        sign_checkpoint(Checkpoint(origin="other.example", size=100, root=LOG.checkpoint(100).root), other),
        LOG.note(100).replace(b"\n100\n", b"\n10\n"),
    ]
    for note in notes:
        place = published(100)
        place.files["checkpoint"] = note
        refused(place, LOG, 200, "not of this log", keys=[KEY.verifier, other.verifier])


def test_a_note_that_no_key_of_the_log_signed_is_not_published() -> None:
    stranger = SecretKey.from_seed(ORIGIN, bytes(31) + b"x")
    for note in (b"x", sign_checkpoint(LOG.checkpoint(100), stranger), LOG.note(100).replace(b"100", b"101")):
        refused(MemoryPublication(), LOG, 100, "cannot be trusted", NoteInvalid, note=note)


def test_a_new_key_goes_on_where_the_old_one_is_known() -> None:
    new = SecretKey.from_seed(ORIGIN, bytes(31) + b"n")
    place, note = published(100), sign_checkpoint(LOG.checkpoint(200), new)
    refused(place, LOG, 200, "not of this log", note=note, keys=[new.verifier])
    LOG.publish(place, 200, note=note, keys=[new.verifier, KEY.verifier])
    assert place.files["checkpoint"] == note


def test_an_origin_other_than_the_keys_name_is_published_when_it_is_named() -> None:
    named = Checkpoint(origin="ledger.example/log/2027", size=100, root=LOG.checkpoint(100).root)
    note = sign_checkpoint(named, KEY)
    refused(MemoryPublication(), LOG, 100, "may not", NoteInvalid, note=note)
    refused(MemoryPublication(), LOG, 100, "not of", NoteInvalid, note=note, origin="elsewhere")
    place = MemoryPublication()
    LOG.publish(place, 100, note=note, origin=named.origin)
    assert place.files["checkpoint"] == note


def test_tiles_of_another_tree_than_the_checkpoints_are_not_published() -> None:
    refused(MemoryPublication(), LOG, 300, "another root", note=FORK.note(300))


def test_a_bundle_with_a_changed_entry_is_not_published() -> None:
    def flip(wanted: Sequence[Bundle]) -> list[bytes]:
        return [data[:-1] + bytes([data[-1] ^ 1]) for data in LOG.bundles(wanted)]

    def cut(wanted: Sequence[Bundle]) -> list[bytes]:
        return [data[:-1] for data in LOG.bundles(wanted)]

    for bundles in (flip, cut):
        refused(MemoryPublication(), LOG, 300, "tile/entries/000", LedgerCorrupt, bundles=bundles)


def test_a_tile_that_is_too_short_is_not_published() -> None:
    def cut(wanted: Sequence[Tile]) -> list[bytes]:
        return [data[:-32] for data in LOG.tiles(wanted)]

    refused(MemoryPublication(), LOG, 300, "hashes were found", LedgerCorrupt, tiles=cut)


def test_a_tile_that_has_grown_since_is_cut_to_the_checkpoint() -> None:
    def grown(wanted: Sequence[Tile]) -> list[bytes]:
        wide = [
            Tile(level=tile.level, number=tile.number, width=256 if tile.level == 0 else tile.width) for tile in wanted
        ]
        return LOG.tiles(wide)

    place = MemoryPublication()
    LOG.publish(place, 300, tiles=grown)
    assert check_readable(place) == 300


def test_a_kept_checkpoint_of_another_tree_is_refused() -> None:
    for kept in (FORK.note(300), b"garbage"):
        place = MemoryPublication()
        LOG.publish(place, 200)
        place.files["checkpoints/300"] = kept
        with pytest.raises(LogForked, match="checkpoints/300 is of another tree"):
            LOG.publish(place, 300)
        assert check_readable(place) == 200


def test_a_published_tile_with_other_bytes_stops_the_publishing(place: Publication) -> None:
    LOG.publish(place, 100)
    place.write("tile/0/000", b"x" * 8192, immutable=True)
    refused(place, LOG, 300, "tile/0/000 was published with other bytes")
    assert check_readable(place) == 100


def test_cosignatures_that_come_later_are_added_and_the_first_copy_stays() -> None:
    witness = SecretKey.from_seed("witness.example", bytes(32), COSIGNATURE)
    place, note = published(300), LOG.note(300)
    cosigned = with_signatures(note, [cosign(note, witness, 1_700_000_000)])
    assert LOG.publish(place, 300, note=cosigned).files == 0
    assert place.files["checkpoint"] == cosigned
    assert place.files["checkpoints/300"] == note


# ---------------------------------------------------------------- private mode


def test_in_private_mode_hashes_are_public_and_entries_are_not(tmp_path: Path) -> None:
    hashes, entries = DirectoryPublication(tmp_path / "public"), DirectoryPublication(tmp_path / "private")
    for size in (100, 256, 600):
        LOG.publish(hashes, size, entries=entries)
        assert check_readable(hashes, entries=entries) == size
    assert not any("entries" in name for name in names_in(tmp_path / "public"))
    others = names_in(tmp_path / "private") - {"checkpoint"}
    assert others
    assert all(name.startswith("tile/entries/") for name in others)


def test_a_place_for_entries_that_comes_later_or_lags_behind_gets_them_all() -> None:
    hashes, entries = published(300), MemoryPublication()
    LOG.publish(hashes, 600, entries=entries, published=300)
    assert check_readable(hashes, entries=entries) == 600
    assert "tile/entries/001" not in hashes.files


@pytest.mark.parametrize("size", [300, 512, 600])
def test_a_private_log_that_turns_public_gets_all_its_entries_also_after_a_crash(size: int) -> None:
    hashes = MemoryPublication()
    LOG.publish(hashes, size, entries=MemoryPublication())
    hashes.fail_at = len(hashes.writes) + 1
    with pytest.raises(Unavailable):
        LOG.publish(hashes, 600, published=size)
    hashes.fail_at = None
    LOG.publish(hashes, 600, published=size)
    assert check_readable(hashes) == 600


@pytest.mark.parametrize("size", [600, 700])
def test_entries_of_another_log_are_refused(size: int) -> None:
    hashes, entries = published(200), published(600, FORK)
    before = dict(entries.files)
    refused(hashes, LOG, size, "the first 600 events are not those", entries=entries)
    assert entries.files == before


def test_every_error_of_publishing_is_of_the_tree_of_errors(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(TallystickError):
        LOG.publish(DirectoryPublication(tmp_path / "file"), 1)
    with tempfile.TemporaryDirectory() as gone:
        place = DirectoryPublication(Path(gone) / "log")
    assert place.read("checkpoint") is None
