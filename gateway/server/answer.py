"""An answer whose head and body are written as bytes, exactly as given: order, case and duplicates of fields stay.

aiohttp asks an answer of a low-level server for `prepare`, `write_eof` and `keep_alive` only; its own response classes
would add, fold and reorder fields, and cost ten times as much.
"""

from collections.abc import Iterable
from email.utils import formatdate
from http import HTTPStatus
from time import time
from typing import TYPE_CHECKING, cast

from aiohttp.web import BaseRequest

from gateway.upstream.headers import RawFields, rendered

if TYPE_CHECKING:
    from gateway.server.connection import CallerConnection

_JOINED_BYTES_MAX = 1 << 16  # joining 10 MiB takes 9 ms; a further write a few µs

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
    return b"HTTP/1.1 %d %b\r\n%b%b" % (status, reason, rendered(fields), end_of_head(request, keep_alive))


def end_of_head(request: BaseRequest, keep_alive: bool) -> bytes:
    """`Connection`, where the caller's version of HTTP needs it, and the empty line."""
    if not keep_alive:
        return b"Connection: close\r\n\r\n"
    return b"\r\n" if request.version >= (1, 1) else b"Connection: keep-alive\r\n\r\n"


async def send(request: BaseRequest, data: bytes) -> None:
    """Write a part of the answer and wait until the caller has read enough; its connection cuts off one that stalls."""
    transport = request.transport
    if transport is None:
        raise ConnectionResetError("the caller is gone")
    connection = cast("CallerConnection", request.protocol)
    connection.written_bytes += len(data)
    connection.answering = request
    transport.write(data)
    if connection.writing_paused:
        await request.writer.drain()


def call_endless(request: BaseRequest) -> None:
    """What answers `request` has no end of its own, so a drain does not wait for it."""
    cast("CallerConnection", request.protocol).endless = request


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
    def already_written(cls, status: int, *, keep_alive: bool) -> "Answer":
        answer = cls(status, close=not keep_alive)
        answer.written = True
        return answer

    async def prepare(self, request: BaseRequest) -> None:
        """Write the whole answer. aiohttp calls this once the handler has returned."""
        if self.written:
            return
        self.written = True
        self.keep_alive = self.keep_alive and request.keep_alive
        length = (b"Content-Length", b"%d" % len(self.body))
        fields = [date_field(), *self.fields, length] if self.status not in (204, 304) else [date_field(), *self.fields]
        start = head(self.status, REASONS.get(self.status, b""), fields, request=request, keep_alive=self.keep_alive)
        if request.transport is None:
            return
        body = b"" if request.method == "HEAD" else self.body
        if len(body) > _JOINED_BYTES_MAX:
            await send(request, start)
            await send(request, body)
        else:
            await send(request, start + body)

    async def write_eof(self) -> None:
        """Nothing is left to write."""
