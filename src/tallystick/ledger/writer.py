"""The writer: how the commands of many callers become few commits.

Callers queue their jobs. The first one leads: it decides everything that is queued against the book in memory, seals
it, and has it stored in ONE commit (group commit); then each caller gets its answers. A lone caller leads itself, so
no thread stands between it and the disk. While one round is being stored the next is decided already; if storing
fails, what was decided on top of it is given up too, and the book is read again.

A long round is stored while it is decided: its parts go to another thread, whose statements run without Python.

Where other processes may write the same ledger, a round is decided on what this process knows, and is refused by the
store if another came first. From then on each round claims the ledger before it decides, learns what the others did,
and is stored before the claim ends; until nobody else has written for a while. A long round always does so: to decide
it twice would cost more than to ask first.
"""

from __future__ import annotations

import contextlib
import os
import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from functools import partial
from itertools import chain, islice
from typing import get_args

from tallystick.commands import AnyCommand, Command
from tallystick.errors import (
    Archived,
    BatchAborted,
    Closed,
    Fault,
    InvalidInput,
    LedgerLocked,
    NotPermitted,
    Overloaded,
    ReadOnly,
    Refusal,
    Unavailable,
)
from tallystick.ledger.desk import Desk, Result
from tallystick.ledger.views import Posted
from tallystick.stores.base import EMPTY_HEAD, PART_BITS, Batch, Head, HeadMoved, NotAtHand, Store, joined

MAX_COMMANDS_PER_ROUND = 8_192
MAX_QUEUED = 65_536
"""Commands that may wait for one ledger; one job alone may be larger."""
STREAMED_FROM = 2_048
"""A round of so many commands is stored while it is decided."""
OVERLAPPED_FROM = 1_024
"""So many waiting commands are decided while the round before them is still being stored."""
PART = 256
"""Commands that are decided before they are handed to the thread that stores."""
JOINED_UP_TO = 1_024
"""Events that are at least stored together, if so many come."""
MAX_ATTEMPTS = 10
"""How often a job is decided anew because other processes wrote first."""
ROUNDS_UNTIL_CALM = 8
"""After so many claims that nobody else's writing preceded, rounds are decided without a claim again."""

_COMMANDS = frozenset(get_args(AnyCommand))
_CANNOT_KEEP = (Unavailable, LedgerLocked, ReadOnly, NotPermitted)
"""Why the store may not keep what serves speed alone; all but the first meet whoever only tries things out."""


class Job:
    """The commands of one call, and what became of them."""

    __slots__ = ("atomic", "commands", "done", "dry_run", "failure", "leads", "results", "turn", "whole")

    def __init__(self, commands: Sequence[Command], *, atomic: bool, dry_run: bool) -> None:
        self.commands = commands
        self.atomic = atomic
        self.dry_run = dry_run
        self.results: list[Result] = []
        self.failure: Exception | None = None
        self.done = False
        self.leads = False
        self.whole = atomic or dry_run  # it must be taken back as a whole if it comes to nothing
        self.turn = threading.Lock()
        self.turn.acquire()

    def answers(self) -> list[Posted | Refusal]:
        """One result for each command. Raises what the job failed of; Archived too if one of its commands hangs on an
        event whose file is away, though of an independent job the others are posted: asked again, they are answered."""
        if self.failure is not None:
            raise self.failure
        answers: list[Posted | Refusal] = []
        for result in self.results:
            if isinstance(result, Archived):
                raise result
            answers.append(result)
        return answers


