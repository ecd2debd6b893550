"""The HTTP request inside a part of a Google envelope (RFC 9112; WIRE 5.1)."""

import re
from typing import NamedTuple

from gateway.dialects.multipart import PartError, fields_of, head_of
from gateway.upstream.headers import HOP_BY_HOP, VOUCHED, RawFields, connection_options

Fields = tuple[tuple[str, str], ...]

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
    says_length = any(name.lower() == b"content-length" and value.strip(b"0") for name, value in fields)
    return Head(kept, tuple(field for field in kept if field[0].lower() != "content-type"), says_length)
