"""What an idempotency key looks like. Pure.

`Idempotency-Key` is a quoted string in the IETF draft (draft-ietf-httpapi-idempotency-key-header) and a bare word with
everybody who had it before; both mean the same key.
"""

import re

from gateway.batch.model import Fields, Operation

FIELD = "Idempotency-Key"
CURE = 'write 1 to 255 visible ASCII characters without " and \\, bare or in quotes'
_KEY = re.compile(r'"([!#-\[\]-~]{1,255})"|([!#-\[\]-~]{1,255})')
_LOWERED = FIELD.lower()


class BadKeyError(Exception):
    """No idempotency key; the words say why."""


def key_of(said: str) -> str | None:
    """The key without its quotes; None where it is malformed."""
    found = _KEY.fullmatch(said)
    return found and (found[1] or found[2])


def without_key(operation: Operation) -> Fields:
    """The fields that other operations of its batch may share: without its key's, where that stands last."""
    fields = operation.fields
    return fields[:-1] if operation.key and fields and fields[-1][0] == FIELD else fields


def keyed(fields: Fields, said: str | None) -> tuple[Fields, str]:
    """What is to stand behind the fields, and the key, empty where there is none; `said` is the member's.

    Raises `BadKeyError`.
    """
    in_fields = [value for name, value in fields if len(name) == len(FIELD) and name.lower() == _LOWERED]
    if said is None and not in_fields:
        return (), ""
    if len(in_fields) > 1 or (said is not None and in_fields):
        raise BadKeyError("the key stands twice; write idempotencyKey or one Idempotency-Key field")
    key = key_of(in_fields[0] if said is None else said)
    if key is None:
        raise BadKeyError(CURE)
    return () if said is None else ((FIELD, said),), key
