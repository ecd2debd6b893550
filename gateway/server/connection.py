"""One caller's connection: the deadline for a request's head, and errors that arise before any handler runs.

Overrides private parts of aiohttp's `RequestHandler` (PROMISES 1.1); tests/integration/test_connection.py holds them to
the version that pyproject.toml pins.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, cast

from aiohttp.http_exceptions import BadStatusLine, LineTooLong
from aiohttp.web import BaseRequest, RequestHandler, Server, StreamResponse

from gateway.errors import GatewayError
from gateway.server.answer import Answer

Handler = Callable[[BaseRequest], Awaitable[Answer]]
Render = Callable[[GatewayError], Answer]

_FRAMING_WORDS = ("Content-Length", "Transfer-Encoding", "chunked", "transfer-encoding", "content-length")


class CallerConnection(RequestHandler):
    """aiohttp's connection, with a deadline for each head and our own words for what it cannot parse."""

    __slots__ = ("_head_timeout_s", "_head_timer", "_render")

    def __init__(
        self, manager: Server, *, loop: asyncio.AbstractEventLoop, head_timeout_s: float, render: Render, **kwargs: Any
    ) -> None:
        super().__init__(manager, loop=loop, **kwargs)
        self._head_timeout_s = head_timeout_s
        self._render = render
        self._head_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._arm()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
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
        answer = self._render(_words_for(status, exc))
        answer.keep_alive = False
        return cast(StreamResponse, answer)

    def _arm(self) -> None:
        self._head_timer = self._loop.call_later(self._head_timeout_s, self._head_is_late)

    def _disarm(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _head_is_late(self) -> None:
        self._head_timer = None
        if self.transport is None:
            return
        late = self._render(GatewayError("request-timeout", close=True))
        lines = b"".join([b"%b: %b\r\n" % field for field in late.fields])
        head = b"HTTP/1.1 408 Request Timeout\r\n%bContent-Length: %d\r\nConnection: close\r\n\r\n"
        self.transport.write(head % (lines, len(late.body)) + late.body)
        self.force_close()


class CallerServer(Server):
    """aiohttp's low-level server, making `CallerConnection`s. A handler is cancelled when its caller is gone."""

    def __init__(self, handler: Handler, **kwargs: Any) -> None:
        super().__init__(cast(Any, handler), handler_cancellation=True)
        self._connection_options = kwargs

    def __call__(self) -> RequestHandler:
        return CallerConnection(self, loop=self._loop, **self._connection_options)


def _words_for(status: int, exc: BaseException | None) -> GatewayError:
    """The problem behind an exception of aiohttp's parser."""
    if exc is None or status >= 500:
        return GatewayError("internal-error", close=True)
    said = str(exc)
    if isinstance(exc, LineTooLong):
        return GatewayError("headers-too-large", close=True)
    if "Too many headers" in said:
        return GatewayError("headers-too-large", close=True)
    if "Host" in said:
        return GatewayError("bad-host", close=True)
    if any(word in said for word in _FRAMING_WORDS):
        return GatewayError("ambiguous-framing", close=True)
    if isinstance(exc, BadStatusLine) and "HTTP/" in said and "version" in said.lower():
        return GatewayError("http-version", close=True)
    return GatewayError("malformed-http", close=True)
