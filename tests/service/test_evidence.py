"""Evidence over HTTP: receipts for those who may have them, and for strangers what they check a ledger by."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tallystick import Erasable
from tallystick.control import Scope
from tallystick.evidence.home import LogHome
from tallystick.evidence.log import Log
from tallystick.journal.checkpoints import Checkpoint, open_checkpoint, sign_checkpoint
from tallystick.journal.merkle import check_consistency, check_inclusion, hash_leaf
from tallystick.journal.notes import VerifierKey
from tallystick.journal.receipts import Receipt, check_receipt
from tallystick.service.settings import Settings
from tests.support.service import Caller, Served, serving

MAIN = "/v1/ledgers/main"
ORIGIN = "books.example/main"
USD = "USD/2"


@pytest.fixture
def kept(url: str, tmp_path: Path) -> Iterator[tuple[Served, Log]]:
    """On each kind of store, with a checkpoint over all there is."""
    yield from _kept(url, tmp_path)


@pytest.fixture
def here(tmp_path: Path) -> Iterator[tuple[Served, Log]]:
    """On a passing store."""
    yield from _kept("memory://", tmp_path)


def _kept(url: str, folder: Path) -> Iterator[tuple[Served, Log]]:
    with serving(url, Settings(log_home=str(folder / "homes"))) as served:
        log = LogHome(folder / "homes" / "main").begin(served.ledger, ORIGIN)
        log.checkpoint()
        yield served, log


def pay(served: Served, key: str, amount: int = 1) -> int:
    return served.ledger.transfer("users:alice", "users:bob", USD, amount, key=key).seq


def problem(answer: httpx2.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["code"]


# ---------------------------------------------------------------- receipts


def test_a_receipt_proves_to_a_stranger_what_happened(kept: tuple[Served, Log]) -> None:
    served, log = kept
    seq = pay(served, "1")
    log.checkpoint()

    found = served.admin.get(f"{MAIN}/transactions/{seq}/receipt").json()
    proven = check_receipt(found["receipt"].encode(), [log.verifier], origin=ORIGIN)
    assert (found["transaction"], found["origin"], found["size"]) == (f"main/{seq}", ORIGIN, served.ledger.head.seq)
    assert (proven.event.seq, proven.checkpoint.size) == (seq, found["size"])
    assert proven.body == served.ledger.journal.event(seq)


def test_before_a_checkpoint_covers_it_there_is_no_receipt_and_nothing_is_signed(here: tuple[Served, Log]) -> None:
    served, log = here
    seq, before = pay(served, "1"), log.note

    answer = served.admin.get(f"{MAIN}/transactions/{seq}/receipt")
    assert problem(answer) == (404, "not_covered_yet")
    assert answer.json()["retryable"] is True
    assert int(answer.headers["retry-after"]) > 0
    assert log.note == before
    log.checkpoint()
    assert served.admin.get(f"{MAIN}/transactions/{seq}/receipt").is_success


def test_a_receipt_is_given_to_whoever_may_read_everyone_in_it(here: tuple[Served, Log]) -> None:
    served, log = here
    paid = pay(served, "1")
    opened = served.ledger.open_account("users:alice:1", key="2").seq
    log.checkpoint()

    def asked(transaction: int, *scopes: Scope) -> tuple[int, str]:
        answer = served.caller(scopes=scopes).get(f"{MAIN}/transactions/{transaction}/receipt")
        return (200, "") if answer.is_success else problem(answer)

    alice, bob = Scope("read", "main", "users:alice"), Scope("read", "main", "users:bob")
    assert asked(paid, alice, bob) == (200, "")
    assert asked(paid, alice) == (403, "forbidden")
    assert asked(paid, Scope("read", "main", "users:carol")) == (404, "not_found")
    assert asked(opened, alice) == (200, "")
    assert asked(opened, bob) == (404, "not_found")
    assert asked(0, alice) == (404, "not_found")
    assert asked(paid, Scope("audit", "main"), Scope("read", "main", "users:carol")) == (200, "")
    assert asked(paid, Scope("audit", "main", "users:"), alice) == (403, "forbidden")


def test_a_transaction_that_is_none_has_no_receipt(here: tuple[Served, Log]) -> None:
    served, _ = here
    for place in ("99", "x", str(2**63), "-1"):
        assert problem(served.admin.get(f"{MAIN}/transactions/{place}/receipt")) == (404, "not_found")


def test_a_ledger_without_a_log_has_no_receipts(here: tuple[Served, Log]) -> None:
    served, _ = here
    served.database.ledger("other").mint("users:alice", USD, 1, key="1")
    assert problem(served.admin.get("/v1/ledgers/other/transactions/1/receipt")) == (404, "log_not_found")


# ---------------------------------------------------------------- what strangers check by


def test_a_stranger_checks_that_the_log_only_grew_and_holds_an_event(kept: tuple[Served, Log]) -> None:
    served, log = kept
    stranger = served.stranger()
    first = stranger.get(f"{MAIN}/checkpoints/latest").json()
    seq = [pay(served, str(number)) for number in range(5)][-1]
    log.checkpoint()
    second = stranger.get(f"{MAIN}/checkpoints/latest").json()

    keys = [VerifierKey.parse(text) for text in stranger.get(f"{MAIN}/log").json()["keys"]]
    assert keys == [log.verifier]
    old, new = (open_checkpoint(one["checkpoint"].encode(), keys, ORIGIN)[0] for one in (first, second))
    proof = stranger.get(f"{MAIN}/proofs/consistency", old=old.size).json()
    assert (proof["old"], proof["new"]) == (old.size, new.size)
    check_consistency(old.size, new.size, old.root, new.root, hashes(proof))
    proof = stranger.get(f"{MAIN}/proofs/inclusion", seq=seq, size=new.size).json()
    leaf = bytes.fromhex(served.ledger.transaction(seq).hash)
    check_inclusion(seq, new.size, leaf, hashes(proof), new.root)
    assert stranger.get(f"{MAIN}/checkpoint").content == second["checkpoint"].encode()


def hashes(proof: dict[str, Any]) -> list[bytes]:
    return [base64.b64decode(text) for text in proof["hashes"]]


def test_checkpoints_are_listed_page_by_page(here: tuple[Served, Log]) -> None:
    served, log = here
    for number in range(4):
        pay(served, str(number))
        log.checkpoint()
    stranger = served.stranger()

    seen, cursor = [], ""
    while True:
        page = stranger.get(f"{MAIN}/checkpoints", limit=2, **({"cursor": cursor} if cursor else {})).json()
        seen += page["items"]
        if not (cursor := page["cursor"]):
            break
    assert [(one["size"], one["checkpoint"].encode()) for one in seen] == served.ledger.journal.checkpoints()
    assert len(seen) == 5


@pytest.mark.parametrize(
    ("path", "wrong"),
    [
        ("proofs/inclusion?seq=99", "seq"),
        ("proofs/inclusion?seq=0&size=99", "size"),
        ("proofs/inclusion?seq=0&size=0", "seq"),
        ("proofs/inclusion?seq=-1", "seq"),
        (f"proofs/inclusion?seq={2**63}", "seq"),
        ("proofs/inclusion", "seq"),
        ("proofs/consistency?old=99", "old"),
        ("proofs/consistency?old=1&new=99", "new"),
        ("proofs/consistency?old=2&new=1", "old"),
    ],
)
def test_a_proof_of_what_was_never_signed_is_refused(here: tuple[Served, Log], path: str, wrong: str) -> None:
    served, _ = here
    answer = served.stranger().http.get(f"{MAIN}/{path}")
    assert answer.status_code in (400, 422)
    assert answer.json()["path"] == wrong


def test_no_proof_goes_beyond_the_newest_checkpoint(here: tuple[Served, Log]) -> None:
    served, _ = here
    size = served.ledger.head.seq
    pay(served, "1")
    assert served.stranger().get(f"{MAIN}/proofs/consistency", old=1, new=size).is_success
    assert served.stranger().get(f"{MAIN}/proofs/consistency", old=1, new=size + 1).status_code == 422


def test_a_ledger_without_a_log_looks_to_strangers_like_none(here: tuple[Served, Log]) -> None:
    served, _ = here
    served.database.ledger("other").mint("users:alice", USD, 1, key="1")
    stranger = served.stranger()
    for path in ("log", "checkpoints", "checkpoints/latest", "checkpoint", "proofs/inclusion?seq=0", "tile/0/000"):
        secret, nowhere = (stranger.http.get(f"/v1/ledgers/{name}/{path}") for name in ("other", "never"))
        assert problem(secret) == problem(nowhere) == (404, "not_found")
        assert secret.json()["detail"].replace("other", "never") == nowhere.json()["detail"]


def test_tiles_are_handed_out_as_far_as_was_signed_and_entries_are_not(here: tuple[Served, Log]) -> None:
    served, log = here
    stranger, size = served.stranger(), served.ledger.head.seq
    pay(served, "1")

    tile = stranger.get(f"{MAIN}/tile/0/000.p/{size}")
    leaves = [bytes.fromhex(event.hash) for event in served.ledger.events(limit=size)]
    assert tile.content == b"".join(leaves)
    assert tile.headers["content-type"] == "application/octet-stream"
    beyond = ("000", f"000.p/{size + 1}", "001", "x001/000", "x001/x000/000.p/1", "000.p/0", "0", "..%2f..%2fkey")
    for path in beyond:
        assert stranger.get(f"{MAIN}/tile/0/{path}").status_code == 404, path
    assert stranger.get(f"{MAIN}/tile/entries/000.p/{size}").status_code == 404
    log.checkpoint()
    assert len(stranger.get(f"{MAIN}/tile/0/000.p/{size + 1}").content) == 32 * (size + 1)


def test_a_log_whose_key_was_changed_is_served_on(here: tuple[Served, Log]) -> None:
    served, log = here
    seq = pay(served, "1")
    log.checkpoint()
    old = served.admin.get(f"{MAIN}/transactions/{seq}/receipt").json()["receipt"]
    home = LogHome(log_home(served))
    home.rotate(log)

    assert len(served.stranger().get(f"{MAIN}/log").json()["keys"]) == 2
    new = served.admin.get(f"{MAIN}/transactions/{seq}/receipt").json()
    assert check_receipt(new["receipt"].encode(), [home.open(served.ledger).verifier]).event.seq == seq
    assert verdict(served.admin, receipt=old)["verdict"] == "included"


def log_home(served: Served) -> Path:
    return Path(served.service.settings.log_home) / "main"


def test_the_service_serves_receipts_without_the_secret_key(here: tuple[Served, Log]) -> None:
    served, log = here
    seq = pay(served, "1")
    log.checkpoint()
    (log_home(served) / "key").unlink()
    assert served.admin.get(f"{MAIN}/transactions/{seq}/receipt").is_success


# ---------------------------------------------------------------- checking


def verdict(caller: Caller, **body: Any) -> Any:
    return caller.done(f"{MAIN}/verify", body)


def test_a_receipt_that_is_sent_in_is_judged(here: tuple[Served, Log]) -> None:
    served, log = here
    seq = pay(served, "1")
    log.checkpoint()
    receipt = served.admin.get(f"{MAIN}/transactions/{seq}/receipt").json()["receipt"]

    found = verdict(served.admin, receipt=receipt)
    assert (found["verdict"], found["transaction"], found["type"]) == ("included", f"main/{seq}", "transfer")
    assert found["hash"] == served.ledger.transaction(seq).hash
    assert verdict(served.admin, receipt=receipt, keys=[str(log.verifier)], origin=ORIGIN)["verdict"] == "included"
    other = verdict(served.admin, receipt=receipt, origin="books.example/other")
    assert other["verdict"] == "refused"
    forged = receipt.replace(f"index {seq}", f"index {seq - 1}")
    assert forged != receipt
    assert verdict(served.admin, receipt=forged)["verdict"] == "refused"
    assert verdict(served.admin, receipt="nonsense")["verdict"] == "refused"


def test_a_promise_is_no_proof(here: tuple[Served, Log]) -> None:
    served, log = here
    seq = pay(served, "1")
    found = verdict(served.admin, receipt=log.accept(seq).decode())
    assert (found["verdict"], found["seq"]) == ("accepted", seq)
    assert found["promise_by"] > served.ledger.transaction(seq).time


def test_what_a_stolen_retired_key_signs_proves_nothing(here: tuple[Served, Log]) -> None:
    """The home's keys hold the retired one, but the log does not extend what its thief signs."""
    served, log = here
    thief = log._signer
    LogHome(log_home(served)).rotate(log)
    body = served.ledger.journal.event(0)
    note = sign_checkpoint(Checkpoint(ORIGIN, 1, hash_leaf(body)), thief)
    assert verdict(served.admin, receipt=Receipt(0, (), note, body).encode().decode())["verdict"] == "included"
    forged = body.replace(b'"main"', b'"niam"')
    note = sign_checkpoint(Checkpoint(ORIGIN, 1, hash_leaf(forged)), thief)
    assert verdict(served.admin, receipt=Receipt(0, (), note, forged).encode().decode())["verdict"] == "refused"


