"""Waiting for what tells nobody: the state of another process, of a store, of a clock.

Each asks again and again, and gives the first answer that is `right`; a TimeoutError says what never was.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")

PATIENCE_S = 60.0  # who waits longer than this has failed, on the busiest of machines too


async def until(
    ask: Callable[[], Awaitable[T]], within_s: float = PATIENCE_S, *, right: Callable[[T], object] = bool
) -> T:
    last: object = None
    try:
        async with asyncio.timeout(within_s):
            while not right(found := await ask()):
                last = found
                await asyncio.sleep(0.02)
            return found
    except TimeoutError:
        raise _never(ask, within_s, last) from None


async def until_so(ask: Callable[[], T], within_s: float = PATIENCE_S, *, right: Callable[[T], object] = bool) -> T:
    """Of what is here; others have their turn meanwhile."""

    async def asked() -> T:
        return ask()

    asked.__qualname__ = ask.__qualname__
    return await until(asked, within_s, right=right)


def wait_until(ask: Callable[[], T], within_s: float, *, right: Callable[[T], object] = bool) -> T:
    """Where no loop runs."""
    until_s = time.monotonic() + within_s
    while not right(found := ask()):
        if time.monotonic() > until_s:
            raise _never(ask, within_s, found)
        time.sleep(0.01)
    return found


async def pass_by(seconds: float) -> None:
    """Let real time go by, in which something must not happen."""
    until_s = time.monotonic() + seconds
    await until_so(lambda: time.monotonic() >= until_s, seconds + PATIENCE_S)


def _never(ask: Callable[[], object], within_s: float, last: object) -> TimeoutError:
    return TimeoutError(f"{ask.__qualname__} was not right within {within_s:g} s; in the end it was {last!r:.300}")
