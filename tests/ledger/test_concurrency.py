"""Many threads at one ledger: each key once, no balance spent twice, nobody forgotten."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from random import Random
from typing import Any

import pytest

import tallystick
from tallystick import Database, Ledger, Posted, Refusal
from tallystick.commands import Leg, Post, Transfer
from tallystick.errors import Closed, InsufficientFunds, InvalidInput, Overloaded, Unavailable
from tallystick.ledger import writer
from tallystick.stores.base import Batch
from tallystick.stores.memory import MemoryStore
from tests.support.stores import on_lasting_stores

USD = "USD/2"
THREADS = 16


def mint(account: str, amount: int, key: str = "") -> Post:
    return Post(key=key or f"mint {account}", type="mint", legs=(Leg("@issuance", account, USD, amount),))


def pay(key: str, payer: str, payee: str, amount: int = 1) -> Transfer:
    return Transfer(key=key, from_account=payer, to_account=payee, asset=USD, amount=amount)


@pytest.fixture
def database(url: str) -> Iterator[Database]:
    with tallystick.open(url) as found:
        yield found


@pytest.fixture
def ledger(database: Database) -> Ledger:
    return database.ledger("main")


@pytest.fixture(params=[1, writer.OVERLAPPED_FROM], ids=["overlapped", "gathered"])
def overlapping(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rounds that are decided while the one before is being stored, or not; and long ones from a small size on."""
    monkeypatch.setattr(writer, "OVERLAPPED_FROM", request.param)
    monkeypatch.setattr(writer, "STREAMED_FROM", 64)
    monkeypatch.setattr(writer, "PART", 16)


def at_once(acts: Sequence[Callable[[], Any]]) -> list[Any]:
    """Run each in a thread of its own, all beginning together; what they return or raise."""
    start = threading.Barrier(len(acts))

    def begin(act: Callable[[], Any]) -> Any:
        start.wait()
        try:
            return act()
        except tallystick.TallystickError as error:
            return error

    with ThreadPoolExecutor(len(acts)) as pool:
        return list(pool.map(begin, acts))


# ---------------------------------------------------------------- keys, balances


@pytest.mark.usefixtures("overlapping")
def test_threads_that_share_keys_and_accounts_post_each_key_once_and_all_agree(ledger: Ledger):
    people = [f"users:{number}" for number in range(4)]
    ledger.post_many([mint(person, 5_000) for person in people])
    commands = [
        pay(f"k{number}", people[number % 4], people[(number + 1) % 4], 1 + number % 7) for number in range(240)
    ]

    def work(seed: int) -> dict[str, Posted | Refusal]:
        random, answers = Random(seed), {}
        mine = random.sample(commands, 160)
        while mine:
            size = min(random.choice([1, 1, 1, 5, 70]), len(mine))
            part, mine = mine[:size], mine[size:]
            posted = [ledger.post(part[0])] if size == 1 else ledger.post_many(part, atomic=size == 5)
            answers.update(zip((command.key for command in part), posted, strict=True))
        return answers

    found = at_once([lambda seed=seed: work(seed) for seed in range(THREADS)])
    answers = [(key, answer) for answers in found for key, answer in answers.items()]
    assert {len({answer.id for name, answer in answers if name == key}) for key in dict(answers)} == {1}
    fresh = [key for key, answer in answers if not answer.replayed]
    assert sorted(fresh) == sorted(dict(answers)), "of all that ask with a key, exactly one posts"
    assert len(ledger.events()) == 5 + len(fresh)
    assert ledger.replay().ok


@pytest.mark.usefixtures("overlapping")
def test_one_key_from_many_threads_is_posted_once_and_all_get_the_same_answer(ledger: Ledger):
    ledger.post(mint("users:a", 100))
    for key in map(str, range(20)):
        answers = at_once([lambda key=key: ledger.post(pay(key, "users:a", "users:b"))] * THREADS)
        assert len({(answer.id, answer.hash, answer.time) for answer in answers}) == 1
        assert [answer.replayed for answer in answers].count(False) == 1
    assert ledger.balance("users:b", USD) == 20


@pytest.mark.usefixtures("overlapping")
def test_of_many_that_spend_one_balance_just_as_many_succeed_as_it_covers(ledger: Ledger):
    for attempt in range(10):
        purse = f"users:purse-{attempt}"
        ledger.post(mint(purse, 1_000))
        acts = [
            lambda n=n, purse=purse: ledger.post(pay(f"{purse} {n}", purse, f"users:{n}", 130)) for n in range(THREADS)
        ]
        answers = at_once(acts)
        assert [isinstance(answer, Posted) for answer in answers].count(True) == 1_000 // 130
        assert all(isinstance(answer, (Posted, InsufficientFunds)) for answer in answers)
        assert ledger.balance(purse, USD) == 1_000 % 130
    assert ledger.replay().ok


