"""One caller's connection: one request after the other, each answered before the next is looked at.

What is no request is answered with the problem that it is, and ends the connection. Where an answer went out before the
request's body had come, the rest of it is dropped for a while: who is cut off while sending may never read the answer.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, cast

from gateway.errors import GatewayError
from gateway.server.answer import REASONS, Answer, date_field
from gateway.server.body import NO_BODY, Body
from gateway.server.patience import BodyLateError, Patience, Slack, cut_off, unread_bytes
from gateway.server.reading import RequestReader
from gateway.server.request import Request
from gateway.upstream.headers import rendered

if TYPE_CHECKING:
    from gateway.server.listening import CallerServer

Handler = Callable[[Request], Awaitable[Answer]]

_LINGER_S = 10.0  # for the rest of a body that nobody wants


class CallerConnection(asyncio.Protocol):
    """A connection and the request that is being served on it.

    Whoever answers counts `written_bytes` and says in `answering` which request's answer has begun; `excused` is a
    request whose body need not come yet, `endless` one whose answer has no end of its own.
    """

    def __init__(self, server: "CallerServer", loop: asyncio.AbstractEventLoop, patience: Patience) -> None:
        self._server = server
        self._loop = loop
        self._patience = patience
        self._reader = RequestReader(server.heads, self.pace)
        self.transport: asyncio.Transport | None = None  # None once the caller is gone
        self.peer = ""
        self._serving: Request | None = None
        self.task: asyncio.Task[None] | None = None  # that serves it
        self._unwanted: tuple[Body, bool] | None = None  # the rest of a body, and whether the connection lives on
        self._take: Callable[[bytes], None] | None = None  # bytes of another protocol
        self._due_s = 0.0  # for a head, the next request, or what is unwanted; 0: nothing is due
        self._awaits_head = False
        self._reading_paused = self._reads_on = self.writing_paused = False
        self._writable: asyncio.Future[None] | None = None
        self.received_bytes = self.written_bytes = 0
        self.answering: Request | None = None
        self.excused: Request | None = None
        self.endless: Request | None = None
        self._watched: Request | None = None  # what was in progress at the last look
        self._sending: Slack | None = None  # of that request's body
        self._reading: Slack | None = None  # of what is still to be read by the caller
        self._moved_bytes, self._moved_s = 0, 0.0

    # What the loop calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        peer = transport.get_extra_info("peername")
        self.peer = peer[0] if isinstance(peer, tuple) else peer or ""
        self._server.enter(self)
        if self._server.is_full:
            self._end_with(GatewayError("overloaded", headers={"Retry-After": "1"}, close=True))
        else:
            self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport = None
        self.resume_writing()  # what goes on without its caller waits for nobody
        if self.task is not None:
            self.task.cancel()
        self._server.leave(self)

    def pause_writing(self) -> None:
        self.writing_paused = True

    def resume_writing(self) -> None:
        self.writing_paused = False
        waiter, self._writable = self._writable, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    def data_received(self, data: bytes) -> None:
        self.received_bytes += len(data)
        if self._take is not None:
            self._take(data)
            return
        self._reader.feed(data)
        if self._unwanted is not None:
            self._see_end_of_unwanted(*self._unwanted)
        elif self._serving is None:
            self._serve()
        self.pace()

    def _read_on(self) -> None:
        self._reads_on = False
        if self.transport is not None:
            self.data_received(b"")

    # What the rooms behind call.

    def pace(self) -> None:
        """Stop reading what nobody takes, and go on once it was taken. What takes long is read in several turns."""
        is_full = self._reader.is_full
        if is_full and self._reader.has_more and not self._reads_on:
            self._reads_on = True
            self._loop.call_soon(self._read_on)
        if is_full is not self._reading_paused and self.transport is not None and not self.transport.is_closing():
            self._reading_paused = is_full
            if is_full:
                self.transport.pause_reading()
            else:
                self.transport.resume_reading()

    async def writable(self) -> None:
        """Wait until the caller has read enough of what was written."""
        if self.writing_paused:
            self._writable = self._loop.create_future()
            await self._writable

    def switch(self, take: Callable[[bytes], None]) -> None:
        """From here on the caller's bytes are of another protocol, and `take` gets them."""
        self._take = take
        rest = self._reader.rest()
        self.pace()
        if rest:
            take(rest)

    # What the server calls.

    def look(self, now_s: float, passed_s: float) -> None:
        """End what is too slow. `passed_s` is the time since the last look."""
        transport = self.transport
        if transport is None:
            return
        if self._due_s and now_s >= self._due_s:
            self._end_late()
            return
        request, unread = self._serving, unread_bytes(transport)
        if request is None and not unread:
            if self._watched is not None or self._reading is not None:
                self._watched = self.answering = self.excused = self._sending = self._reading = None
            return
        taken_bytes = self.written_bytes - unread
        if request is not self._watched:
            self._watched, self._sending, self._moved_bytes = request, None, -1
        if request is not None and self._is_body_late(request, passed_s):
            request.content.break_off(BodyLateError("too slow"))
        if unread == 0 or (
            self._take is not None and request is not None
        ):  # a tunnel's two ends settle that between them
            self._reading = None
        elif self._reading is None:
            self._reading = Slack(self._patience, taken_bytes)
        elif self._reading.is_gone(passed_s, taken_bytes):
            cut_off(transport)
        if self._is_silent(request, taken_bytes, now_s):
            cut_off(transport)

    def leave(self) -> None:
        """Close the connection where it is between requests; a head of which a part is there is still heard."""
        if self._serving is None and self._unwanted is None and not self._reader.waiting_bytes:
            self._close()

    def end_endless(self) -> bool:
        """Close the connection where what it carries would not end by itself."""
        if self._serving is None or self._serving is not self.endless:
            return False
        self._close()
        return True

    # Parts of the above.

    def _serve(self) -> None:
        """Begin with the next request, if it is there."""
        try:
            head = self._reader.head()
        except GatewayError as error:
            self._end_with(error)
            return
        if head is not None:
            self._due_s, self._awaits_head = 0.0, False
            request = self._serving = Request(head, self._reader.body(head) if head.length else NO_BODY, self)
            self.task = self._loop.create_task(self._answer(request))
        elif self._reader.waiting_bytes and not self._awaits_head:
            self._await_head()  # the first bytes of a further one

    async def _answer(self, request: Request) -> None:
        try:
            answer = await self._server.handler(request)
            await answer.write(request)
        except ConnectionError:  # the caller is going
            self._close()
        except Exception:  # nobody behind the front door may let one through
            if self.answering is request:
                self._abort()
            else:
                self._end_with(GatewayError("internal-error", close=True))
        else:
            self._end_of(request, answer.keep_alive)

    def _end_of(self, request: Request, keep_alive: bool) -> None:
        """The answer to `request` was written."""
        self._serving = self.task = None
        body = request.content
        if body.has_come:
            self._go_on(keep_alive)
        elif body.error is not None:
            self._close()
        else:
            body.abandon()
            self._unwanted, self._due_s = (body, keep_alive), self._loop.time() + _LINGER_S

    def _see_end_of_unwanted(self, body: Body, keep_alive: bool) -> None:
        if body.has_come:
            self._unwanted = None
            self._go_on(keep_alive)
        elif body.error is not None:
            self._close()

    def _go_on(self, keep_alive: bool) -> None:
        if not keep_alive or self._server.is_closing:
            self._close()
        elif self.transport is not None and not self.transport.is_closing():
            self._due_s, self._awaits_head = self._loop.time() + self._patience.idle_s, False
            self._serve()
            self.pace()

    def _await_head(self) -> None:
        self._due_s, self._awaits_head = self._loop.time() + self._patience.head_s, True

    def _end_late(self) -> None:
        self._due_s = 0.0
        if self._awaits_head:
            self._end_with(GatewayError("request-timeout", close=True))
        else:
            self._close()

    def _end_with(self, error: GatewayError) -> None:
        """Tell the problem where no request is there to be answered, and close."""
        if self.transport is not None:
            answer = self._server.render(error)
            start = b"HTTP/1.1 %d %b\r\n" % (answer.status, REASONS[answer.status])
            length = b"Content-Length: %d\r\nConnection: close\r\n\r\n" % len(answer.body)
            self.transport.write(start + rendered([date_field(), *answer.fields]) + length + answer.body)
            self._close()

    def _close(self) -> None:
        """Close the connection once all that was written has gone out; nothing is read any more."""
        self._take = _nobody_takes
        self._due_s = 0.0
        if self.transport is not None:
            self.transport.close()

    def _abort(self) -> None:
        if self.transport is not None:
            self.transport.abort()

    def _is_body_late(self, request: Request, passed_s: float) -> bool:
        """Whether the body comes too slowly; while we ourselves do not read, it may."""
        content = request.content
        if content.has_come or self._reading_paused or request is self.excused or content.error is not None:
            return False
        if self._sending is None:
            self._sending = Slack(self._patience, self.received_bytes)
            return False
        return self._sending.is_gone(passed_s, self.received_bytes)

    def _is_silent(self, request: Request | None, taken_bytes: int, now_s: float) -> bool:
        """Whether a stream or a tunnel has moved no byte either way for too long."""
        idle_s, moved_bytes = self._patience.stream_idle_s, self.received_bytes + taken_bytes
        if moved_bytes != self._moved_bytes:
            self._moved_bytes, self._moved_s = moved_bytes, now_s
            return False
        is_stream = request is not None and request is self.answering
        return is_stream and 0 < idle_s <= now_s - self._moved_s


def _nobody_takes(_: bytes) -> None:
    """What comes after the end."""


def excuse(request: Request, excused: bool = True) -> None:
    """The body of `request` need not come yet, or from now on it must."""
    request.connection.excused = request if excused else None


def call_endless(request: Request) -> None:
    """What answers `request` has no end of its own, so a drain does not wait for it."""
    request.connection.endless = request
