"""One operation of a native envelope: its members as they come, and what they say."""

import base64
import binascii
from typing import Literal

import msgspec
from msgspec import UNSET, Raw, UnsetType

from gateway.batch.idempotency import BadKeyError, keyed
from gateway.batch.model import Fields, Operation
from gateway.dialects.native_shape import ShapeError

Headers = dict[str, str | list[str]]

_NUMBER = msgspec.json.Decoder(float)
_TEXT = msgspec.json.Decoder(str)
_JSON_FIELDS: Fields = (("Content-Type", "application/json"),)
_BYTES_FIELDS: Fields = (("Content-Type", "application/octet-stream"),)


class WireOperation(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True, gc=False):
    id: str | UnsetType = UNSET
    method: str | UnsetType = UNSET
    path: str | UnsetType = UNSET
    headers: Headers | UnsetType = UNSET
    body: Raw | UnsetType = UNSET
    bodyEncoding: Literal["base64"] | UnsetType = UNSET  # noqa: N815 the wire's word
    timeoutSeconds: Raw | UnsetType = UNSET  # noqa: N815
    dependsOn: list[str] | UnsetType = UNSET  # noqa: N815
    idempotencyKey: str | UnsetType = UNSET  # noqa: N815


def operation_of(wire: WireOperation, id_: str, method: str, target: str, defaults: Fields) -> Operation:
    """The operation that `wire` is, with the defaults' fields where it has none of its own. Raises `ShapeError`."""
    fields = defaults if wire.headers is UNSET else fields_of(defaults, wire.headers)
    fields, key = _keyed(fields, wire)
    timeout_s = None if wire.timeoutSeconds is UNSET else _timeout_s(wire.timeoutSeconds)
    parents = () if wire.dependsOn is UNSET else tuple(wire.dependsOn)
    if wire.body is UNSET or (bytes(wire.body) == b"null" and method in ("GET", "HEAD")):
        if wire.bodyEncoding is not UNSET and wire.body is UNSET:
            raise ShapeError("bodyEncoding", "body-not-allowed", "there is no body to decode; leave bodyEncoding out")
        return Operation(id_, method, target, fields, timeout_s=timeout_s, depends_on=parents, key=key)
    body, implied = _body(wire.body, fields, encoded=wire.bodyEncoding is not UNSET)
    return Operation(id_, method, target, fields + implied, body, True, timeout_s, parents, key)


def _keyed(fields: Fields, wire: WireOperation) -> tuple[Fields, str]:
    said = None if wire.idempotencyKey is UNSET else wire.idempotencyKey
    try:
        return keyed(fields, said)
    except BadKeyError as error:
        raise ShapeError(
            "headers" if said is None else "idempotencyKey", "idempotency-key-invalid", str(error)
        ) from None


def fields_of(defaults: Fields, own: Headers) -> Fields:
    """The operation's fields in order, its own ones in place of the defaults of the same name."""
    named = {name.lower() for name in own}
    kept = tuple(field for field in defaults if field[0].lower() not in named)
    return kept + tuple(
        (name, value) for name, values in own.items() for value in (values if isinstance(values, list) else [values])
    )


def _body(raw: Raw, fields: Fields, *, encoded: bool) -> tuple[bytes, Fields]:
    """The bytes to send, and the field that they imply: the caller's JSON text, or a string's text or bytes."""
    media_type = next((value for name, value in fields if name.lower() == "content-type"), None)
    text = bytes(raw)
    if encoded:
        return _decoded_base64(text), () if media_type else _BYTES_FIELDS
    if media_type is None:
        return text, _JSON_FIELDS
    essence = media_type.partition(";")[0].strip().lower()
    if essence == "application/json" or essence.endswith("+json"):
        return text, ()
    if not text.startswith(b'"'):
        raise ShapeError(
            "body", "body-not-allowed", "a body that is not JSON is a string; quote it or use bodyEncoding"
        )
    return _TEXT.decode(text).encode("utf-8"), ()


def _decoded_base64(text: bytes) -> bytes:
    try:
        return base64.b64decode(_TEXT.decode(text), validate=True)
    except (msgspec.ValidationError, binascii.Error, ValueError):
        raise ShapeError("body", "body-not-allowed", "the body is not base64 (RFC 4648 section 4, padded)") from None


def _timeout_s(raw: Raw) -> float:
    try:
        return _NUMBER.decode(raw)
    except msgspec.DecodeError:
        raise ShapeError("timeoutSeconds", "timeout", "write a number of seconds") from None
