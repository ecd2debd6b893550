"""Every key of the ledger in Redis. Pure.

Braces put all keys of a batch into one slot of a cluster, and all keys of the index into another.
The order is the one that the scripts name (lua/batch.lua, lua/index.lua).
"""

from collections.abc import Sequence

_OF_BATCH = ("meta", "operations", "free", "leased", "slices", "done", "intended", "parts")
_OF_INDEX = ("what", "ready", "later", "open", "mine", "states", "due", "turns", "served", "clock", "lost")

INDEX: Sequence[str] = tuple(f"{{bg:index}}:{name}" for name in _OF_INDEX)
META_OF_ANY_BATCH = "{bg:*}:meta"
"""A pattern for SCAN."""


def of_batch(batch_id: str) -> list[str]:
    tag = "{bg:" + batch_id + "}:"
    return [tag + name for name in _OF_BATCH]


def meta(batch_id: str) -> str:
    return f"{{bg:{batch_id}}}:meta"


def operations(batch_id: str) -> str:
    return f"{{bg:{batch_id}}}:operations"


def batch_of(meta_key: bytes) -> str:
    """The id in a batch's first key."""
    return meta_key.decode()[len("{bg:") : -len("}:meta")]
