"""Where Facebook's parameters stand: in a form, the fields of a `multipart/form-data`, JSON, and the query (WIRE 7.1).

Those of the body win over those of the query, later ones over earlier ones; unknown ones are not looked at.
"""

import re
from collections.abc import Iterator, Mapping
from typing import NamedTuple
from urllib.parse import unquote_to_bytes

import msgspec

from gateway.dialects.multipart import PartError, boundary_of, field_of, fields_of, head_of, parts_of
from gateway.dialects.port import Call, EnvelopeError
from gateway.upstream.headers import RawFields

FORM, MULTIPART, JSON = "application/x-www-form-urlencoded", "multipart/form-data", "application/json"
PARTS_MAX = 1000
_WINDOW_BYTES = 65536

_NAMES = ("batch", "access_token", "appsecret_proof", "include_headers")
_PIECE = re.compile(rb"(?:^|(?<=&))(" + "|".join(_NAMES).encode() + rb")=([^&]*)")
_BEGINS_WITH_BATCH = re.compile(rb'\s*\{\s*"batch"\s*:')
_NAME = re.compile(rb';[ \t]*name=(?:"([^"\\]*)"|([^\s;"]+))', re.IGNORECASE)
_FILENAME = re.compile(rb";[ \t]*filename\*?=", re.IGNORECASE)


class File(NamedTuple):
    """A part with a file in it: its fields and its content, as they came."""

    fields: RawFields
    content: bytes


class Said(NamedTuple):
    """The parameters of a call that holds a batch, as text; empty where one is not there. `batch` is JSON."""

    batch: bytes
    access_token: str = ""
    appsecret_proof: str = ""
    include_headers: str = ""
    files: Mapping[str, File] = {}


class _Members(msgspec.Struct, gc=False):
    batch: msgspec.Raw = msgspec.Raw()
    access_token: msgspec.Raw = msgspec.Raw()
    appsecret_proof: msgspec.Raw = msgspec.Raw()
    include_headers: msgspec.Raw = msgspec.Raw()


_MEMBERS = msgspec.json.Decoder(_Members)
_STRING = msgspec.json.Decoder(str)


def essence_of(media_type: str) -> str:
    return media_type.partition(";")[0].strip().lower()


def read(call: Call) -> Said | None:
    """The parameters of the call; None where `batch` is not among them. Raises `EnvelopeError`."""
    found = dict(_in_form(call.query.encode("utf-8", "replace")))
    files: dict[str, File] = {}
    essence = essence_of(call.content_type)
    if essence == FORM:
        pieces = _in_form(call.body)
    elif "batch" not in found and b"batch" not in call.body:
        return None
    else:
        pieces = (
            _in_json(call.body) if essence == JSON else _in_parts(call, files) if essence == MULTIPART else iter(())
        )
    try:
        found.update(pieces)  # those before an error stay
    except EnvelopeError:
        if "batch" in found:
            raise
    if "batch" not in found:
        return None  # whatever it is, broken or not, the upstream shall say
    words = {name: value.decode("utf-8", "replace") for name, value in found.items() if name != "batch"}
    return Said(found["batch"], files=files, **words)


def _in_form(data: bytes) -> Iterator[tuple[str, bytes]]:
    last = {found[1]: found[2] for found in _PIECE.finditer(data)}
    for name, value in last.items():
        yield name.decode(), b"".join(_unquoted(value.replace(b"+", b" ")))


def _unquoted(text: bytes) -> Iterator[bytes]:
    """The text without its percent-encoding, by windows: of each escape the decoder makes an object."""
    start = 0
    while start < len(text):
        end = start + _WINDOW_BYTES
        cut = text.rfind(b"%", end - 2, end)  # an escape is not cut in two
        end = end if cut < 0 else cut
        yield unquote_to_bytes(text[start:end])
        start = end


def _in_json(data: bytes) -> Iterator[tuple[str, bytes]]:
    try:
        members = _MEMBERS.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        if _BEGINS_WITH_BATCH.match(data):  # broken, or above the limit and not whole
            yield "batch", data
        return
    for name in _NAMES:
        raw = bytes(getattr(members, name))
        if raw.startswith(b'"'):
            yield name, _STRING.decode(raw).encode()
        elif raw not in (b"", b"null"):
            yield name, raw


def _in_parts(call: Call, files: dict[str, File]) -> Iterator[tuple[str, bytes]]:
    """The parameters among the parts; all parts with a file go to `files`. Parts without a name are not looked at."""
    try:
        for number, part in enumerate(parts_of(call.body, boundary_of(call.content_type))):
            if number == PARTS_MAX:
                raise EnvelopeError("invalid-envelope", f"more than {PARTS_MAX} parts; send several batches")
            head, content = head_of(part)
            fields = fields_of(head)
            disposition = field_of(fields, b"content-disposition") or b""
            named = _NAME.search(disposition)
            if named is None:
                continue
            name = (named[1] or named[2] or b"").decode("utf-8", "replace")
            if _FILENAME.search(disposition):
                files[name] = File(fields, content)
            elif name in _NAMES:
                yield name, content
    except PartError as error:
        raise EnvelopeError("invalid-envelope", f"a part of the form: {error}") from None
