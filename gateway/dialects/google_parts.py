"""The parts of a `multipart/mixed` envelope, and the HTTP request inside a part (RFC 2046 5.1, RFC 9112; WIRE 5.1).

Lines end in CRLF or, as Google's own clients write them, in a bare LF. Written by hand: the standard library's parser
cannot tell which of the two ends a body, and takes three times as long.
"""

import re
from collections.abc import Iterator
from typing import NamedTuple

from gateway.dialects.port import EnvelopeError
from gateway.upstream.headers import HOP_BY_HOP, VOUCHED, RawFields, connection_options

Fields = tuple[tuple[str, str], ...]

_PARAMETER = re.compile(r';[ \t]*([!#-\'*+.^_`|~0-9A-Za-z-]+)=("(?:[^"\\]|\\.)*+"|[^;"\s]*)[ \t]*')
_BOUNDARY = re.compile(rb"[0-9A-Za-z'()+_,./:=? -]{0,69}[0-9A-Za-z'()+_,./:=?-]")  # RFC 2046 5.1.1
_END_OF_DELIMITER = re.compile(rb"[ \t]*(?:(\r?\n)|\Z)")
_EMPTY_LINE = re.compile(rb"\r?\n\r?\n")
_LINE_END = re.compile(rb"\r?\n")
_NAME = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_REQUEST_LINE = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+) ([!-~]+)(?: HTTP/[0-9]\.[0-9])?[ \t]*")
# About the connection or the MIME part, vouched for by the gateway, or counted anew. An inner answer is text that is
# read as a whole, so it cannot be compressed (WIRE 1.1).
_NOT_SENT = (
    HOP_BY_HOP
    | VOUCHED
    | {
        b"accept-encoding",
        b"content-length",
        b"content-transfer-encoding",
        b"expect",
        b"host",
        b"mime-version",
    }
)


class PartError(Exception):
    """What is inside one part is no request; the others may run."""


class Head(NamedTuple):
    """The fields of an inner request that travel; a body-less one has no `Content-Type`, whatever was said."""

    fields: Fields
    fields_without_body: Fields
    says_length: bool


class Inner(NamedTuple):
    """The request inside a part; `target` as it stood there, `fields` those that travel."""

    method: str
    target: str
    fields: Fields
    body: bytes


def boundary_of(content_type: str) -> bytes:
    """The boundary that a Content-Type of `multipart/mixed` names, quoted or not. Raises `EnvelopeError`."""
    for name, value in _PARAMETER.findall(content_type):
        if name.lower() == "boundary":
            bare = re.sub(r"\\(.)", r"\1", value[1:-1]) if value.startswith('"') else value
            boundary: bytes = bare.encode("utf-8", "replace")
            if _BOUNDARY.fullmatch(boundary):
                return boundary
    raise EnvelopeError("invalid-envelope", "the Content-Type names no boundary of 1 to 70 characters")


def parts_of(data: bytes, boundary: bytes) -> Iterator[bytes]:
    """What stands between the delimiters, one part after the other. Raises `EnvelopeError` where the last is missing.

    The line end before a delimiter belongs to it; what comes before the first and behind the last is not read.
    """
    marker = b"--" + boundary
    start, line_end = -1, b"\n"
    at = data.find(marker)
    while at >= 0:
        after = at + len(marker)
        is_last = data.startswith(b"--", after)
        found = _END_OF_DELIMITER.match(data, after + 2 * is_last) if at == 0 or data[at - 1] == 10 else None
        if found is not None:
            if start >= 0:
                yield data[start : max(start, at - len(line_end) if data.endswith(line_end, start, at) else at - 1)]
            else:
                line_end = found[1] or line_end
            if is_last:
                return
            start = found.end()
        at = data.find(marker, after)
    raise EnvelopeError("invalid-envelope", "the last boundary is missing; the envelope is not whole")


def head_of(data: bytes) -> tuple[bytes, bytes]:
    """The header lines at the start of `data`, and what follows the empty line behind them."""
    for empty in (b"\n", b"\r\n"):
        if data.startswith(empty):
            return b"", data[len(empty) :]
    found = _EMPTY_LINE.search(data)
    return (data, b"") if found is None else (data[: found.start()], data[found.end() :])


def fields_of(head: bytes) -> RawFields:
    """The fields of header lines. One that is folded loses its line ends (RFC 5322 2.2.3). Raises `PartError`."""
    fields: list[tuple[bytes, bytes]] = []
    for line in _LINE_END.split(head):
        name, colon, value = line.partition(b":")
        if line.startswith((b" ", b"\t")) and fields:
            fields[-1] = fields[-1][0], fields[-1][1] + line
        elif colon and _NAME.fullmatch(name):
            fields.append((name, value.lstrip(b" \t")))
        elif line:
            raise PartError("a line of its header is no header field")
    return [(name, value.rstrip(b" \t")) for name, value in fields]


def request_in(data: bytes, known: dict[bytes, Head]) -> Inner:
    """The request in a part of `application/http`. `known` remembers heads, which most parts share with others.

    What says how long the body is counts characters (WIRE 5.1), so the end of the part alone ends it. Empty lines are
    a body only where a length was said: writers put them before the next boundary. Raises `PartError`.
    """
    line, _, rest = data.lstrip(b"\r\n").partition(b"\n")
    asked = _REQUEST_LINE.fullmatch(line.removesuffix(b"\r"))
    if asked is None:
        raise PartError("it begins with no request line, such as GET /path HTTP/1.1")
    lines, body = head_of(rest)
    head = known.get(lines)
    if head is None:
        head = known[lines] = _head(fields_of(lines))
    if not head.says_length and not body.strip(b"\r\n"):
        body = b""
    fields = head.fields if body else head.fields_without_body
    return Inner(asked[1].decode("ascii"), asked[2].decode("ascii"), fields, body)


def _head(fields: RawFields) -> Head:
    dropped = _NOT_SENT | connection_options(fields)
    kept = tuple(
        (name.decode("ascii"), value.decode("latin-1")) for name, value in fields if name.lower() not in dropped
    )
    length = field_of(fields, b"content-length") or b""
    return Head(kept, tuple(field for field in kept if field[0].lower() != "content-type"), bool(length.strip(b"0")))


def field_of(fields: RawFields, name: bytes) -> bytes | None:
    """The first value of the field, None without it."""
    return next((value for own, value in fields if own.lower() == name), None)
