"""The Merkle tree over the journal: RFC 6962, section 2.1, which RFC 9162 keeps, with SHA-256.

The root of no leaves is SHA-256 of nothing, a leaf is SHA-256(0x00 || event bytes), and a tree of n > 1 leaves is
SHA-256(0x01 || left || right), split at the largest power of two below n. So a tree is a row of complete subtrees,
one for each bit of its size, and every hash of every proof is either one complete subtree or the ragged right edge,
which is made of a few. That is all this module needs to know of a log: a ``HashReader`` that gives complete subtrees.
Proofs ask it once for everything they need.

An inclusion proof shows that a leaf is at its place in a tree; a consistency proof shows that a tree begins with all
of an older one. Checking is strict, for what it reads comes from strangers: every hash has 32 bytes, every index lies
within its tree, every hash of the proof is used, and what involves an empty tree is decided by rule, not by hashing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence

from tallystick.errors import ProofInvalid

__all__ = [
    "EMPTY_ROOT",
    "HASH_BYTES",
    "MAX_SIZE",
    "HashReader",
    "check_consistency",
    "check_inclusion",
    "consistency_proof",
    "hash_children",
    "hash_leaf",
    "hash_pairs",
    "inclusion_proof",
    "root_of",
    "tree_root",
]

HASH_BYTES = 32
MAX_SIZE = 2**63 - 1
"""The most leaves of a tree: what other programs' 64-bit integers hold."""

EMPTY_ROOT = hashlib.sha256(b"").digest()

HashReader = Callable[[Sequence[tuple[int, int]]], list[bytes]]
"""Gives the hash of each (level, index): the complete subtree over leaves index << level to (index + 1) << level."""


def hash_leaf(body: bytes) -> bytes:
    """The leaf hash of an event's bytes. The prefix keeps a leaf from ever passing for an inner node."""
    return hashlib.sha256(b"\0" + body).digest()


def hash_children(left: bytes, right: bytes) -> bytes:
    """The hash of an inner node."""
    return hashlib.sha256(b"\1" + left + right).digest()


def hash_pairs(row: bytes) -> bytes:
    """The row of nodes above an even row of them, both written end to end."""
    sha256 = hashlib.sha256
    return b"".join([sha256(b"\1" + row[at : at + 64]).digest() for at in range(0, len(row), 64)])


def root_of(leaves: Sequence[bytes]) -> bytes:
    """The root over these leaf hashes, which are all in memory.

    Going up row by row, an odd last node moves up as it is: that is the same tree as RFC 6962's recursive split.
    """
    if not leaves:
        return EMPTY_ROOT
    row = b"".join(leaves)
    while len(row) > HASH_BYTES:
        paired = len(row) - len(row) % 64
        row = hash_pairs(row[:paired]) + row[paired:]
    return row


def tree_root(size: int, read: HashReader) -> bytes:
    """The root of the log's first ``size`` leaves. Raises ProofInvalid for a size that no log has."""
    _require_size(size)
    return _read_ranges([(0, size)], read)[0] if size else EMPTY_ROOT


# ---------------------------------------------------------------- making proofs


def inclusion_proof(index: int, size: int, read: HashReader) -> list[bytes]:
    """The siblings on the way from leaf ``index`` to the root of the first ``size`` leaves, nearest the leaf first.

    RFC 6962, section 2.1.1. Raises ProofInvalid if that tree has no such leaf.
    """
    _require_index(index, size)
    begin, end = 0, size
    siblings = []
    while end - begin > 1:
        middle = _split(begin, end)
        if index < middle:
            siblings.append((middle, end))
            end = middle
        else:
            siblings.append((begin, middle))
            begin = middle
    return _read_ranges(siblings[::-1], read)


def consistency_proof(old: int, new: int, read: HashReader) -> list[bytes]:
    """What shows that the tree of ``new`` leaves begins with the tree of ``old`` leaves.

    RFC 6962, section 2.1.2. Nothing needs showing if the old tree is empty or the same. Raises ProofInvalid if the
    old tree is the larger.
    """
    _require_growth(old, new)
    if old in {0, new}:
        return []
    begin, end = 0, new
    parts = []
    while end != old:
        middle = _split(begin, end)
        if old <= middle:
            parts.append((middle, end))
            end = middle
        else:
            parts.append((begin, middle))
            begin = middle
    if begin:  # otherwise the part common to both is the whole old tree, whose root the checker has
        parts.append((begin, end))
    return _read_ranges(parts[::-1], read)


def _split(begin: int, end: int) -> int:
    """Where the tree over these leaves divides: after the largest power of two that leaves something over."""
    return begin + (1 << ((end - begin - 1).bit_length() - 1))


def _read_ranges(ranges: Sequence[tuple[int, int]], read: HashReader) -> list[bytes]:
    """The roots of these nodes of the tree, each given by the leaves it covers; one call to ``read`` for all."""
    rows = [_complete_subtrees(begin, end) for begin, end in ranges]
    nodes = [node for row in rows for node in row]
    if not nodes:
        return []
    hashes = read(nodes)
    if len(hashes) != len(nodes):
        raise ProofInvalid(problem=f"{len(nodes)} hashes of the tree were asked for and {len(hashes)} came")
    given = iter(hashes)
    return [_join([next(given) for _ in row]) for row in rows]


