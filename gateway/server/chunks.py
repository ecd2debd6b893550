"""A body that is written piece by piece: chunked where the caller speaks HTTP/1.1, gzip where it was asked for."""

import zlib

from aiohttp.web import BaseRequest

from gateway.server.answer import REASONS, Answer, date_field, head, send
from gateway.server.envelope import weights_of
from gateway.upstream.headers import RawFields

_GZIP = 16 + zlib.MAX_WBITS
_LEVEL = 1  # answers compress to a tenth at any level, and this one costs least


class Chunks:
    """Writes one answer's head and body; waits for a slow reader."""

    def __init__(self, request: BaseRequest, *, gzip: bool = False) -> None:
        self._request = request
        self._chunked = request.version == (1, 1)
        self._deflate = zlib.compressobj(_LEVEL, zlib.DEFLATED, _GZIP) if gzip else None
        self._keep_alive = False
        self.bytes_out = 0

    async def begin(self, status: int, fields: RawFields, *, keep_alive: bool) -> None:
        """Write the head. From here on no problem can change the status."""
        self._keep_alive = keep_alive and self._request.keep_alive and self._chunked
        framing = [(b"Transfer-Encoding", b"chunked")] if self._chunked else []
        coding = [(b"Content-Encoding", b"gzip")] if self._deflate else []
        start = [date_field(), *fields, *coding, *framing]
        await send(
            self._request, head(status, REASONS[status], start, request=self._request, keep_alive=self._keep_alive)
        )

    async def piece(self, data: bytes) -> None:
        """The next piece of the body."""
        if self._deflate is not None:
            data = self._deflate.compress(data)
        if data:
            self.bytes_out += len(data)
            await send(self._request, b"%x\r\n%b\r\n" % (len(data), data) if self._chunked else data)

    async def end(self, status: int) -> Answer:
        """The body is whole."""
        if self._deflate is not None:
            deflate, self._deflate = self._deflate, None
            await self.piece(deflate.flush())
        if self._chunked:
            await send(self._request, b"0\r\n\r\n")
        return Answer.already_written(status, keep_alive=self._keep_alive)

    def break_off(self, status: int) -> Answer:
        """The body cannot be finished: end the connection, so that nobody takes it for whole."""
        if self._request.transport is not None:
            self._request.transport.abort()
        return Answer.already_written(status, keep_alive=False)


def accepts_gzip(request: BaseRequest) -> bool:
    """Whether `Accept-Encoding` takes gzip (RFC 9110 12.5.3)."""
    wanted = weights_of(request.headers.getall("Accept-Encoding", ()))
    return wanted.get("gzip", wanted.get("*", 0.0)) > 0
