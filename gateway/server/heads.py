"""The head of a request: its bytes into method, target, version, fields and framing, or the problem that they are.

As strict as RFC 9112 allows where two readers could differ, for there is always another reader behind us: no bare LF,
no fold, no blank before a colon, one Host, and one Content-Length of digits or one `Transfer-Encoding: chunked`. Any
method token passes, and any target without blanks, controls and `#`; bytes above 0x7f are the upstream's to judge.
A target in absolute form that names the same host as Host is read as its path (RFC 9112 3.2.2); who serves here decides
on every other one.
"""

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from aiohttp import HttpVersion, HttpVersion10, HttpVersion11
from multidict import CIMultiDict, CIMultiDictProxy, istr

from gateway.errors import GatewayError
from gateway.upstream.headers import VOUCHED, RawFields, rendered, requested

CHUNKED = -1

_REQUEST_LINE = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]{1,128}) ([!\"$-~\x80-\xff]+) (HTTP/1\.[01])")
_TOKEN = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,128}")
_VERSION = re.compile(rb"HTTP/[0-9]\.[0-9]")
_FIELD = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):([\t -~\x80-\xff]*)")
_LENGTH = re.compile(rb"[0-9]{1,19}")  # what fits 64 bits; readers differ on more
_VERSIONS = {b"HTTP/1.1": HttpVersion11, b"HTTP/1.0": HttpVersion10}
_DECIDING = frozenset({b"connection", b"content-length", b"transfer-encoding"})
# Secrets, and what is another one with each request: remembered by nobody but their connection.
_OWN = frozenset(
    {b"authorization", b"cookie", b"idempotency-key", b"proxy-authorization", b"traceparent", b"x-request-id"}
)


class HeadLimits(NamedTuple):
    """Sizes in bytes: of the request line, of a field's name and value, and of a whole head."""

    line_bytes_max: int
    field_bytes_max: int
    fields_max: int
    head_bytes_max: int


# A field line: name and value as they came, the name in lower case, both as text, and the line as it goes on to the
# upstream. A bare tuple, for it is quicker.
_Line = tuple[tuple[bytes, bytes], bytes, tuple[str, str], bytes]


class Said:
    """What the fields of a head come to. `length`: bytes of body, or CHUNKED. `upgrade`: the caller wants WebSocket
    next. `host`: what `Host` says; None in HTTP/1.0 without. `vouches`: it says what the gateway vouches for.
    """

    __slots__ = ("_headers", "_judged", "fields", "host", "keep_alive", "length", "upgrade", "vouches")

    def __init__(self, judged: Sequence[_Line], version: HttpVersion) -> None:
        """Raises GatewayError."""
        self._judged = judged
        self._headers: CIMultiDictProxy[str] | None = None
        self.fields, names = tuple([line[0] for line in judged]), [line[1] for line in judged]
        hosts = names.count(b"host")
        if hosts > 1 or (hosts == 0 and version is HttpVersion11):
            raise GatewayError("bad-host", close=True)
        self.host = self.fields[names.index(b"host")][1] if hosts else None
        self.vouches = not VOUCHED.isdisjoint(names)
        self.length, self.keep_alive, self.upgrade = 0, version is HttpVersion11, False
        if not _DECIDING.isdisjoint(names):
            self._decide(names, version)

    @property
    def headers(self) -> "CIMultiDictProxy[str]":
        """The fields as text, made when first asked for."""
        if self._headers is None:
            self._headers = CIMultiDictProxy(CIMultiDict([line[2] for line in self._judged]))
        return self._headers

    @property
    def lines(self) -> bytes:
        """The fields that the upstream gets, where the request is neither chunked nor an upgrade."""
        return b"".join([line[3] for line in self._judged])

    def _decide(self, names: Sequence[bytes], version: HttpVersion) -> None:
        """What the fields decide about the connection and the body. Raises GatewayError."""
        headers = self.headers
        if b"connection" in names:
            options = {option.strip().lower() for said in headers.getall("Connection") for option in said.split(",")}
            self.keep_alive = "close" not in options and (self.keep_alive or "keep-alive" in options)
            if version is HttpVersion11 and "upgrade" in options:  # never from HTTP/1.0 (RFC 9110 7.8)
                self.upgrade = [said.lower() for said in headers.getall("Upgrade", ())] == ["websocket"]
        if b"content-length" in names or b"transfer-encoding" in names:
            self.length = _body_length(names, headers, version)