def _complete_subtrees(begin: int, end: int) -> list[tuple[int, int]]:
    """The complete subtrees that make up a node of the tree, largest first."""
    subtrees = []
    while begin < end:
        level = (end - begin).bit_length() - 1
        subtrees.append((level, begin >> level))
        begin += 1 << level
    return subtrees


def _join(subtrees: Sequence[bytes]) -> bytes:
    """The root over a row of complete subtrees, largest first."""
    joined = subtrees[-1]
    for left in reversed(subtrees[:-1]):
        joined = hash_children(left, joined)
    return joined


# ---------------------------------------------------------------- checking proofs


def check_inclusion(index: int, size: int, leaf: bytes, proof: Sequence[bytes], root: bytes) -> None:
    """Raises ProofInvalid unless the tree of ``size`` leaves under ``root`` has leaf hash ``leaf`` at ``index``.

    RFC 9162, section 2.1.3.2. A proof does not bind the size: some pass for neighbouring sizes too. So the size and the
    root must come from one signed checkpoint.
    """
    _require_index(index, size)
    _require_hashes("leaf", [leaf])
    _require_hashes("root", [root])
    _require_hashes("proof", proof)
    node, last, reached = index, size - 1, leaf
    for sibling in proof:
        if not last:
            raise ProofInvalid(problem="it has more hashes than the way to the root has steps")
        if node & 1 or node == last:
            reached = hash_children(sibling, reached)
            node, last = _skip_lone(node, last)
        else:
            reached = hash_children(reached, sibling)
        node >>= 1
        last >>= 1
    if last:
        raise ProofInvalid(problem="it has fewer hashes than the way to the root has steps")
    if reached != root:
        raise ProofInvalid(problem=f"leaf {index} of {size} leads to another root")


def check_consistency(old: int, new: int, old_root: bytes, new_root: bytes, proof: Sequence[bytes]) -> None:
    """Raises ProofInvalid unless the tree of ``new`` leaves begins with the tree of ``old`` leaves.

    RFC 9162, section 2.1.4.2. An empty tree has one root, and every tree begins with it: the proof must be empty.
    """
    _require_growth(old, new)
    _require_hashes("old root", [old_root])
    _require_hashes("new root", [new_root])
    _require_hashes("proof", proof)
    for size, root in (old, old_root), (new, new_root):
        if not size and root != EMPTY_ROOT:
            raise ProofInvalid(problem="the root of an empty tree is not SHA-256 of nothing")
    if old in {0, new}:
        if proof:
            raise ProofInvalid(
                problem=f"from {old} to {new} leaves nothing needs showing, and it has {len(proof)} hashes"
            )
        if old == new and old_root != new_root:
            raise ProofInvalid(problem=f"there are two roots for {old} leaves")
        return
    old_reached, new_reached = _follow_growth(old, new, old_root, proof)
    if old_reached != old_root:
        raise ProofInvalid(problem=f"it leads to another root for the {old} leaves before")
    if new_reached != new_root:
        raise ProofInvalid(problem=f"it leads to another root for the {new} leaves now")


def _follow_growth(old: int, new: int, old_root: bytes, proof: Sequence[bytes]) -> tuple[bytes, bytes]:
    """The roots of the old and the new tree that a consistency proof leads to."""
    # An old tree that is one complete subtree is itself the first part, which the proof therefore leaves out.
    path = [old_root, *proof] if old & (old - 1) == 0 else list(proof)
    if not path:
        raise ProofInvalid(problem="it has no hashes")
    node, last = old - 1, new - 1
    while node & 1:
        node >>= 1
        last >>= 1
    old_reached = new_reached = path[0]
    for part in path[1:]:
        if not last:
            raise ProofInvalid(problem="it has more hashes than the way to the root has steps")
        if node & 1 or node == last:
            old_reached = hash_children(part, old_reached)
            new_reached = hash_children(part, new_reached)
            node, last = _skip_lone(node, last)
        else:
            new_reached = hash_children(new_reached, part)
        node >>= 1
        last >>= 1
    if last:
        raise ProofInvalid(problem="it has fewer hashes than the way to the root has steps")
    return old_reached, new_reached


def _skip_lone(node: int, last: int) -> tuple[int, int]:
    """Up past the levels at which the last node has no sibling and stands for itself."""
    while node and not node & 1:
        node >>= 1
        last >>= 1
    return node, last


# ---------------------------------------------------------------- what is refused outright


def _require_size(size: int) -> None:
    if not 0 <= size <= MAX_SIZE:
        raise ProofInvalid(problem=f"no tree has {size} leaves")


def _require_index(index: int, size: int) -> None:
    _require_size(size)
    if not 0 <= index < size:
        raise ProofInvalid(problem=f"a tree of {size} leaves has no leaf {index}")


def _require_growth(old: int, new: int) -> None:
    _require_size(old)
    _require_size(new)
    if old > new:
        raise ProofInvalid(problem=f"a tree of {new} leaves cannot begin with one of {old}")


def _require_hashes(name: str, hashes: Sequence[bytes]) -> None:
    for hash_ in hashes:
        if len(hash_) != HASH_BYTES:
            raise ProofInvalid(problem=f"the {name} has a hash of {len(hash_)} bytes, not {HASH_BYTES}")
