"""Large work aside: in one thread, which gives way to the loop.

The loop asks for the interpreter's lock at each event. By default it would get it after 5 ms, and a forwarded request
is five events and more.
"""

import asyncio
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TypeVar

T = TypeVar("T")

_GIVES_WAY_S, _USUAL_S = 0.0002, 0.005  # the former costs each of two busy threads a tenth


class Aside:
    """Does one work after the other."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, "aside")

    async def do(self, work: Callable[[], T]) -> T:
        """What `work` returns."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, partial(_giving_way, work))


def _giving_way(work: Callable[[], T]) -> T:
    sys.setswitchinterval(_GIVES_WAY_S)
    try:
        return work()
    finally:
        sys.setswitchinterval(_USUAL_S)
