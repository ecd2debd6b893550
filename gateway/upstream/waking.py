"""Waiting for what callbacks bring: by a task, or by a coroutine that is stepped by hand (`server/steps`)."""

import asyncio
from collections.abc import Callable, Generator


class Waking:
    """What one waits for by `await`, for `wake` to be called. Who steps a coroutine gets this from it, and sets
    `resume`, which is then called in a turn of the loop of its own."""

    __slots__ = ("_loop", "_woken", "resume")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._woken: asyncio.Future[None] | None = None
        self.resume: Callable[[], None] | None = None

    def __await__(self) -> Generator[object, None, None]:
        if asyncio.current_task() is None:
            yield self
        else:
            self._woken = self._loop.create_future()
            yield from self._woken

    def wake(self) -> None:
        """Let go on who waits, if anybody does."""
        woken, self._woken = self._woken, None
        if woken is not None and not woken.done():
            woken.set_result(None)
        resume, self.resume = self.resume, None
        if resume is not None:
            self._loop.call_soon(resume)
