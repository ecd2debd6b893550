"""The head of a request: its bytes into method, target, version, fields and framing, or the problem that they are.

As strict as RFC 9112 allows where two readers could differ, for there is always another reader behind us: no bare LF,
no fold, no blank before a colon, one Host, and one Content-Length of digits or one `Transfer-Encoding: chunked`. Any
method token passes, and any target without blanks, controls and `#`; bytes above 0x7f are the upstream's to judge.
A target in absolute form that names the same host as Host is read as its path (RFC 9112 3.2.2); who serves here decides
on every other one.
"""

import re
from collections.abc import Sequence
from typing import NamedTuple

from aiohttp import HttpVersion, HttpVersion10, HttpVersion11
from multidict import CIMultiDict, CIMultiDictProxy, istr

from gateway.errors import GatewayError

CHUNKED = -1

_REQUEST_LINE = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]{1,128}) ([!\"$-~\x80-\xff]+) (HTTP/1\.[01])")
_TOKEN = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,128}")
_VERSION = re.compile(rb"HTTP/[0-9]\.[0-9]")
_FIELD = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):([\t -~\x80-\xff]*)")
_LENGTH = re.compile(rb"[0-9]{1,19}")  # what fits 64 bits; readers differ on more
_VERSIONS = {b"HTTP/1.1": HttpVersion11, b"HTTP/1.0": HttpVersion10}
_FRAMING = frozenset({b"content-length", b"transfer-encoding"})
_SECRET = frozenset({b"authorization", b"cookie", b"proxy-authorization"})  # remembered by nobody but their connection


class HeadLimits(NamedTuple):
    """Sizes in bytes: of the request's target, of a field's name and value, and of a whole head."""

    line_bytes_max: int
    field_bytes_max: int
    fields_max: int
    head_bytes_max: int


class Head(NamedTuple):
    """A request's head. `length`: bytes of body, or CHUNKED. `upgrade`: the caller wants WebSocket next."""

    method: str
    target: str
    version: HttpVersion
    fields: tuple[tuple[bytes, bytes], ...]
    headers: "CIMultiDictProxy[str]"
    length: int
    keep_alive: bool
    upgrade: bool


# A field line: name and value as they came, the name in lower case, and both as text. A bare tuple, for it is quicker.
_Line = tuple[tuple[bytes, bytes], bytes, tuple[str, str]]


class Said(NamedTuple):
    """What the fields of a head come to; see `Head`."""

    fields: tuple[tuple[bytes, bytes], ...]
    headers: "CIMultiDictProxy[str]"
    length: int
    keep_alive: bool
    upgrade: bool


class Heads:
    """Judges heads. Remembers field lines, and the fields of whole heads, for most come again; no secrets. Bounded."""

    LINES_MAX = 1024
    LINE_BYTES_MAX = 256
    BLOCKS_MAX = 256
    BLOCK_BYTES_MAX = 2048

    def __init__(self, limits: HeadLimits) -> None:
        self.limits = limits
        self._lines: dict[bytes, _Line] = {}
        self._blocks: dict[bytes, Said] = {}  # of HTTP/1.1

    def judged(self, head: bytes, own: dict[bytes, Said] | None = None) -> Head:
        """The head whose bytes these are, without its empty line. Raises GatewayError.

        `own` is the connection's: it remembers the fields of its last head, whatever they are, until other ones come.
        """
        if len(head) > self.limits.head_bytes_max:
            self._fits(head)
            raise GatewayError("headers-too-large", close=True)
        line, _, block = head.partition(b"\r\n")
        method, target, version = self.request_line(line)
        own = {} if own is None or version is not HttpVersion11 else own
        said = own.get(block)
        if said is None:
            said = (self._blocks.get(block) if version is HttpVersion11 else None) or self._judged_block(block, version)
            own.clear()
            own[block] = said
        if target[0] != "/":
            target = _origin_form(method, target, said.headers.get("Host"))
        return Head(method, target, version, *said)

    def _judged_block(self, block: bytes, version: HttpVersion) -> Said:
        lines = block.split(b"\r\n") if block else []
        if len(lines) > self.limits.fields_max:
            raise GatewayError("headers-too-large", close=True)
        known = self._lines.get
        judged = [known(line) or self.field_line(line) for line in lines]
        fields, names, texts = zip(*judged, strict=True) if judged else ((), (), ())
        said = _judged(fields, names, CIMultiDictProxy(CIMultiDict(texts)), version)
        if version is HttpVersion11 and len(block) <= self.BLOCK_BYTES_MAX and _SECRET.isdisjoint(names):
            if len(self._blocks) >= self.BLOCKS_MAX:
                self._blocks.clear()
            self._blocks[block] = said
        return said

    def request_line(self, line: bytes) -> tuple[str, str, HttpVersion]:
        """Method, target and version. Raises GatewayError."""
        found = _REQUEST_LINE.fullmatch(line)
        if found is not None and len(found[2]) <= self.limits.line_bytes_max:
            return found[1].decode(), found[2].decode("utf-8", "surrogateescape"), _VERSIONS[found[3]]
        raise self._refusal(line)

    def _refusal(self, line: bytes) -> GatewayError:
        """What is wrong with a request line."""
        parts = line.split(b" ")
        if len(parts) != 3 or _TOKEN.fullmatch(parts[0]) is None or _VERSION.fullmatch(parts[2]) is None:
            self._fits(line)
            return GatewayError("malformed-http", close=True)
        if len(parts[1]) > self.limits.line_bytes_max:
            return GatewayError("target-too-long", close=True)
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
        if len(line) > self.LINE_BYTES_MAX or lowered in _SECRET:
            return (name, value), lowered, (name.decode(), text)
        judged = (name, value), lowered, (istr(name.decode()), text)
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
        """Refuse a request line whose target, ended or not, is too long."""
        if len(line.split(b"\r\n", 1)[0]) > self.limits.line_bytes_max + _AROUND_TARGET:
            raise GatewayError("target-too-long", close=True)


_ABSOLUTE = re.compile(r"(https?)://([^/?]+)(.*)", re.IGNORECASE)
_CONTROL = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
_AROUND_TARGET = 128 + len("  HTTP/1.1")


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


def _judged(
    fields: tuple[tuple[bytes, bytes], ...],
    names: Sequence[bytes],
    headers: "CIMultiDictProxy[str]",
    version: HttpVersion,
) -> Said:
    """What the fields come to in a request of that version. Raises GatewayError."""
    hosts = names.count(b"host")
    if hosts > 1 or (hosts == 0 and version is HttpVersion11):
        raise GatewayError("bad-host", close=True)
    keep_alive, upgrade = version is HttpVersion11, False
    if b"connection" in names:
        options = {option.strip().lower() for said in headers.getall("Connection") for option in said.split(",")}
        keep_alive = "close" not in options and (keep_alive or "keep-alive" in options)
        if version is HttpVersion11 and "upgrade" in options:  # never from HTTP/1.0 (RFC 9110 7.8)
            upgrade = [said.lower() for said in headers.getall("Upgrade", ())] == ["websocket"]
    length = _body_length(names, headers, version) if _FRAMING.intersection(names) else 0
    return Said(fields, headers, length, keep_alive, upgrade)


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
