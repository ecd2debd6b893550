"""Whose key it is, and for which request: keyed digests, so that a store holds neither keys nor requests. Pure.

A caller's name is part of a key's name, so that no key is ever another caller's (PROMISES X7). What makes a request the
same is its method, path, query, content type and body. Each part goes in with its length: no two ways to cut it.
"""

from collections.abc import Iterable
from hashlib import blake2b

from gateway.batch.model import Operation

_BYTES = 24  # of a digest: 192 bits


class Names:
    """Makes digests under `secret`, 32 bytes that all replicas share."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    def of_owner(self, identity: str) -> bytes:
        return self._digest(b"owner", [identity.encode("utf-8", "surrogateescape")])

    def of_key(self, owner: bytes, key: str, *, of_envelope: bool = False) -> bytes:
        """An envelope's key and an operation's are two even where they are spelled the same."""
        return self._digest(b"envelope" if of_envelope else b"operation", [owner, key.encode()])

    def of_request(self, operation: Operation) -> bytes:
        """References to other operations count as they are written."""
        said = [value.encode() for name, value in operation.fields if name.lower() == "content-type"]
        parts = [operation.method.encode(), operation.target.encode(), b"\n".join(said)]
        return self._digest(b"request", [*parts, b"1" if operation.has_body else b"0", operation.body])

    def of_envelope(self, parts: Iterable[bytes]) -> bytes:
        return self._digest(b"whole", parts)

    def seal_key(self, name: bytes, fence: bytes) -> bytes:
        """The key, 32 bytes, that seals what one hold of `name` leaves."""
        return blake2b(name + fence, digest_size=32, key=self._secret, person=b"seal").digest()

    def _digest(self, purpose: bytes, parts: Iterable[bytes]) -> bytes:
        digest = blake2b(digest_size=_BYTES, key=self._secret, person=purpose)
        for part in parts:
            digest.update(len(part).to_bytes(8, "big"))
            digest.update(part)  # apart: an envelope is large
        return digest.digest()
