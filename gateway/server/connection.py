"""One caller's connection: looked after while it is slow, and errors that arise before any handler runs.

No timer a connection: its server looks at all of them, `Patience.look_s` apart. Overrides private parts of aiohttp's
`RequestHandler` (PROMISES 1.1); tests/integration/server holds them to the version that pyproject.toml pins.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, cast

from aiohttp.web import BaseRequest, RequestHandler, Server, StreamResponse

from gateway.errors import GatewayError
from gateway.server.answer import REASONS, Answer
from gateway.server.heads import HeadLimits, Heads
from gateway.server.patience import BodyLateError, Patience, Slack, cut_off, unread_bytes
from gateway.server.reading import RequestReader
from gateway.upstream.headers import rendered

Handler = Callable[[BaseRequest], Awaitable[Answer]]
Render = Callable[[GatewayError], Answer]


class CallerConnection(RequestHandler):
    """aiohttp's connection with our own reader of requests, limits on slowness and our own words for errors.

    Whoever answers counts `written_bytes` and says in `answering` which request's answer has begun; `excused` is a
    request whose body need not come yet, `endless` one whose answer has no end of its own.
    """

    __slots__ = (
        "_going_on", "_head_due_s", "_moved_bytes", "_moved_s", "_patience", "_reader", "_reading", "_render",
        "_sending", "_watched", "answering", "endless", "excused", "received_bytes", "written_bytes",
    )  # fmt: skip

    def __init__(
        self,
        manager: Server,
        *,
        loop: asyncio.AbstractEventLoop,
        heads: Heads,
        patience: Patience,
        render: Render,
        **kwargs: Any,
    ) -> None:
        super().__init__(manager, loop=loop, **kwargs)
        self._reader = RequestReader(self, loop, heads)
        self._parser = cast(Any, self._reader)
        self._patience = patience
        self._render = render
        self._head_due_s: float | None = None
        self._going_on: asyncio.Handle | None = None
        self.received_bytes = self.written_bytes = 0
        self.answering: BaseRequest | None = None
        self.excused: BaseRequest | None = None
        self.endless: BaseRequest | None = None
        self._watched: BaseRequest | None = None  # what was in progress at the last look
        self._sending: Slack | None = None  # of that request's body
        self._reading: Slack | None = None  # of what is still to be read by the caller
        self._moved_bytes, self._moved_s = 0, 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        if isinstance(self._manager, CallerServer) and self._manager.is_full:
            self._end_with(GatewayError("overloaded", headers={"Retry-After": "1"}, close=True))
        else:
            self._head_is_due()

    def data_received(self, data: bytes) -> None:
        self.received_bytes += len(data)
        super().data_received(data)
        if self._reader.is_broken:
            self._lingering_time = 0.0  # nothing more will come of a body, so nobody shall wait for it
        if self._is_serving:
            self._head_due_s = None
        elif self._head_due_s is None and data:
            self._head_is_due()  # the first bytes of a further head
        if self._reader.has_more and self._going_on is None and not (self._close or self._force_close):
            self._pause_reading_for_buffer()
            self._going_on = self._loop.call_soon(self._go_on)

    def _go_on(self) -> None:
        """Read on in what is here, now that others have had their turn."""
        self._going_on = None
        if self.transport is not None:
            self._resume_reading_if_drained()

    def resume_reading(self, resume_parser: bool = True) -> None:
        """A body's reader has room again. Nothing is left over for its sake, so nothing is read in its turn."""
        super().resume_reading(resume_parser=False)

    def _resume_reading_for_buffer(self) -> None:
        if not self._reader.has_more:
            super()._resume_reading_for_buffer()

    def look(self, transport: asyncio.Transport, now_s: float, passed_s: float) -> None:
        """End what is too slow. `passed_s` is the time since the last look."""
        if self._head_due_s is None and self._reader.has_begun and not self._is_serving:
            self._head_is_due()  # it came together with a request that is answered now
        if self._head_due_s is not None and now_s >= self._head_due_s:
            self._head_due_s = None
            self._end_with(GatewayError("request-timeout", close=True))
            return
        request, unread = self._current_request, unread_bytes(transport)
        if request is None and not unread:
            if self._watched is not None or self._reading is not None:
                self._watched = self.answering = self.excused = self._sending = self._reading = None
            return
        taken_bytes = self.written_bytes - unread
        if request is not self._watched:
            self._watched, self._sending, self._moved_bytes = request, None, -1
        if request is not None and self._is_body_late(request, passed_s):
            request.content.set_exception(BodyLateError("too slow"))
        if unread == 0 or (self._upgraded and request is not None):  # a tunnel's two ends settle that between them
            self._reading = None
        elif self._reading is None:
            self._reading = Slack(self._patience, taken_bytes)
        elif self._reading.is_gone(passed_s, taken_bytes):
            cut_off(transport)
        if self._is_silent(request, taken_bytes, now_s):
            cut_off(transport)

    def leave(self) -> None:
        """Close the connection where it is between requests. aiohttp's own `close` would leave it open and deaf."""
        if (
            self._waiter is not None
            and not self._messages
            and not self._reader.has_begun
            and self.transport is not None
        ):
            self.transport.close()

    def end_endless(self) -> bool:
        """Close the connection where what it carries would not end by itself."""
        request = self._current_request
        if request is None or request is not self.endless or self.transport is None:
            return False
        self.transport.close()
        return True

    def handle_error(
        self, request: BaseRequest, status: int = 500, exc: BaseException | None = None, message: str | None = None
    ) -> StreamResponse:
        """What is no request, or a defect of ours, as a problem; never aiohttp's own page, which echoes input."""
        answer = self._render(exc if isinstance(exc, GatewayError) else GatewayError("internal-error", close=True))
        answer.keep_alive = False
        return cast(StreamResponse, answer)

    @property
    def _is_serving(self) -> bool:
        return bool(self._messages or self._request_in_progress or self._upgraded)

    def _head_is_due(self) -> None:
        self._head_due_s = self._loop.time() + self._patience.head_s

    def _is_body_late(self, request: BaseRequest, passed_s: float) -> bool:
        """Whether the body comes too slowly; while we ourselves do not read, it may."""
        content = request.content
        if content.is_eof() or self._reading_paused or request is self.excused or content.exception() is not None:
            return False
        if self._sending is None:
            self._sending = Slack(self._patience, self.received_bytes)
            return False
        return self._sending.is_gone(passed_s, self.received_bytes)

    def _is_silent(self, request: BaseRequest | None, taken_bytes: int, now_s: float) -> bool:
        """Whether a stream or a tunnel has moved no byte either way for too long."""
        idle_s, moved_bytes = self._patience.stream_idle_s, self.received_bytes + taken_bytes
        if moved_bytes != self._moved_bytes:
            self._moved_bytes, self._moved_s = moved_bytes, now_s
            return False
        is_stream = request is not None and request is self.answering
        return is_stream and 0 < idle_s <= now_s - self._moved_s

    def _end_with(self, error: GatewayError) -> None:
        """Tell the problem where no request is there to be answered, and close."""
        if self.transport is not None:
            answer = self._render(error)
            start = b"HTTP/1.1 %d %b\r\n" % (answer.status, REASONS[answer.status])
            length = b"Content-Length: %d\r\nConnection: close\r\n\r\n" % len(answer.body)
            self.transport.write(start + rendered(answer.fields) + length + answer.body)
            self.force_close()


