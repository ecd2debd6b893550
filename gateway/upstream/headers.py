"""Which header fields travel, in which direction and under which name. Pure.

Sources: RFC 9110 7.6.1 (hop-by-hop fields), RFC 9112, CONTRACT 2 and 7, PROMISES S5 and S6.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from email.utils import mktime_tz, parsedate_tz
from typing import Any

from gateway.errors import quoted

RawFields = Sequence[tuple[bytes, bytes]]

HOP_BY_HOP = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    }
)
# What a front proxy tells of a request besides; a trusted one is believed, of anybody else it is left out.
TOLD_BY_PROXIES = frozenset(
    b"x-forwarded-" + name
    for name in (b"by", b"method", b"path", b"port", b"prefix", b"protocol", b"scheme", b"server", b"ssl", b"uri")
)
# What the gateway vouches for: a caller can neither set nor shadow these. `X-Forwarded-User` and its like are not among
# them: what a login proxy in front says of the user reaches the upstream as it does without the gateway.
VOUCHED = TOLD_BY_PROXIES | {
    b"forwarded",
    b"via",
    b"x-forwarded-for",
    b"x-forwarded-host",
    b"x-forwarded-proto",
    b"x-real-ip",
}
# About the envelope, so no operation inherits them. Accept-Encoding too: what is embedded in JSON cannot be compressed.
_ABOUT_THE_ENVELOPE = frozenset({b"accept-encoding", b"expect", b"idempotency-key", b"prefer", b"x-request-id"})
_ENVELOPE_PREFIX = b"content-"
_FORWARDED_PREFIX = b"x-forwarded-"
_NOT_REQUESTED = HOP_BY_HOP | VOUCHED
_NEVER_RESPELLED = _NOT_REQUESTED | {b"content-length", b"host"}
_NOT_INHERITED = HOP_BY_HOP | VOUCHED | _ABOUT_THE_ENVELOPE | {b"traceparent"}
_CERTIFICATE = frozenset({b"client-cert", b"client-cert-chain"})  # RFC 9440: what a proxy says of the whole connection
CREDENTIALS = frozenset({b"authorization", b"cookie"})
# RFC 9110 6.5.1: what must be known before the body. Merged into a head, it would be another request.
_NOT_TRAILING = (
    _NEVER_RESPELLED | CREDENTIALS | _CERTIFICATE | {b"content-encoding", b"content-range", b"content-type", b"expect"}
)
# In an operation these are framing, or belong to the gateway.
_NOT_IN_AN_OPERATION = HOP_BY_HOP | VOUCHED | _CERTIFICATE | {b"host", b"content-length", b"expect"}

_GATEWAY = re.compile(rb"1\.1 batch-gateway \([0-9a-f]{8}\)")  # what each adds to Via

_TOKEN = re.compile(r"[!#$%&'*+.^`|~0-9A-Za-z-]+")  # RFC 9110 5.6.2 without "_", which servers confuse with "-"
_VALUE = re.compile(r"[\t -~]*")
_BAD_ANSWER_VALUE = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")

FIELDS_MAX = 256  # of an upstream's answer; llhttp has no limits of its own
HEAD_BYTES_MAX = 65536
OPERATION_FIELDS_MAX = 64
OPERATION_FIELDS_BYTES_MAX = 16384

_joined = b": ".join  # a name and its value

_SPELLINGS = {
    "dnt": "DNT",
    "etag": "ETag",
    "te": "TE",
    "www-authenticate": "WWW-Authenticate",
    "content-md5": "Content-MD5",
    "x-xss-protection": "X-XSS-Protection",
    "x-ua-compatible": "X-UA-Compatible",
    "sec-websocket-accept": "Sec-WebSocket-Accept",
}


def canonical(name: str) -> str:
    """A field name in HTTP's usual capitals: `content-type` is `Content-Type`, `etag` is `ETag`."""
    lowered = name.lower()
    return _SPELLINGS.get(lowered) or "-".join(part.capitalize() for part in lowered.split("-"))


class Names(dict[bytes, str | None]):
    """Remembers how field names are spelled; `None` for a hop-by-hop one. Bounded, for names come from outside."""

    NAMES_MAX = 1024

    def __missing__(self, name: bytes) -> str | None:
        if len(self) >= self.NAMES_MAX:
            self.clear()
        spelled = None if name.lower() in HOP_BY_HOP else canonical(name.decode("latin-1"))
        self[name] = spelled
        return spelled


