"""Whose turn it is to be read, among those who send much.

The loop reads a connection as long as there is something, and all of them in one turn. Ten that send 10 MiB would keep
it for 15 ms in each. So who has brought much is not read until it is let through.
"""

import asyncio
from collections import deque
from collections.abc import Callable

MUCH_BYTES = 1 << 14  # reading them takes some 20 µs
TURN_BYTES = 1 << 18


class Sluice:
    """Lets as many through in a turn of the loop as have brought 256 KiB before, one at least."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._line: deque[tuple[int, Callable[[], None]]] = deque()

    def join(self, size: int, go_on: Callable[[], None]) -> None:
        """Call `go_on` in a later turn. `size` is how many bytes were brought in this one, `TURN_BYTES` where they were
        a turn's work."""
        if not self._line:
            self._loop.call_soon(self._let_through)
        self._line.append((size, go_on))

    def _let_through(self) -> None:
        line, through, left = self._line, [], TURN_BYTES
        while line and left > 0:
            size, go_on = line.popleft()
            through.append(go_on)
            left -= size
        if line:
            self._loop.call_soon(self._let_through)
        for go_on in through:  # some of which join again
            go_on()
