"""Serving a request in the turn of the loop that brought it; a task is made only where it has to wait for more.

Most requests wait once, for the upstream's answer. A task for each would cost its making, a future and more turns of
the loop. So the coroutine that serves a request is stepped by hand. It may wait for an exchange, or for the outcomes of
a batch, which resume it; where it waits for anything else, it goes on as a task from where it stands.
"""

import asyncio
from collections.abc import Callable, Coroutine, Generator
from types import coroutine
from typing import Any, TypeVar

from gateway.upstream.stream import StreamedExchange
from gateway.upstream.waking import Waking

T = TypeVar("T")
_TASK = object()


class Steps:
    """Steps one coroutine after the other, for `ended` to be told what each returned. None of them may raise."""

    __slots__ = ("_awaited", "_ended", "_loop", "_work", "task")

    def __init__(self, loop: asyncio.AbstractEventLoop, ended: Callable[[bool], None]) -> None:
        self._loop = loop
        self._ended = ended
        self._work: Coroutine[Any, Any, bool] | None = None
        self._awaited: StreamedExchange | Waking | None = None  # that it waits for
        self.task: asyncio.Task[None] | None = None

    def run(self, work: Coroutine[Any, Any, bool]) -> None:
        """Begin with `work`, when the one before it has ended."""
        self._work = work
        self._step()

    def cancel(self) -> None:
        """Cancel what runs. Not to be called by it."""
        work, awaited = self._work, self._awaited
        if self.task is not None:
            self.task.cancel()
        elif work is not None and awaited is not None:
            awaited.resume = self._awaited = self._work = None
            try:
                waits_for = work.throw(asyncio.CancelledError())
            except (asyncio.CancelledError, StopIteration):
                return
            self.task = self._loop.create_task(self._go_on(work, waits_for))

    def _step(self) -> None:
        work = self._work
        if work is None:
            return
        try:
            waits_for = work.send(None)
        except StopIteration as end:
            self._work = self._awaited = None
            self._ended(end.value)
            return
        if isinstance(waits_for, StreamedExchange | Waking):
            self._awaited = waits_for
            waits_for.resume = self._step
        else:
            self._work = self._awaited = None
            self.task = self._loop.create_task(self._go_on(work, waits_for))

    async def _go_on(self, work: Coroutine[Any, Any, bool], waits_for: object) -> None:
        lives_on = await _left_of(work, waits_for)
        self.task = None
        self._ended(lives_on)


@coroutine
def in_task() -> Generator[object, None, None]:
    """From here on in a task: timeouts and much else need one."""
    if asyncio.current_task() is None:
        yield _TASK


@coroutine
def _left_of(work: Coroutine[Any, Any, T], waits_for: object) -> Generator[Any, Any, T]:
    """What is left of `work`, which waits for `waits_for`."""
    try:
        if waits_for is _TASK:
            waits_for = work.send(None)
        while True:
            try:
                told = yield waits_for
            except BaseException as error:
                waits_for = work.throw(error)
            else:
                waits_for = work.send(told)
    except StopIteration as end:
        return end.value  # type: ignore[no-any-return]  # a coroutine's StopIteration carries what it returned