@pytest.mark.parametrize(
    ("more", "path"),
    [({"keys": ["x"]}, "keys[0]"), ({"policy": "nonsense"}, "policy"), ({"colour": "red"}, "colour")],
)
def test_a_check_that_cannot_be_made_is_refused(here: tuple[Served, Log], more: dict[str, Any], path: str) -> None:
    served, _ = here
    answer = served.admin.post(f"{MAIN}/verify", {"receipt": "x", **more})
    assert answer.status_code in (400, 422)
    assert answer.json()["path"] == path


def test_where_no_log_is_kept_the_check_needs_keys(here: tuple[Served, Log]) -> None:
    served, log = here
    served.database.ledger("other").mint("users:alice", USD, 1, key="1")
    receipt = served.admin.get(f"{MAIN}/transactions/0/receipt").json()["receipt"]
    place = "/v1/ledgers/other/verify"
    assert served.admin.post(place, {"receipt": receipt}).json()["path"] == "keys"
    assert served.admin.done(place, {"receipt": receipt, "keys": [str(log.verifier)]})["verdict"] == "included"


# ---------------------------------------------------------------- erasing


def test_texts_are_erased_once_and_receipts_stay_good(kept: tuple[Served, Log]) -> None:
    served, log = kept
    paid = served.ledger.transfer("users:alice", "users:bob", USD, 1, key="1", reason=Erasable("Ann Example"))
    log.checkpoint()
    receipt = served.admin.get(f"{MAIN}/transactions/{paid.seq}/receipt").json()["receipt"]

    assert served.admin.done(f"{MAIN}/erase", {"transaction": paid.id}) == {"erased": 1}
    assert served.admin.done(f"{MAIN}/erase", {"transaction": paid.id}) == {"erased": 0}
    assert served.ledger.opened(served.ledger.transaction(paid.id)) == {"reason": None}
    assert verdict(served.admin, receipt=receipt)["verdict"] == "included"


