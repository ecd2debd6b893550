"""Which header fields travel, in which direction and under which name. Pure.

Sources: RFC 9110 7.6.1 (hop-by-hop fields), RFC 9112, CONTRACT 2 and 7, PROMISES S5 and S6.
"""

import re
from collections.abc import Iterable, Mapping, Sequence

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
# What the gateway vouches for: a caller can neither set nor shadow these.
VOUCHED = frozenset({b"forwarded", b"via", b"x-forwarded-for", b"x-forwarded-host", b"x-forwarded-proto"})
# About the envelope, so no operation inherits them. Accept-Encoding too: what is embedded in JSON cannot be compressed.
_ABOUT_THE_ENVELOPE = frozenset({b"accept-encoding", b"expect", b"idempotency-key", b"prefer", b"x-request-id"})
_ENVELOPE_PREFIX = b"content-"
_TRACE = frozenset({b"traceparent"})
_CREDENTIALS = frozenset({b"authorization", b"cookie"})
# In an operation these are framing, or belong to the gateway.
_NOT_IN_AN_OPERATION = HOP_BY_HOP | VOUCHED | {b"host", b"content-length", b"expect"}

_TOKEN = re.compile(r"[!#$%&'*+.^`|~0-9A-Za-z-]+")  # RFC 9110 5.6.2 without "_", which servers confuse with "-"
_VALUE = re.compile(r"[\t -~]*")
_BAD_ANSWER_VALUE = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")

OPERATION_FIELDS_MAX = 64
OPERATION_FIELDS_BYTES_MAX = 16384

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


class Names:
    """Remembers how field names are spelled; `None` for a hop-by-hop one. Bounded, for names come from outside."""

    __slots__ = ("_known",)

    NAMES_MAX = 1024

    def __init__(self) -> None:
        self._known: dict[bytes, str | None] = {}

    def __getitem__(self, name: bytes) -> str | None:
        try:
            return self._known[name]
        except KeyError:
            if len(self._known) >= self.NAMES_MAX:
                self._known.clear()
            spelled = None if name.lower() in HOP_BY_HOP else canonical(name.decode("latin-1"))
            self._known[name] = spelled
            return spelled


def connection_options(fields: RawFields) -> frozenset[bytes]:
    """The lower-case options of all `Connection` fields."""
    options = [value for name, value in fields if name.lower() == b"connection"]
    return frozenset(option.strip().lower() for value in options for option in value.split(b",")) - {b""}


def end_to_end(fields: RawFields, names: Names) -> dict[str, str | list[str]]:
    """An answer's end-to-end fields as an outcome shows them. Values are read as Latin-1 (RFC 9110 5.5)."""
    shown: dict[str, str | list[str]] = {}
    hidden: frozenset[bytes] = frozenset()
    for name, value in fields:
        spelled = names[name]
        if spelled is None:
            if len(name) == 10 and value not in (b"keep-alive", b"close"):  # Connection names further fields
                hidden = connection_options(fields)
        elif spelled in shown:
            earlier = shown[spelled]
            shown[spelled] = [*(earlier if isinstance(earlier, list) else [earlier]), value.decode("latin-1")]
        else:
            shown[spelled] = value.decode("latin-1")
    if hidden:
        shown = {name: value for name, value in shown.items() if name.lower().encode() not in hidden}
    return shown


def forwarded(fields: RawFields, *, keep: frozenset[bytes] = frozenset()) -> list[tuple[bytes, bytes]]:
    """A message's fields without the hop-by-hop ones, those that `Connection` names, and without `Connection` itself.

    Order, case and duplicates stay. `keep` names hop-by-hop fields to pass on (`upgrade`, `te`, `trailer`).
    `Connection` cannot strip an end-to-end field that matters to the other side's trust: see `_may_strip`.
    """
    dropped = (HOP_BY_HOP | {option for option in connection_options(fields) if _may_strip(option)}) - keep
    return [(name, value) for name, value in fields if name.lower() not in dropped]


def _may_strip(option: bytes) -> bool:
    """`Connection: Authorization` and its like are an attack (CVE-2024-45410), not a wish."""
    return option not in VOUCHED | _CREDENTIALS | {b"host", b"content-length", b"close", b"cache-control"}


def inherited(fields: RawFields) -> list[tuple[bytes, bytes]]:
    """The outer request's fields that each operation carries as well, `Host` first (CONTRACT 2)."""
    dropped = VOUCHED | _ABOUT_THE_ENVELOPE | _TRACE
    kept = [
        (name, value)
        for name, value in forwarded(fields)
        if (lowered := name.lower()) not in dropped and not lowered.startswith(_ENVELOPE_PREFIX)
    ]
    return sorted(kept, key=lambda field: field[0].lower() != b"host")  # stable: only Host moves


def rendered(fields: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Field lines, each ended by CRLF."""
    return b"".join([b"%b: %b\r\n" % field for field in fields])


def refusal_in_operation(fields: Sequence[tuple[str, str]], *, credentials_allowed: bool) -> tuple[str, str] | None:
    """Why an operation may not carry these fields: a code of PROMISES D.2 and what is wrong; None when it may."""
    if len(fields) > OPERATION_FIELDS_MAX:
        return "header-not-allowed", f"{len(fields)} fields; at most {OPERATION_FIELDS_MAX}"
    if sum(len(name) + len(value) for name, value in fields) > OPERATION_FIELDS_BYTES_MAX:
        return "header-not-allowed", f"more than {OPERATION_FIELDS_BYTES_MAX} bytes of fields"
    for name, value in fields:
        lowered = name.lower().encode("utf-8", "replace")
        if not _TOKEN.fullmatch(name):
            return "header-not-allowed", "a name is made of letters, digits and hyphens"
        if lowered in _NOT_IN_AN_OPERATION or lowered.startswith(b"x-forwarded-"):
            return "header-not-allowed", f"{canonical(name)} is set by the gateway; leave it out"
        if lowered in _CREDENTIALS and not credentials_allowed:
            return "per-op-credentials", f"{canonical(name)} belongs on the batch, one caller for all of its operations"
        if not _VALUE.fullmatch(value):
            return "header-not-allowed", f"the value of {canonical(name)} has a character that is not visible ASCII"
    return None


def is_clean(fields: RawFields) -> bool:
    """No value of an upstream's answer holds a control character (RFC 9110 5.5)."""
    return not any(_BAD_ANSWER_VALUE.search(value) for _, value in fields)


def announced_idle_s(fields: RawFields) -> float | None:
    """How long the upstream says that it keeps an idle connection: `Keep-Alive: timeout=N`, in seconds."""
    for name, value in fields:
        if name.lower() == b"keep-alive":
            found = re.search(rb"timeout=(\d{1,6})", value)
            return float(found[1]) if found else None
    return None


def vouched(
    host: bytes | None, peer: str, scheme: str, fields: Mapping[bytes, bytes] | None = None
) -> list[tuple[bytes, bytes]]:
    """What the gateway says of the caller: `Via` and `X-Forwarded-*`."""
    said = [(b"X-Forwarded-For", peer.encode()), (b"X-Forwarded-Proto", scheme.encode())]
    if host is not None:
        said.append((b"X-Forwarded-Host", host))
    return [*said, (b"Via", b"1.1 batch-gateway")]
