"""A body that is written piece by piece: chunked where the caller speaks HTTP/1.1, gzip where it was asked for."""

import zlib

from aiohttp import ClientConnectionError
from aiohttp.web import BaseRequest

from gateway.server.answer import REASONS, Answer, date_field, head, send
from gateway.server.envelope import weights_of
from gateway.upstream.headers import RawFields

_GZIP = 16 + zlib.MAX_WBITS
_LEVEL = 1  # answers compress to a tenth at any level, and this one costs least


class Chunks:
    """Writes one answer's head and body; waits for a slow reader. One that `keeps` has all of it at its `end`, and is
    written to the last when nobody reads it any more."""

    def __init__(self, request: BaseRequest, *, gzip: bool = False, keeps: bool = False) -> None:
        self._request = request
        self._kept: list[bytes] | None = [] if keeps else None
        self._fields: RawFields = ()
        self._chunked = request.version == (1, 1)
        self._deflate = zlib.compressobj(_LEVEL, zlib.DEFLATED, _GZIP) if gzip else None
        self._keep_alive = False
        self.bytes_out = 0

    async def begin(self, status: int, fields: RawFields, *, keep_alive: bool) -> None:
        """Write the head. From here on no problem can change the status."""
        self._keep_alive = keep_alive and self._request.keep_alive and self._chunked
        framing = [(b"Transfer-Encoding", b"chunked")] if self._chunked else []
        coding = [(b"Content-Encoding", b"gzip")] if self._deflate else []
        self._fields = fields
        start = [date_field(), *fields, *coding, *framing]
        await self._send(head(status, REASONS[status], start, request=self._request, keep_alive=self._keep_alive))

    async def piece(self, data: bytes) -> None:
        """The next piece of the body."""
        if self._kept is not None:
            self._kept.append(data)
        if self._deflate is not None:
            data = self._deflate.compress(data)
        if data:
            self.bytes_out += len(data)
            await self._send(b"%x\r\n%b\r\n" % (len(data), data) if self._chunked else data)

    async def end(self, status: int) -> Answer:
        """The body is whole."""
        if self._deflate is not None:
            deflate, self._deflate = self._deflate, None
            await self.piece(deflate.flush())
        if self._chunked:
            await self._send(b"0\r\n\r\n")
        answer = Answer.already_written(status, keep_alive=self._keep_alive)
        if self._kept is not None:
            answer.fields, answer.body = [*self._fields], b"".join(self._kept)
        return answer

    async def _send(self, data: bytes) -> None:
        try:
            await send(self._request, data)
        except (ConnectionError, ClientConnectionError):  # aiohttp has one of its own
            if self._kept is None:
                raise

    def break_off(self, status: int) -> Answer:
        """The body cannot be finished: end the connection, so that nobody takes it for whole."""
        if self._request.transport is not None:
            self._request.transport.abort()
        return Answer.already_written(status, keep_alive=False)


def accepts_gzip(request: BaseRequest) -> bool:
    """Whether `Accept-Encoding` takes gzip (RFC 9110 12.5.3)."""
    wanted = weights_of(request.headers.getall("Accept-Encoding", ()))
    return wanted.get("gzip", wanted.get("*", 0.0)) > 0
