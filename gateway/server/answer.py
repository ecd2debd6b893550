"""An answer whose head and body are written as bytes, exactly as given: order, case and duplicates of fields stay.

aiohttp asks an answer of a low-level server for `prepare`, `write_eof` and `keep_alive` only; its own response classes
would add, fold and reorder fields, and cost ten times as much.
"""

import asyncio
from collections.abc import Iterable
from email.utils import formatdate
from http import HTTPStatus
from time import time

from aiohttp.web import BaseRequest

from gateway.upstream.headers import RawFields, rendered

_STALL_MAX_S = 30.0  # a caller that reads nothing for so long holds memory, and nothing else
REASONS = {status.value: status.phrase.encode() for status in HTTPStatus}

_date: tuple[int, bytes] = (0, b"")


def date_field() -> tuple[bytes, bytes]:
    """`Date` of this second (RFC 9110 6.6.1), made once a second."""
    global _date
    now_s = int(time())
    if _date[0] != now_s:
        _date = (now_s, formatdate(now_s, usegmt=True).encode())
    return b"Date", _date[1]


def head(status: int, reason: bytes, fields: RawFields, *, request: BaseRequest, keep_alive: bool) -> bytes:
    """A status line and field lines, ended by the empty line; `Connection` as the caller's version of HTTP needs it."""
    lines = b"HTTP/1.1 %d %b\r\n%b" % (status, reason, rendered(fields))
    if not keep_alive:
        return lines + b"Connection: close\r\n\r\n"
    return lines + (b"\r\n" if request.version >= (1, 1) else b"Connection: keep-alive\r\n\r\n")


async def drained(request: BaseRequest) -> None:
    """Wait until the caller has read enough of what was written; a caller that stalls is cut off."""
    if request.protocol.writing_paused:
        try:
            async with asyncio.timeout(_STALL_MAX_S):
                await request.writer.drain()
        except TimeoutError:
            if request.transport is not None:
                request.transport.abort()
            raise ConnectionResetError("the caller does not read") from None


class Answer:
    """A whole answer, or with `written` one that the handler has written to the connection already."""

    def __init__(
        self, status: int, fields: Iterable[tuple[bytes, bytes]] = (), body: bytes = b"", *, close: bool = False
    ) -> None:
        self.status = status
        self.fields = [*fields]
        self.body = body
        self.keep_alive = not close
        self.written = False

    @classmethod
    def already_written(cls, status: int, *, keep_alive: bool, body_bytes: int = 0) -> "Answer":
        answer = cls(status, close=not keep_alive)
        answer.written = True
        answer._body_bytes = body_bytes
        return answer

    _body_bytes = 0

    @property
    def body_length(self) -> int:
        return self._body_bytes or len(self.body)

    async def prepare(self, request: BaseRequest) -> None:
        """Write the whole answer. aiohttp calls this once the handler has returned."""
        if self.written:
            return
        self.written = True
        self.keep_alive = self.keep_alive and request.keep_alive
        length = (b"Content-Length", b"%d" % len(self.body))
        fields = [date_field(), *self.fields, length] if self.status not in (204, 304) else [date_field(), *self.fields]
        start = head(self.status, REASONS.get(self.status, b""), fields, request=request, keep_alive=self.keep_alive)
        transport = request.transport
        if transport is not None:
            transport.write(start if request.method == "HEAD" else start + self.body)
            await drained(request)

    async def write_eof(self) -> None:
        """Nothing is left to write."""
