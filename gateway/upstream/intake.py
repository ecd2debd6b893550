"""What comes from one upstream, and when more of it is read: not while its reader lags, nor before it is its turn.

Who has brought much stands in line behind others, and so does what is left of a read once its first part took a turn.
"""

import asyncio
from collections.abc import Callable

from gateway.upstream.sluice import MUCH_BYTES, TURN_BYTES, Sluice

PIECE_BYTES = 1 << 16  # 11,000 chunks at most, which take 8 ms
CHUNKS_MAX = 1000  # after more of them in a piece others have their turn


class Intake:
    """Has what is read from `transport` understood piece by piece, until it was enough for this turn.

    `understand` is told which piece is the last of what was read in one: only then may others follow from it.
    """

    __slots__ = ("_in_line", "_left", "_sluice", "_understand", "is_paused", "transport")

    def __init__(self, sluice: Sluice, understand: Callable[[bytes, bool], bool]) -> None:
        self._sluice = sluice
        self._understand = understand
        self._left = b""
        self._in_line = False
        self.is_paused = False  # by the reader
        self.transport: asyncio.Transport | None = None  # without one nobody wants what is left

    def take(self, data: bytes) -> None:
        """What was read in one."""
        left = self._understood(data)
        if len(data) >= MUCH_BYTES and self.transport is not None:
            self._left, self._in_line = left, True
            self.transport.pause_reading()
            self._sluice.join(TURN_BYTES if left else len(data), self._go_on)

    def end(self) -> None:
        """Nothing more will come: there are no turns any more."""
        while self._left and self.transport is not None:
            self._left = self._understood(self._left)

    def pause(self) -> None:
        self.is_paused = True
        if self.transport is not None:
            self.transport.pause_reading()

    def resume(self) -> None:
        self.is_paused = False
        if self.transport is not None and not self._in_line:
            self.transport.resume_reading()

    def _go_on(self) -> None:
        left, self._left, self._in_line = self._left, b"", False
        if left and self.transport is not None:
            self.take(left)
        if self.transport is not None and not self._in_line and not self.is_paused:
            self.transport.resume_reading()

    def _understood(self, data: bytes) -> bytes:
        """What is left of `data`."""
        end, size, is_enough = 0, len(data), False
        while end < size and not is_enough and self.transport is not None:
            start, end = end, end + PIECE_BYTES
            is_enough = self._understand(data[start:end], end >= size)
        return data[end:]
