"""``log_inclusion_proof.v1`` against its own golden vector, an independent model, and forgeries."""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tallystick.errors import InvalidInput, NoteInvalid, ProofInvalid
from tallystick.journal.log_inclusion import (
    MAX_PROOF_BYTES,
    MERKLE_ALGORITHM,
    LogInclusionProof,
    check_log_inclusion,
    did_key,
    parse_did_key,
    prove_log_inclusion,
    service_root,
)
from tallystick.journal.notes import COSIGNATURE, SecretKey

KEY = SecretKey.from_seed("example.com/log", b"k" * 32)
GOLDEN_KEY = SecretKey.from_seed("golden", bytes(range(32)))
DID = did_key(KEY.verifier.key)
NOW = "2026-11-21T09:00:00.000000Z"

# packages/schema/fixtures/log_inclusion_proof_golden.v1.json of the service's own repository: its values are facts.
GOLDEN_LEAVES = [
    "0tvwBvlt0FBEqPY9jxGPI5JbpMxXUPi2yOKH_VBsgYg",
    "QUC_DoVp7QPsg4hx_y8ZDps-qGvAg9fpkBBJ918A6FU",
    "ZJg33ct-GWcIbX01qu97l1xROBXZb8bnABXpOiv-D5o",
    "n95Ww3Z2C9OZuC64VpIpot_xkhlBGscRVN_qss9QJFQ",
    "aX-UO57F-Q7d2ornRz9etogYfjRn8xL--oZ33eJVBCw",
]
GOLDEN_DID = "did:key:z6MkehRgf7yJbgaGfYsdoAsKdBPE3dj2CYhowQdcjqSJgvVd"
GOLDEN: dict[str, Any] = {
    "proof_version": "1",
    "log_id": "golden-log",
    "tree_size": 5,
    "leaf_hash_b64u": GOLDEN_LEAVES[3],
    "root_hash_b64u": "OtSr7F1Drgn1J1z3znfYYV4ehxZLJVqnZh4jexmCpb8",
    "audit_path": [
        GOLDEN_LEAVES[2],
        "iw9WMQYHAEihBXkmggxxGN7CC4pzcVVE9FKEh8FtwNc",
        "17co8mIcX0LM67kEB3j-Y7Mg-sgU-dul7LbCd3hcSx4",
    ],
    "root_published_at": "2026-02-11T00:00:00.000Z",
    "root_signature": {
        "signer_did": GOLDEN_DID,
        "sig_b64u": "-eeETOAyc_x8YNJ2d3PqoJPCMPU8SjV6uvKEZwZMa0J4iai-wDs7x8xdrlfottKHsS9HT-EtGaOE85xGcu5ZBA",
    },
    "metadata": {"leaf_index": 3, "merkle_algorithm": MERKLE_ALGORITHM},
}

# From the did:key method's own test vectors (w3c-ccg/did-method-key, ed25519-x25519.json): seeds and names.
DID_VECTORS = [
    (0, "did:key:z6MkiTBz1ymuepAQ4HEHYSF1H8quG5GLVVQR3djdX3mDooWp"),
    (1, "did:key:z6MkjchhfUsD6mmvni8mCdXHw216Xrm9bQe2mBH1P5RDjVJG"),
    (2, "did:key:z6MknGc3ocHs3zdPiJbnaaqDi58NGb4pk1Sp9WxWufuXSdxf"),
    (3, "did:key:z6MkvqoYXQfDDJRv8L4wKzxYeuKyVZBfi9Qo6Ro8MiLH3kDQ"),
    (5, "did:key:z6MkwYMhwTvsq376YBAcJHy3vyRWzBgn5vKfVqqDCgm7XVKU"),
]