class Head(NamedTuple):
    """A request's head."""

    method: str
    target: str
    version: HttpVersion
    said: Said


class Asked(NamedTuple):
    """A request of which aiohttp has made none yet; for who asks no more of either than this."""

    head: Head
    remote: str

    @property
    def method(self) -> str:
        return self.head.method

    @property
    def raw_path(self) -> str:
        return self.head.target

    @property
    def headers(self) -> "CIMultiDictProxy[str]":
        return self.head.said.headers

    @property
    def raw_headers(self) -> RawFields:
        return self.head.said.fields


class Remembered:
    """What a connection remembers of its last head, whatever it said, until another one comes: its lines, and what
    they came to."""

    __slots__ = ("block", "lines", "said")

    def __init__(self) -> None:
        self.block = b""
        self.lines: dict[bytes, _Line] = {}
        self.said: Said | None = None


class Heads:
    """Judges heads. Remembers field lines, and the fields of whole heads, for most come again. Bounded."""

    LINES_MAX = 1024
    LINE_BYTES_MAX = 256
    BLOCKS_MAX = 256
    BLOCK_BYTES_MAX = 2048

    def __init__(self, limits: HeadLimits) -> None:
        self.limits = limits
        self._lines: dict[bytes, _Line] = {}
        self._blocks: dict[bytes, Said] = {}  # of HTTP/1.1

    def judged(self, head: bytes, own: Remembered | None = None) -> Head:
        """The head whose bytes these are, without its empty line. Raises GatewayError. `own` is the connection's."""
        if len(head) > self.limits.head_bytes_max:
            self._fits(head)
            raise GatewayError("headers-too-large", close=True)
        line, _, block = head.partition(b"\r\n")
        method, target, version = self.request_line(line)
        if own is not None and version is HttpVersion11 and own.said is not None and own.block == block:
            said = own.said
        else:
            said = self._said(block, version, own)
        if target[0] != "/":
            target = _origin_form(method, target, said.headers.get("Host"))
        return Head(method, target, version, said)

    def _said(self, block: bytes, version: HttpVersion, own: Remembered | None) -> Said:
        """What the fields of a head come to, by a connection's memory and everybody's."""
        if version is not HttpVersion11:
            return Said(self._judged(block.split(b"\r\n") if block else [], {}), version)
        said = self._blocks.get(block)
        if said is not None:
            if own is not None:
                own.block, own.said = block, said
            return said
        lines = block.split(b"\r\n") if block else []
        judged = self._judged(lines, {} if own is None else own.lines)
        said = Said(judged, version)
        if own is not None:
            own.block, own.said, own.lines = block, said, dict(zip(lines, judged, strict=True))
        if len(block) <= self.BLOCK_BYTES_MAX and _OWN.isdisjoint([line[1] for line in judged]):
            if len(self._blocks) >= self.BLOCKS_MAX:
                self._blocks.clear()
            self._blocks[block] = said
        return said

    def _judged(self, lines: Sequence[bytes], own: Mapping[bytes, _Line]) -> list[_Line]:
        if len(lines) > self.limits.fields_max:
            raise GatewayError("headers-too-large", close=True)
        last, known = own.get, self._lines.get
        return [last(line) or known(line) or self.field_line(line) for line in lines]

    def request_line(self, line: bytes) -> tuple[str, str, HttpVersion]:
        """Method, target and version. Raises GatewayError."""
        found = _REQUEST_LINE.fullmatch(line)
        if found is not None and len(line) <= self.limits.line_bytes_max:
            return found[1].decode(), found[2].decode("utf-8", "surrogateescape"), _VERSIONS[found[3]]
        raise self._refusal(line)

    def _refusal(self, line: bytes) -> GatewayError:
        """What is wrong with a request line."""
        self._fits(line)
        parts = line.split(b" ")
        if len(parts) != 3 or _TOKEN.fullmatch(parts[0]) is None or _VERSION.fullmatch(parts[2]) is None:
            return GatewayError("malformed-http", close=True)
        return GatewayError("bad-target" if parts[2] in _VERSIONS else "http-version", close=True)

    def field_line(self, line: bytes) -> _Line:
        """A field, of a head or a trailer. Raises GatewayError."""
        if len(line) > self.limits.field_bytes_max:
            raise GatewayError("headers-too-large", close=True)
        found = _FIELD.fullmatch(line)
        if found is None:
            raise GatewayError("malformed-http", close=True)
        name, value = found[1], found[2].strip(b" \t")
        lowered = name.lower()
        text = value.decode("utf-8", "surrogateescape")
        passed = rendered(requested([(name, value)]))
        if len(line) > self.LINE_BYTES_MAX or lowered in _OWN:
            return (name, value), lowered, (name.decode(), text), passed
        judged = (name, value), lowered, (istr(name.decode()), text), passed
        if len(self._lines) >= self.LINES_MAX:
            self._lines.clear()
        self._lines[line] = judged
        return judged

    def begun(self, part: bytes, judged: int) -> int:
        """Judge what came of a head that is not whole, from `judged` on; how much of it is judged now.

        What cannot become a head is refused at once, not when its time is up. Raises GatewayError.
        """
        while (end := part.find(b"\n", judged)) >= 0:
            line = part[judged:end]
            if not line.endswith(b"\r"):
                raise GatewayError("malformed-http", close=True)
            if judged:
                self.field_line(line[:-1])
            else:
                self.request_line(line[:-1])
            judged = end + 1
        last = part[judged:]
        if judged == 0:
            self._fits(last)
        elif len(last) > self.limits.field_bytes_max + 1 or len(part) > self.limits.head_bytes_max:
            raise GatewayError("headers-too-large", close=True)
        if _CONTROL.search(last.removesuffix(b"\r")):
            raise GatewayError("malformed-http", close=True)
        return judged

    def _fits(self, line: bytes) -> None:
        """Refuse a request line that is too long, ended or not, with or without what follows it."""
        if len(line.partition(b"\r")[0]) > self.limits.line_bytes_max:
            raise GatewayError("target-too-long", close=True)


