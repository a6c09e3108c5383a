"""What goes wrong around a ledger - other processes, interrupts, forks, values of the wrong kind - costs no money."""

from __future__ import annotations

import os
import threading
import uuid
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

import tallystick
from tallystick import Database, Ledger, Leg, Posted
from tallystick.commands import Post, Release, Reverse, Transfer
from tallystick.errors import InvalidInput, LedgerCorrupt, LedgerLocked, Refusal, Unavailable
from tallystick.kernel import Balance
from tallystick.ledger import writer
from tallystick.ledger.history import lowest_since
from tallystick.ledger.keys import KeyFilter
from tallystick.stores.base import Batch, EntryRow
from tallystick.stores.memory import MemoryStore
from tests.ledger.conftest import Book
from tests.support.stores import on_lasting_stores

USD = "USD/2"


def begin(ledger: Ledger) -> None:
    ledger.mint("users:a", USD, 1_000, key="mint a")
    ledger.mint("users:b", USD, 1_000, key="mint b")


def pay(key: str, amount: int = 1) -> Transfer:
    return Transfer(key=key, from_account="users:a", to_account="users:b", asset=USD, amount=amount)


# ---------------------------------------------------------------- other processes


def try_only(ledger: Ledger, other: Ledger) -> None:
    ledger.post(pay("tried"), dry_run=True)
    other.post(pay("first of the other's"))


def be_locked_out(ledger: Ledger, other: Ledger) -> None:
    other.post(pay("first of the other's"))
    with pytest.raises(LedgerLocked):
        ledger.post(pay("locked out"))


def post_before(ledger: Ledger, other: Ledger) -> None:
    ledger.post(pay("before the other's"))
    other.post(pay("first of the other's"))


def post_in_turns(ledger: Ledger, other: Ledger) -> None:
    for turn in range(3):
        ledger.post(pay(f"turn {turn} here"))
        other.post(pay(f"turn {turn} there"))


@pytest.mark.parametrize(
    ("url", "meet"),
    [
        ("sqlite", try_only),
        ("sqlite", be_locked_out),
        ("postgres", try_only),
        ("postgres", post_before),
        ("postgres", post_in_turns),
    ],
    indirect=["url"],
)
def test_a_key_that_another_used_after_this_one_had_opened_the_store_is_never_used_twice(
    url: str, meet: Callable[[Ledger, Ledger], None]
):
    with tallystick.open(url) as made:
        begin(made.ledger("main"))
    with tallystick.open(url) as database:
        ledger = database.ledger("main")
        with tallystick.open(url) as others:
            other = others.ledger("main")
            meet(ledger, other)
            first = other.post(pay("shared", 100))
        events = ledger.head.seq
        ledger.post(pay("own"))
        again = ledger.post(pay("shared", 100))
        assert (again.id, again.replayed) == (first.id, True)
        assert ledger.head.seq == events + 1
        assert ledger.balance("users:a", USD) == 1_000 - 100 - (events - 4) - 1, "all others paid 1"
        assert ledger.replay().ok


@on_lasting_stores
def test_who_only_reads_may_try_commands_on_a_long_ledger(url: str, monkeypatch: pytest.MonkeyPatch):
    with tallystick.open(url) as made:
        begin(made.ledger("main"))
        made.ledger("main").post_many([pay(f"k{number}") for number in range(200)])
    monkeypatch.setattr(writer, "PART_BITS", 2)
    monkeypatch.setattr("tallystick.ledger.desk.KEYS_PER_SAVE", 1)
    with tallystick.open(url, read_only=True) as database:
        tried = [database.ledger("main").post(pay(f"tried {number}"), dry_run=True) for number in range(3)]
        assert len({answer.seq for answer in tried}) == 1


@on_lasting_stores
def test_a_forked_child_is_told_to_open_the_ledger_again(url: str):
    with tallystick.open(url) as database:
        ledger = database.ledger("main")
        begin(ledger)
        answer, ours = os.pipe()
        child = os.fork()
        if not child:
            try:
                ledger.post(pay("from the child"))
            except Unavailable as refused:
                os.write(ours, refused.code.encode())
            finally:
                os._exit(0)
        os.close(ours)
        os.waitpid(child, 0)
        assert os.read(answer, 100) == Unavailable.code.encode()
        os.close(answer)
        assert ledger.post(pay("from the parent")).seq == 3


# ---------------------------------------------------------------- interrupts


class GatedStore(MemoryStore):
    """A store that stops in the middle of a commit until it is let go."""

    def __init__(self) -> None:
        super().__init__()
        self.entered = threading.Event()
        self.gate = threading.Event()
        self.gate.set()

    def append(self, batches: Iterable[Batch], *, epoch: int | None = None) -> None:
        self.entered.set()
        self.gate.wait(timeout=30)
        super().append(batches)