class Writer:
    """One ledger's writer. Safe to use from any number of threads."""

    def __init__(self, store: Store, desk: Desk, background: ThreadPoolExecutor) -> None:
        self._store = store
        self._desk = desk
        self._background = background
        self._claims = 0  # how many more rounds claim the ledger before they decide
        self._process = os.getpid()  # a forked child has no right to write this file
        self._mutex = threading.Lock()
        self._queue: list[Job] = []
        self._queued = 0
        self._led = False
        self._closed = False
        self._turns = threading.Condition()
        self._begun = 0
        self._finished = 0
        self._failed: set[int] = set()  # rounds that came to nothing before their turn
        self._broken = False
        self._durable = 0  # all events before this number are in the store
        self._upkept = 0

    def submit(
        self, commands: Sequence[Command], *, atomic: bool = False, dry_run: bool = False
    ) -> list[Posted | Refusal]:
        """Decide and store these commands; one result each, in order.

        Raises BatchAborted for an atomic job of which one command was refused, and Faults: then nothing was posted,
        or, if the store lost its answer, asking again with the same keys tells. So it does after Archived, which an
        independent job raises for the command that hangs on a file; the others are posted. What is no command at all is
        InvalidInput before it is queued, so that it cannot trouble those whose commands share its round.
        """
        if os.getpid() != self._process:
            raise Unavailable(reason="it was opened before this process was forked; open it again here")
        check_commands(commands)
        got: set[str] = set()
        attempts = 0
        while attempts < MAX_ATTEMPTS:
            job = Job(commands, atomic=atomic, dry_run=dry_run)
            self._enter(job)
            if not job.done:
                self._lead(job)
            if isinstance(job.failure, NotAtHand):  # here it keeps nobody else from posting
                get_once(job.failure, got)
                continue
            if isinstance(job.failure, HeadMoved):
                attempts += 1
                if self._store.shared and not dry_run:  # whoever only tries things out locks nothing
                    self._claims = ROUNDS_UNTIL_CALM
                continue
            return job.answers()
        raise Unavailable(reason="other writers kept coming first")

    def close(self) -> None:
        """Refuse new jobs, wait for those under way, and keep what makes the next start fast."""
        with self._mutex:
            self._closed = True
        with self._turns:
            self._turns.wait_for(lambda: not self._led and self._finished == self._begun)
        if not self._broken:
            self._desk.stored(self._durable)
            with contextlib.suppress(*_CANNOT_KEEP):  # without it the next start is slower, that is all
                self._keep_at_last(self._desk.take_filter(at_work=False))

    def forget(self) -> None:
        """Read the book anew before the next round; what was decided on it and is not stored yet is decided again."""
        with self._turns:
            self._broken = True

    # ------------------------------------------------------------ queueing

    def _enter(self, job: Job) -> None:
        """Queue the job, and wait until another leader has done it or it is its turn to lead."""
        with self._mutex:
            if self._closed:
                raise Closed()
            if self._queue and self._queued + len(job.commands) > MAX_QUEUED:
                raise Overloaded(queued=self._queued, limit=MAX_QUEUED)
            self._queue.append(job)
            self._queued += len(job.commands)
            if not self._led:
                self._led = job.leads = True
                return
        try:
            job.turn.acquire()
        except BaseException:  # an interrupt: nobody must wait for a leader that has gone
            self._withdraw(job)
            raise

    def _withdraw(self, job: Job) -> None:
        """Take a job back out of the queue, if it is still there; the lead goes on to the next."""
        with self._mutex:
            if job in self._queue:
                self._queue.remove(job)
                self._queued -= len(job.commands)
            leads = job.leads and not job.done
        if leads:
            self._hand_over()

    def _await_company(self) -> None:
        """While a round is being stored, small jobs gather for one commit; only much work is decided meanwhile."""
        with self._turns:
            self._turns.wait_for(
                lambda: (
                    self._finished == self._begun
                    or (self._queued >= OVERLAPPED_FROM and self._finished >= self._begun - 1 and not self._claims)
                )
            )

    def _next_jobs(self, taken: int = 0) -> list[Job]:
        """The jobs that come next, as many as fit into a round in which so many commands are already; the first of all
        always does."""
        with self._mutex:
            count, size = 0, 0
            for job in self._queue:
                if (taken or count) and taken + size + len(job.commands) > MAX_COMMANDS_PER_ROUND:
                    break
                count, size = count + 1, size + len(job.commands)
            jobs = self._queue[:count]
            del self._queue[:count]
            self._queued -= size
            return jobs

    def _hand_over(self) -> None:
        """Wake the first that waits, to lead the next round."""
        with self._mutex:
            if self._queue:
                self._queue[0].leads = True
                self._queue[0].turn.release()
                return
            self._led = False
        with self._turns:
            self._turns.notify_all()

    # ------------------------------------------------------------ leading a round

    def _lead(self, own: Job) -> None:
        try:
            self._await_company()
            jobs = self._next_jobs()
        except BaseException:
            self._withdraw(own)
            raise
        try:
            if self._claims or (self._store.shared and _is_long(jobs)):
                self._claimed_round(jobs)
            else:
                self._round(jobs)
        except BaseException as error:
            for job in jobs:
                job.failure = _as_failure(error)  # in place of a refusal: it was decided on what came to nothing
            if not isinstance(error, (Fault, HeadMoved)):
                raise
        finally:
            for job in jobs:
                job.done = True
                if job is not own:
                    job.turn.release()

    def _round(self, jobs: list[Job]) -> None:
        """Decide the jobs, let the next leader go on, and store what was decided in its turn."""
        try:
            ticket, idle = self._begin()
        except BaseException:  # an interrupt, before there was a round
            self._hand_over()
            raise
        stored: Future[None] | None = None
        batches: list[Batch] = []
        try:
            if idle:
                self._upkeep()
            epoch = self._store.epoch  # before anything is loaded
            self._desk.begin()
            standing = self._desk.head
            if _is_long(jobs):
                stored = self._decide_while_storing(jobs[0], partial(self._store_in_turn, ticket, standing, epoch))
            else:
                batches = self._decide(jobs)
        except BaseException:
            self._fail(ticket)
            raise
        finally:
            self._hand_over()
        if stored is not None:
            stored.result()
        else:
            self._store_in_turn(ticket, standing, epoch, batches)

    def _begin(self) -> tuple[int, bool]:
        """A place in the order of rounds, with the desk ready (read again if a round has failed); is it idle?"""
        with self._turns:
            if self._broken:
                self._turns.wait_for(lambda: self._finished == self._begun)
                self._desk.drop()
                self._broken = False
            ticket = self._begun
            self._begun += 1
            idle, durable = self._finished == ticket, self._durable
        self._desk.stored(durable)
        return ticket, idle

    def _upkeep(self) -> None:
        """Between rounds: keep memory bounded, and at each new part of the journal what makes reads and starts fast.

        That serves speed alone: if the store cannot do it now, it waits for the next part, and nobody's posting fails.
        """
        self._desk.trim()
        part = self._desk.position >> PART_BITS
        if part != self._upkept:
            self._upkept = part
            with contextlib.suppress(*_CANNOT_KEEP, RuntimeError):  # the last: as the interpreter ends
                self._background.submit(self._keep, self._desk.take_filter(at_work=True))
                self._background.submit(self._snapshot)

    def _keep(self, bodies: dict[str, bytes]) -> None:
        try:
            for name, body in bodies.items():
                self._store.keep(self._desk.name, name, body)
        except BaseException as error:
            self._desk.filter_lost()
            if not isinstance(error, _CANNOT_KEEP):
                raise

    def _keep_at_last(self, bodies: dict[str, bytes]) -> None:
        """Behind what is being kept already; as the interpreter ends, nothing is any more."""
        try:
            kept = self._background.submit(self._keep, bodies)
        except RuntimeError:
            self._keep(bodies)
        else:
            kept.result()

    def _snapshot(self) -> None:
        with contextlib.suppress(Fault):  # it serves speed alone; the next part brings another
            self._store.snapshot(self._desk.name)

    # ------------------------------------------------------------ a round among other processes'

    def _claimed_round(self, jobs: list[Job]) -> None:
        """Keep others from writing, learn what they wrote, decide, store, and only then let others go on.

        What the commands name is loaded before, so that nobody waits for it; what others write meanwhile is learnt.
        """
        ticket: int | None = None
        try:
            ticket, idle = self._begin()
            self._await_turn(ticket)
            self._desk.stored(self._durable)  # the rounds before this one are over: nothing is in flight
            if idle:
                self._upkeep()
            seen: list[int] = []
            epoch = self._store.epoch  # before anything is loaded
            self._foresee(jobs)
            desk = self._desk
            with self._store.claim(desk.name, desk.head, epoch=epoch, number_of=desk.number_of) as claim:
                self._desk.catch_up(claim.changes)
                self._desk.begin()
                self._claims = ROUNDS_UNTIL_CALM if claim.changes else max(self._claims - 1, 0)
                if _is_long(jobs):
                    _wait_out(self._decide_while_storing(jobs[0], lambda batches: claim.append(_noted(batches, seen))))
                else:
                    self._take_more(jobs)
                    claim.append(_noted(self._decide(jobs), seen))
            self._finish(seen)
        except BaseException:
            if ticket is not None:
                self._fail(ticket)
            raise
        finally:
            self._hand_over()

    def _foresee(self, jobs: list[Job]) -> None:
        """Load what the jobs name, and what those name who come meanwhile."""
        self._desk.foresee([command for job in jobs for command in job.commands])
        late = [] if _is_long(jobs) else self._take_more(jobs)
        self._desk.foresee([command for job in late for command in job.commands])

    def _take_more(self, jobs: list[Job]) -> list[Job]:
        """Take into a round who came since it was begun; they are returned too."""
        late = self._next_jobs(sum(len(job.commands) for job in jobs))
        jobs += late
        return late

    # ------------------------------------------------------------ deciding

    def _decide(self, jobs: list[Job]) -> list[Batch]:
        together: list[Job] = []
        for job in jobs:
            if job.whole or not self._desk.position:
                self._decide_together(together)
                together = []
                decide_job(self._desk, job)
            else:
                together.append(job)
        self._decide_together(together)
        batch = self._desk.take()
        return [batch] if batch else []

    def _decide_together(self, jobs: list[Job]) -> None:
        """Independent jobs, as if they were one."""
        results = iter(self._desk.decide([command for job in jobs for command in job.commands]))
        for job in jobs:
            job.results = list(islice(results, len(job.commands)))

    def _decide_while_storing(self, job: Job, store: Callable[[Iterable[Batch]], None]) -> Future[None]:
        """Decide a long job part by part, while another thread stores the parts."""
        parts: queue.SimpleQueue[Batch | BaseException | None] = queue.SimpleQueue()
        stored = _in_a_thread(store, _until_none(parts))
        try:
            self._decide_in_parts(job, parts)
        except BaseException as error:
            parts.put(error)
            with contextlib.suppress(BaseException):
                _wait_out(stored)
            raise
        return stored

    def _decide_in_parts(self, job: Job, parts: queue.SimpleQueue[Batch | BaseException | None]) -> None:
        desk = self._desk
        for start in range(0, len(job.commands), PART):
            part = Job(job.commands[start : start + PART], atomic=False, dry_run=False)
            decide_job(desk, part)
            job.results += part.results
            batch = desk.take()
            if batch is not None:
                parts.put(batch)
                time.sleep(0)  # lets go of the interpreter, which the other thread needs for an instant to begin
        parts.put(None)

    # ------------------------------------------------------------ storing

    def _store_in_turn(self, ticket: int, standing: Head, epoch: int, batches: Iterable[Batch]) -> None:
        """Store what was decided on a head, with what was loaded in an epoch of the store. What was only refused is
        stored by nobody, so where others write as well it must be seen that it was refused on what is there."""
        try:
            self._await_turn(ticket)
        except BaseException:  # an interrupt, perhaps: nobody must wait for a round that has gone
            self._fail(ticket)
            raise
        seen: list[int] = []
        try:
            noted = _noted(batches, seen)
            first = next(noted, None)
            if first is not None:
                self._store.append(chain([first], noted), epoch=epoch)
            elif self._store.shared and (self._store.head(self._desk.name) or EMPTY_HEAD) != standing:
                raise HeadMoved
        except BaseException:
            self._fail(ticket)
            raise
        self._finish(seen)

    def _await_turn(self, ticket: int) -> None:
        """Wait until all rounds before this one are over. Raises HeadMoved if one of them came to nothing."""
        with self._turns:
            self._turns.wait_for(lambda: self._finished == ticket)
            if self._broken:
                raise HeadMoved

    def _finish(self, seen: list[int]) -> None:
        """The round is durable, up to the last event number seen."""
        with self._turns:
            self._durable = seen[-1] if seen else self._durable
            self._finished += 1
            self._pass_failed()

    def _fail(self, ticket: int) -> None:
        """The round came to nothing: so does every round that is not being stored yet. This waits for nobody."""
        with self._turns:
            self._broken = True
            if ticket >= self._finished:
                self._failed.add(ticket)
            self._pass_failed()

    def _pass_failed(self) -> None:
        """Rounds that failed before their turn are over when it comes."""
        while self._finished in self._failed:
            self._failed.remove(self._finished)
            self._finished += 1
        self._turns.notify_all()