# ---------------------------------------------------------------- a store that waits


class HeldStore(MemoryStore):
    """A store that can be held in the middle of a commit, and whose upkeep can fail."""

    def __init__(self) -> None:
        super().__init__()
        self.entered = threading.Semaphore(0)
        self.gate = threading.Event()
        self.gate.set()
        self.broken = False
        self.appended = 0

    def append(self, batches: Iterable[Batch], *, epoch: int | None = None) -> None:
        taken = list(batches)
        self.entered.release()
        self.gate.wait()
        super().append(taken)
        self.appended += 1

    def snapshot(self, ledger: str) -> bool:
        if self.broken:
            raise Unavailable(reason="the disk is full")
        return super().snapshot(ledger)


class NotingQueue(list[Any]):
    """A queue that tells whenever a job has been put into it."""

    def __init__(self) -> None:
        super().__init__()
        self.noted = threading.Semaphore(0)

    def append(self, job: Any) -> None:
        super().append(job)
        self.noted.release()


class NotingTurns(threading.Condition):
    """The writer's turns; they tell when the thread ``closing`` begins to wait, having refused newcomers by then."""

    def __init__(self) -> None:
        super().__init__()
        self.closing = threading.Event()

    def wait_for(self, predicate: Callable[[], bool], timeout: float | None = None) -> bool:
        if threading.current_thread().name == "closing":
            self.closing.set()
        return super().wait_for(predicate, timeout)


class Held:
    """A ledger whose store is held, so that what its callers post stays queued until ``go``."""

    def __init__(self) -> None:
        self.store = HeldStore()
        self.database = Database(self.store)
        self.ledger = self.database.ledger("main")
        self.turns = self.ledger._writer._turns = NotingTurns()
        self.ledger.post_many([mint("users:a", 1_000), mint("users:b", 1_000)])
        self.queue = NotingQueue()
        self.ledger._writer._queue = self.queue
        self.pool = ThreadPoolExecutor(THREADS)

    def hold(self) -> Future[Any]:
        """Someone posts, and is stuck in the store."""
        self.store.gate.clear()
        self.store.entered = threading.Semaphore(0)
        stuck = self.pool.submit(self.ledger.post, pay("stuck", "users:a", "users:b"))
        assert self.store.entered.acquire(timeout=30)
        assert self.queue.noted.acquire(timeout=30)
        return stuck

    def enqueue(self, act: Callable[..., Any], *arguments: Any, **more: Any) -> Future[Any]:
        """Someone else posts, and is queued."""
        future = self.pool.submit(act, *arguments, **more)
        assert self.queue.noted.acquire(timeout=30)
        return future

    def go(self) -> None:
        self.store.gate.set()


@pytest.fixture
def held() -> Iterator[Held]:
    found = Held()
    yield found
    found.go()
    found.pool.shutdown()
    found.database.close()


