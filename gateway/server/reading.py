"""One caller's bytes into requests: heads, bodies by length or chunks, trailers. Stands where aiohttp's parser would.

aiohttp's own hides a request's trailers and hands the last of them to the next request as a header field; it refuses
methods that it does not know, and fields that it wants to see once. Here:
- One rule tells a body from what follows it (`heads`); chunk extensions are read over and dropped.
- At most `MESSAGES_MAX` requests wait to be served; aiohttp stops the transport there, and where a body's reader lags.
- At most `CHUNKS_MAX` chunks are read in one go: 256 KiB in chunks of one byte would hold the loop for 100 ms.
- Where framing breaks, nothing behind it is ever read: the requests before it are answered, then the problem is told.
"""

import asyncio
import re
from collections.abc import Sequence

from aiohttp import EMPTY_PAYLOAD, HttpVersion11, StreamReader
from aiohttp.base_protocol import BaseProtocol
from aiohttp.http_parser import RawRequestMessage
from aiohttp.web import RequestPayloadError
from aiohttp.web_protocol import _ErrInfo
from yarl import URL

from gateway.errors import GatewayError
from gateway.server.heads import CHUNKED, Head, Heads, Remembered
from gateway.upstream.headers import RawFields

MESSAGES_MAX = 32  # aiohttp's own limit, at which it stops the transport
CHUNK_LINE_BYTES_MAX = 4096
CHUNKS_MAX = 1024  # one takes 1 to 3 µs
_BUFFER_BYTES = 1 << 18  # of a body; above twice of it the transport stops

_CHUNK_LINE = re.compile(rb"([0-9a-fA-F]{1,15})(?:;[\t -~\x80-\xff]*)?")
_CHUNK_LINE_BEGUN = re.compile(rb"(?:[0-9a-fA-F]{1,15}(?:;[\t -~\x80-\xff]*)?\r?)?")
_NO_QUERY = URL.build(path="/")

Message = tuple[RawRequestMessage | _ErrInfo, StreamReader]


class Body(StreamReader):
    """A request's body; its `trailers` are there once it has ended."""

    trailers: RawFields = ()

    def give_back(self, data: bytes) -> None:
        """What was read of it stands in front of the rest again. aiohttp's own way to do so warns that it will go."""
        if data:
            self._buffer.appendleft(data)
            self._size += len(data)
            self._cursor -= len(data)
            self._eof_counter = 0


class Whole(Body):
    """A body that is here, all of it. aiohttp's reader is made of twenty parts; this is what is asked of it here."""

    def __init__(self, data: bytes) -> None:
        self._whole = data

    def is_eof(self) -> bool:
        return True

    def at_eof(self) -> bool:
        return not self._whole

    def exception(self) -> BaseException | None:
        return None

    def set_exception(self, exc: BaseException, exc_cause: BaseException | None = None) -> None:
        """The caller is gone; the body is not."""

    def read_nowait(self, n: int = -1) -> bytes:
        end = len(self._whole) if n < 0 else n
        data, self._whole = self._whole[:end], self._whole[end:]
        return data

    async def readany(self) -> bytes:
        return self.read_nowait()

    def give_back(self, data: bytes) -> None:
        self._whole = data + self._whole