class CallerServer(Server):
    """aiohttp's low-level server, making `CallerConnection`s. A handler is cancelled when its caller is gone.

    A connection above `connections_max` is answered 503 `overloaded` at once. Slow ones are looked for as long as there
    are any.
    """

    def __init__(
        self, handler: Handler, *, limits: HeadLimits, connections_max: int, patience: Patience, **kwargs: Any
    ) -> None:
        super().__init__(cast(Any, handler), handler_cancellation=True)
        self._connections_max = connections_max
        self._look_s = patience.look_s
        self._looked_s = 0.0
        self._looking: asyncio.TimerHandle | None = None
        self._nobody: asyncio.Future[None] | None = None
        self._connection_options = {"heads": Heads(limits), "access_log": None, "patience": patience, **kwargs}

    @property
    def is_full(self) -> bool:
        return len(self._connections) > self._connections_max

    def __call__(self) -> RequestHandler:
        return CallerConnection(self, loop=self._loop, **self._connection_options)

    def connection_made(self, handler: RequestHandler, transport: asyncio.Transport) -> None:
        super().connection_made(handler, transport)
        if self._looking is None:
            self._looked_s = self._loop.time()
            self._looking = self._loop.call_later(self._look_s, self._look)

    def connection_lost(self, handler: RequestHandler, exc: BaseException | None = None) -> None:
        super().connection_lost(handler, exc)
        if handler._task_handler is None:
            self._one_has_gone()
        else:
            handler._task_handler.add_done_callback(self._one_has_gone)  # behind aiohttp's own, which forgets it

    def _one_has_gone(self, _: object = None) -> None:
        if self._nobody is not None and not self._connections and not self._nobody.done():
            self._nobody.set_result(None)

    def leave(self) -> None:
        """Close the connections that are between requests."""
        for each in self.connections:
            if isinstance(each, CallerConnection):
                each.leave()

    async def gone(self) -> None:
        """Wait until every connection has ended, with all that was written to it. For one waiter at a time."""
        if self._connections:
            self._nobody = self._loop.create_future()
            await self._nobody

    def end_endless(self) -> int:
        """Close the connections whose answers have no end of their own; how many there were."""
        return sum(isinstance(each, CallerConnection) and each.end_endless() for each in self.connections)

    async def shutdown(self, timeout: float | None = None) -> None:
        await super().shutdown(timeout)
        if self._looking is not None:
            self._looking.cancel()

    def _look(self) -> None:
        now_s = self._loop.time()
        passed_s = min(now_s - self._looked_s, 2 * self._look_s)  # time in which we did not read is nobody's fault
        self._looked_s = now_s
        for connection, transport in list(self._connections.items()):
            if isinstance(connection, CallerConnection):
                connection.look(transport, now_s, passed_s)
        self._looking = self._loop.call_later(self._look_s, self._look) if self._connections else None


def excuse(request: BaseRequest, excused: bool = True) -> None:
    """The body of `request` need not come yet, or from now on it must."""
    cast(CallerConnection, request.protocol).excused = request if excused else None


def call_endless(request: BaseRequest) -> None:
    """What answers `request` has no end of its own, so a drain does not wait for it."""
    cast(CallerConnection, request.protocol).endless = request
