"""A forwarded request's body on its way up: a small one whole, a larger one as it comes.

- Of a body whose length is known, `buffer_bytes_max` are here before the upstream hears of the request: whoever sends
  slowly holds none of its connections.
- A chunked body, whose length nobody knows, and one that waits for a 100 go out as they come.
"""

import asyncio
from typing import cast

from aiohttp.web import BaseRequest, RequestPayloadError

from gateway.batch.model import Failure
from gateway.errors import GatewayError
from gateway.server.connection import CallerConnection
from gateway.server.patience import body_refusal
from gateway.server.reading import Body
from gateway.upstream.headers import rendered, trailing
from gateway.upstream.pool import Pool
from gateway.upstream.stream import StreamedExchange


class Upload:
    """The body of one request. `is_whole`: `begin` returned all of it."""

    def __init__(self, request: BaseRequest) -> None:
        self._request = request
        self.chunked = request.body_exists and "Transfer-Encoding" in request.headers
        self.is_whole = not request.body_exists or request.content.is_eof()

    async def begin(self, buffer_bytes_max: int) -> bytes:
        """What goes out with the head. Raises GatewayError where the body breaks, or comes too slowly."""
        content = self._request.content
        if content.exception() is not None:
            raise GatewayError("malformed-http", "the body's framing is broken", close=True)
        if not self._request.body_exists:
            return b""
        if self.is_whole:
            data = content.read_nowait(-1)
            return framed(data) + self._last_chunk() if self.chunked else data
        if self.chunked or "Expect" in self._request.headers:
            return b""
        return await self._gathered(buffer_bytes_max)

    async def pump(self, exchange: StreamedExchange, pool: Pool, timeout_s: float) -> None:
        """The rest to the upstream, as it comes."""
        content, loop = self._request.content, asyncio.get_running_loop()
        try:
            if "Expect" in self._request.headers:
                _excuse(self._request)  # its body need not come before the upstream's 100 does
            while not content.at_eof():
                data = await content.readany()
                if data:
                    _excuse(self._request, False)
                    exchange.deadline_s = loop.time() + timeout_s  # it is the upstream's turn from here on
                    await exchange.write(framed(data) if self.chunked else data)
        except RequestPayloadError as broken:
            refusal = body_refusal(broken)
            pool.withdraw(exchange)
            exchange.on_give_up(refusal.status, Failure(refusal.problem.slug, refusal.detail))
            return
        await exchange.finish_request(self._last_chunk() if self.chunked else b"")

    async def _gathered(self, buffer_bytes_max: int) -> bytes:
        content, pieces, size = self._request.content, [], 0
        try:
            while size < buffer_bytes_max and not content.at_eof():
                pieces.append(await content.readany())
                size += len(pieces[-1])
        except RequestPayloadError as broken:
            raise body_refusal(broken) from None
        self.is_whole = content.at_eof()
        return b"".join(pieces)

    def _last_chunk(self) -> bytes:
        """The end of a chunked request: its trailers too, but for what may stand in a head only (RFC 9110 6.5.1)."""
        content = self._request.content
        return b"0\r\n%b\r\n" % rendered(trailing(content.trailers if isinstance(content, Body) else ()))


def framed(data: bytes) -> bytes:
    """`data` as one chunk (RFC 9112 7.1); nothing as nothing, for an empty chunk would be the last."""
    return b"%x\r\n%b\r\n" % (len(data), data) if data else b""


def _excuse(request: BaseRequest, excused: bool = True) -> None:
    """The body of `request` need not come yet, or from now on it must."""
    cast(CallerConnection, request.protocol).excused = request if excused else None
