"""The Merkle tree: that of RFC 6962 at every size, by its published vectors and by its recursive definition."""

from __future__ import annotations

import itertools
import json
import random
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tallystick.errors import ProofInvalid
from tallystick.journal.merkle import (
    EMPTY_ROOT,
    MAX_SIZE,
    check_consistency,
    check_inclusion,
    consistency_proof,
    hash_children,
    hash_leaf,
    hash_pairs,
    inclusion_proof,
    root_of,
    tree_root,
)
from tests.journal.tree_model import LEAVES, Log, Reader, leaf_of

REFERENCE = json.loads((Path(__file__).parent.parent / "vectors" / "rfc6962" / "reference_roots.json").read_text())
REFERENCE_LEAVES = [hash_leaf(bytes.fromhex(body)) for body in REFERENCE["leaf_inputs_hex"]]
LOG = Log(LEAVES)
READ = Reader(LOG, len(LEAVES))
EDGES = [1, 2, 3, 127, 128, 129, 255, 256, 257, 511, 512, 513, 520]


# ---------------------------------------------------------------- published vectors


@pytest.mark.parametrize("size", range(9))
def test_the_roots_of_the_reference_leaves_are_those_published(size: int):
    published = bytes.fromhex(REFERENCE["root_hash_by_size"][size])
    assert root_of(REFERENCE_LEAVES[:size]) == published
    assert tree_root(size, Reader(Log(REFERENCE_LEAVES), size)) == published


def test_each_level_of_the_reference_tree_is_as_published():
    levels = [[bytes.fromhex(hash_) for hash_ in level] for level in REFERENCE["node_hashes_by_level"]]
    assert levels[0] == REFERENCE_LEAVES
    for below, above in itertools.pairwise(levels):
        assert hash_pairs(b"".join(below)) == b"".join(above)
        assert [hash_children(*below[at : at + 2]) for at in range(0, len(below), 2)] == above


def test_the_proof_that_rfc_6962_draws_for_its_seven_leaves_has_the_nodes_it_names():
    """Section 2.1.3: the paths of d0, d3, d4 and d6, and the proofs from 3, 4 and 6 leaves to 7."""
    a, b, c, d, e, f, j = LEAVES[:7]
    g, h, i = hash_children(a, b), hash_children(c, d), hash_children(e, f)
    k, l_ = hash_children(g, h), hash_children(i, j)
    assert inclusion_proof(0, 7, READ) == [b, h, l_]
    assert inclusion_proof(3, 7, READ) == [c, g, l_]
    assert inclusion_proof(4, 7, READ) == [f, j, k]
    assert inclusion_proof(6, 7, READ) == [i, k]
    assert consistency_proof(3, 7, READ) == [c, d, g, l_]
    assert consistency_proof(4, 7, READ) == [l_]
    assert consistency_proof(6, 7, READ) == [i, j, k]


def test_an_inner_node_never_passes_for_a_leaf():
    left, right = LEAVES[:2]
    assert hash_leaf(left + right) != hash_children(left, right)


# ---------------------------------------------------------------- against the recursive definition


def test_the_root_at_every_size_to_520_is_that_of_the_recursive_definition():
    for size in range(521):
        expected = LOG.mth(0, size)
        assert root_of(LEAVES[:size]) == expected
        assert tree_root(size, READ) == expected


def test_every_leaf_has_its_proof_in_trees_of_up_to_70_leaves_and_about_each_power_of_two():
    for size in [*range(71), *EDGES]:
        root = LOG.mth(0, size)
        for index in range(size):
            proof = inclusion_proof(index, size, READ)
            assert proof == LOG.path(index, 0, size)
            check_inclusion(index, size, LEAVES[index], proof, root)


def test_the_first_the_last_and_some_leaf_have_their_proofs_at_every_size_to_520():
    choice = random.Random(6962)
    for size in range(1, 521):
        for index in {0, size - 1, choice.randrange(size)}:
            proof = inclusion_proof(index, size, READ)
            assert proof == LOG.path(index, 0, size)
            check_inclusion(index, size, LEAVES[index], proof, LOG.mth(0, size))


def test_every_tree_of_up_to_70_leaves_is_shown_to_begin_with_every_smaller_one():
    for new in range(71):
        for old in range(new + 1):
            proof = consistency_proof(old, new, READ)
            assert proof == (LOG.proof(old, new) if old else [])
            check_consistency(old, new, LOG.mth(0, old), LOG.mth(0, new), proof)


def test_larger_trees_are_shown_to_begin_with_smaller_ones():
    choice = random.Random(9162)
    sampled = [sorted(choice.sample(range(1, 1101), 2)) for _ in range(600)]
    for old, new in [*sampled, *((old, new) for old in EDGES for new in EDGES if old <= new)]:
        proof = consistency_proof(old, new, READ)
        assert proof == LOG.proof(old, new)
        check_consistency(old, new, LOG.mth(0, old), LOG.mth(0, new), proof)


