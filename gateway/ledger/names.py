"""Who owns a batch, and what it is called: digests and ids under the master key.

An id is 40 characters of base32: 16 random bytes, the second of its making, and a code that binds both to the owner. So
a batch that is forgotten needs no record: the id itself tells its owner that it once stood for one. Nobody can make
such an id, and to anybody else it says nothing.
"""

import base64
import hashlib
import hmac
import re
from secrets import token_bytes

_RANDOM_BYTES = 16  # PROMISES S7: at least 128 bits
_TIME_BYTES = 4
_CODE_BYTES = 5
_OWNER_BYTES = 16
_ID = re.compile(r"[a-z2-7]{40}")


class Names:
    """Names under one master key."""

    def __init__(self, master: bytes) -> None:
        self._key = hmac.digest(master, b"names", hashlib.sha256)

    def owner_of(self, identity: str) -> str:
        """The keyed digest of a caller's identity."""
        return hmac.digest(self._key, b"owner\n" + identity.encode(), hashlib.sha256)[:_OWNER_BYTES].hex()

    def new_id(self, owner: str, now_s: float) -> str:
        return self._id(token_bytes(_RANDOM_BYTES) + int(now_s).to_bytes(_TIME_BYTES, "big"), owner)

    def id_of(self, owner: str, seed: bytes, made_s: int) -> str:
        """The same id for the same seed, which nobody else has, made at `made_s`."""
        random = hmac.digest(self._key, b"seed\n" + seed, hashlib.sha256)[:_RANDOM_BYTES]
        return self._id(random + made_s.to_bytes(_TIME_BYTES, "big"), owner)

    def made_s(self, batch_id: str, owner: str) -> int | None:
        """When the id was made for this owner, in seconds since 1970; None for every other text."""
        if not is_id(batch_id):
            return None
        data = base64.b32decode(batch_id.upper())
        named, code = data[:-_CODE_BYTES], data[-_CODE_BYTES:]
        if not hmac.compare_digest(self._code(named, owner), code):
            return None
        return int.from_bytes(named[_RANDOM_BYTES:], "big")

    def _id(self, named: bytes, owner: str) -> str:
        return base64.b32encode(named + self._code(named, owner)).decode().lower()

    def _code(self, named: bytes, owner: str) -> bytes:
        return hmac.digest(self._key, b"id\n" + owner.encode() + named, hashlib.sha256)[:_CODE_BYTES]


def is_id(text: str) -> bool:
    """Whether a text has the form of an id."""
    return _ID.fullmatch(text) is not None
