"""One caller's connection: looked after while it is slow, and errors that arise before any handler runs.

No timer a connection: its server looks at all of them, `Patience.look_s` apart. Overrides private parts of aiohttp's
`RequestHandler` (PROMISES 1.1); tests/integration/server holds them to the version that pyproject.toml pins.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, cast

from aiohttp import EMPTY_PAYLOAD, HttpVersion11, StreamReader
from aiohttp.http_parser import RawRequestMessage
from aiohttp.http_writer import StreamWriter
from aiohttp.web import BaseRequest, RequestHandler, Server, StreamResponse
from aiohttp.web_protocol import _ErrInfo

from gateway.errors import GatewayError
from gateway.server.answer import REASONS, Answer
from gateway.server.heads import Head, Heads, Said
from gateway.server.patience import BodyLateError, Patience, Slack, cut_off, unread_bytes
from gateway.server.reading import RequestReader
from gateway.server.steps import Steps
from gateway.upstream.headers import rendered
from gateway.upstream.sluice import MUCH_BYTES, TURN_BYTES, Sluice

Handler = Callable[[BaseRequest], Awaitable[Answer]]
Render = Callable[[GatewayError], Answer]
RelayOf = Callable[["CallerConnection", Head, bytes], Callable[[], None] | None]  # sends it; what then cancels it


class CallerConnection(RequestHandler):
    """aiohttp's connection with our own reader of requests, limits on slowness and our own words for errors.

    Whoever answers counts `written_bytes` and says in `answering` which request's answer has begun; `excused` is a
    request whose body need not come yet, `endless` one whose answer has no end of its own.
    """

    __slots__ = (
        "_head_due_s", "_in_line", "_is_full", "_moved_bytes", "_moved_s", "_parked", "_patience", "_reader",
        "_reading", "_relay", "_relay_of", "_render", "_sending", "_sluice", "_steps", "_watched", "_writer",
        "answering", "endless", "excused", "met", "passed", "received_bytes", "remote", "terms", "written_bytes",
    )  # fmt: skip

    def __init__(
        self,
        manager: Server,
        *,
        loop: asyncio.AbstractEventLoop,
        heads: Heads,
        patience: Patience,
        render: Render,
        sluice: Sluice,
        is_full: Callable[[], bool],
        relay_of: RelayOf | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(manager, loop=loop, **kwargs)
        self._sluice, self._in_line = sluice, False  # who is in line is not read meanwhile
        self._is_full, self._relay_of = is_full, relay_of
        self._steps = Steps(loop, self._stepped)
        self._parked: asyncio.Future[None] | None = None  # aiohttp's `_waiter`, while `_steps` serve
        self._writer = StreamWriter(self, loop)
        self._relay: Callable[[], None] | None = None  # cancels what is relayed
        self.remote = ""
        self.passed: Said | None = None  # the fields of the last request that was let pass
        self.met: object = None  # what whoever forwards here has made of the last request's fields
        self.terms: object = None  # the same of an envelope's
        self._reader = RequestReader(self, loop, heads)
        self._parser = cast(Any, self._reader)
        self._patience, self._render = patience, render
        self._head_due_s: float | None = None
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
        peer = transport.get_extra_info("peername")
        self.remote = peer[0] if isinstance(peer, tuple) else ""
        if self._is_full():
            self._end_with(GatewayError("overloaded", headers={"Retry-After": "1"}, close=True))
        else:
            self._head_is_due()

    def data_received(self, data: bytes) -> None:
        self.received_bytes += len(data)
        if self._is_begun(data):
            return
        waiter, self._waiter = self._waiter, None  # whether aiohttp's task is woken is decided below
        super().data_received(data)
        self._waiter = waiter
        self._serve()
        if self._reader.is_broken:
            self._lingering_time = 0.0  # nothing more will come of a body, so nobody shall wait for it
        if self._is_serving:
            self._head_due_s = None
        elif self._head_due_s is None and data:
            self._head_is_due()  # the first bytes of a further head
        size = TURN_BYTES if self._reader.has_more else len(data) if self._reader.awaits_body else 0
        if size >= MUCH_BYTES and not (self._in_line or self._close or self._force_close):
            self._in_line = True
            self._pause_reading_for_buffer()
            self._sluice.join(size, self._go_on)

    def connection_lost(self, exc: BaseException | None) -> None:
        relay, self._relay = self._relay, None
        if relay is not None:
            relay()
        self._steps.cancel()
        super().connection_lost(exc)

    @property
    def serving(self) -> "asyncio.Task[None] | None":
        """What may still be at work when the caller is gone."""
        return self._steps.task or self._task_handler

    def _is_begun(self, data: bytes) -> bool:
        """Whether `data` is a whole request that need not queue: then it is relayed, or stepped where it cannot be."""
        waiter = self._waiter
        if waiter is None or waiter.done() or self._messages or self._upgraded:
            return False
        if self._close or self._force_close or self.writing_paused:
            return False
        if (whole := self._reader.whole(data)) is None:
            return False
        self._parked, self._waiter, self._request_in_progress, self._head_due_s = waiter, None, True, None
        self._relay = None if self._relay_of is None else self._relay_of(self, *whole)
        if self._relay is None:
            head, body = whole
            self._step(self._reader.message(head), self._reader.body(body))
        return True

    def relayed(self, keep_alive: bool) -> None:
        """What was relayed has its answer."""
        self._relay = None
        self._stepped(keep_alive)

    def take_over(self, head: Head, answer: Handler) -> None:
        """What was relayed needs more than that: a request, to which `answer` finds the answer."""
        self._relay = None
        self._step(self._reader.message(head), EMPTY_PAYLOAD, answer)

    def _serve(self) -> None:
        """Step the first request that waits, if nothing else is served; wake aiohttp's task where it needs more."""
        waiter = self._waiter
        if waiter is None or waiter.done() or not self._messages or self._request_factory is None:
            return
        message, payload = self._messages[0]
        is_whole = not isinstance(message, _ErrInfo) and payload.is_eof() and message.version is HttpVersion11
        if not is_whole or message.upgrade:  # type: ignore[union-attr]  # an _ErrInfo is not whole
            waiter.set_result(None)
            return
        self._parked, self._waiter, self._request_in_progress = waiter, None, True
        self._messages.popleft()
        self._reader.message_consumed()
        if self._buffer_paused and len(self._messages) <= self._msg_queue_resume_size:
            self._resume_reading_if_drained()
        self._step(cast(RawRequestMessage, message), payload)

    def _step(self, message: RawRequestMessage, payload: StreamReader, handler: Handler | None = None) -> None:
        """Answer a request, unless told otherwise by the handler of all."""
        make, task = cast(Any, self._request_factory), cast("asyncio.Task[None]", self._task_handler)
        request = self._current_request = make(message, payload, self, self._writer, task)
        self._steps.run(self._answer(request, handler or cast(Handler, self._request_handler)))

    async def _answer(self, request: BaseRequest, handler: Handler) -> bool:
        """Answer one request; whether the connection lives on."""
        try:
            answer = await handler(request)
            await answer.prepare(request)
        except ConnectionError:  # the caller is going
            return False
        except Exception:  # nobody behind the front door may let one through
            if self.answering is not request:
                self._end_with(GatewayError("internal-error", close=True))
            return False
        return answer.keep_alive

    def _stepped(self, keep_alive: bool) -> None:
        """What was stepped has its answer: on with what waits, or back to aiohttp's task."""
        self._current_request, self._request_in_progress = None, False
        if self._handler_waiter is not None:
            self._handler_waiter.set_result(None)
        self._waiter, self._parked = self._parked, None
        if not keep_alive or self._close or self._force_close:
            self.force_close()
            return
        self._next_keepalive_close_time = self._loop.time() + self._keepalive_timeout
        if self._keepalive_handle is None:
            self._keepalive_handle = self._loop.call_at(self._next_keepalive_close_time, self._process_keepalive)
        if self._messages:
            self._loop.call_soon(self._serve)  # others come first

    def _go_on(self) -> None:
        """Read on in what is here, now that others have had their turn."""
        self._in_line = False
        if self.transport is not None:
            self._resume_reading_if_drained()

    def resume_reading(self, resume_parser: bool = True) -> None:
        """A body's reader has room again. Nothing is left over for its sake, so nothing is read in its turn."""
        if self._reading_paused:
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