SIZES = st.one_of(
    st.integers(1, MAX_SIZE),
    st.integers(1, 1_000_000),
    st.builds(lambda power, more: max(1, min(MAX_SIZE, 2**power + more)), st.integers(0, 63), st.integers(-2, 2)),
)


@st.composite
def two_places(draw: st.DrawFn) -> tuple[int, int]:
    """Two sizes of one log, not in order."""
    return draw(SIZES), draw(SIZES)


def sparse_log(*places: int) -> Log:
    """A log in which the leaves about these places differ from all others."""
    return Log({place: leaf_of(place) for near in places for place in range(max(0, near - 3), near + 3)})


@given(two_places())
@settings(max_examples=200, deadline=None)
def test_a_leaf_of_a_log_of_any_size_has_the_proof_that_the_definition_gives(places: tuple[int, int]):
    index, size = min(places) - 1, max(places)
    log = sparse_log(index, size)
    proof = inclusion_proof(index, size, Reader(log, size))
    assert proof == log.path(index, 0, size)
    assert len(proof) <= 63
    check_inclusion(index, size, log.leaf(index), proof, log.mth(0, size))


@given(two_places())
@settings(max_examples=200, deadline=None)
def test_a_log_of_any_size_has_the_consistency_proof_that_the_definition_gives(places: tuple[int, int]):
    old, new = sorted(places)
    log = sparse_log(old, new)
    proof = consistency_proof(old, new, Reader(log, new))
    assert proof == log.proof(old, new)
    assert len(proof) <= 64
    check_consistency(old, new, log.mth(0, old), log.mth(0, new), proof)


@given(two_places())
@settings(max_examples=100, deadline=None)
def test_a_rewritten_leaf_anywhere_in_the_old_tree_breaks_consistency(places: tuple[int, int]):
    old, new = sorted(places)
    log = sparse_log(old, new)
    rewritten = Log({**log.own, old - 1: leaf_of(MAX_SIZE)})
    with pytest.raises(ProofInvalid):
        check_consistency(old, new, log.mth(0, old), rewritten.mth(0, new), rewritten.proof(old, new))


# ---------------------------------------------------------------- how the log is read


@pytest.mark.parametrize("size", [*range(1, 40), *EDGES, 1000])
def test_a_proof_reads_the_log_once_at_most(size: int):
    read = Reader(LOG, size)
    inclusion_proof(size // 3, size, read)
    assert len(read.requests) == (size > 1)
    read = Reader(LOG, size)
    consistency_proof(max(1, size // 3), size, read)
    assert len(read.requests) == (size > 1)
    read = Reader(LOG, size)
    tree_root(size, read)
    assert len(read.requests) == 1


def test_what_needs_no_hashes_does_not_read_the_log():
    read = Reader(LOG, 5)
    assert tree_root(0, read) == EMPTY_ROOT
    assert consistency_proof(0, 5, read) == consistency_proof(5, 5, read) == inclusion_proof(0, 1, read) == []
    assert read.requests == []


@pytest.mark.parametrize("more", [-1, 1])
def test_a_reader_that_gives_more_or_fewer_hashes_than_asked_is_refused(more: int):
    def read(nodes: Sequence[tuple[int, int]]) -> list[bytes]:
        return (READ(nodes) * 2)[: len(nodes) + more]

    with pytest.raises(ProofInvalid, match="were asked for"):
        inclusion_proof(2, 7, read)


@pytest.mark.parametrize(("index", "size"), [(0, 0), (5, 5), (6, 5), (-1, 5), (0, -1), (0, MAX_SIZE + 1)])
def test_no_proof_is_made_for_a_leaf_that_is_not_in_the_tree(index: int, size: int):
    with pytest.raises(ProofInvalid):
        inclusion_proof(index, size, READ)


@pytest.mark.parametrize(("old", "new"), [(6, 5), (1, 0), (-1, 5), (5, MAX_SIZE + 1)])
def test_no_proof_is_made_that_a_tree_begins_with_a_larger_one(old: int, new: int):
    with pytest.raises(ProofInvalid):
        consistency_proof(old, new, READ)


@pytest.mark.parametrize("size", [-1, MAX_SIZE + 1])
def test_no_tree_has_a_size_beyond_the_limits(size: int):
    with pytest.raises(ProofInvalid):
        tree_root(size, READ)


def test_the_largest_tree_has_a_root_and_proofs():
    log = sparse_log(0, MAX_SIZE)
    read = Reader(log, MAX_SIZE)
    root = tree_root(MAX_SIZE, read)
    assert root == log.mth(0, MAX_SIZE)
    for index in 0, MAX_SIZE - 1:
        check_inclusion(index, MAX_SIZE, log.leaf(index), inclusion_proof(index, MAX_SIZE, read), root)
