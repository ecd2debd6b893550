"""One caller's connection: the deadline for a request's head, and errors that arise before any handler runs.

Overrides private parts of aiohttp's `RequestHandler` (PROMISES 1.1); tests/integration/server holds them to
the version that pyproject.toml pins.
"""

import asyncio
import re
from collections.abc import Awaitable, Callable
from typing import Any, cast

from aiohttp.http_exceptions import BadHttpMethod, BadStatusLine, HttpProcessingError, InvalidURLError, LineTooLong
from aiohttp.web import BaseRequest, RequestHandler, RequestPayloadError, Server, StreamResponse

from gateway.errors import GatewayError
from gateway.server.answer import REASONS, Answer
from gateway.upstream.headers import rendered

Handler = Callable[[BaseRequest], Awaitable[Answer]]
Render = Callable[[GatewayError], Answer]

_FRAMING_WORDS = ("Content-Length", "Transfer-Encoding", "chunked", "transfer-encoding", "content-length")
_REQUEST_LINE = re.compile(r"\n\n *b'[!#$%&*+.^_`|~0-9A-Za-z-]+ /[^ ]* HTTP/")  # as the parser quotes it


class CallerConnection(RequestHandler):
    """aiohttp's connection, with a deadline for each head and our own words for what it cannot parse."""

    __slots__ = ("_head_timeout_s", "_head_timer", "_line_bytes_max", "_render")

    def __init__(
        self, manager: Server, *, loop: asyncio.AbstractEventLoop, head_timeout_s: float, render: Render, **kwargs: Any
    ) -> None:
        super().__init__(manager, loop=loop, **kwargs)
        self._line_bytes_max: int = kwargs["max_line_size"]
        self._head_timeout_s = head_timeout_s
        self._render = render
        self._head_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        if isinstance(self._manager, CallerServer) and self._manager.is_full:
            self._end_with(GatewayError("overloaded", headers={"Retry-After": "1"}, close=True))
        else:
            self._arm()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._request_in_progress and self._messages:
            self._tell_body_of_errors()
        if self._messages or self._request_in_progress or self._upgraded:
            self._disarm()
        elif self._head_timer is None and data:
            self._arm()  # the first bytes of a further head

    def connection_lost(self, exc: BaseException | None) -> None:
        self._disarm()
        super().connection_lost(exc)

    def handle_error(
        self, request: BaseRequest, status: int = 500, exc: BaseException | None = None, message: str | None = None
    ) -> StreamResponse:
        """What aiohttp could not parse, or a defect of ours, as a problem; never its own page, which echoes input."""
        answer = self._render(_words_for(status, exc, self._line_bytes_max))
        answer.keep_alive = False
        return cast(StreamResponse, answer)

    def _tell_body_of_errors(self) -> None:
        """What breaks a body's framing is queued as a further message; whoever reads the body would wait for ever."""
        request = self._current_request
        broken = getattr(self._messages[-1][0], "exc", None)
        if request is not None and isinstance(broken, HttpProcessingError) and not request.content.is_eof():
            request.content.set_exception(RequestPayloadError("the body's framing is broken"))

    def _arm(self) -> None:
        self._head_timer = self._loop.call_later(self._head_timeout_s, self._head_is_late)

    def _disarm(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _head_is_late(self) -> None:
        self._head_timer = None
        self._end_with(GatewayError("request-timeout", close=True))

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

    A connection above `connections_max` is answered 503 `overloaded` at once.
    """

    def __init__(self, handler: Handler, *, connections_max: int, **kwargs: Any) -> None:
        super().__init__(cast(Any, handler), handler_cancellation=True)
        self._connections_max = connections_max
        self._connection_options = kwargs

    @property
    def is_full(self) -> bool:
        return len(self._connections) > self._connections_max

    def __call__(self) -> RequestHandler:
        return CallerConnection(self, loop=self._loop, **self._connection_options)


def _words_for(status: int, exc: BaseException | None, line_bytes_max: int) -> GatewayError:
    """The problem behind an exception of aiohttp's parser."""
    if exc is None or status >= 500 or not isinstance(exc, HttpProcessingError):
        return GatewayError("internal-error", close=True)
    return GatewayError(_slug_for(exc, line_bytes_max), close=True)


def _slug_for(exc: HttpProcessingError, line_bytes_max: int) -> str:
    said = exc.message.partition("\n\n")[0]  # after the empty line it quotes the input, which may hold any word
    match exc:
        case LineTooLong(args=(line, limit, _)) if limit == line_bytes_max and bytes(line[:1]) == b"/":
            return "target-too-long"
        case LineTooLong():
            return "headers-too-large"
        case BadHttpMethod() if _REQUEST_LINE.search(exc.message):
            return "method-not-supported"
        case InvalidURLError():
            return "bad-target"
        case BadStatusLine() if "HTTP version" in said:
            return "http-version"
        case BadStatusLine():  # of which BadHttpMethod is one
            return "malformed-http"
    if "Too many headers" in said:
        return "headers-too-large"
    if "Host" in said:
        return "bad-host"
    return "ambiguous-framing" if any(word in said for word in _FRAMING_WORDS) else "malformed-http"