def connection_options(fields: RawFields) -> frozenset[bytes]:
    """The lower-case options of all `Connection` fields."""
    options = [value for name, value in fields if name.lower() == b"connection"]
    return frozenset(option.strip().lower() for value in options for option in value.split(b",")) - {b""}


def end_to_end(fields: RawFields, names: Names) -> Mapping[str, str | list[str]]:
    """An answer's end-to-end fields as an outcome shows them. Values are read as Latin-1 (RFC 9110 5.5)."""
    shown: dict[Any, Any] = {names[name]: value.decode("latin-1") for name, value in fields}
    if len(shown) == len(fields) and shown.pop(None, "close") in ("keep-alive", "close"):
        return shown  # nearly always: no name twice, and Connection names no field
    return _with_repeated(fields, names)


def _with_repeated(fields: RawFields, names: Names) -> dict[str, str | list[str]]:
    hidden = connection_options(fields)
    shown: dict[str, str | list[str]] = {}
    for name, value in fields:
        spelled = names[name]
        if spelled is None or name.lower() in hidden:
            continue
        if spelled in shown:
            earlier = shown[spelled]
            shown[spelled] = [*(earlier if isinstance(earlier, list) else [earlier]), value.decode("latin-1")]
        else:
            shown[spelled] = value.decode("latin-1")
    return shown


def forwarded(fields: RawFields, *, keep: frozenset[bytes] = frozenset()) -> list[tuple[bytes, bytes]]:
    """An answer's fields without the hop-by-hop ones, those that `Connection` names, and without `Connection` itself.

    Order, case and duplicates stay. `keep` names hop-by-hop fields to pass on (`upgrade`, `trailer`).
    """
    dropped = (HOP_BY_HOP | connection_options(fields)) - keep
    return [(name, value) for name, value in fields if name.lower() not in dropped]


def requested(fields: RawFields, *, keep: frozenset[bytes] = frozenset()) -> list[tuple[bytes, bytes]]:
    """A caller's fields without the hop-by-hop ones and without what the gateway vouches for, in any spelling.

    `Connection: X-User` and its like do not remove a field that an earlier proxy added (CVE-2024-45410): a caller's
    `Connection` may name known hop-by-hop fields only. An underscore is a hyphen to CGI and WSGI, so it is one here.
    """
    dropped = _NOT_REQUESTED - keep
    return [
        field
        for field in fields
        if (lowered := field[0].lower()) not in dropped
        and (b"_" not in lowered or not _is_shadow(lowered.replace(b"_", b"-")))
    ]


def trailing(fields: RawFields) -> list[tuple[bytes, bytes]]:
    """A caller's trailers without those that would frame, route, vouch or log in if they were merged into the head."""
    folded = [field[0].lower().replace(b"_", b"-") for field in fields]
    return [f for f, name in zip(fields, folded, strict=True) if name not in _NOT_TRAILING and not _is_shadow(name)]


def _is_shadow(name: bytes) -> bool:
    """Whether a name, in lower case and with hyphens, is one that counts in a head and in its own spelling only."""
    return name in _NEVER_RESPELLED or name.startswith(_FORWARDED_PREFIX)


def inherited(fields: RawFields) -> list[tuple[bytes, bytes]]:
    """The outer request's fields that each operation carries as well, `Host` first (CONTRACT 2)."""
    kept: list[tuple[bytes, bytes]] = []
    for field in fields:
        name = field[0].lower()
        lowered = name.replace(b"_", b"-")
        if name == b"host":
            kept.insert(0, field)
        elif lowered in _NOT_INHERITED or lowered.startswith(_ENVELOPE_PREFIX):
            continue
        elif name == lowered or not _is_shadow(lowered):
            kept.append(field)
    return kept


