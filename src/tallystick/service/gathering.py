"""Gathering: what is asked at the same time becomes one call of the engine.

A thread for each request would cost more than the posting itself. Instead the requests that are under way in the event
loop hand in what they want; while one call is being carried out the next ones gather, and go together. A lone request
waits for nobody.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from typing import Any, Generic, TypeVar

from tallystick.errors import Overloaded
from tallystick.telemetry.tracing import current_traceparent, span

Asked = TypeVar("Asked")
Answer = TypeVar("Answer")

MAX_TOGETHER = 1_024
"""The most that goes into one call, so that its answers do not keep the event loop for long."""


class Gatherer(Generic[Asked, Answer]):
    """Gathers for one call of the engine, ``carry_out``: a list of what is asked to one answer each, in order.

    It lives in one event loop. More than ``most`` waiting are refused at once: Overloaded.
    """

    def __init__(
        self, name: str, carry_out: Callable[[Sequence[Asked]], Sequence[Answer]], executor: Executor, most: int
    ) -> None:
        self._name = name
        self._carry_out = carry_out
        self._executor = executor
        self._most = most
        self._waiting: list[tuple[Asked, asyncio.Future[Answer], str]] = []
        self._busy = False
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def waiting(self) -> int:
        """How many wait to be carried out."""
        return len(self._waiting)

    async def ask(self, what: Asked) -> Answer:
        """The answer, or what the whole call raised."""
        if len(self._waiting) >= self._most:
            raise Overloaded(queued=len(self._waiting), limit=self._most)
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Answer] = loop.create_future()
        self._waiting.append((what, future, current_traceparent()))
        if not self._busy:
            self._busy = True
            self._idle.clear()
            loop.call_soon(self._begin, loop)  # who else asks in this turn of the loop comes along
        return await future

    async def finish(self) -> None:
        """Wait until nothing is under way."""
        await self._idle.wait()

    def _begin(self, loop: asyncio.AbstractEventLoop) -> None:
        together = self._waiting[:MAX_TOGETHER]
        del self._waiting[:MAX_TOGETHER]
        if not together:
            self._busy = False
            self._idle.set()
            return
        try:
            self._executor.submit(self._work, loop, together)
        except RuntimeError as error:  # the executor was shut down
            self._end(loop, together, None, error)

    def _work(self, loop: asyncio.AbstractEventLoop, together: list[tuple[Asked, Any, str]]) -> None:
        answers: Sequence[Answer] | None = None
        failure: BaseException | None = None
        try:
            traces = [trace for _, _, trace in together if trace]
            with span(self._name, traceparent=traces[0] if traces else "", links=traces[1:]):
                answers = self._carry_out([what for what, _, _ in together])
        except BaseException as error:  # whoever waits must hear of it
            failure = error
        loop.call_soon_threadsafe(self._end, loop, together, answers, failure)

    def _end(
        self,
        loop: asyncio.AbstractEventLoop,
        together: list[tuple[Asked, asyncio.Future[Answer], str]],
        answers: Sequence[Answer] | None,
        failure: BaseException | None,
    ) -> None:
        self._begin(loop)
        if answers is None:
            for _, future, _ in together:
                if not future.done():
                    future.set_exception(failure or RuntimeError("no answer"))
            return
        for (_, future, _), answer in zip(together, answers, strict=True):
            if not future.done():  # who asked may have gone
                future.set_result(answer)