def check_commands(commands: Sequence[Command]) -> None:
    """Raises InvalidInput for what is no command at all, before it can trouble others."""
    if not _COMMANDS.issuperset(map(type, commands)):
        index, found = next((i, item) for i, item in enumerate(commands) if type(item) not in _COMMANDS)
        raise InvalidInput(path=f"commands[{index}]", problem=f"{found!r:.80} is not a command")


def get_once(missing: NotAtHand, got: set[str]) -> None:
    """Get what was not at hand, unless it was got before. Raises Unavailable: nobody asks for ever for what changes."""
    if missing.what in got:
        raise Unavailable(reason=f"{missing.what} was changed after it was read")
    got.add(missing.what)
    missing.get()


def decide_job(desk: Desk, job: Job) -> None:
    """Decide one job at a desk; what comes to nothing leaves nothing there."""
    if not job.whole and desk.position:
        job.results = desk.decide(job.commands)
        return
    save = desk.save()
    if not desk.position:
        desk.open_ledger()
    job.results = desk.decide(job.commands)
    refused = [(index, result) for index, result in enumerate(job.results) if not isinstance(result, Posted)]
    if job.atomic and refused:
        index, first = refused[0]
        aborted = isinstance(first, Refusal)
        job.failure = BatchAborted(index=index, reason=str(first), refusal=first.to_dict()) if aborted else first
    if job.dry_run or job.failure or len(refused) == len(job.results):
        desk.restore(save)
    desk.release(save)


