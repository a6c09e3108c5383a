"""Erasable texts: an event commits to them, whoever asks sees them, and once erased they alone are gone."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from itertools import count
from pathlib import Path
from typing import Any

import msgspec
import psycopg
import pytest

import tallystick
from tallystick import Erasable, Ledger, Posted
from tallystick import commands as c
from tallystick import errors as e
from tallystick.erasable import MAX_ERASABLE, PREFIX, commitment_of, commitments_in, is_commitment
from tallystick.errors import BatchAborted, CardNumber, IdempotencyConflict, InvalidInput, TransactionNotFound
from tests.ledger.conftest import Book
from tests.support.kernel import USD, Scribe
from tests.support.stores import on_files, on_lasting_stores

ALICE, BOB = "users:alice", "users:bob"
SECRET = "Alice Müller, Königsallee 1 🏠"
NAMED = {"name": Erasable(SECRET), "plain": "as it is"}


@pytest.fixture
def ledger(book: Book) -> Ledger:
    book.ledger.mint(ALICE, USD, 10_000, key="fund")
    return book.ledger


def pay(ledger: Ledger, key: str, **more: Any) -> Posted:
    return ledger.transfer(ALICE, BOB, USD, 100, key=key, **more)


def bytes_of(ledger: Ledger) -> list[bytes]:
    return ledger._store.events("main", 0, 1_000)


# ---------------------------------------------------------------- the commitment


def test_a_commitment_is_the_hash_of_label_salt_and_text():
    salt = bytes(range(32))
    by_hand = hashlib.sha256(b"tallystick.commitment.v1" + b"\0" + salt + "é".encode()).hexdigest()
    assert commitment_of("é", salt) == f"commitment:sha256:{by_hand}"
    assert commitment_of("é", salt) == (
        "commitment:sha256:c385e73e9fb73d30576d1e94c7bbef0017d6d6872b0e77740c6605e8355b1645"
    )
    for short in (b"", salt[1:], salt + b"\0"):
        with pytest.raises(ValueError, match="32 bytes"):
            commitment_of("é", short)


def test_only_the_one_way_to_write_a_commitment_is_one():
    right = commitment_of("x", bytes(32))
    assert is_commitment(right)
    for wrong in (
        right.upper(),
        right[:-1],
        right + "0",
        right + "\n",
        " " + right,
        right.replace("sha256", "sha512"),
        5,
    ):
        assert not is_commitment(wrong)


def test_an_erasable_text_shows_itself_in_no_message():
    assert repr(Erasable(SECRET)) == "Erasable(...)"
    assert SECRET not in repr(
        c.Transfer(key="k", from_account="a", to_account="b", asset=USD, amount=1, metadata=NAMED)
    )


def test_a_command_with_erasable_texts_survives_json():
    command = c.Release(key="k", hold="main/1", reason=Erasable("why"), metadata=NAMED)
    body = msgspec.json.encode(command)
    assert b'"reason":{"erasable":"why"}' in body
    assert msgspec.json.decode(body, type=c.AnyCommand) == command


# ---------------------------------------------------------------- what is kept, and where


def test_the_event_holds_only_a_commitment_and_the_text_is_found_beside_it(book: Book, ledger: Ledger):
    posted = pay(ledger, "k", reason=Erasable("a gift"), metadata=NAMED)
    for open_ in (lambda: ledger, book.reopen):
        found = open_()
        transaction = found.transaction(posted.id)
        assert is_commitment(transaction.data["reason"])
        assert is_commitment(transaction.data["metadata"]["name"])
        assert transaction.data["metadata"]["plain"] == "as it is"
        assert not any(text.encode() in body for body in bytes_of(found) for text in (SECRET, "a gift"))
        assert found.opened(transaction) == {"reason": "a gift", "metadata.name": SECRET}
        assert found.opened(transaction.event) == found.opened(transaction)
        assert found.opening(transaction.data["reason"]) == "a gift"
        assert found.replay().ok
        assert found.rebuild().ok
        assert found.opening(transaction.data["reason"]) == "a gift", "a rebuild keeps what it could not make"


def test_equal_texts_have_unequal_commitments(ledger: Ledger):
    same = {"a": Erasable("same"), "b": Erasable("same")}
    events = [ledger.transaction(pay(ledger, key, metadata=same).id) for key in ("k", "l")]
    assert len({value for event in events for value in event.data["metadata"].values()}) == 4


def test_salts_come_from_outside_and_decide_the_bytes(tmp_path: Path):
    def told(url: str, first: int) -> list[bytes]:
        salts = (number.to_bytes(32, "big") for number in count(first))
        with tallystick.open(url, clock=lambda: "2026-01-01T00:00:00.000000Z", salts=lambda: next(salts)) as database:
            ledger = database.ledger("main")
            ledger.mint(ALICE, USD, 1, key="k", reason=Erasable("x"), metadata=NAMED)
            return bytes_of(ledger)

    assert told("memory://", 1) == told(str(tmp_path / "one.db"), 1)
    assert told("memory://", 1) != told("memory://", 2)


@pytest.mark.parametrize(
    ("reason", "metadata"),
    [(Erasable("why"), None), ("", {"who": Erasable("somebody")}), (Erasable("x"), {"y": Erasable("x\0\n🪵")})],
    ids=["reason", "metadata", "both"],
)
def test_any_command_may_bear_erasable_texts(ledger: Ledger, reason: Any, metadata: Any):
    more = {"reason": reason, "metadata": metadata}
    ids = [
        ledger.mint(ALICE, USD, 1, key="1", **more).id,
        ledger.hold(ALICE, USD, 1, key="2", **more).id,
        ledger.open_account("users:mia", key="3", **more).id,
        ledger.adjust(
            [c.Leg(ALICE, BOB, USD, 1)], corrects="main/1", actor="ops", key="4", **{**more, "reason": reason or "r"}
        ).id,
        ledger.define_asset("GOLD", key="5", **more).id,
        ledger.set_policy({"strict": True}, key="6", **more).id,
    ]
    for id_ in ids:
        opened = ledger.opened(ledger.transaction(id_))
        assert opened.get("metadata.y") == ("x\0\n🪵" if metadata and "y" in metadata else None)
        assert set(opened) == ({"reason"} if reason else set()) | {f"metadata.{name}" for name in metadata or {}}
        assert None not in opened.values()
    assert ledger.replay().ok


def test_in_a_batch_each_event_has_its_own_and_what_is_refused_leaves_none(ledger: Ledger):
    def command(number: int) -> c.Command:
        amount = 10 if number % 3 else 10**9
        return c.Transfer(
            key=f"k{number}", from_account=ALICE, to_account=BOB, asset=USD, amount=amount,
            metadata={"n": Erasable(f"text {number}")},
        )  # fmt: skip

    results = ledger.post_many([command(number) for number in range(300)])
    went = [number for number, result in enumerate(results) if isinstance(result, Posted)]
    assert went == [number for number in range(300) if number % 3]
    texts = [ledger.opened(ledger.transaction(results[number].id))["metadata.n"] for number in went]
    assert texts == [f"text {number}" for number in went]
    with pytest.raises(BatchAborted):
        ledger.post_many([command(number) for number in (400, 402)], atomic=True)
    ledger.post_many([command(500)], dry_run=True)
    assert len(ledger._store.openings_between("main", 0, 10_000)) == len(went)


# ---------------------------------------------------------------- asking again


@pytest.mark.parametrize("field", ["reason", "metadata"])
def test_asking_again_with_the_same_text_gives_the_first_answer_and_with_another_a_conflict(
    book: Book, ledger: Ledger, field: str
):
    def asked(text: Any) -> dict[str, Any]:
        return {"reason": text} if field == "reason" else {"metadata": {"n": text, "plain": "p"}}

    first = pay(ledger, "k", **asked(Erasable("text")))
    assert pay(ledger, "k", **asked(Erasable("text"))) == msgspec.structs.replace(first, replayed=True)
    if book.url != "memory://":
        ledger = book.reopen()
    assert pay(ledger, "k", **asked(Erasable("text"))).replayed
    commitment = next(iter(commitments_in(ledger.transaction(first.id).data).values()))
    for other in (Erasable("Text"), Erasable(""), "text", Erasable(commitment), PREFIX + "0" * 64):
        with pytest.raises(IdempotencyConflict):
            pay(ledger, "k", **asked(other))
    assert pay(ledger, "k", **asked(commitment)).replayed, "that is what was committed to, whoever has the text"
    with pytest.raises(IdempotencyConflict):
        pay(ledger, "k")
    with pytest.raises(IdempotencyConflict):
        ledger.transfer(ALICE, BOB, USD, 101, key="k", **asked(Erasable("text")))


def test_a_text_that_was_given_plainly_is_not_asked_again_as_an_erasable_one(ledger: Ledger):
    pay(ledger, "k", reason="text")
    pay(ledger, "bare")
    for key in ("k", "bare"):
        with pytest.raises(IdempotencyConflict):
            pay(ledger, key, reason=Erasable("text"))


def test_once_the_text_was_erased_any_text_is_taken_for_it_if_all_else_is_equal(ledger: Ledger):
    first = pay(ledger, "k", metadata=NAMED)
    ledger.erase(first.id)
    again = {**NAMED, "name": Erasable("somebody else")}
    assert pay(ledger, "k", metadata=again) == msgspec.structs.replace(first, replayed=True)
    assert ledger.opened(ledger.transaction(first.id)) == {"metadata.name": None}, "and it does not come back"
    with pytest.raises(IdempotencyConflict):
        pay(ledger, "k", metadata={**again, "plain": "other"})
    with pytest.raises(IdempotencyConflict):
        pay(ledger, "k", metadata={**again, "more": Erasable("x")})


def test_twice_in_one_batch_is_one_event(ledger: Ledger):
    def command(text: str) -> c.Command:
        return c.Release(key="k", hold=hold, reason=Erasable(text))

    hold = ledger.hold(ALICE, USD, 10, key="h").id
    first, same, other = ledger.post_many([command("a"), command("a"), command("b")])
    assert same == msgspec.structs.replace(first, replayed=True)
    assert isinstance(other, IdempotencyConflict)
    assert len(ledger._store.openings_between("main", 0, 100)) == 1


# ---------------------------------------------------------------- what is refused


BAD = [
    (Erasable(""), InvalidInput), (Erasable("x" * (MAX_ERASABLE + 1)), InvalidInput),
    (Erasable("\ud800"), InvalidInput), (Erasable(5), InvalidInput), (Erasable(None), InvalidInput),
    (Erasable("pay 4242 4242 4242 4242"), CardNumber),
    (Erasable(PREFIX + "0" * 64), InvalidInput), (PREFIX + "0" * 64, InvalidInput), (PREFIX, InvalidInput),
    ("4242 4242 4242 4242", CardNumber), ([Erasable("x")], InvalidInput), (Erasable(Erasable("x")), InvalidInput),
]  # fmt: skip


@pytest.mark.parametrize(("text", "error"), BAD, ids=lambda value: f"{value!s:.30}")
@pytest.mark.parametrize("field", ["reason", "metadata"])
@pytest.mark.parametrize("url", ["memory"], indirect=True)
def test_what_may_not_be_kept_is_refused_by_its_path_and_leaves_nothing(
    ledger: Ledger, field: str, text: Any, error: type[e.Refusal]
):
    with pytest.raises(error) as caught:
        pay(ledger, "k", **({"reason": text} if field == "reason" else {"metadata": {"a": "b", "n": text}}))
    assert caught.value.data["path"].startswith(field)
    assert "4242" not in str(caught.value)
    assert ledger.head.seq == 2
    assert ledger._store.openings_between("main", 0, 100) == []
    pay(ledger, "k")


def test_a_card_number_in_the_name_of_an_erasable_text_is_not_repeated(ledger: Ledger):
    with pytest.raises(CardNumber) as caught:
        pay(ledger, "k", metadata={"4242 4242 4242 4242": Erasable("x" * 100_000)})
    assert caught.value.data == {"path": "metadata"}


def test_an_erasable_text_may_be_as_long_as_its_limit_and_takes_no_room_in_the_event(ledger: Ledger):
    posted = pay(ledger, "k", metadata={f"n{number}": Erasable("🪵" * MAX_ERASABLE) for number in range(60)})
    assert ledger.opened(ledger.transaction(posted.id))["metadata.n59"] == "🪵" * MAX_ERASABLE
    assert len(bytes_of(ledger)[-1]) < 10_000


def test_the_kernel_by_itself_commits_to_nothing():
    scribe = Scribe()
    scribe.do(c.OpenLedger, name="main")
    for text in (Erasable("x"), PREFIX + "0" * 64):
        refusal = scribe.refused(InvalidInput, c.DefineAsset, asset="GOLD", metadata={"n": text})
        assert refusal.data["path"] == "metadata.n"


# ---------------------------------------------------------------- erasing


def test_erasing_forgets_the_text_and_changes_nothing_else(book: Book, ledger: Ledger):
    posted = pay(ledger, "k", reason=Erasable("a gift"), metadata=NAMED)
    kept = pay(ledger, "l", metadata=NAMED)
    before, bodies = book.picture(), bytes_of(ledger)
    assert ledger.erase(posted.id) == 2
    assert ledger.erase(posted.id) == 0, "erasing again is no error"
    assert ledger.erase(posted.seq) == 0
    assert ledger.opened(ledger.transaction(posted.id)) == {"reason": None, "metadata.name": None}
    assert ledger.opening(ledger.transaction(posted.id).data["reason"]) is None
    assert ledger.opened(ledger.transaction(kept.id)) == {"metadata.name": SECRET}
    assert (book.picture(), bytes_of(ledger)) == (before, bodies)
    assert ledger.replay().ok
    assert ledger.rebuild().ok
    assert ledger.opened(ledger.transaction(posted.id)) == {"reason": None, "metadata.name": None}
    ledger = book.ledger if book.url == "memory://" else book.reopen()
    assert ledger.opened(ledger.transaction(posted.id)) == {"reason": None, "metadata.name": None}
    assert pay(ledger, "m", reason=Erasable("more")).seq == kept.seq + 1


def test_one_commitment_alone_may_be_erased(ledger: Ledger):
    posted = pay(ledger, "k", reason=Erasable("a gift"), metadata=NAMED)
    assert ledger.erase(ledger.transaction(posted.id).data["reason"]) == 1
    assert ledger.opened(ledger.transaction(posted.id)) == {"reason": None, "metadata.name": SECRET}
    assert ledger.erase(PREFIX + "0" * 64) == 0


def test_there_is_nothing_to_erase_where_nothing_is(ledger: Ledger):
    assert ledger.erase("main/1") == 0
    for missing in ("main/99", 99, -1, "other/1", "", "commitment:sha256:x"):
        with pytest.raises(TransactionNotFound):
            ledger.erase(missing)
    assert ledger.opening("nothing of the kind") is None
    assert ledger.opened(ledger.transaction(1)) == {}


def test_ledgers_beside_it_keep_theirs(book: Book, ledger: Ledger):
    other = book.database.ledger("other")
    mine, theirs = pay(ledger, "k", metadata=NAMED), other.mint(ALICE, USD, 1, key="k", metadata=NAMED)
    commitment = other.transaction(theirs.id).data["metadata"]["name"]
    assert ledger.opening(commitment) is None
    assert ledger.erase(commitment) == 0
    ledger.erase(mine.id)
    assert other.opening(commitment) == SECRET


@on_files
def test_an_erased_text_is_nowhere_in_the_file_or_its_log(book: Book, ledger: Ledger):
    path = Path(book.url)
    posted = [
        pay(ledger, f"k{n}", metadata={"n": Erasable(f"[secret {n}]" + "x" * (37 * n % 5_000))}) for n in range(90)
    ]
    erased = range(0, 90, 2)
    for number in erased:
        ledger.erase(posted[number].id)

    def found() -> list[int]:
        files = b"".join(file.read_bytes() for file in path.parent.glob(f"{path.name}*"))
        return [number for number in range(90) if b"[secret %d]" % number in files]

    assert found() == list(range(1, 90, 2))
    book.reopen()
    assert found() == list(range(1, 90, 2))


@on_files
def test_a_reader_of_an_older_state_keeps_nobody_from_erasing_and_the_log_is_emptied_later(book: Book, ledger: Ledger):
    path = Path(book.url)
    posted = [pay(ledger, key, reason=Erasable(f"[secret {key}]")) for key in ("k", "l")]
    with closing(sqlite3.connect(path, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM event").fetchone()
        assert ledger.erase(posted[0].id) == 1
        assert ledger.opened(ledger.transaction(posted[0].id)) == {"reason": None}
        assert pay(ledger, "m").seq == posted[1].seq + 1
    ledger.erase(posted[1].id)
    assert not [file for file in path.parent.glob(f"{path.name}*") if b"[secret" in file.read_bytes()]


# ---------------------------------------------------------------- damage


@on_lasting_stores
def test_a_text_that_was_put_in_anothers_place_is_reported_and_not_shown(book: Book, ledger: Ledger):
    posted = pay(ledger, "k", metadata=NAMED)
    commitment = ledger.transaction(posted.id).data["metadata"]["name"]
    _forge(book.url)
    with pytest.raises(e.LedgerCorrupt):
        ledger.opening(commitment)
    with pytest.raises(e.LedgerCorrupt):
        ledger.opened(ledger.transaction(posted.id))
    report = ledger.replay()
    assert [finding.where for finding in report.findings] == [f"event {posted.id}"]
    assert ledger.erase(posted.id) == 1
    assert ledger.replay().ok


def _forge(url: Any) -> None:
    """Another text, by a hand that has set the guards aside."""
    if str(url).startswith("postgresql:"):
        with psycopg.connect(str(url)) as connection:
            connection.execute("ALTER TABLE tallystick.opening DISABLE TRIGGER USER")
            connection.execute("ALTER TABLE tallystick.opening DROP CONSTRAINT opens_its_commitment")
            connection.execute("UPDATE tallystick.opening SET text = 'Mallory'")
        return
    connection = sqlite3.connect(url)
    (guard,) = connection.execute("SELECT sql FROM sqlite_schema WHERE name = 'opening_is_never_updated'").fetchone()
    connection.execute("DROP TRIGGER opening_is_never_updated")
    connection.execute("UPDATE opening SET text = CAST('Mallory' AS BLOB)")
    connection.execute(guard)
    connection.commit()
    connection.close()


@pytest.mark.parametrize("url", ["memory"], indirect=True)
def test_an_opening_of_no_event_or_of_another_text_is_a_finding(ledger: Ledger):
    posted = pay(ledger, "k")
    salt, openings = bytes(32), ledger._store._shelves["main"].openings
    right = commitment_of("x", salt)
    for row in [(right, salt, "x", posted.seq), (right, salt, "x", posted.seq + 1), (right, salt[1:], "x", 0)]:
        openings[right] = row
        report = ledger.replay()
        assert [finding.where for finding in report.findings] == [f"event main/{row[3]}"]
        assert right in report.findings[0].problem
    openings.clear()
    assert ledger.replay().ok


# ---------------------------------------------------------------- within a caller's transaction


@pytest.fixture
def connection(book: Book) -> Iterator[Any]:
    with psycopg.connect(str(book.url)) as found:
        yield found


@pytest.mark.parametrize("url", ["postgres"], indirect=True)
def test_texts_come_and_go_with_the_callers_transaction(ledger: Ledger, connection: Any):
    posted = pay(ledger, "k", metadata=NAMED, connection=connection)
    assert pay(ledger, "k", metadata=NAMED, connection=connection).replayed
    connection.rollback()
    assert ledger._store.openings_between("main", 0, 100) == []
    assert pay(ledger, "k", metadata=NAMED, connection=connection) != posted, "its salt is another one"
    connection.commit()
    assert ledger.opened(ledger.transaction(posted.id)) == {"metadata.name": SECRET}
