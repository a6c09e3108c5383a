"""Checking proofs from strangers: what is not exactly the proof is refused."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence

import pytest

from tallystick.errors import ProofInvalid
from tallystick.journal.merkle import (
    EMPTY_ROOT,
    MAX_SIZE,
    check_consistency,
    check_inclusion,
    consistency_proof,
    inclusion_proof,
)
from tests.journal.tree_model import LEAVES, Log, Reader

LOG = Log(LEAVES)
READ = Reader(LOG, len(LEAVES))
OTHER = LEAVES[-1]

Check = Callable[[Sequence[bytes]], None]


def inclusion(index: int, size: int) -> tuple[list[bytes], Check]:
    """The proof, and its check but for the proof."""
    root = LOG.mth(0, size)
    return inclusion_proof(index, size, READ), lambda proof: check_inclusion(index, size, LEAVES[index], proof, root)


def consistency(old: int, new: int) -> tuple[list[bytes], Check]:
    old_root, new_root = LOG.mth(0, old), LOG.mth(0, new)
    return consistency_proof(old, new, READ), lambda proof: check_consistency(old, new, old_root, new_root, proof)


INCLUSIONS = [inclusion(index, size) for size in range(1, 18) for index in range(size)]
CONSISTENCIES = [consistency(old, new) for new in range(18) for old in range(new + 1)]
FEW = [
    *(inclusion(index, size) for index, size in [(0, 2), (0, 3), (2, 3), (4, 5), (3, 7), (6, 7), (5, 8), (8, 13)]),
    *(consistency(old, new) for old, new in [(1, 2), (2, 3), (3, 4), (3, 7), (4, 7), (6, 7), (5, 8), (8, 13)]),
]


def flipped(data: bytes) -> Iterator[bytes]:
    """The data with each of its bits changed in turn."""
    number = int.from_bytes(data, "big")
    for bit in range(len(data) * 8):
        yield (number ^ (1 << bit)).to_bytes(len(data), "big")


def refused(check: Check, proof: Sequence[bytes]) -> bool:
    try:
        check(proof)
    except ProofInvalid:
        return True
    return False


# ---------------------------------------------------------------- the proof


@pytest.mark.parametrize(("proof", "check"), FEW)
def test_a_proof_with_any_one_bit_changed_is_refused(proof: list[bytes], check: Check):
    check(proof)
    assert proof
    for at, hash_ in enumerate(proof):
        for changed in flipped(hash_):
            assert refused(check, [*proof[:at], changed, *proof[at + 1 :]])


@pytest.mark.parametrize("proofs", [INCLUSIONS, CONSISTENCIES])
def test_a_proof_that_lacks_hashes_is_refused(proofs: list[tuple[list[bytes], Check]]):
    for proof, check in proofs:
        check(proof)
        for at in range(len(proof)):
            assert refused(check, proof[:at])
            assert refused(check, proof[at + 1 :])
            assert refused(check, proof[:at] + proof[at + 1 :])


@pytest.mark.parametrize("proofs", [INCLUSIONS, CONSISTENCIES])
def test_a_proof_with_an_extra_hash_is_refused(proofs: list[tuple[list[bytes], Check]]):
    for proof, check in proofs:
        for extra in [OTHER, EMPTY_ROOT, bytes(32), *proof]:
            for at in range(len(proof) + 1):
                assert refused(check, [*proof[:at], extra, *proof[at:]])


@pytest.mark.parametrize("proofs", [INCLUSIONS, CONSISTENCIES])
def test_a_proof_in_any_other_order_is_refused(proofs: list[tuple[list[bytes], Check]]):
    for proof, check in proofs:
        for order in itertools.permutations(proof):
            assert list(order) == proof or refused(check, order)


@pytest.mark.parametrize(("proof", "check"), FEW)
@pytest.mark.parametrize("length", [0, 31, 33, 64])
def test_a_proof_with_a_hash_of_another_length_is_refused(proof: list[bytes], check: Check, length: int):
    for at in range(len(proof)):
        wrong = (proof[at] * 2)[:length]
        with pytest.raises(ProofInvalid, match=f"the proof has a hash of {length} bytes"):
            check([*proof[:at], wrong, *proof[at + 1 :]])


def test_two_hashes_run_together_are_not_taken_for_two():
    proof, check = inclusion(3, 7)
    with pytest.raises(ProofInvalid, match="a hash of 64 bytes"):
        check([proof[0] + proof[1], proof[2]])


def test_a_proof_of_many_hashes_is_refused():
    _, check = inclusion(3, 7)
    assert refused(check, [OTHER] * 100_000)


# ---------------------------------------------------------------- what the proof is about


@pytest.mark.parametrize(("index", "size"), [(0, 1), (0, 2), (2, 3), (3, 7), (8, 13)])
def test_another_leaf_or_root_is_refused_whichever_bit_differs(index: int, size: int):
    proof, leaf, root = inclusion_proof(index, size, READ), LEAVES[index], LOG.mth(0, size)
    for other in flipped(leaf):
        with pytest.raises(ProofInvalid, match="leads to another root"):
            check_inclusion(index, size, other, proof, root)
    for other in flipped(root):
        with pytest.raises(ProofInvalid, match="leads to another root"):
            check_inclusion(index, size, leaf, proof, other)


def test_a_proof_does_not_pass_for_another_place_in_the_tree():
    for size in range(2, 18):
        for index, other in itertools.permutations(range(size), 2):
            proof = inclusion_proof(index, size, READ)
            with pytest.raises(ProofInvalid):
                check_inclusion(other, size, LEAVES[index], proof, LOG.mth(0, size))


@pytest.mark.parametrize(("old", "new"), [(0, 0), (1, 1), (5, 5), (1, 2), (4, 7), (3, 7), (6, 13)])
def test_another_root_before_or_after_is_refused_whichever_bit_differs(old: int, new: int):
    proof, old_root, new_root = consistency_proof(old, new, READ), LOG.mth(0, old), LOG.mth(0, new)
    for other in flipped(old_root):
        with pytest.raises(ProofInvalid):
            check_consistency(old, new, other, new_root, proof)
    for other in flipped(new_root):
        with pytest.raises(ProofInvalid):
            check_consistency(old, new, old_root, other, proof)


@pytest.mark.parametrize("size", [2, 4, 8, 16, 64])
def test_the_proof_for_a_part_of_the_tree_or_for_a_tree_it_is_part_of_is_refused(size: int):
    part, whole = (LOG.mth(0, size), LOG.mth(0, 2 * size))
    for index in range(size):
        leaf, short, long = LEAVES[index], LOG.path(index, 0, size), LOG.path(index, 0, 2 * size)
        with pytest.raises(ProofInvalid, match="fewer hashes than the way to the root"):
            check_inclusion(index, 2 * size, leaf, short, part)
        with pytest.raises(ProofInvalid, match="more hashes than the way to the root"):
            check_inclusion(index, size, leaf, long, whole)
    for old in range(1, size):
        old_root, short, long = LOG.mth(0, old), LOG.proof(old, size), LOG.proof(old, 2 * size)
        with pytest.raises(ProofInvalid, match="fewer hashes than the way to the root"):
            check_consistency(old, 2 * size, old_root, part, short)
        with pytest.raises(ProofInvalid, match="more hashes than the way to the root"):
            check_consistency(old, size, old_root, whole, long)


def test_a_history_with_one_leaf_changed_is_refused_at_every_size_with_its_own_or_the_true_proof():
    for new in range(2, 18):
        for old in range(1, new):
            for place in range(old):
                forged = Log([*LEAVES[:place], OTHER, *LEAVES[place + 1 : new]])
                for proof in LOG.proof(old, new), forged.proof(old, new):
                    with pytest.raises(ProofInvalid):
                        check_consistency(old, new, LOG.mth(0, old), forged.mth(0, new), proof)


# ---------------------------------------------------------------- sizes and lengths


@pytest.mark.parametrize(
    ("index", "size"),
    [(0, 0), (1, 1), (7, 7), (8, 7), (-1, 7), (-1, 0), (0, -1), (3, MAX_SIZE + 1), (MAX_SIZE, MAX_SIZE)],
)
def test_an_index_that_is_not_in_the_tree_is_refused(index: int, size: int):
    with pytest.raises(ProofInvalid, match=r"no leaf|no tree"):
        check_inclusion(index, size, LEAVES[3], inclusion_proof(3, 7, READ), LOG.mth(0, 7))


@pytest.mark.parametrize("leaf", [b"", EMPTY_ROOT, OTHER])
@pytest.mark.parametrize("root", [b"", EMPTY_ROOT, OTHER])
def test_nothing_is_included_in_an_empty_tree(leaf: bytes, root: bytes):
    with pytest.raises(ProofInvalid, match="a tree of 0 leaves has no leaf 0"):
        check_inclusion(0, 0, leaf, [], root)


@pytest.mark.parametrize("length", [0, 31, 33])
def test_a_leaf_or_root_of_another_length_is_refused_even_if_the_two_are_equal(length: int):
    hash_ = (OTHER * 2)[:length]
    with pytest.raises(ProofInvalid, match=f"the leaf has a hash of {length} bytes"):
        check_inclusion(0, 1, hash_, [], hash_)
    with pytest.raises(ProofInvalid, match=f"the root has a hash of {length} bytes"):
        check_inclusion(0, 1, OTHER, [], hash_)


@pytest.mark.parametrize("length", [0, 31, 33])
@pytest.mark.parametrize("size", [0, 1, 5])
def test_an_old_or_new_root_of_another_length_is_refused_even_if_the_two_are_equal(size: int, length: int):
    hash_ = (OTHER * 2)[:length]
    with pytest.raises(ProofInvalid, match=f"the old root has a hash of {length} bytes"):
        check_consistency(size, size, hash_, hash_, [])
    with pytest.raises(ProofInvalid, match=f"the new root has a hash of {length} bytes"):
        check_consistency(size, 5, LOG.mth(0, size), hash_, [])


def test_every_tree_begins_with_the_empty_one_and_that_has_one_root():
    for new in range(18):
        check_consistency(0, new, EMPTY_ROOT, LOG.mth(0, new), [])
        with pytest.raises(ProofInvalid, match="not SHA-256 of nothing"):
            check_consistency(0, new, OTHER, LOG.mth(0, new), [])
        with pytest.raises(ProofInvalid, match="nothing needs showing"):
            check_consistency(0, new, EMPTY_ROOT, LOG.mth(0, new), [LOG.mth(0, new)])
    with pytest.raises(ProofInvalid, match="not SHA-256 of nothing"):
        check_consistency(0, 0, EMPTY_ROOT, OTHER, [])


def test_a_tree_of_the_same_size_must_have_the_same_root_and_needs_no_hashes():
    root = LOG.mth(0, 6)
    check_consistency(6, 6, root, root, [])
    with pytest.raises(ProofInvalid, match="two roots for 6 leaves"):
        check_consistency(6, 6, root, OTHER, [])
    with pytest.raises(ProofInvalid, match="nothing needs showing"):
        check_consistency(6, 6, root, root, [root])


@pytest.mark.parametrize(("old", "new"), [(7, 6), (1, 0), (-1, 6), (-1, -1), (6, MAX_SIZE + 1)])
def test_sizes_that_shrink_or_are_beyond_the_limits_are_refused(old: int, new: int):
    with pytest.raises(ProofInvalid, match=r"no tree|cannot begin with"):
        check_consistency(old, new, LOG.mth(0, 6), LOG.mth(0, 6), [])


def test_growth_without_any_hash_is_refused():
    for new in range(2, 18):
        for old in range(1, new):
            with pytest.raises(ProofInvalid, match=r"no hashes|fewer hashes"):
                check_consistency(old, new, LOG.mth(0, old), LOG.mth(0, new), [])
