"""What an entry of a Graph envelope is made of: its shape, its URL, its header fields, its body (WIRE 6.1).

Members that nobody knows are left alone. A body is JSON as it stands, or a string: text under `text/*`, otherwise
base64 or base64url, also under a JSON type, for that is how msgraph-core writes JSON that is no object, and `{}`.
"""

import base64
import binascii
import re
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote

import msgspec
from msgspec import UNSET, Raw, UnsetType

from gateway.batch.model import Fields
from gateway.batch.references import MARK
from gateway.dialects.port import EnvelopeError, EnvelopeLimits
from gateway.dialects.strictness import check_members_once, check_structure, check_syntax, check_text
from gateway.errors import quoted
from gateway.upstream.headers import HOP_BY_HOP, VOUCHED, connection_options

_ABSOLUTE = re.compile(r"(https?)://([^/?#]+)(.*)", re.IGNORECASE | re.DOTALL)
_DEFAULT_PORTS = {"http": ":80", "https": ":443"}
_VISIBLE = "".join(map(chr, range(0x21, 0x7F)))
_CONTROLS = "".join(map(chr, [*range(0x20), 0x7F]))  # left as they are: the grammar of a path refuses them
_NOT_IN_AN_ID = re.compile(r"[^A-Za-z0-9._-]")
_ESCAPED = re.compile("(?:~[0-9A-F]{2})+")
_TO_STANDARD = str.maketrans("-_", "+/")
# About the connection, vouched for by the gateway, or counted anew. An inner answer cannot be compressed (WIRE 1.1).
_NOT_SENT = HOP_BY_HOP | VOUCHED | {b"accept-encoding", b"content-length", b"expect", b"host"}
_JSON_FIELDS: Fields = (("Content-Type", "application/json"),)


class Entry(msgspec.Struct, omit_defaults=True, gc=False):
    """One request on the wire; `null` is as good as absent."""

    id: str
    method: str
    url: str
    headers: dict[str, str] | UnsetType | None = UNSET
    body: Raw | UnsetType = UNSET
    dependsOn: list[str] | UnsetType | None = UNSET  # noqa: N815 the wire's word
    depends_on: list[str] | UnsetType | None = UNSET  # msgraph-core's spelling of it
    atomicityGroup: Raw | UnsetType = UNSET  # noqa: N815
    condition: Raw | UnsetType = msgspec.field(default=UNSET, name="if")

    @property
    def parents(self) -> list[str]:
        return [*(self.dependsOn or ()), *(self.depends_on or ())]


class _Envelope(msgspec.Struct, omit_defaults=True, gc=False):
    requests: list[Entry]


class EntryError(Exception):
    """A member of an entry cannot be read."""

    def __init__(self, member: str, detail: str) -> None:
        super().__init__(detail)
        self.member, self.detail = member, detail


_ENVELOPE = msgspec.json.Decoder(_Envelope)
_RAW = msgspec.json.Decoder(Raw)
_TEXT = msgspec.json.Decoder(str)


def entries_of(data: bytes, limits: EnvelopeLimits) -> list[Entry]:
    """The entries, one at least. Raises `EnvelopeError`: broken JSON first, then the shape, then the count."""
    check_text(data)
    if data.count(b",") > limits.nodes_max:  # before anything is made of it
        check_syntax(data)
        check_structure(data, depth_max=limits.depth_max, nodes_max=limits.nodes_max)
    try:
        envelope = _ENVELOPE.decode(data)
    except (msgspec.DecodeError, RecursionError) as error:  # a wrong shape ends it even before broken JSON further on
        check_syntax(data)
        check_structure(data, depth_max=limits.depth_max, nodes_max=limits.nodes_max)
        raise EnvelopeError("invalid-envelope", str(error)) from None
    check_structure(data, depth_max=limits.depth_max, nodes_max=limits.nodes_max)
    if not envelope.requests:
        raise EnvelopeError("invalid-envelope", "requests is empty; send at least one")
    if len(envelope.requests) > limits.operations_max:
        detail = f"{len(envelope.requests)} requests; at most {limits.operations_max} fit in one batch"
        raise EnvelopeError("too-many-operations", detail, members={"max": limits.operations_max})
    check_members_once(data, msgspec.json.encode(envelope), _levels)
    return envelope.requests