def test_one_text_is_erased_by_its_commitment(here: tuple[Served, Log]) -> None:
    served, _ = here
    paid = served.ledger.transfer(
        "users:alice", "users:bob", USD, 1, key="1", metadata={"a": Erasable("one"), "b": Erasable("two")}
    )
    commitment = served.ledger.transaction(paid.id).event.data["metadata"]["a"]
    assert served.admin.done(f"{MAIN}/erase", {"commitment": commitment}) == {"erased": 1}
    assert served.ledger.opened(served.ledger.transaction(paid.id)) == {"metadata.a": None, "metadata.b": "two"}


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({}, 422),
        ({"transaction": "main/1", "commitment": "x"}, 422),
        ({"commitment": "x"}, 422),
        ({"transaction": "main/99"}, 404),
        ({"transaction": "other/0"}, 404),
    ],
)
def test_what_cannot_be_erased_is_said(here: tuple[Served, Log], body: dict[str, str], status: int) -> None:
    served, _ = here
    assert served.admin.post(f"{MAIN}/erase", body).status_code == status


def test_only_who_governs_the_whole_ledger_erases(here: tuple[Served, Log]) -> None:
    served, _ = here
    for scope in (Scope("read", "main"), Scope("govern", "main", "users:alice"), Scope("govern", "other")):
        answer = served.caller(scopes=(scope,)).post(f"{MAIN}/erase", {"transaction": "main/1"})
        assert answer.status_code in (403, 404)