def rendered(fields: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Field lines, each ended by CRLF."""
    return b"\r\n".join([*map(_joined, fields), b""])


def refusals_in_operation(
    fields: Sequence[tuple[str, str]], *, credentials: frozenset[bytes] = CREDENTIALS
) -> Sequence[tuple[str, str]]:
    """Why an operation may not carry these fields: for each a code of PROMISES D.2 and what is wrong.

    `credentials` are the lower-case names of what says who the caller is, which stands on the batch.
    """
    if len(fields) > OPERATION_FIELDS_MAX:
        return [("header-not-allowed", f"{len(fields)} fields; at most {OPERATION_FIELDS_MAX}")]
    if sum(len(name) + len(value) for name, value in fields) > OPERATION_FIELDS_BYTES_MAX:
        return [("header-not-allowed", f"more than {OPERATION_FIELDS_BYTES_MAX} bytes of fields")]
    found = [wrong for name, value in fields if (wrong := _refusal(name, value, credentials))]
    if sum(name.lower() == "content-type" for name, _ in fields) > 1:
        found.append(("header-not-allowed", "Content-Type stands twice; name it once"))
    return found


def _refusal(name: str, value: str, credentials: frozenset[bytes]) -> tuple[str, str] | None:
    lowered = name.lower().encode("utf-8", "replace")
    if not _TOKEN.fullmatch(name):
        return "header-not-allowed", f"{quoted(name)} is not a name; use letters, digits and hyphens"
    said = canonical(name)[:64]
    if lowered in _NOT_IN_AN_OPERATION or lowered.startswith(_FORWARDED_PREFIX):
        return "header-not-allowed", f"{said} is set by the gateway; leave it out"
    if lowered in credentials:
        return "per-op-credentials", f"{said} belongs on the batch, one caller for all of its operations"
    if not _VALUE.fullmatch(value):
        return "header-not-allowed", f"the value of {said} has a character that is not visible ASCII"
    return None


def ends_with_close(fields: RawFields) -> bool:
    """Whether only the end of the connection ends an answer with these fields (RFC 9112 6.3, rule 8)."""
    return {b"content-length", b"transfer-encoding"}.isdisjoint(name.lower() for name, _ in fields)


def is_head(status: int, version: str, reason: bytes, fields: RawFields) -> bool:
    """Whether what llhttp took as an answer's head is one: it does not judge status, version, reason or codings."""
    if not 100 <= status <= 599 or version not in ("1.1", "1.0") or len(fields) > FIELDS_MAX:
        return False
    return codings(fields) in ([], [b"chunked"]) and _BAD_ANSWER_VALUE.search(reason) is None


def codings(fields: RawFields) -> list[bytes]:
    """The values of `Transfer-Encoding`, in lower case."""
    return [value.lower() for name, value in fields if len(name) == 17 and name.lower() == b"transfer-encoding"]


def is_event_stream(fields: RawFields) -> bool:
    """Whether the body has no end of its own: server-sent events, whose readers come back (WHATWG HTML)."""
    return any(
        name.lower() == b"content-type" and value.partition(b";")[0].strip().lower() == b"text/event-stream"
        for name, value in fields
    )


def bytes_of(fields: RawFields) -> int:
    """How many bytes names and values take."""
    return sum(len(name) + len(value) for name, value in fields)


def announced_idle_s(fields: RawFields) -> float | None:
    """How long the upstream says that it keeps an idle connection: `Keep-Alive: timeout=N`, in seconds."""
    for name, value in fields:
        if name.lower() == b"keep-alive":
            found = re.search(rb"timeout=(\d{1,6})", value)
            return float(found[1]) if found else None
    return None


def retry_after_s(fields: RawFields, now_s: float) -> float | None:
    """How long the upstream asks to wait, in seconds from the wall clock's `now_s`: `Retry-After` in seconds or as a
    date (RFC 9110 10.2.3). None without the field, or where it says neither.
    """
    for name, value in fields:
        if name.lower() == b"retry-after":
            if re.fullmatch(rb"\d{1,9}", value):
                return float(value)
            try:
                date = parsedate_tz(value.decode("latin-1"))
                return None if date is None else max(0.0, mktime_tz(date) - now_s)
            except (ValueError, OverflowError):  # a date that no calendar has
                return None
    return None


def via_of(fields: RawFields, own: bytes) -> bytes:
    """`Via` with the entries of the gateways before this one, so that each of them knows its own again in a circle.

    What others say stays behind, and whoever invents an entry is told of a loop that there is not.
    """
    before = [entry for name, value in fields if name.lower() == b"via" for entry in _GATEWAY.findall(value)]
    return b", ".join([*before, own])


def vouched(
    host: bytes | None, peer: str, scheme: str, via: bytes, real_ip: str | None = None
) -> list[tuple[bytes, bytes]]:
    """What the gateway says of the caller, in place of what the caller said: `X-Forwarded-*` and `Via`; `X-Real-IP`
    only where there was one."""
    said = [(b"X-Forwarded-For", peer.encode()), (b"X-Forwarded-Proto", scheme.encode())]
    if host is not None:
        said.append((b"X-Forwarded-Host", host))
    if real_ip is not None:
        said.append((b"X-Real-IP", real_ip.encode()))
    return [*said, (b"Via", via)]