def _levels(decoded: Any) -> Iterator[tuple[str, Any]]:
    yield "", decoded
    for index, entry in enumerate(decoded.get("requests")):
        yield f"/requests/{index}", entry
        yield f"/requests/{index}/headers", entry.get("headers")


def is_there(raw: Raw | UnsetType) -> bool:
    """Whether a member was given, and is not null."""
    return raw is not UNSET and bytes(raw) != b"null"


def operation_id(id_: str) -> str:
    """An entry's id as an operation may have it: what has no place there as `~` and the two digits of each byte."""
    return _NOT_IN_AN_ID.sub(lambda found: "".join(f"~{byte:02X}" for byte in found[0].encode()), id_)


def entry_id(id_: str) -> str:
    """The id of the entry that became an operation of this id."""
    return _ESCAPED.sub(lambda found: bytes.fromhex(found[0].replace("~", "")).decode(), id_)


def target_of(url: str, *, origins: frozenset[str], root: str, slash_root: str) -> str:
    """Where the entry goes: path and query. `root` is the service root that a relative URL continues; `slash_root` is
    what a URL with a slash in front continues. A whole URL may name one of `origins`.

    Blanks and letters beyond ASCII, as people write them in a `$filter`, are escaped (RFC 3987 3.1).
    """
    if not url:
        raise EntryError("url", "write the URL that the request goes to")
    if "{" + MARK in url:  # no references in this dialect
        raise EntryError("url", f"{quoted(url)} has a brace in it; escape it")
    if " " in url or not url.isascii():
        url = quote(url, safe=_VISIBLE + _CONTROLS)
    if whole := _ABSOLUTE.fullmatch(url):
        if origin_of(f"{whole[1]}://{whole[2]}") not in origins:
            raise EntryError("url", f"{quoted(url)} is on another host; write its path")
        return whole[3] if whole[3].startswith("/") else f"/{whole[3]}"
    return f"{slash_root}{url}" if url.startswith("/") else f"{root}/{url}"


def origin_of(origin: str) -> str:
    """Scheme and authority in one spelling: small letters, and no port where the scheme says it."""
    scheme, _, authority = origin.lower().partition("://")
    return f"{scheme}://{authority.removesuffix(_DEFAULT_PORTS[scheme])}"


def fields_of(headers: Mapping[str, str], *, has_body: bool) -> Fields:
    """The header fields that travel. One that speaks of a body that is not there does not."""
    if not headers:
        return ()
    options = connection_options([(name.encode(), value.encode()) for name, value in headers.items()])
    dropped = _NOT_SENT | options | (set() if has_body else {b"content-type"})
    return tuple((name, value) for name, value in headers.items() if name.lower().encode() not in dropped)


def body_of(raw: Raw, fields: Fields) -> tuple[bytes, Fields]:
    """The bytes to send, and the field that they imply. Raises `EntryError`."""
    said = next((value for name, value in fields if name.lower() == "content-type"), None)
    implied = _JSON_FIELDS if said is None else ()
    essence = (said or "application/json").partition(";")[0].strip().lower()
    is_json = essence == "application/json" or essence.endswith("+json")
    data = bytes(raw)
    if not data.startswith(b'"'):
        if not is_json:
            raise EntryError("body", f"under {quoted(essence)} a body is a string: text, or base64 of its bytes")
        return data, implied
    text = _TEXT.decode(data)
    if essence.startswith("text/"):
        return text.encode(), ()
    decoded = _from_base64(text)
    if is_json:
        return (data if decoded is None or not _is_json(decoded) else decoded), implied
    if decoded is None:
        raise EntryError("body", f"under {quoted(essence)} a body is base64 or base64url (RFC 4648)")
    return decoded, ()


def _from_base64(text: str) -> bytes | None:
    """Base64 in either alphabet, padded or not; None for what is none."""
    bare = text.rstrip("=").translate(_TO_STANDARD)
    try:
        return base64.b64decode(bare + "=" * (-len(bare) % 4), validate=True)
    except (binascii.Error, ValueError):
        return None


def _is_json(data: bytes) -> bool:
    try:
        data.decode()
        _RAW.decode(data)
    except (UnicodeDecodeError, msgspec.DecodeError, RecursionError):
        return False
    return True