def test_a_full_queue_refuses_at_once_and_takes_more_when_it_has_drained(held: Held, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(writer, "MAX_QUEUED", 10)
    futures = [held.hold()]
    batch = [pay(f"batch {number}", "users:a", "users:b") for number in range(6)]
    futures.append(held.enqueue(held.ledger.post_many, batch))
    futures += [held.enqueue(held.ledger.post, pay(f"single {number}", "users:b", "users:a")) for number in range(4)]
    with pytest.raises(Overloaded) as caught:
        held.ledger.post(pay("one too many", "users:a", "users:b"))
    assert caught.value.retryable
    assert caught.value.data == {"queued": 10, "limit": 10}
    held.go()
    assert all(future.result(timeout=30) for future in futures), "what had been accepted is answered"
    assert held.ledger.by_key("one too many") is None
    assert not held.ledger.post(pay("one too many", "users:a", "users:b")).replayed


def test_a_batch_larger_than_the_queue_is_taken_when_nobody_waits(held: Held, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(writer, "MAX_QUEUED", 10)
    answers = held.ledger.post_many([pay(f"k{number}", "users:a", "users:b") for number in range(11)])
    assert all(isinstance(answer, Posted) for answer in answers)


def test_those_who_wait_for_the_disk_share_one_commit(held: Held):
    futures = [held.hold()]
    futures += [held.enqueue(held.ledger.post, pay(f"k{number}", "users:a", "users:b")) for number in range(10)]
    before = held.store.appended
    held.go()
    ids = [future.result(timeout=30).seq for future in futures]
    assert sorted(ids) == list(range(ids[0], ids[0] + 11))
    assert held.store.appended == before + 2


def test_an_atomic_batch_and_a_dry_run_that_share_a_commit_with_others_leave_them_alone(held: Held):
    futures = [held.hold()]
    first = held.enqueue(held.ledger.post, pay("first", "users:a", "users:b", 10))
    doomed = [pay("doomed 1", "users:a", "users:b", 500), pay("doomed 2", "users:a", "users:b", 5_000)]
    aborted = held.enqueue(held.ledger.post_many, doomed, atomic=True)
    dry = held.enqueue(held.ledger.post, pay("dry", "users:a", "users:b", 800), dry_run=True)
    last = held.enqueue(held.ledger.post, pay("last", "users:a", "users:b", 900))
    held.go()
    assert futures[0].result(timeout=30)
    assert last.result(timeout=30).seq == first.result(timeout=30).seq + 1
    assert dry.result(timeout=30).seq == last.result(timeout=30).seq
    assert aborted.exception(timeout=30).data["index"] == 1  # type: ignore[union-attr]
    assert held.ledger.balance("users:a", USD) == 1_000 - 1 - 10 - 900
    assert held.ledger.replay().ok


@pytest.mark.parametrize(
    "nonsense", [object(), {}, None, 7, "transfer", Transfer], ids=["object", "dict", "none", "number", "text", "class"]
)
def test_one_who_posts_nonsense_is_told_so_and_nobody_else_is_troubled(held: Held, nonsense: Any):
    futures = [held.hold()]
    futures.append(held.enqueue(held.ledger.post, pay("before", "users:a", "users:b")))
    with pytest.raises(InvalidInput):
        held.ledger.post(nonsense)
    with pytest.raises(InvalidInput):
        held.ledger.post_many([pay("with nonsense", "users:a", "users:b"), nonsense])
    futures.append(held.enqueue(held.ledger.post, pay("behind", "users:a", "users:b")))
    held.go()
    assert all(future.result(timeout=30) for future in futures)
    assert held.ledger.by_key("with nonsense") is None


def test_upkeep_that_fails_keeps_nobody_from_posting(held: Held, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(writer, "PART_BITS", 2)
    held.store.broken = True
    for number in range(20):
        assert not held.ledger.post(pay(f"k{number}", "users:a", "users:b")).replayed
    held.store.broken = False
    assert held.ledger.post(pay("after", "users:a", "users:b"))


# ---------------------------------------------------------------- closing


def test_closing_answers_what_was_accepted_and_refuses_the_rest(held: Held):
    futures = [held.hold()]
    futures += [held.enqueue(held.ledger.post, pay(f"k{number}", "users:a", "users:b")) for number in range(5)]
    closing = threading.Thread(target=held.ledger.close, name="closing")
    closing.start()
    assert held.turns.closing.wait(timeout=30)
    with pytest.raises(Closed):
        held.ledger.post(pay("late", "users:a", "users:b"))
    held.go()
    closing.join(timeout=30)
    assert not closing.is_alive()
    assert all(isinstance(future.result(timeout=30), Posted) for future in futures)


@on_lasting_stores
@pytest.mark.usefixtures("overlapping")
def test_what_was_answered_before_closing_is_in_the_store_and_nothing_else(url: str):
    database = tallystick.open(url)
    ledger = database.ledger("main")
    ledger.post(mint("users:a", 1_000_000))
    posted = threading.Semaphore(0)

    def work(thread: int) -> dict[str, str]:
        answered: dict[str, str] = {}
        number = 0
        while True:
            number += 1
            key = f"{thread}.{number}"
            try:
                answered[key] = ledger.post(pay(key, "users:a", f"users:{thread}")).id
            except Closed:
                return answered
            posted.release()

    with ThreadPoolExecutor(8) as pool:
        workers = [pool.submit(work, thread) for thread in range(8)]
        for _ in range(200):
            assert posted.acquire(timeout=30)
        database.close()
        answered = {key: id for worker in workers for key, id in worker.result(timeout=30).items()}
    with tallystick.open(url) as again:
        ledger = again.ledger("main")
        assert {event.key: event.id for event in ledger.events(after=1, limit=10_000)} == answered
        assert ledger.replay().ok
    with pytest.raises(Closed):
        database.ledger("main")
