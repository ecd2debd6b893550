"""The head of a request: its bytes into method, target, version, fields and framing, or the problem that they are.

As strict as RFC 9112 allows where two readers could differ, for there is always another reader behind us: no bare LF,
no fold, no blank before a colon, one Host, and one Content-Length of digits or one `Transfer-Encoding: chunked`. Any
method token passes, and any target without blanks, controls and `#`; bytes above 0x7f are the upstream's to judge.
A target in absolute form that names the same host as Host is read as its path (RFC 9112 3.2.2); who serves here decides
on every other one.
"""

import re
from collections.abc import Sequence
from typing import NamedTuple, overload

from gateway.errors import GatewayError

CHUNKED = -1
HTTP_1_0, HTTP_1_1 = (1, 0), (1, 1)

_REQUEST_LINE = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]{1,128}) ([!\"$-~\x80-\xff]+) (HTTP/1\.[01])")
_TOKEN = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,128}")
_VERSION = re.compile(rb"HTTP/[0-9]\.[0-9]")
_FIELD = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):([\t -~\x80-\xff]*)")
_LENGTH = re.compile(r"[0-9]{1,19}", re.ASCII)  # what fits 64 bits; readers differ on more
_VERSIONS = {b"HTTP/1.1": HTTP_1_1, b"HTTP/1.0": HTTP_1_0}
_SECRET = frozenset({"authorization", "cookie", "proxy-authorization"})  # judged anew each time, never remembered

# A field line: name and value as they came, the name in lower case, and the value as text. A bare tuple is quickest.
_Line = tuple[tuple[bytes, bytes], str, str]


class HeadLimits(NamedTuple):
    """Sizes in bytes: of the request's target, of a field's name and value, and of a whole head."""

    line_bytes_max: int
    field_bytes_max: int
    fields_max: int
    head_bytes_max: int


class Headers:
    """The fields of a head: `fields` in their order as they came, and by their names in any case."""

    __slots__ = ("_lines", "_texts", "fields", "names")

    def __init__(self, lines: Sequence[_Line]) -> None:
        self.fields = tuple([line[0] for line in lines])
        self.names = [line[1] for line in lines]
        self._lines = lines
        self._texts: dict[str, list[str]] | None = None  # by lower-case name, once somebody asks

    @overload
    def get(self, name: str) -> str | None: ...

    @overload
    def get(self, name: str, otherwise: str) -> str: ...

    def get(self, name: str, otherwise: str | None = None) -> str | None:
        """The value of the first field of that name."""
        said = self._by_name().get(name.lower())
        return said[0] if said else otherwise

    def getall(self, name: str) -> Sequence[str]:
        """The values of all fields of that name."""
        return self._by_name().get(name.lower(), ())

    def __contains__(self, name: str) -> bool:
        return name.lower() in self.names

    def _by_name(self) -> dict[str, list[str]]:
        texts = self._texts
        if texts is None:
            texts = self._texts = {}
            for _, name, text in self._lines:
                texts.setdefault(name, []).append(text)
        return texts


class _Said(NamedTuple):
    """What the fields of a head say; see `Head`."""

    headers: Headers
    length: int
    keep_alive: bool
    upgrades: bool


class Head(NamedTuple):
    """A request's head. `length`: bytes of body, or CHUNKED. `upgrades`: the caller wants WebSocket next."""

    method: str
    target: str
    version: tuple[int, int]
    headers: Headers
    length: int
    keep_alive: bool
    upgrades: bool


class Heads:
    """Judges heads. Remembers field lines, and the fields of whole heads, for most come again. Bounded."""

    LINES_MAX = 1024
    LINE_BYTES_MAX = 256
    BLOCKS_MAX = 256
    BLOCK_BYTES_MAX = 2048

    def __init__(self, limits: HeadLimits) -> None:
        self.limits = limits
        self._lines: dict[bytes, _Line] = {}
        self._blocks: dict[bytes, _Said] = {}  # of HTTP/1.1

    def judged(self, head: bytes) -> Head:
        """The head whose bytes these are, without its empty line. Raises GatewayError."""
        if len(head) > self.limits.head_bytes_max:
            self._fits(head)
            raise GatewayError("headers-too-large", close=True)
        line, _, block = head.partition(b"\r\n")
        method, target, version = self.request_line(line)
        said = (self._blocks.get(block) if version is HTTP_1_1 else None) or self._judged_block(block, version)
        if target[0] != "/":
            target = _origin_form(method, target, said.headers.get("Host"))
        return Head(method, target, version, *said)

    def _judged_block(self, block: bytes, version: tuple[int, int]) -> _Said:
        lines = block.split(b"\r\n") if block else []
        if len(lines) > self.limits.fields_max:
            raise GatewayError("headers-too-large", close=True)
        known = self._lines.get
        headers = Headers([known(line) or self.field_line(line) for line in lines])
        said = _judged(headers, version)
        if version is HTTP_1_1 and len(block) <= self.BLOCK_BYTES_MAX and _SECRET.isdisjoint(headers.names):
            if len(self._blocks) >= self.BLOCKS_MAX:
                self._blocks.clear()
            self._blocks[block] = said
        return said

    def request_line(self, line: bytes) -> tuple[str, str, tuple[int, int]]:
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
        lowered = name.lower().decode()
        judged = (name, value), lowered, value.decode("utf-8", "surrogateescape")
        if len(line) > self.LINE_BYTES_MAX or lowered in _SECRET:
            return judged
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


_CONTROL = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
_AROUND_TARGET = 128 + len("  HTTP/1.1")


_ABSOLUTE = re.compile(r"(https?)://([^/?]+)(.*)", re.IGNORECASE)


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


def _judged(headers: Headers, version: tuple[int, int]) -> _Said:
    """What the fields come to in a request of that version. Raises GatewayError."""
    names = headers.names
    hosts = names.count("host")
    if hosts > 1 or (hosts == 0 and version is HTTP_1_1):
        raise GatewayError("bad-host", close=True)
    keep_alive, upgrades = version is HTTP_1_1, False
    if "connection" in names:
        options = {option.strip().lower() for said in headers.getall("Connection") for option in said.split(",")}
        keep_alive = "close" not in options and (keep_alive or "keep-alive" in options)
        if version is HTTP_1_1 and "upgrade" in options:  # never from HTTP/1.0 (RFC 9110 7.8)
            upgrades = [said.lower() for said in headers.getall("Upgrade")] == ["websocket"]
    return _Said(headers, _body_length(headers, version), keep_alive, upgrades)


def _body_length(headers: Headers, version: tuple[int, int]) -> int:
    """How long the body is (RFC 9112 6.3). Raises GatewayError where two readers could differ."""
    names = headers.names
    codings, lengths = names.count("transfer-encoding"), names.count("content-length")
    if not codings and not lengths:
        return 0
    if codings + lengths == 1:
        if codings and headers.get("Transfer-Encoding", "").lower() == "chunked" and version is HTTP_1_1:
            return CHUNKED
        said = headers.get("Content-Length", "")
        if lengths and _LENGTH.fullmatch(said) is not None:
            return int(said)
    raise GatewayError("ambiguous-framing", close=True)
