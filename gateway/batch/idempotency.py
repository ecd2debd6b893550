"""What an idempotency key looks like. Pure.

`Idempotency-Key` is a quoted string in the IETF draft (draft-ietf-httpapi-idempotency-key-header) and a bare word with
everybody who had it before; both mean the same key.
"""

import re

from gateway.batch.model import Fields

FIELD = "Idempotency-Key"
CURE = 'write 1 to 255 visible ASCII characters without " and \\, bare or in quotes'
_KEY = re.compile(r'"[!#-\[\]-~]{1,255}"|[!#-\[\]-~]{1,255}')
_LOWERED = FIELD.lower()


class BadKeyError(Exception):
    """No idempotency key; the words say why."""


def is_key(said: str) -> bool:
    """Whether it is well-formed."""
    return _KEY.fullmatch(said) is not None


def bare(key: str) -> str:
    """The key without its quotes."""
    return key.strip('"')


def keyed(fields: Fields, said: str | None) -> tuple[Fields, str]:
    """The other fields, and the key as it was said, empty where there is none; `said` is the member's.

    Raises `BadKeyError`.
    """
    keys = [field for field in fields if len(field[0]) == len(FIELD) and field[0].lower() == _LOWERED]
    if said is None and not keys:
        return fields, ""
    if len(keys) > 1 or (said is not None and keys):
        raise BadKeyError("the key stands twice; write idempotencyKey or one Idempotency-Key field")
    key = keys[0][1] if said is None else said
    if not is_key(key):
        raise BadKeyError(CURE)
    return tuple([field for field in fields if field not in keys]), key
