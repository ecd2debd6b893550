"""Whose key it is, and for which request: keyed digests, so that a store holds neither keys nor requests. Pure.

A caller's name is part of a key's name, so that no key is ever another caller's (PROMISES X7). What makes a request the
same is its method, path, query, content type and body. Each part goes in with its length: no two ways to cut it.
"""

from collections.abc import Iterable, Sequence
from hashlib import blake2b

from gateway.batch.idempotency import bare
from gateway.batch.model import Fields, Operation
from gateway.replay.port import DIGEST_BYTES

_PURPOSES = (b"owner", b"operation", b"envelope", b"request", b"whole")
_TYPE = "content-type"


class Names:
    """Makes digests under `secret`, 32 bytes that all replicas share."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret
        self._begun = {each: blake2b(digest_size=DIGEST_BYTES, key=secret, person=each) for each in _PURPOSES}

    def of_owner(self, identity: str) -> bytes:
        return self._digest(b"owner", identity.encode("utf-8", "surrogateescape"))

    def of_envelope_key(self, owner: bytes, key: str) -> bytes:
        """An envelope's key and an operation's are two even where they are spelled the same."""
        return self._digest(b"envelope", owner + key.encode())

    def of_keys(self, owner: bytes, operations: Iterable[Operation]) -> list[bytes]:
        """The names of operations' keys."""
        begun = self._begun[b"operation"].copy()
        begun.update(owner)
        return _digests(begun, [bare(operation.key).encode() for operation in operations])

    def of_requests(self, operations: Iterable[Operation]) -> list[bytes]:
        """References to other operations count as they are written."""
        shared, type_, told = None, "", []
        for operation in operations:
            if operation.fields != shared:  # most of a batch have the same
                shared, type_ = operation.fields, _type_of(operation.fields)
            target = operation.target
            has_body = "1" if operation.has_body else "0"  # a format of its own would take longer than the digest
            head = f"{operation.method} {len(target)} {has_body} {type_}\n{target}"
            told.append(head.encode() + operation.body)
        return _digests(self._begun[b"request"], told)

    def of_envelope(self, parts: Iterable[bytes]) -> bytes:
        digest = self._begun[b"whole"].copy()
        for part in parts:
            digest.update(len(part).to_bytes(8, "big"))
            digest.update(part)  # apart: an envelope is large
        return digest.digest()

    def seal_key(self, group: bytes) -> bytes:
        """The key, 32 bytes, that seals what a group of holders leaves."""
        return blake2b(group, digest_size=32, key=self._secret, person=b"seal").digest()

    def _digest(self, purpose: bytes, data: bytes) -> bytes:
        digest = self._begun[purpose].copy()
        digest.update(data)
        return digest.digest()


def _type_of(fields: Fields) -> str:
    """The content type, behind its length."""
    said = "\n".join([value for name, value in fields if name.lower() == _TYPE])
    return f"{len(said)} {said}"


def _digests(begun: blake2b, parts: Sequence[bytes]) -> list[bytes]:
    """Of each part behind what was begun."""
    digests = []
    for part in parts:
        digest = begun.copy()
        digest.update(part)
        digests.append(digest.digest())
    return digests
