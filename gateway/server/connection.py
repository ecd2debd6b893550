"""One caller's connection: the deadline for a request's head, and errors that arise before any handler runs.

Overrides private parts of aiohttp's `RequestHandler` (PROMISES 1.1); tests/integration/server holds them to
the version that pyproject.toml pins.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, cast

from aiohttp.web import BaseRequest, RequestHandler, Server, StreamResponse

from gateway.errors import GatewayError
from gateway.server.answer import REASONS, Answer
from gateway.server.heads import HeadLimits, Heads
from gateway.server.reading import RequestReader
from gateway.upstream.headers import rendered

Handler = Callable[[BaseRequest], Awaitable[Answer]]
Render = Callable[[GatewayError], Answer]


class CallerConnection(RequestHandler):
    """aiohttp's connection with our own reader of requests, a deadline for each head and our own words for errors."""

    __slots__ = ("_head_timeout_s", "_head_timer", "_reader", "_render")

    def __init__(
        self,
        manager: Server,
        *,
        loop: asyncio.AbstractEventLoop,
        heads: Heads,
        head_timeout_s: float,
        render: Render,
        **kwargs: Any,
    ) -> None:
        super().__init__(manager, loop=loop, **kwargs)
        self._reader = RequestReader(self, loop, heads)
        self._parser = cast(Any, self._reader)
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
        if self._reader.is_broken:
            self._lingering_time = 0.0  # nothing more will come of a body, so nobody shall wait for it
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
        """What is no request, or a defect of ours, as a problem; never aiohttp's own page, which echoes input."""
        answer = self._render(exc if isinstance(exc, GatewayError) else GatewayError("internal-error", close=True))
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

    def __init__(self, handler: Handler, *, limits: HeadLimits, connections_max: int, **kwargs: Any) -> None:
        super().__init__(cast(Any, handler), handler_cancellation=True)
        self._connections_max = connections_max
        self._connection_options = {"heads": Heads(limits), "access_log": None, **kwargs}

    @property
    def is_full(self) -> bool:
        return len(self._connections) > self._connections_max

    def __call__(self) -> RequestHandler:
        return CallerConnection(self, loop=self._loop, **self._connection_options)
