"""The body of one request as it comes: read piece by piece, and held back while nobody reads it."""

import asyncio
from collections import deque
from collections.abc import Callable

from gateway.upstream.headers import RawFields

_BUFFER_BYTES = 512 * 1024  # above that the caller's connection is not read


class BodyError(Exception):
    """The body could not be read to its end."""


class Body:
    """One reader at a time. `trailers` are there once it has ended; `pace` is called where `is_full` may change."""

    __slots__ = ("_ended", "_error", "_is_unwanted", "_pace", "_pieces", "_size", "_waiter", "trailers")

    def __init__(self, pace: Callable[[], None]) -> None:
        self._pace = pace
        self._pieces: deque[bytes] = deque()
        self._size = 0
        self._ended = self._is_unwanted = False
        self._error: BodyError | None = None
        self._waiter: asyncio.Future[None] | None = None
        self.trailers: RawFields = ()

    # The reader's side.

    @property
    def has_come(self) -> bool:
        """Whether all of it is here."""
        return self._ended

    @property
    def is_read(self) -> bool:
        """Whether all of it was taken."""
        return self._ended and not self._pieces

    @property
    def error(self) -> BodyError | None:
        """Why it will not be whole."""
        return self._error

    async def read(self) -> bytes:
        """What is here, or the next piece; empty at the end. Raises BodyError."""
        while self._error is None and not self._pieces and not self._ended:
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        return self.taken()

    def taken(self) -> bytes:
        """What is here. Raises BodyError."""
        if self._error is not None:
            raise self._error
        pieces = self._pieces
        data = pieces.popleft() if len(pieces) == 1 else b"".join(pieces)
        pieces.clear()
        self._size = 0
        if not self._ended:
            self._pace()
        return data

    def give_back(self, data: bytes) -> None:
        """What was taken stands in front of the rest again."""
        if data:
            self._pieces.appendleft(data)
            self._size += len(data)

    def abandon(self) -> None:
        """Nobody will read it: what comes is dropped."""
        self._is_unwanted = True
        self._pieces.clear()
        self._size = 0
        self._pace()

    # The connection's side.

    @property
    def is_full(self) -> bool:
        return self._size > _BUFFER_BYTES

    def feed(self, data: bytes) -> None:
        """A part of it came."""
        if data and not self._is_unwanted:
            self._pieces.append(data)
            self._size += len(data)
            self._wake()

    def end(self) -> None:
        """All of it came."""
        self._ended = True
        self._wake()

    def break_off(self, error: BodyError) -> None:
        """The rest of it will not come, or comes too late."""
        self._error = error
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


NO_BODY = Body(lambda: None)
NO_BODY.end()
