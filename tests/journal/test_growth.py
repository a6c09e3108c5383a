"""Growth: from the right edge alone it makes the tiles and the roots that the whole tree would have."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tallystick.errors import LedgerCorrupt, ProofInvalid
from tallystick.journal.merkle import (
    EMPTY_ROOT,
    MAX_SIZE,
    check_consistency,
    check_inclusion,
    consistency_proof,
    inclusion_proof,
    root_of,
    tree_root,
)
from tallystick.journal.tiles import WIDTH, Growth, Tile, hash_reader
from tests.journal.tree_model import LEAVES, Log, leaf_of
from tests.support.tiles import tiles_of

LOG = Log(LEAVES)
EDGES = [0, 1, 2, 254, 255, 256, 257, 511, 512, 513, 65_279, 65_280, 65_281, 65_535, 65_536, 65_537, 65_792, 70_000]


class Files:
    """Tiles as they would lie in a folder, each by its path."""

    def __init__(self) -> None:
        self.by_path: dict[str, bytes] = {}

    def write(self, taken: list[tuple[Tile, bytes]]) -> None:
        for tile, data in taken:
            assert len(data) == tile.width * 32
            assert self.by_path.setdefault(tile.path, data) == data  # a tile never changes

    def read(self, tiles: Sequence[Tile]) -> list[bytes]:
        return [self.by_path[tile.path] for tile in tiles]

    def resume(self, size: int) -> Growth:
        tiles = Growth.edge_tiles(size)
        return Growth(size, {tile.level: data for tile, data in zip(tiles, self.read(tiles), strict=True)})


def resumed(log: Log, size: int) -> Growth:
    """Growth from the edge that the model gives."""
    return Growth(size, {t.level: log.tile(t.level, t.number, t.width) for t in Growth.edge_tiles(size)})


def sparse_log(size: int, more: int) -> Log:
    """A log of any size whose last leaves, from before ``size``, are each its own."""
    return Log({place: leaf_of(place) for place in range(max(0, size - 300), size + more)})


class Counter:
    """The root of a growing tree by carrying complete subtrees like the digits of a binary number."""

    def __init__(self) -> None:
        self.subtrees: list[tuple[int, bytes]] = []  # (height, hash)

    def add(self, leaves: list[bytes]) -> None:
        subtrees, sha256 = self.subtrees, hashlib.sha256
        for leaf in leaves:
            height, node = 0, leaf
            while subtrees and subtrees[-1][0] == height:
                node = sha256(b"\x01" + subtrees.pop()[1] + node).digest()
                height += 1
            subtrees.append((height, node))

    def root(self) -> bytes:
        *rest, (_, node) = self.subtrees
        for _, left in reversed(rest):
            node = hashlib.sha256(b"\x01" + left + node).digest()
        return node


# ---------------------------------------------------------------- the tree it grows


def test_an_empty_log_has_the_empty_root_and_no_tiles():
    growth = Growth()
    growth.extend([])
    assert growth.root() == EMPTY_ROOT
    assert growth.size == 0
    assert growth.take() == []
    assert Growth.edge_tiles(0) == []


def test_leaf_by_leaf_to_1100_every_root_and_every_tile_is_that_of_the_whole_tree():
    growth, files = Growth(), Files()
    for size in range(1, 1101):
        growth.extend([LEAVES[size - 1]])
        assert growth.size == size
        assert growth.root() == LOG.mth(0, size)
        files.write(growth.take())
        for tile in Growth.edge_tiles(size):
            assert files.by_path[tile.path] == LOG.tile(tile.level, tile.number, tile.width)
    assert {tile.path for tile in tiles_of(1100)} <= files.by_path.keys()
    assert {path for path in files.by_path if ".p/" not in path} == {f"tile/0/00{number}" for number in range(4)}


@pytest.mark.parametrize("size", [1, 255, 256, 257, 512, 1000])
def test_all_at_once_gives_exactly_the_tiles_of_a_log_of_that_size(size: int):
    growth = Growth()
    growth.extend(leaf for leaf in LEAVES[:size])
    taken = growth.take()
    assert [tile for tile, _ in taken] == list(tiles_of(size))
    assert all(data == LOG.tile(tile.level, tile.number, tile.width) for tile, data in taken)


def test_a_log_of_70_000_has_the_tiles_of_the_formula_at_every_level_and_proofs_from_them():
    leaves = [leaf_of(number) for number in range(70_000)]
    log, growth, files = Log(leaves), Growth(), Files()
    growth.extend(leaves)
    taken = growth.take()
    assert [tile for tile, _ in taken] == list(tiles_of(70_000))
    for tile, data in taken:
        assert data == log.tile(tile.level, tile.number, tile.width)
    root = growth.root()
    assert root == log.mth(0, 70_000) == root_of(leaves)
    files.write(taken)
    read = hash_reader(files.read, 70_000)
    assert tree_root(70_000, read) == root
    for place in [*EDGES[1:-1], 12_345, 69_999]:
        proof = inclusion_proof(place, 70_000, read)
        assert proof == log.path(place, 0, 70_000)
        check_inclusion(place, 70_000, leaves[place], proof, root)
        proof = consistency_proof(place, 70_000, read)
        assert proof == log.proof(place, 70_000)
        check_consistency(place, 70_000, log.mth(0, place), root, proof)


def test_a_million_leaves_in_uneven_steps_with_restarts_have_the_roots_that_counting_gives():
    choice = random.Random(20_260_101)
    growth, files, counter = Growth(), Files(), Counter()
    while growth.size < 1_000_000:
        step = choice.choice([1, 2, 255, 256, 1000, 65_536, 65_537, 150_000])
        leaves = [leaf_of(number) for number in range(growth.size, growth.size + step)]
        growth.extend(leaves)
        counter.add(leaves)
        assert growth.root() == counter.root()
        files.write(growth.take())
        growth = files.resume(growth.size)
    size = growth.size
    assert all(tile.path in files.by_path for tile in tiles_of(size))
    read = hash_reader(files.read, size)
    for place in (0, 65_535, 65_536, size // 2, size - 1):
        check_inclusion(place, size, leaf_of(place), inclusion_proof(place, size, read), growth.root())


# ---------------------------------------------------------------- going on from the edge


@pytest.mark.parametrize("size", EDGES)
@pytest.mark.parametrize("more", [1, 255, 256, 257, 600])
def test_growth_resumed_from_its_edge_goes_on_as_if_it_had_never_stopped(size: int, more: int):
    log = sparse_log(size, more)
    growth = resumed(log, size)
    assert growth.size == size
    assert growth.root() == log.mth(0, size)
    assert growth.take() == []
    growth.extend([log.leaf(place) for place in range(size, size + more)])
    assert growth.root() == log.mth(0, size + more)
    taken = growth.take()
    assert [tile for tile, _ in taken] == [tile for tile in tiles_of(size + more) if tile not in set(tiles_of(size))]
    assert all(data == log.tile(tile.level, tile.number, tile.width) for tile, data in taken)


@given(
    st.one_of(
        st.integers(0, MAX_SIZE - 1000),
        st.builds(lambda power, less: max(0, 2**power - less), st.integers(0, 62), st.integers(0, 400)),
    ),
    st.lists(st.integers(0, 300), max_size=3),
)
@settings(max_examples=60, deadline=None)
def test_growth_resumed_at_any_size_agrees_with_the_recursive_definition(size: int, steps: list[int]):
    log = sparse_log(size, sum(steps))
    growth = resumed(log, size)
    for step in steps:
        growth.extend([log.leaf(place) for place in range(growth.size, growth.size + step)])
        for tile, data in growth.take():
            assert data == log.tile(tile.level, tile.number, tile.width)
        again = resumed(log, growth.size)
        assert again.root() == growth.root() == log.mth(0, growth.size)


@pytest.mark.parametrize("size", [*EDGES, 256**3, 256**3 - 1, 256**7 * 127, MAX_SIZE])
def test_the_edge_is_the_partial_tiles_of_the_log_of_that_size(size: int):
    edge = Growth.edge_tiles(size)
    widths = {level: size // 256**level % 256 for level in range(8)}
    assert {tile.level: tile.width for tile in edge} == {level: width for level, width in widths.items() if width}
    assert [tile.number for tile in edge] == [size // 256 ** (tile.level + 1) for tile in edge]
    assert edge == sorted(edge, key=lambda tile: tile.level)


def test_the_tree_ends_at_its_largest_size():
    log = sparse_log(MAX_SIZE - 2, 2)
    growth = resumed(log, MAX_SIZE - 2)
    with pytest.raises(ProofInvalid, match="no tree has"):
        growth.extend(LEAVES[:3])
    growth.extend([log.leaf(MAX_SIZE - 2), log.leaf(MAX_SIZE - 1)])
    assert growth.root() == log.mth(0, MAX_SIZE)


# ---------------------------------------------------------------- what is taken


def test_taking_again_gives_what_changed_since_and_nothing_if_nothing_did():
    growth = Growth()
    growth.extend(LEAVES[:250])
    assert [tile for tile, _ in growth.take()] == [Tile(0, 0, 250)]
    assert growth.take() == []
    growth.extend([])
    assert growth.take() == []
    growth.extend(LEAVES[250:255])
    assert [tile for tile, _ in growth.take()] == [Tile(0, 0, 255)]
    growth.extend(LEAVES[255:257])
    assert [tile for tile, _ in growth.take()] == [Tile(0, 0), Tile(0, 1, 1), Tile(1, 0, 1)]
    growth.extend(LEAVES[257:258])
    assert [tile for tile, _ in growth.take()] == [Tile(0, 1, 2)]


def test_what_several_extensions_filled_is_taken_together_and_only_the_last_partial_tiles():
    growth = Growth()
    for begin in range(0, 1100, 100):
        growth.extend(LEAVES[begin : begin + 100])
    assert [tile for tile, _ in growth.take()] == list(tiles_of(1100))


def test_a_tile_that_was_taken_is_not_altered_by_later_growth():
    growth = Growth()
    growth.extend(LEAVES[:300])
    taken = growth.take()
    copies = [(tile, bytes(data)) for tile, data in taken]
    growth.extend(LEAVES[300:600])
    assert taken == copies


# ---------------------------------------------------------------- what it refuses


@pytest.mark.parametrize(
    "leaves",
    [[b""], [LEAVES[0][:31]], [LEAVES[0] + b"x"], [LEAVES[0], LEAVES[1][:31], LEAVES[2] + b"x"], [LEAVES[0] * 2]],
)
def test_a_leaf_of_another_length_is_refused_and_none_is_added(leaves: list[bytes]):
    growth = Growth()
    growth.extend(LEAVES[:5])
    with pytest.raises(ProofInvalid, match="leaf hashes have 32 bytes"):
        growth.extend([*LEAVES[5:300], *leaves])
    assert growth.size == 5
    assert growth.root() == LOG.mth(0, 5)
    assert [tile for tile, _ in growth.take()] == [Tile(0, 0, 5)]


@pytest.mark.parametrize(
    ("size", "edge"),
    [
        (5, {}),
        (5, {0: bytes(32 * 4)}),
        (5, {0: bytes(32 * 6)}),
        (5, {0: bytes(32 * 5 + 1)}),
        (5, {0: bytes(32 * 5 - 1)}),
        (5, {0: bytes(32 * WIDTH)}),
        (5, {0: bytes(32 * 5), 1: bytes(32)}),
        (0, {0: bytes(32)}),
        (256, {0: bytes(32 * WIDTH), 1: bytes(32)}),
        (257, {0: bytes(32)}),
        (257, {1: bytes(32)}),
        (-1, {}),
        (MAX_SIZE + 1, {}),
    ],
)
def test_an_edge_that_is_not_that_of_the_size_is_refused(size: int, edge: dict[int, bytes]):
    with pytest.raises(LedgerCorrupt):
        Growth(size, edge)
