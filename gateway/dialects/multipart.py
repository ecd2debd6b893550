"""Multipart bodies (RFC 2046 5.1) as their parts, and header lines as fields.

Lines end in CRLF or, as Google's clients write them, in a bare LF. Written by hand: the standard library's parser
cannot tell which of the two ends a body, and takes three times as long.
"""

import re
from collections.abc import Iterator

from gateway.dialects.port import EnvelopeError
from gateway.upstream.headers import FIELDS_MAX, RawFields

_PARAMETER = re.compile(r';[ \t]*([!#-\'*+.^_`|~0-9A-Za-z-]+)=("(?:[^"\\]|\\.)*+"|[^;"\s]*)[ \t]*')
_BOUNDARY = re.compile(rb"[0-9A-Za-z'()+_,./:=? -]{0,69}[0-9A-Za-z'()+_,./:=?-]")  # RFC 2046 5.1.1
_END_OF_DELIMITER = re.compile(rb"[ \t]*(?:(\r?\n)|\Z)")
_EMPTY_LINE = re.compile(rb"\r?\n\r?\n")
_LINE_END = re.compile(rb"\r?\n")
_FIELDS = re.compile(rb"(?m)^([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([^\r\n]*)\r?$")
_NAME = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")


class PartError(Exception):
    """What is wrong with one part."""


def boundary_of(content_type: str) -> bytes:
    """The boundary that a multipart Content-Type names, quoted or not. Raises `EnvelopeError`."""
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
    lines = head.count(b"\n") + (not head.endswith(b"\n") and bool(head))
    if lines > FIELDS_MAX:
        raise PartError(f"it has more than {FIELDS_MAX} lines of header")
    plain: list[tuple[bytes, bytes]] = _FIELDS.findall(head)
    if len(plain) == lines:  # every one is a field
        return [(name, value.rstrip(b" \t")) for name, value in plain]
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


def field_of(fields: RawFields, name: bytes) -> bytes | None:
    """The first value of the field, None without it."""
    return next((value for own, value in fields if own.lower() == name), None)
