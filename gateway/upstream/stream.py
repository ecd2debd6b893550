"""An exchange whose bodies are streamed both ways with back-pressure: what a forwarded request uses.

The reader's side buffers at most `BUFFER_BYTES` of an answer before it stops reading from the upstream.
"""

import asyncio
import math
from collections.abc import Callable, Generator
from types import coroutine

import msgspec

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


class StreamedExchange(Exchange, kw_only=True, eq=False):
    """One forwarded request. `deadline_s` bounds the time to the answer's head; after that nothing but the reader does.

    `interims` collects 1xx answers as they come. With `upgrades`, a 101 turns both bodies into a tunnel. A request
    whose body is still to come starts with `requested` false.

    An answer that may be asked for again (`rejections`) is held back until it is whole and the retry law has spoken.

    Who waits for an arrival outside of a task gets the exchange to wait for, and sets `resume`: it is called at
    once when the answer is whole, and otherwise in a turn of the loop of its own.
    """

    loop: asyncio.AbstractEventLoop
    done: Callable[[Exchange], None] = lambda _: None
    has_head: bool = False
    ended: bool = False
    interims: list[tuple[int, bytes, RawFields]] = msgspec.field(default_factory=list)
    passed: bytes = b""  # the head of a plain answer as it is passed on
    resume: Callable[[], None] | None = None
    _resumes: bool = False  # soon
    _arrived: asyncio.Future[None] | None = None
    _writable: asyncio.Future[None] | None = None
    _paused: bool = False
    _held: bool = False

    def __post_init__(self) -> None:
        self.streamed = True
        self.chunks = []
        if not self.requested:
            self.repeatable = False  # a body that is gone cannot be sent twice
            self.rejections = frozenset()
            self._writable = self.loop.create_future()  # until there is a connection to write to

    def begin(self) -> None:
        super().begin()
        self.chunks = []
        self.interims = []
        self.has_head = self.ended = self._paused = self._held = False
        self.stalled_at_s = math.inf
        self.passed = b""

    # The forwarding side.

    async def arrival(self) -> None:
        """Wait until there is something to take. Raises `UpstreamError` once the exchange failed."""
        is_here = self.interims or self.ended or (self.chunks and not self._held)
        if self.failure is None and not is_here:
            await self._arrival()
        if self.failure is not None:
            raise UpstreamError(self.status, self.failure)

    @coroutine
    def _arrival(self) -> Generator[object, None, None]:
        if asyncio.current_task() is None:
            yield self
        else:
            self._arrived = self.loop.create_future()
            yield from self._arrived

    def taken(self) -> list[bytes]:
        """What came of the body since the last call; the upstream may go on."""
        chunks, self.chunks = self.chunks or [], []
        self.answer_bytes = 0
        if self._paused and self.connection is not None:
            self._paused = False
            self.stalled_at_s = math.inf
            self.connection.resume_reading()
        return chunks

    async def write(self, data: bytes) -> None:
        """Send a part of the request's body once the connection has room. Does nothing where the exchange has ended."""
        if self._writable is not None:
            await self._writable
        if self.connection is not None and data:
            self.connection.write(data)

    async def finish_request(self, data: bytes = b"") -> None:
        """Send the last part: all of the request has been handed over."""
        await self.write(data)
        self.requested = True

    # The connection's side.

    def on_sent(self) -> None:
        self.on_writable(True)

    def on_interim(self, status: int, reason: bytes, fields: RawFields) -> None:
        self.interims.append((status, reason, fields))
        self._wake()

    def on_head(self) -> None:
        self._held = self.status in self.rejections and self.attempt <= self.retries_max
        if not self._held:
            self._show()

    def on_data(self, data: bytes) -> Loss | None:
        if self.chunks is not None:
            self.chunks.append(data)
        self.answer_bytes += len(data)
        if self._held and self.answer_bytes > BUFFER_BYTES:
            self._show()
        if self.answer_bytes > BUFFER_BYTES and not self._paused and self.connection is not None:
            self._paused = True
            self.stalled_at_s = self.loop.time()
            self.connection.pause_reading()
        self._wake()
        return None

    def on_whole(self, body: bytes, passed: bytes) -> None:
        self.chunks = [body]
        self.passed = passed

    def on_end(self) -> None:
        self.ended = True
        self._show()
        if self._writable is not None:
            self.on_writable(True)
        if self.resume is not None:
            self._resume()

    def on_give_up(self, status: int, failure: Failure) -> None:
        self.status, self.failure = status, failure
        self._wake()
        self.on_writable(True)

    def on_writable(self, writable: bool) -> None:
        if not writable:
            self._writable = self.loop.create_future()
        elif self._writable is not None:
            waiter, self._writable = self._writable, None
            if not waiter.done():
                waiter.set_result(None)

    def _show(self) -> None:
        """The answer goes to the caller from here on: it cannot be asked for again."""
        self._held = False
        self.rejections = frozenset()
        self.has_head = True
        self.deadline_s = float("inf")
        self.retries_max = 0
        self._wake()

    def _wake(self) -> None:
        arrived, self._arrived = self._arrived, None
        if arrived is not None and not arrived.done():
            arrived.set_result(None)
        if self.resume is not None and not self.ended and not self._resumes:
            self._resumes = True
            self.loop.call_soon(self._resume)

    def _resume(self) -> None:
        self._resumes = False
        resume, self.resume = self.resume, None
        if resume is not None:
            resume()