def unpadded(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def leaf(number: int) -> bytes:
    return hashlib.sha256(b"event %d" % number).digest()


def model_root(leaves: list[bytes]) -> bytes:
    """By another way than the module's: recursion on the height, reaching for the last leaf beyond the end."""
    if not leaves:
        return hashlib.sha256(b"").digest()
    height = (len(leaves) - 1).bit_length()

    def node(level: int, index: int) -> bytes:
        widths = [len(leaves)]
        for _ in range(level):
            widths.append(-(-widths[-1] // 2))
        index = min(index, widths[level] - 1)
        if level == 0:
            return leaves[index]
        return hashlib.sha256(node(level - 1, 2 * index) + node(level - 1, 2 * index + 1)).digest()

    return node(height, 0)


def proof_of(size: int, index: int) -> LogInclusionProof:
    leaves = [leaf(number) for number in range(size)]
    return prove_log_inclusion(leaves, index, log_id="main", published_at=NOW, signer=KEY)


def check(proof: LogInclusionProof, **more: Any) -> None:
    check_log_inclusion(proof, signers=[DID], **more)


# ---------------------------------------------------------------- vectors


def test_the_golden_proof_holds() -> None:
    proof = LogInclusionProof.parse(json.dumps(GOLDEN).encode())
    check_log_inclusion(proof, signers=[GOLDEN_DID], leaf=unpadded(GOLDEN_LEAVES[3]), log_id="golden-log")
    assert json.loads(proof.encode()) == GOLDEN


def test_the_golden_proof_is_made() -> None:
    leaves = [unpadded(item) for item in GOLDEN_LEAVES]
    assert service_root(leaves) == unpadded(GOLDEN["root_hash_b64u"])
    made = prove_log_inclusion(leaves, 3, log_id="golden-log", published_at=NOW, signer=GOLDEN_KEY)
    assert json.loads(made.encode()) == {**GOLDEN, "root_published_at": NOW}


@pytest.mark.parametrize(("seed", "did"), DID_VECTORS)
def test_a_did_key_is_that_of_its_key(seed: int, did: str) -> None:
    key = SecretKey.from_seed("k", seed.to_bytes(32)).verifier.key
    assert did_key(key) == did
    assert parse_did_key(did) == key


@given(st.binary(min_size=32, max_size=32))
def test_did_keys_round_trip(key: bytes) -> None:
    assert parse_did_key(did_key(key)) == key


@pytest.mark.parametrize(
    "did",
    [
        "",
        "did:key:z",
        "did:key:",
        DID[:-1],
        DID + "1",
        "did:key:z1" + DID[9:],
        "did:key:u" + DID[9:],
        "did:web:" + DID[8:],
        DID.replace("6", "0", 1),
        "did:key:z6LSbysY2xFMRpGMhb7tFTLMpeuPRaqaWM1yECx2AtzE3KCc",  # X25519
        "did:key:z" + "6" * 200,
    ],
)
def test_what_is_no_did_key_of_an_ed25519_key_is_refused(did: str) -> None:
    with pytest.raises(NoteInvalid):
        parse_did_key(did)


# ---------------------------------------------------------------- the tree


@pytest.mark.parametrize("size", range(20))
def test_the_root_is_that_of_the_definition(size: int) -> None:
    leaves = [leaf(number) for number in range(size)]
    assert service_root(leaves) == model_root(leaves)


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 70).flatmap(lambda size: st.tuples(st.just(size), st.integers(0, size - 1))))
def test_every_leaf_can_be_proven(place: tuple[int, int]) -> None:
    size, index = place
    proof = LogInclusionProof.parse(proof_of(size, index).encode())
    assert proof == proof_of(size, index)
    check(proof, leaf=leaf(index), log_id="main")
    assert proof.root_hash == model_root([leaf(number) for number in range(size)])


@pytest.mark.parametrize("leaves", [[leaf(1), leaf(2), leaf(1)], [leaf(1), leaf(2)[:31]], [leaf(1), b""]])
def test_leaves_that_are_twice_there_or_no_hashes_are_refused(leaves: list[bytes]) -> None:
    with pytest.raises(ProofInvalid):
        service_root(leaves)
    with pytest.raises(ProofInvalid):
        prove_log_inclusion(leaves, 0, log_id="main", published_at=NOW, signer=KEY)


def test_what_cannot_be_proven_is_refused() -> None:
    for index in (-1, 3):
        with pytest.raises(ProofInvalid):
            proof_of(3, index)
    cosigner = SecretKey.from_seed("w", bytes(32), COSIGNATURE)
    with pytest.raises(NoteInvalid):
        prove_log_inclusion([leaf(0)], 0, log_id="main", published_at=NOW, signer=cosigner)
    with pytest.raises(InvalidInput):
        prove_log_inclusion([leaf(0)], 0, log_id="main", published_at="yesterday", signer=KEY)
    with pytest.raises(NoteInvalid):
        prove_log_inclusion([leaf(0)], 0, log_id="", published_at=NOW, signer=KEY)


def test_a_signer_that_signs_something_else_is_noticed() -> None:
    class Wrong:
        verifier = KEY.verifier

        def sign(self, message: bytes) -> bytes:
            return KEY.sign(message + b"!")

    with pytest.raises(NoteInvalid):
        prove_log_inclusion([leaf(0)], 0, log_id="main", published_at=NOW, signer=Wrong())


# ---------------------------------------------------------------- forgeries


@pytest.mark.parametrize(
    "change",
    [
        {"leaf_hash": leaf(4)},
        {"root_hash": leaf(4)},
        {"leaf_index": 4},
        {"leaf_index": 2},
        {"leaf_index": 7},
        {"leaf_index": -1},
        {"tree_size": 0},
        {"tree_size": 3},
        {"tree_size": 4},
        {"tree_size": 9},
        {"signature": bytes(64)},
        {"signer_did": did_key(SecretKey.from_seed("e", b"e" * 32).verifier.key)},
    ],
)
def test_an_altered_proof_is_refused(change: dict[str, Any]) -> None:
    proof = proof_of(7, 3)
    check(proof)
    with pytest.raises(ProofInvalid):
        check(replace(proof, **change))


def test_a_path_that_is_longer_shorter_or_reordered_is_refused() -> None:
    proof = proof_of(7, 3)
    path = proof.audit_path
    for other in [(), path[:-1], (*path, leaf(9)), path[::-1], (*path[:2], path[2][:31])]:
        with pytest.raises(ProofInvalid):
            check(replace(proof, audit_path=other))


def test_a_list_stretched_to_the_same_root_proves_no_more_leaves() -> None:
    """a b c and a b c c have one root; leaf 3 of the latter must not pass for an entry."""
    proof = proof_of(3, 2)
    stretched = replace(proof, tree_size=4, leaf_index=3)
    assert service_root([leaf(0), leaf(1), leaf(2)]) == model_root([leaf(0), leaf(1), leaf(2), leaf(2)])
    for forged in (stretched, replace(stretched, leaf_index=2)):
        with pytest.raises(ProofInvalid):
            check(forged)


def test_a_node_alone_must_be_its_own_sibling() -> None:
    proof = proof_of(5, 4)
    check(proof)
    row = service_root([leaf(4), leaf(0)])
    with pytest.raises(ProofInvalid, match="alone"):
        check(replace(proof, audit_path=(leaf(0), row, proof.audit_path[2])))


def test_it_must_be_about_the_leaf_and_the_log_that_are_asked_for() -> None:
    proof = proof_of(7, 3)
    with pytest.raises(ProofInvalid):
        check(proof, leaf=leaf(2))
    with pytest.raises(ProofInvalid):
        check(proof, log_id="other")


def test_only_trusted_signers_count() -> None:
    proof = proof_of(7, 3)
    for signers in ([], [GOLDEN_DID]):
        with pytest.raises(ProofInvalid):
            check_log_inclusion(proof, signers=signers)
    with pytest.raises(NoteInvalid):
        check_log_inclusion(proof, signers=["did:key:nonsense"])
    check_log_inclusion(proof, signers=[GOLDEN_DID, DID])


# ---------------------------------------------------------------- what is written


def altered(**change: Any) -> bytes:
    return json.dumps({**GOLDEN, **change}).encode()


def test_metadata_may_say_more_or_leave_the_algorithm_out() -> None:
    for metadata in ({"leaf_index": 3}, {"leaf_index": 3, "other": [1.5]}):
        assert LogInclusionProof.parse(altered(metadata=metadata)).leaf_index == 3


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"\xff",
        b"[" * 5_000,
        altered(more=1),
        json.dumps({name: GOLDEN[name] for name in GOLDEN if name != "metadata"}).encode(),
        json.dumps(GOLDEN).encode()[:-1] + b', "tree_size": 6}',
        json.dumps(GOLDEN).encode() + b" " * MAX_PROOF_BYTES,
        altered(proof_version=1),
        altered(proof_version="2"),
        altered(log_id=""),
        altered(log_id="\ud800"),
        altered(tree_size=5.0),
        altered(tree_size="5"),
        altered(tree_size=True),
        altered(tree_size=-1),
        altered(tree_size=2**63),
        altered(audit_path="abc"),
        altered(audit_path=[None]),
        altered(leaf_hash_b64u=GOLDEN_LEAVES[3] + "="),
        altered(leaf_hash_b64u=GOLDEN_LEAVES[3][:-1]),
        altered(leaf_hash_b64u=GOLDEN_LEAVES[3][:-1] + "R"),  # the same bytes, with unused bits set
        altered(leaf_hash_b64u=GOLDEN_LEAVES[0].replace("_", "/")),
        altered(leaf_hash_b64u="é" * 43),
        altered(root_published_at="soon"),
        altered(root_published_at="2026-02-11T00:00:00"),
        altered(root_signature={"signer_did": GOLDEN_DID}),
        altered(root_signature={**GOLDEN["root_signature"], "more": 1}),
        altered(root_signature=[]),
        altered(metadata={}),
        altered(metadata=None),
        altered(metadata={"leaf_index": False}),
        altered(metadata={"leaf_index": 3, "merkle_algorithm": "sha256(0x01||left||right)"}),
        json.dumps(GOLDEN).replace('"tree_size": 5', '"tree_size": NaN').encode(),
        json.dumps(GOLDEN).replace('"tree_size": 5', '"tree_size": ' + "9" * 5_000).encode(),
    ],
)
def test_what_is_not_written_as_the_schema_says_is_refused(data: bytes) -> None:
    with pytest.raises(NoteInvalid):
        LogInclusionProof.parse(data)
