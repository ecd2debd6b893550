"""One caller's bytes into heads and bodies: by length or by chunks, with trailers. Reads nothing ahead of its time.

- One rule tells a body from what follows it (`heads`); chunk extensions are read over and dropped.
- The next head is judged once the request before it was answered; until then its bytes wait, and the caller's
  connection is not read where they are more than `AHEAD_BYTES_MAX`, or where a body's reader lags.
- At most `CHUNKS_MAX` chunks are read in one go: 256 KiB in chunks of one byte would hold the loop for 100 ms.
- Where framing breaks, nothing behind it is ever read.
"""

import re
from collections.abc import Callable

from gateway.errors import GatewayError
from gateway.server.body import NO_BODY, Body, BodyError
from gateway.server.heads import CHUNKED, Head, Heads

AHEAD_BYTES_MAX = 64 * 1024
CHUNK_LINE_BYTES_MAX = 4096
CHUNKS_MAX = 1024  # one takes 1 to 3 µs

_CHUNK_LINE = re.compile(rb"([0-9a-fA-F]{1,15})(?:;[\t -~\x80-\xff]*)?")
_CHUNK_LINE_BEGUN = re.compile(rb"(?:[0-9a-fA-F]{1,15}(?:;[\t -~\x80-\xff]*)?\r?)?")


class RequestReader:
    """`pace` is called when `is_full` may have changed. `is_broken`: nothing more is read of this connection.
    `has_more`: there is enough here for another go, which `feed(b"")` is."""

    __slots__ = (
        "_at", "_body", "_data", "_ends_chunk", "_heads", "_in_trailers", "_is_chunked", "_judged", "_left", "_pace",
        "has_more", "is_broken",
    )  # fmt: skip

    def __init__(self, heads: Heads, pace: Callable[[], None]) -> None:
        self._heads = heads
        self._pace = pace
        self._data = b""
        self._at = 0
        self._judged = 0  # of a head that is not whole
        self._body: Body | None = None
        self._left = 0  # of the body, or of the chunk
        self._is_chunked = self._in_trailers = self._ends_chunk = False
        self.is_broken = self.has_more = False

    @property
    def waiting_bytes(self) -> int:
        """How much is here that nobody has asked for yet."""
        return len(self._data) - self._at

    @property
    def is_full(self) -> bool:
        """Whether no more shall come for now."""
        body = self._body
        if body is not None:
            return self.has_more or body.is_full
        return len(self._data) - self._at > AHEAD_BYTES_MAX

    def feed(self, data: bytes) -> None:
        """What came. A body that is being read takes its part of it."""
        if self.is_broken:
            return
        self._data = self._data[self._at :] + data if self._at < len(self._data) else data
        self._at = 0
        if self._body is not None:
            self._read_body(self._body)

    def head(self) -> Head | None:
        """The next head; None while it is not whole. To be called when the body before it has come, or nobody waits
        for it. Raises GatewayError."""
        if self.is_broken or self._body is not None:
            return None
        data, at = self._data, self._at
        while not self._judged and data.startswith(b"\r\n", at):
            at += 2  # empty lines before a request (RFC 9112 2.2)
        self._at = at
        end = data.find(b"\r\n\r\n", at)
        try:
            if end >= 0:
                self._judged, self._at = 0, end + 4
                return self._heads.judged(data[at:end])
            if at < len(data) and data[at:] != b"\r":
                self._judged = self._heads.begun(data[at:], self._judged)
        except GatewayError:
            self._break()
            raise
        return None

    def body(self, head: Head) -> Body:
        """The body behind `head`, which was read last."""
        if not head.length:
            return NO_BODY
        self._is_chunked = head.length == CHUNKED
        self._left = max(head.length, 0)
        body = self._body = Body(self._pace)
        self._read_body(body)
        return body

    def rest(self) -> bytes:
        """What is here belongs to another protocol."""
        data, self._data = self._data[self._at :], b""
        self._at = 0
        return data

    def _read_body(self, body: Body) -> None:
        """Hand what came of the body to its reader."""
        self.has_more = False
        try:
            if self._is_chunked:
                pieces: list[bytes] = []
                ended = self._reads_chunks(pieces) and self._reads_trailers(body)
                body.feed(pieces[0] if len(pieces) == 1 else b"".join(pieces))
            else:
                body.feed(self._piece())
                ended = not self._left
        except GatewayError:
            self._break()
            body.break_off(BodyError("the body's framing is broken"))
            return
        if ended:
            self._body = None
            body.end()

    def _piece(self) -> bytes:
        """As much as there is of what is left."""
        piece = self._data[self._at : self._at + self._left]
        self._at += len(piece)
        self._left -= len(piece)
        return piece

    def _reads_chunks(self, pieces: list[bytes]) -> bool:
        """Add the data of chunks to `pieces`; whether the last chunk was among them (RFC 9112 7.1)."""
        while not self._in_trailers:
            if self._left:
                pieces.append(self._piece())
                if self._left:
                    return False
                self._ends_chunk = True
                if len(pieces) == CHUNKS_MAX:
                    self.has_more = True
                    return False
            data, at = self._data, self._at
            if self._ends_chunk:
                if not data.startswith(b"\r\n", at):
                    if data[at:] in (b"", b"\r"):
                        return False
                    raise GatewayError("malformed-http")
                self._ends_chunk, self._at = False, at + 2
                continue
            end = data.find(b"\r\n", at)
            if (end if end >= 0 else len(data)) - at > CHUNK_LINE_BYTES_MAX:
                raise GatewayError("malformed-http")
            line = (_CHUNK_LINE_BEGUN if end < 0 else _CHUNK_LINE).fullmatch(data, at, end if end >= 0 else len(data))
            if line is None:
                raise GatewayError("malformed-http")
            if end < 0:
                return False
            self._left, self._at = int(line[1], 16), end + 2
            self._in_trailers = not self._left
        return True

    def _reads_trailers(self, body: Body) -> bool:
        data, at, limits = self._data, self._at, self._heads.limits
        if data.startswith(b"\r\n", at):
            self._at = at + 2
        else:
            end = data.find(b"\r\n\r\n", at)
            lines = data[at : end if end >= 0 else len(data)].split(b"\r\n")
            if (end if end >= 0 else len(data)) - at > limits.head_bytes_max or len(lines) > limits.fields_max:
                raise GatewayError("headers-too-large")
            if end < 0:
                return False
            body.trailers = [self._heads.field_line(line)[0] for line in lines]
            self._at = end + 4
        self._in_trailers = False
        return True

    def _break(self) -> None:
        self.is_broken = True
        self._data, self._body, self._at = b"", None, 0
