"""Large work aside: in slices between the turns of the loop, or else in one thread, which gives way to the loop.

The loop asks for the interpreter's lock at each event. By default it would get it after 5 ms, and a forwarded request
is five events and more. Where others have the processor as well, it waits longer than it should: slices are better.
"""

import asyncio
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, TypeVar

from gateway.dialects.slices import Sliced

T = TypeVar("T")

_GIVES_WAY_S, _USUAL_S = 0.0002, 0.005  # the former costs each of two busy threads a tenth


class Aside:
    """Does one work after the other."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, "aside")
        self._one = asyncio.Lock()

    async def do(self, work: Callable[[], T]) -> T:
        """What `work` returns."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, partial(_giving_way, work))

    async def slice_up(self, work: Sliced[T]) -> T:
        """What `work` returns; a slice of it in each turn of the loop."""
        told: Any = None
        async with self._one:
            while True:
                await asyncio.sleep(0)
                try:
                    whole = work.send(told)
                except StopIteration as end:
                    result: T = end.value
                    return result
                told = None if whole is None else await self.do(whole)


def _giving_way(work: Callable[[], T]) -> T:
    sys.setswitchinterval(_GIVES_WAY_S)
    try:
        return work()
    finally:
        sys.setswitchinterval(_USUAL_S)