class RequestReader:
    """What aiohttp's connection asks of its parser. `is_broken`: nothing more is read of this connection. `has_more`:
    another go is due, and until then there is enough here."""

    def __init__(self, protocol: BaseProtocol, loop: asyncio.AbstractEventLoop, heads: Heads) -> None:
        self._protocol = protocol
        self._loop = loop
        self._heads = heads
        self._own = Remembered()
        self._data = b""
        self._at = 0
        self._judged = 0  # of a head that is not whole
        self._body: Body | None = None
        self._left = 0  # of the body, or of the chunk
        self._is_chunked = self._in_trailers = self._ends_chunk = self._switches = False
        self._waiting = 0
        self.is_broken = self.has_more = False

    @property
    def has_begun(self) -> bool:
        """Whether a part of a further head is here."""
        return bool(self._data) and self._body is None

    @property
    def awaits_body(self) -> bool:
        """Whether more of a request's body is to come."""
        return self._body is not None

    def whole(self, data: bytes) -> tuple[Head, bytes] | None:
        """The head and the body of the request that `data` is, all of it and nothing else; None where it is not that.

        What it is then, or what is wrong with it, `feed_data` finds out.
        """
        if self._data or self._body is not None or self._waiting or self.is_broken:
            return None
        end = data.find(b"\r\n\r\n")
        if end < 0:
            return None
        try:
            head = self._heads.judged(data[:end], self._own)
        except GatewayError:
            return None
        said = head.said
        if end + 4 + said.length != len(data) or said.upgrade or head.version is not HttpVersion11:
            return None
        return head, data[end + 4 :]

    def body(self, data: bytes) -> StreamReader:
        """The body of a request that is `whole`."""
        return Whole(data) if data else EMPTY_PAYLOAD

    # What aiohttp calls.

    def feed_data(self, data: bytes) -> tuple[Sequence[Message], bool, bytes]:
        """Requests that became whole or whose body begins; whether another protocol may begin; what came behind that.

        Empty `data` goes on with what was left over.
        """
        messages: list[Message] = []
        self.has_more = False
        if self.is_broken:
            return messages, False, b""
        self._data = self._data + data if self._data else bytes(data)
        try:
            while (body := self._body) is None or self._reads_body(body):
                if self._switches:
                    self._switches = False
                    tail, self._data, self._at = self._data[self._at :], b"", 0
                    return messages, True, tail
                if self._waiting == MESSAGES_MAX or (head := self._head()) is None:
                    break
                messages.append(self._begun(head))
                self._waiting += 1
        except GatewayError as error:
            self._break_off(error, messages)
        self._data, self._at = self._data[self._at :], 0
        return messages, False, b""

    def message_consumed(self) -> None:
        self._waiting -= 1

    def set_upgraded(self, _: bool) -> None:
        """The other protocol was declined: requests come again."""

    def pause_reading(self) -> None:
        """What is here is read in any case; the transport stops."""

    # Parts of the above.

    def _head(self) -> Head | None:
        """The next head, None while it is not whole."""
        data, at = self._data, self._at
        while not self._judged and data.startswith(b"\r\n", at):
            at += 2  # empty lines before a request (RFC 9112 2.2)
        self._at = at
        end = data.find(b"\r\n\r\n", at)
        if end < 0:
            if at < len(data) and data[at:] != b"\r":
                self._judged = self._heads.begun(data[at:], self._judged)
            return None
        self._judged = 0
        self._at = end + 4
        return self._heads.judged(data[at:end], self._own)

    def message(self, head: Head) -> RawRequestMessage:
        """What aiohttp makes a request of."""
        query, said = head.target.partition("?")[2], head.said
        return RawRequestMessage(
            head.method,
            head.target,
            head.version,
            said.headers,
            said.fields,
            not said.keep_alive,
            None,
            said.upgrade,
            said.length == CHUNKED,
            URL.build(path="/", query_string=query, encoded=True) if query else _NO_QUERY,
        )

    def _begun(self, head: Head) -> Message:
        """A request whose body, if any, is read from here on."""
        message, length = self.message(head), head.said.length
        self._switches = head.said.upgrade
        if not length:
            return message, EMPTY_PAYLOAD
        self._is_chunked = length == CHUNKED
        self._left = max(length, 0)
        self._body = Body(self._protocol, _BUFFER_BYTES, loop=self._loop)
        return message, self._body

    def _reads_body(self, body: Body) -> bool:
        """Hand what came of the body to its reader; whether the body has ended."""
        if self._is_chunked:
            pieces: list[bytes] = []
            ended = self._reads_chunks(pieces) and self._reads_trailers(body)
            piece = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        else:
            piece = self._piece()
            ended = not self._left
        body.feed_data(piece)
        if ended:
            self._body = None
            body.feed_eof()
        return ended

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

    def _break_off(self, error: GatewayError, messages: list[Message]) -> None:
        """Whoever reads the body comes to know of it; where there is none, the problem is the next message."""
        self.is_broken = True
        self._data = b""
        body, self._body = self._body, None
        if body is not None:
            body.set_exception(RequestPayloadError("the body's framing is broken"))
        else:
            messages.append((_ErrInfo(error.status, error, error.detail), EMPTY_PAYLOAD))