def _is_long(jobs: list[Job]) -> bool:
    """Whether a round is long enough to be stored while it is decided."""
    return len(jobs) == 1 and not jobs[0].whole and len(jobs[0].commands) >= STREAMED_FROM


def _in_a_thread(store: Callable[[Iterable[Batch]], None], batches: Iterable[Batch]) -> Future[None]:
    """Store in a thread of its own: one that rounds shared could keep a ledger waiting for another one's lock."""
    stored: Future[None] = Future()

    def run() -> None:
        try:
            store(batches)
            stored.set_result(None)
        except BaseException as error:  # to be raised where the result is asked for
            stored.set_exception(error)

    threading.Thread(target=run, name="tallystick storing").start()
    return stored


def _wait_out(stored: Future[None]) -> None:
    """Wait until the other thread has come to an end, and say what with. An interrupt is kept until then: nobody may
    leave the transaction, and give its connection to others, while that thread still writes through it."""
    interrupt: BaseException | None = None
    while not stored.done():
        try:
            wait([stored])
        except BaseException as error:
            interrupt = interrupt or error
    if interrupt is not None:
        raise interrupt
    stored.result()


def _until_none(parts: queue.SimpleQueue[Batch | BaseException | None]) -> Iterator[Batch]:
    """The parts as they come, joined until they are worth a statement each; all that wait already go together."""
    ended = False
    while not ended:
        batches: list[Batch] = []
        size = 0
        while not ended and (size < JOINED_UP_TO or not parts.empty()):
            part = parts.get()
            if isinstance(part, BaseException):
                raise part
            if part is None:
                ended = True
            else:
                batches.append(part)
                size += len(part.bodies)
        if batches:
            yield joined(batches)


def _noted(batches: Iterable[Batch], seen: list[int]) -> Iterator[Batch]:
    """The batches, while noting where each one ends."""
    for batch in batches:
        seen.append(batch.head.seq)
        yield batch


def _as_failure(error: BaseException) -> Exception:
    """What the callers of a failed round are told."""
    if isinstance(error, (Fault, HeadMoved)):
        return error
    return Unavailable(reason=f"the writer was stopped by {type(error).__name__}: {error}")