class InterruptedTurns(threading.Condition):
    """The writer's turns: whoever is named ``interrupted`` is interrupted instead of waiting for his."""

    def wait_for(self, predicate: Callable[[], bool], timeout: float | None = None) -> bool:
        with self:
            if threading.current_thread().name == "interrupted" and not predicate():
                raise KeyboardInterrupt
        return super().wait_for(predicate, timeout)


def test_nobody_waits_for_a_round_that_was_interrupted_before_its_turn_came(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(writer, "OVERLAPPED_FROM", 1)
    store = GatedStore()
    with Database(store) as database:
        ledger = database.ledger("main")
        begin(ledger)
        ledger._writer._turns = InterruptedTurns()
        outcomes: dict[str, Any] = {}

        def post(key: str) -> None:
            try:
                outcomes[key] = ledger.post(pay(key))
            except BaseException as error:
                outcomes[key] = error

        store.entered.clear()
        store.gate.clear()
        storing = threading.Thread(target=post, args=("being stored",))
        storing.start()
        assert store.entered.wait(timeout=30)
        interrupted = threading.Thread(target=post, args=("interrupted",), name="interrupted")
        interrupted.start()
        interrupted.join(timeout=30)
        assert isinstance(outcomes["interrupted"], KeyboardInterrupt)
        store.gate.set()
        storing.join(timeout=30)
        later = threading.Thread(target=post, args=("later",), daemon=True)
        later.start()
        later.join(timeout=30)
        assert isinstance(outcomes["being stored"], Posted)
        assert isinstance(outcomes.get("later"), Posted), "the next one is answered"
        assert ledger.by_key("interrupted") is None
        assert ledger.replay().ok


# ---------------------------------------------------------------- values of the wrong kind


@pytest.mark.parametrize("wrong", [uuid.UUID(int=7), b"key", bytearray(b"key"), 7, None], ids=repr)
@pytest.mark.parametrize("field", ["key", "source"])
def test_a_key_that_is_no_text_is_refused_and_never_posted_twice(book: Book, field: str, wrong: Any):
    begin(book.ledger)
    for _ in range(2):
        with pytest.raises(InvalidInput) as caught:
            book.ledger.transfer("users:a", "users:b", USD, 1, **{"key": "k", field: wrong})
        assert caught.value.data["path"] == field
    assert book.ledger.balance("users:a", USD) == 1_000
    assert book.ledger.replay().ok


@pytest.mark.parametrize(
    "command",
    [
        Transfer(key="x", from_account=1, to_account=2, asset=USD, amount=1),  # type: ignore[arg-type]
        Transfer(key="x", from_account=b"1", to_account=b"2", asset=USD, amount=1),  # type: ignore[arg-type]
        Release(key="x", hold=float("nan")),  # type: ignore[arg-type]
        Release(key="x", hold=b"main/1"),  # type: ignore[arg-type]
        Reverse(key="x", transaction="main/" + "9" * 5_000),
        Post(key="x", type="transfer", legs=7),  # type: ignore[arg-type]
    ],
    ids=["numbers", "bytes", "nan", "a hold in bytes", "digits without end", "no legs"],
)
def test_a_name_that_can_be_none_is_refused_and_troubles_nobody_in_the_same_batch(book: Book, command: Any):
    begin(book.ledger)
    before, refused, behind = book.ledger.post_many([pay("before"), command, pay("behind")])
    assert isinstance(refused, Refusal)
    assert isinstance(before, Posted)
    assert isinstance(behind, Posted)


def test_events_after_any_number_below_the_first_are_all_of_them(book: Book):
    begin(book.ledger)
    for after in (-1, -2, -5, -5_000):
        assert [found.seq for found in book.ledger.events(after=after, limit=10)] == [0, 1, 2]


@pytest.mark.parametrize("after", ["main/²", "main/" + "9" * 5_000])
def test_locks_after_an_id_that_none_has_are_no_error(book: Book, after: str):
    begin(book.ledger)
    held = book.ledger.hold("users:a", USD, 1, key="hold").id
    assert {lock.id for lock in book.ledger.locks(after=after)} <= {held}


# ---------------------------------------------------------------- what may be spent


def test_a_member_with_limit_zero_may_spend_what_a_soft_ledger_lets_it_spend():
    with tallystick.open("memory://") as database:
        ledger = database.ledger("main", policy={"limit_min": 0, "limit_default": 0, "commitment_mode": "SOFT"})
        ledger.open_account("users:a", limits={USD: 0}, key="open")
        ledger.mint("users:a", USD, 100, key="mint")
        ledger.hold("users:a", USD, 60, key="hold")
        assert ledger.available("users:a", USD) == 100
        ledger.transfer("users:a", "users:b", USD, 100, key="pay")
        assert ledger.available("users:a", USD) == 0


# ---------------------------------------------------------------- the past


class StoredInBetween(MemoryStore):
    """A store that a commit reaches after its entries were read, and before its back-dated ones are."""

    def entries(self, ledger: str, balance_ids: Any, first: int, before: int, limit: int) -> list[EntryRow]:
        return []

    def backdated(self, ledger: str, balance_ids: Any = None) -> list[tuple[int, int, str, int]]:
        return [(1, 5, "2026-01-02T00:00:00.000000Z", 10)]


def test_a_back_dated_entry_that_is_stored_while_the_past_is_read_counts_once():
    lowest = lowest_since(
        StoredInBetween(),
        "main",
        Balance(1, 10, 1),
        "2026-01-03T00:00:00.000000Z",
        seq_at=lambda time: 5,
        time_of=lambda seq: "2026-01-05T00:00:00.000000Z",
        pending=[(1, 1, 5, 10, 0, 10)],
        pending_backdated=[(1, 5, "2026-01-02T00:00:00.000000Z", 10)],
    )
    assert lowest == 10


# ---------------------------------------------------------------- files, clocks and rules


def test_a_file_that_was_replaced_while_it_was_open_is_neither_written_nor_read_on(tmp_path: Path):
    path, away = tmp_path / "book.db", tmp_path / "away.db"
    with tallystick.open(path) as database:
        ledger = database.ledger("main")
        begin(ledger)
        path.rename(away)
        with pytest.raises(Unavailable, match="moved away"):
            ledger.post(pay("gone"))
        with tallystick.open(tmp_path / "other.db") as other:
            begin(other.ledger("main"))
        (tmp_path / "other.db").rename(path)
        with pytest.raises(Unavailable, match="replaced"):
            ledger.post(pay("replaced"))
        path.unlink()
        away.rename(path)
        assert not ledger.post(pay("back")).replayed
        assert ledger.balance("users:a", USD) == 999


def test_a_policy_that_can_be_none_is_refused_before_the_ledger_is_made():
    with tallystick.open("memory://") as database:
        with pytest.raises(InvalidInput, match="no such rule"):
            database.ledger("main", policy={"limt_max": 1})
        begin(database.ledger("main", policy={"limit_max": 9_000}))
        assert database.ledger("main").policy.limit_max == 9_000


def test_replay_finds_a_key_that_was_used_twice(monkeypatch: pytest.MonkeyPatch):
    with tallystick.open("memory://") as database:
        ledger = database.ledger("main")
        begin(ledger)
        ledger.post(pay("once"))
        with monkeypatch.context() as broken:
            broken.setattr(KeyFilter, "suspects", lambda self, numbers: set())
            assert not ledger.post(pay("once")).replayed
        findings = ledger.replay().findings
        assert [(finding.where, finding.problem) for finding in findings] == [
            ("event main/4", "the key 'once' of local was used before")
        ]


def test_legs_in_a_list_are_the_same_request_as_legs_in_a_tuple(book: Book):
    legs = [Leg("users:a", "users:b", USD, 5, "".join(["avail", "able"]))]  # type: ignore[arg-type]
    begin(book.ledger)
    first = book.ledger.post(Post(key="k", type="transfer", legs=tuple(legs)))
    again = book.ledger.post(Post(key="k", type="transfer", legs=legs))  # type: ignore[arg-type]
    assert (again.id, again.replayed) == (first.id, True)


def test_a_clock_that_goes_back_does_not_bring_an_expired_hold_back_to_life():
    times = iter(["2026-01-01T00:00:00.000000Z"] * 3 + ["2026-01-01T00:02:00.000000Z"])
    moment = "2026-01-01T00:00:30.000000Z"
    with tallystick.open("memory://", clock=lambda: next(times, moment)) as database:
        ledger = database.ledger("main")
        begin(ledger)
        hold = ledger.hold("users:a", USD, 10, expires_in_seconds=60, key="hold")
        ledger.post(pay("two minutes later"))
        found = ledger.hold_by_id(hold.id)
        assert found is not None
        assert found.state == "expired"
        assert [type(answer) for answer in ledger.expire_due()] == [Posted]


def test_text_that_cannot_be_stored_finds_nothing(book: Book):
    begin(book.ledger)
    assert book.ledger.by_key("\ud800") is None
    assert book.ledger.by_reference("order", "\ud800") == []
    assert book.ledger.accounts("\ud800") == []
    assert book.ledger.hold_by_id("\ud800") is None


def test_a_key_that_is_indexed_for_an_event_that_is_not_there_is_damage_and_no_reason_to_try_again(
    book: Book, monkeypatch: pytest.MonkeyPatch
):
    begin(book.ledger)
    book.ledger.post(pay("k"))
    monkeypatch.setattr(book.ledger._store, "find_keys", lambda ledger, numbers: {number: [99] for number in numbers})
    with pytest.raises(LedgerCorrupt, match="it is missing"):
        book.ledger.post(pay("k"))