_ABSOLUTE = re.compile(r"(https?)://([^/?]+)(.*)", re.IGNORECASE)
_CONTROL = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")


def _origin_form(method: str, target: str, host: str | None) -> str:
    """What stands behind the authority where that is `host`; else the target as it is."""
    found = _ABSOLUTE.fullmatch(target)
    if found is None or host is None or _bare(found[2], found[1]) != _bare(host, found[1]):
        return target
    path = found[3]
    if not path and method == "OPTIONS":
        return "*"  # RFC 9112 3.2.4
    return path if path.startswith("/") else f"/{path}"


def _bare(authority: str, scheme: str) -> str:
    """Host and port, but for the port that goes without saying."""
    return authority.lower().removesuffix(":443" if len(scheme) == len("https") else ":80").removesuffix(":")


def _body_length(names: Sequence[bytes], headers: "CIMultiDictProxy[str]", version: HttpVersion) -> int:
    """How long the body is (RFC 9112 6.3). Raises GatewayError where two readers could differ."""
    codings, lengths = names.count(b"transfer-encoding"), names.count(b"content-length")
    if codings + lengths == 1:
        if codings and headers["Transfer-Encoding"].lower() == "chunked" and version is HttpVersion11:
            return CHUNKED
        if lengths:
            said = headers["Content-Length"].encode("utf-8", "surrogateescape")
            if _LENGTH.fullmatch(said) is not None:
                return int(said)
    raise GatewayError("ambiguous-framing", close=True)
