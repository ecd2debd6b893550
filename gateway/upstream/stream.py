"""An exchange whose bodies are streamed both ways with back-pressure: what a forwarded request uses.

The reader's side buffers at most `BUFFER_BYTES` of an answer before it stops reading from the upstream.
"""

import asyncio

from gateway.batch.model import Failure
from gateway.batch.retry import Loss
from gateway.upstream.exchange import Exchange
from gateway.upstream.headers import RawFields

BUFFER_BYTES = 256 * 1024


class UpstreamError(Exception):
    """The exchange failed before its answer was whole; `status` and `failure` say how."""

    def __init__(self, status: int, failure: Failure) -> None:
        super().__init__(failure.slug)
        self.status, self.failure = status, failure


class StreamedExchange(Exchange):
    """One forwarded request. `deadline_s` bounds the time to the answer's head; after that nothing but the reader does.

    `interims` collects 1xx answers as they come. With `upgrades`, a 101 turns both bodies into a tunnel.
    """

    __slots__ = ("_arrived", "_loop", "_paused", "_writable", "ended", "has_head", "interims", "requested", "trailers")

    def __init__(
        self,
        method: str,
        head: bytes,
        *,
        has_body: bool,
        upgrades: bool,
        deadline_s: float,
        repeatable: bool,
        retries_max: int,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self._loop = loop
        self.requested = not has_body
        self._arrived: asyncio.Future[None] | None = None
        self._writable: asyncio.Future[None] | None = None
        super().__init__(
            method,
            head,
            deadline_s=deadline_s,
            repeatable=repeatable and not has_body,  # a body that is gone cannot be sent twice
            done=lambda _: None,
            retries_max=retries_max,
            upgrades=upgrades,
        )

    def begin(self) -> None:
        super().begin()
        self.chunks = []
        self.interims: list[tuple[int, RawFields]] = []
        self.has_head = self.ended = self._paused = False
        self.trailers: RawFields = ()

    @property
    def may_share(self) -> bool:
        return False

    @property
    def is_requested(self) -> bool:
        return self.requested

    # The forwarding side.

    async def arrival(self) -> None:
        """Wait until something further came. Raises `UpstreamError` once the exchange failed."""
        if self.failure is None:
            self._arrived = self._loop.create_future()
            await self._arrived
        if self.failure is not None:
            raise UpstreamError(self.status, self.failure)

    def taken(self) -> list[bytes]:
        """What came of the body since the last call; the upstream may go on."""
        chunks, self.chunks = self.chunks or [], []
        self.answer_bytes = 0
        if self._paused and self.connection is not None:
            self._paused = False
            self.connection.resume_reading()
        return chunks

    async def write(self, data: bytes) -> None:
        """Send a part of the request's body; returns when the connection has room for more."""
        if self.connection is None:
            return  # the answer is here already, or the exchange failed: `arrival` tells
        self.connection.write(data)
        if self._writable is not None:
            await self._writable

    def finish_request(self, data: bytes = b"") -> None:
        """All of the request has been handed over."""
        self.requested = True
        if data and self.connection is not None:
            self.connection.write(data)

    # The connection's side.

    def on_interim(self, status: int, fields: RawFields) -> None:
        self.interims.append((status, fields))
        self._wake()

    def on_head(self) -> None:
        self.has_head = True
        self.deadline_s = float("inf")
        self.retries_max = 0
        self._wake()

    def on_data(self, data: bytes) -> Loss | None:
        if self.chunks is not None:
            self.chunks.append(data)
        self.answer_bytes += len(data)
        if self.answer_bytes > BUFFER_BYTES and not self._paused and self.connection is not None:
            self._paused = True
            self.connection.pause_reading()
        self._wake()
        return None

    def on_end(self, trailers: RawFields) -> None:
        self.ended = True
        self.trailers = trailers
        self._wake()
        self.on_writable(True)

    def on_give_up(self, status: int, failure: Failure) -> None:
        self.status, self.failure = status, failure
        self._wake()
        self.on_writable(True)

    def on_writable(self, writable: bool) -> None:
        if not writable:
            self._writable = self._loop.create_future()
        elif self._writable is not None:
            waiter, self._writable = self._writable, None
            if not waiter.done():
                waiter.set_result(None)

    def _wake(self) -> None:
        arrived, self._arrived = self._arrived, None
        if arrived is not None and not arrived.done():
            arrived.set_result(None)
