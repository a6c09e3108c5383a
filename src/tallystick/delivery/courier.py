"""One endpoint's deliveries, by the one process that holds its lease.

    journal ─► taken up, in order, into lanes ─► free ones are sent, many at once ─► settled: one commit for many

At least once: an event is below the kept cursor only once it is accepted, or is a record of its own (it failed, is
dead, or waits behind one that failed). So a process may end at any instant: the next one begins at the cursor and the
records, and at most tells again what had not been settled, under the same ids.

In order per account: an event is sent once nothing before it in its lanes is unaccepted. Of an account at most one
message is on its way. A dead letter lets its lane go on, but not before its death is kept.

Bounded: in time by the lease, beyond which nothing is sent and what is on its way is given up; in memory (``backlog``);
in what a crash repeats by the number of tries that are not settled. A control store that does not answer stops the
sending, not the waiting.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from datetime import datetime
from typing import Any, Protocol, TypeVar

import msgspec

from tallystick.clock import Clock, add_seconds
from tallystick.control.base import Control
from tallystick.control.records import Attempt, Delivery, Endpoint, Lease
from tallystick.delivery.backlog import WINDOW, Backlog
from tallystick.delivery.ladder import Ladder, wait_before_next
from tallystick.delivery.lanes import Item
from tallystick.delivery.outbox import Outbox, Taken
from tallystick.delivery.pace import Pace
from tallystick.delivery.transport import BatchTransport, Message, Sent, Transport
from tallystick.errors import TallystickError, TransactionNotFound

READ_EVENTS = 500
"""Events that are read at once."""

SETTLE_SECONDS = 0.1
"""How long acceptances are gathered for one commit."""

MAX_UNSETTLED = 2_000
"""Tries that are not settled yet. With so many, sending waits."""

REFRESH_SECONDS = 1.0
"""How often the records are looked at for what others have asked for."""

AGAIN_SECONDS = 0.5
"""How soon a store that did not answer is asked again."""

Result = TypeVar("Result")


class Telemetry(Protocol):
    """Where numbers go."""

    def delivered(self, endpoint: str, outcome: str, number: int = 1) -> None:
        """Tries ended: ``accepted``, ``failed`` or ``dead``."""

    def lag(self, ledger: str, endpoint: str, seconds: float) -> None:
        """How old the oldest event is that an endpoint has not accepted."""


class Tenure:
    """The lease as it is known here: sending is allowed until ``until``, on the monotonic clock."""

    def __init__(self, lease: Lease, until: float) -> None:
        self.lease = lease
        self.until = until
        self.is_lost = False

    @property
    def is_valid(self) -> bool:
        return not self.is_lost and time.monotonic() < self.until


class Work:
    """What all couriers of a process share."""

    def __init__(
        self,
        control: Control,
        executor: Executor,
        clock: Clock,
        ladder: Ladder,
        *,
        concurrency: int,
        max_pause_seconds: float,
        telemetry: Telemetry | None,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self.control = control
        self.executor = executor
        self.clock = clock
        self.ladder = ladder
        self.concurrency = concurrency
        self.max_pause_seconds = max_pause_seconds
        self.telemetry = telemetry
        self.draw = draw
        self.refresh_seconds = 0.0
        """How often records are looked at, at most: seldom if there are many endpoints."""

    async def call(self, function: Callable[..., Result], *arguments: Any) -> Result:
        """Run in a thread what may wait for a disk or a database."""
        return await asyncio.get_running_loop().run_in_executor(self.executor, function, *arguments)


class Unsettled:
    """What happened and is not kept yet."""

    def __init__(self) -> None:
        self.ended: list[Item] = []
        """Accepted or dead."""
        self.failed: dict[int, tuple[Item, str]] = {}
        """By number: the item, and why."""
        self.attempts: list[Attempt] = []


class Courier:
    """Delivers to one endpoint while its lease lasts."""

    def __init__(self, work: Work, endpoint: Endpoint, outbox: Outbox, transport: Transport, tenure: Tenure) -> None:
        self.endpoint = endpoint
        self.changed = asyncio.Event()
        """Something may go on."""
        self.accepted = self.failed = self.died = 0
        self.gone = ""
        """The receiver wants no more: why."""
        self.is_lost = False
        """The lease is another's, or the endpoint was removed."""
        self.cursor = 0
        """As it is kept."""
        self._work = work
        self._outbox = outbox
        self._transport = transport
        self._batch = max(transport.batch_size, 1) if isinstance(transport, BatchTransport) else 1
        self._tenure = tenure
        self._backlog = Backlog(0)
        self._pace = Pace(work.concurrency, work.max_pause_seconds)
        self._workers: set[asyncio.Task[None]] = set()
        self._broken: BaseException | None = None
        self._reading_problem = self._keeping_problem = ""
        self._read_again = 0.0
        self._head = 0
        self._is_left = False
        self._unsettled = Unsettled()
        self._settling = 0
        self._news = asyncio.Event()
        """Something is to be kept, or the end has come."""
        self._closing = asyncio.Event()
        self._records_lock = asyncio.Lock()
        """Records are read and written one at a time, so that none is taken up again that was just settled."""
        self._records_left = False
        self._refreshed = 0.0
        self._refresh_every = REFRESH_SECONDS
        self._alarm: asyncio.TimerHandle | None = None

    # ------------------------------------------------------------ for the deliverer

    @property
    def problem(self) -> str:
        """Why nothing goes on, the ledger or the control store; empty if it does."""
        return self._keeping_problem or self._reading_problem

    @property
    def waiting(self) -> int:
        """How many messages were taken up and are not settled."""
        return len(self._backlog)

    def see_head(self, head: int) -> None:
        """There are so many events by now."""
        if head > self._head:
            self._head = head
            self.changed.set()

    def follow(self, endpoint: Endpoint, outbox: Outbox) -> None:
        """The endpoint was changed: from the next message on."""
        self.endpoint = endpoint
        self._outbox = outbox

    def leave(self) -> None:
        """The endpoint is disabled or gone: send nothing more."""
        self._is_left = True
        self.changed.set()

    async def lag_seconds(self) -> float:
        """How old the oldest event is that was not accepted; 0 if there is none."""
        seq, message = self._backlog.oldest()
        if seq >= self._head:
            return 0.0
        then = message.time if message is not None else await self._work.call(self._outbox.time_of, seq)
        return max(_seconds_between(then, self._work.clock()), 0.0) if then else 0.0

    async def drive(self, *, once: bool = False, stop: asyncio.Event | None = None) -> None:
        """Deliver: all that can be delivered now (``once``), or until told to stop, or until the lease or the endpoint
        is gone. What was accepted is settled before it returns, if the lease allows. Raises what the control store
        raises before anything was sent.
        """
        await self._begin()
        keeper = asyncio.create_task(self._keep())
        guard = asyncio.create_task(self._guard())
        try:
            while not self._is_over(stop):
                self.changed.clear()
                await self._look()
                self._start_workers()
                if self._broken is not None:
                    raise self._broken
                if keeper.done():
                    break  # it ends by itself only by surprise, which is raised below
                if once and self._is_idle():
                    break
                await self._wait()
            await self._finish()
            self._closing.set()
            self._news.set()
            await keeper
        finally:
            if self._alarm is not None:
                self._alarm.cancel()
            tasks = [keeper, guard, *self._workers]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    # ------------------------------------------------------------ taking up

    async def _begin(self) -> None:
        control, id, call = self._work.control, self.endpoint.id, self._work.call
        self.cursor = await call(control.cursor, id)
        dead = await call(lambda: control.deliveries(id, state="dead", after=self.cursor - 1, limit=WINDOW))
        self._backlog = Backlog(self.cursor, dead)
        await self._refresh()
        self.see_head(await call(self._outbox.head))

    async def _look(self) -> None:
        """Take up what there is room for. A store that does not answer is asked again."""
        now = time.monotonic()
        try:
            if now - self._refreshed >= self._refresh_every and not self._records_lock.locked():
                await self._refresh()
            if self._can_take() and now >= self._read_again:
                await self._take()
        except (TallystickError, OSError) as error:
            self._reading_problem = str(error)
            self._refreshed = now
            self._read_again = now + AGAIN_SECONDS

    def _can_take(self) -> bool:
        """Whether there are events to be taken up, and room; not while there are records before them."""
        return self._backlog.next < self._head and self._backlog.room > 0 and not self._records_left

    async def _take(self) -> None:
        limit = min(self._backlog.room, READ_EVENTS)
        taken: Taken = await self._work.call(self._outbox.take, self._backlog.next, limit)
        now = time.monotonic()
        for message in taken.messages:
            self._backlog.take(message, now)
        self._backlog.next = taken.next
        self._news.set()
        self._head = max(self._head, taken.next)
        self._reading_problem = ""

    async def _refresh(self) -> None:
        """Take up records that are not known here: of an earlier process, or asked for by somebody."""
        began = time.monotonic()
        control, id = self._work.control, self.endpoint.id
        async with self._records_lock:
            records = await self._work.call(lambda: control.deliveries(id, state="waiting", limit=WINDOW))
            now, at = time.monotonic(), self._work.clock()
            for record in records:
                due = now + _seconds_between(at, record.due) if record.due else 0.0
                self._backlog.take_record(record, due, now)
        self._reading_problem = ""
        self._records_left = len(records) >= WINDOW
        self._refreshed = time.monotonic()
        self._refresh_every = max(REFRESH_SECONDS, self._work.refresh_seconds, 20 * (self._refreshed - began))

    # ------------------------------------------------------------ sending

    def _may_send(self) -> bool:
        return (
            self._tenure.is_valid
            and not (self.gone or self._is_left or self.is_lost or self._keeping_problem)
            and len(self._unsettled.attempts) + self._settling < MAX_UNSETTLED
            and time.monotonic() >= self._pace.not_before
        )

    def _start_workers(self) -> None:
        """Let as many run as there is work and leave for."""
        self._backlog.wake(time.monotonic())
        wanted = min(self._backlog.free, self._pace.limit - len(self._workers))
        if wanted > 0 and self._may_send():
            for _ in range(wanted):
                worker = asyncio.create_task(self._send_on())
                self._workers.add(worker)
                worker.add_done_callback(self._worker_ended)

    def _worker_ended(self, worker: asyncio.Task[None]) -> None:
        self._workers.discard(worker)
        if not worker.cancelled() and worker.exception() is not None:
            self._broken = worker.exception()
        self.changed.set()

    async def _send_on(self) -> None:
        """Send what is free, one call after another."""
        while len(self._workers) <= self._pace.limit and self._may_send():
            items: list[Item] = []
            while len(items) < self._batch and (item := self._backlog.pop(time.monotonic())) is not None:
                items.append(item)
            if not items:
                return
            await self._send(items)

    async def _send(self, items: list[Item]) -> None:
        messages = [await self._message(item) for item in items]
        ready = [(item, message) for item, message in zip(items, messages, strict=True) if message is not None]
        if not ready or not self._tenure.is_valid:
            return
        began, at = time.monotonic(), self._work.clock()
        try:
            if isinstance(self._transport, BatchTransport):
                answers = list(await self._transport.send_many(self.endpoint, [message for _, message in ready]))
            else:
                answers = [await self._transport.send(self.endpoint, ready[0][1])]
        except Exception as error:  # whatever a transport raises is a failed try
            answers = [Sent(accepted=False, problem=f"the transport failed: {type(error).__name__}")] * len(ready)
        answers += [Sent(accepted=False, problem="the transport gave no answer")] * (len(ready) - len(answers))
        for (item, _), sent in zip(ready, answers, strict=False):
            self._conclude(item, sent, at, began)

    async def _message(self, item: Item) -> Message | None:
        """The message, read again if it was not held. None: it cannot be read now, or is told no more."""
        found = item.message
        if found is None:
            try:
                found = await self._work.call(self._outbox.message, item.seq)
            except TransactionNotFound:
                found = None
            except (TallystickError, OSError) as error:
                self._reading_problem = str(error)
                now = time.monotonic()
                self._backlog.postpone(item, now + AGAIN_SECONDS, now)
                return None
            if found is None:  # its endpoint's filter was changed
                self._end(item)
                return None
        return found if not item.attempts else msgspec.structs.replace(found, attempt=item.attempts + 1)

    def _conclude(self, item: Item, sent: Sent, at: str, began: float) -> None:
        """A try is over: write it down, and see what follows."""
        now = time.monotonic()
        item.attempts += 1
        self._news.set()
        problem = "" if sent.accepted else sent.problem or "it was not accepted"
        self._unsettled.attempts.append(
            Attempt(
                endpoint=self.endpoint.id,
                seq=item.seq,
                number=item.attempts,
                time=at,
                status=sent.status,
                problem=problem,
                milliseconds=int((now - began) * 1_000),
            )
        )
        if sent.accepted:
            self.accepted += 1
            self._pace.accepted(self._work.concurrency)
            self._end(item)
        else:
            self._pace.refused(sent, now)
            self._fail(item, sent, problem, now)

    def _end(self, item: Item) -> None:
        self._backlog.accept(item, time.monotonic())
        self._unsettled.ended.append(item)
        self._news.set()

    def _fail(self, item: Item, sent: Sent, problem: str, now: float) -> None:
        wait = wait_before_next(self._work.ladder, item.attempts, sent, self._work.draw())
        self._unsettled.failed[item.seq] = (item, problem)
        if sent.gone:
            self.gone = problem
        if wait is None and not sent.gone:
            self.died += 1
            self._backlog.bury(item)
            self._unsettled.ended.append(item)
        else:
            self.failed += 1
            wait = wait or 0.0
            self._backlog.postpone(item, now + wait, now, drop=wait > SETTLE_SECONDS)

    # ------------------------------------------------------------ settling

    async def _keep(self) -> None:
        """Keep what happened, again and again, and once more at the end."""
        while not self._closing.is_set():
            await self._news.wait()
            self._news.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._closing.wait(), SETTLE_SECONDS)
            async with self._records_lock:
                await self._settle()

    def _has_news(self) -> bool:
        return bool(self._unsettled.attempts or self._unsettled.ended or self._backlog.cursor() != self.cursor)

    async def _settle(self) -> None:
        """Keep what happened in one commit; if the store does not answer, until it does or the lease is over."""
        if self.is_lost or not self._tenure.is_valid:
            return
        parked = self._backlog.park(self._unsettled.failed)
        if not (parked or self._has_news()):
            return
        news, self._unsettled = self._unsettled, Unsettled()
        self._settling = len(news.attempts)
        records = self._records(news, parked)
        cursor = self._backlog.cursor()
        gone = [item.seq for item in news.ended if item.is_kept and not item.dead]

        def write() -> bool:
            return self._work.control.settle(
                self.endpoint.id,
                cursor=cursor,
                accepted=gone,
                deliveries=records,
                attempts=news.attempts,
                lease=self._tenure.lease,
            )

        if not await self._kept(write):
            self.is_lost = True
            self.changed.set()
            return
        self.cursor = cursor
        self._settling = 0
        self._settled(news)

    async def _kept(self, write: Callable[[], bool]) -> bool:
        """Write until it is written. False: the lease, or the endpoint, is another's or gone, or this is to end and the
        store does not answer; nothing was kept then, and what was accepted is told again."""
        while True:
            try:
                written = await self._work.call(write)
            except (TallystickError, OSError) as error:
                self._keeping_problem = f"the control store keeps nothing: {error}"
                await asyncio.sleep(AGAIN_SECONDS)
                if self._closing.is_set() or not self._tenure.is_valid:
                    return False
            else:
                self._keeping_problem = ""
                return written

    def _settled(self, news: Unsettled) -> None:
        self._backlog.forget(news.ended, time.monotonic())
        self._news.set()  # what was too much for one commit, if anything
        telemetry = self._work.telemetry
        if telemetry is not None:
            dead = sum(item.dead for item in news.ended)
            failed = sum(1 for attempt in news.attempts if attempt.problem) - dead
            accepted = len(news.attempts) - failed - dead
            for outcome, number in (("accepted", accepted), ("failed", failed), ("dead", dead)):
                if number:
                    telemetry.delivered(self.endpoint.id, outcome, number)
        if self._records_left and self._backlog.room > WINDOW // 2:
            self._refreshed = 0.0
        self.changed.set()

    def _records(self, news: Unsettled, parked: Sequence[Item]) -> list[Delivery]:
        now, at = time.monotonic(), self._work.clock()
        records = [self._record(item, "", "") for item in parked]
        for item, problem in news.failed.values():
            if item.done:
                continue  # it was accepted since
            item.is_kept = True
            due = add_seconds(at, item.due - now) if item.due > now and not item.dead else ""
            records.append(self._record(item, due, problem))
        return records

    def _record(self, item: Item, due: str, problem: str) -> Delivery:
        return Delivery(
            endpoint=self.endpoint.id,
            seq=item.seq,
            state="dead" if item.dead else "waiting",
            attempts=item.attempts,
            due=due,
            problem=problem,
            lanes=tuple(lane for lane in item.lanes if lane),
            redelivery=item.redelivery,
        )

    # ------------------------------------------------------------ the course

    def _is_over(self, stop: asyncio.Event | None) -> bool:
        is_ended = self.is_lost or self._is_left or bool(self.gone) or not self._tenure.is_valid
        return is_ended or (stop is not None and stop.is_set())

    def _is_idle(self) -> bool:
        """Nothing is being sent, nothing can be sent now, and nothing remains to be taken up or kept."""
        if self._workers or self._records_lock.locked() or self._has_news():
            return False
        if self._backlog.free and time.monotonic() >= self._pace.not_before:
            return False
        return not self._can_take() or bool(self._reading_problem)

    async def _wait(self) -> None:
        """Until something may go on."""
        now = time.monotonic()
        if self._can_take() and now >= self._read_again:
            await asyncio.sleep(0)
            return
        times = [now + self._refresh_every, self._tenure.until]
        if self._read_again > now:
            times.append(self._read_again)
        if self._backlog.next_due is not None:
            times.append(self._backlog.next_due)
        if self._backlog.free and self._pace.not_before > now:
            times.append(self._pace.not_before)
        if self._alarm is not None:
            self._alarm.cancel()
        delay_seconds = max(min(times) - now, 0.0) + 0.001
        self._alarm = asyncio.get_running_loop().call_later(delay_seconds, self.changed.set)
        await self.changed.wait()

    async def _guard(self) -> None:
        """Give up what is on its way when the lease is over, whatever else is being waited for."""
        while self._tenure.is_valid:
            await asyncio.sleep(max(self._tenure.until - time.monotonic(), 0.0) + 0.001)
        for worker in self._workers:
            worker.cancel()
        self.changed.set()

    async def _finish(self) -> None:
        """Let what is on its way come to its end, while the lease lasts."""
        self._is_left = True
        while self._workers and self._tenure.is_valid and not self.is_lost:
            await asyncio.wait(self._workers, timeout=0.1)


def _seconds_between(then: str, now: str) -> float:
    """From one journal time to another."""
    return (datetime.fromisoformat(now) - datetime.fromisoformat(then)).total_seconds()
