"""Payloads at rest: compressed, then sealed with AES-256-GCM under a key of the batch (PROMISES S8, D12).

Each batch has a random key, which is itself sealed under the gateway's master key and stays with it as long as its
results do. The context, with the caller's credentials in it, has a key of its own, which stands wrapped before it: both
are erased when the batch ends, so that no copy of the sealed bytes opens any more. What a seal is for (batch, purpose)
is authenticated with it, so that a payload moved to another place does not open. Format: one version byte, a 12-byte
random nonce, the ciphertext with its tag (NIST SP 800-38D).
"""

import os
import zlib
from functools import cache, cached_property
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gateway.ledger.aead import Aead

KEY_BYTES = 32
_VERSION = b"\x01"
NONCE_BYTES = 12
_TAG_BYTES = 16
_WRAPPED_BYTES = len(_VERSION) + NONCE_BYTES + KEY_BYTES + _TAG_BYTES
_LEVEL = 1  # of zlib: payloads are small and the writer is on the hot path


class PayloadCorruptError(Exception):
    """A payload that does not open: damaged, moved, or sealed under another key."""


class BatchKey:
    """Seals and opens one batch's payloads. `purpose` names the place, such as `operations/3`."""

    def __init__(self, batch_id: str, key: bytes) -> None:
        self._batch_id = batch_id
        self._cipher = cipher_of(key)

    def seal(self, payload: bytes, purpose: str) -> bytes:
        return _sealed(self._cipher, zlib.compress(payload, _LEVEL), self._about(purpose))

    def open(self, sealed: bytes, purpose: str) -> bytes:
        """The payload; `PayloadCorruptError` where it was not sealed for this place."""
        return zlib.decompress(_opened(self._cipher, sealed, self._about(purpose)))

    def _about(self, purpose: str) -> bytes:
        return f"{self._batch_id}\n{purpose}".encode()


class Sealer:
    """Makes and opens batch keys under the master key, 32 bytes."""

    def __init__(self, master: bytes) -> None:
        self._master = master

    @cached_property
    def _cipher(self) -> "Aead":
        return cipher_of(self._master)

    def new_key(self, batch_id: str) -> tuple[BatchKey, bytes]:
        """A fresh key, and the same wrapped, to be kept with the batch."""
        key = os.urandom(KEY_BYTES)
        return BatchKey(batch_id, key), _sealed(self._cipher, key, batch_id.encode())

    def seal_apart(self, batch_id: str, payload: bytes, purpose: str) -> bytes:
        """Sealed under a fresh key of its own, which comes with it, wrapped."""
        key, wrapped = self.new_key(batch_id)
        return wrapped + key.seal(payload, purpose)

    def open_apart(self, batch_id: str, sealed: bytes, purpose: str) -> bytes:
        """The payload; `PayloadCorruptError` where it was not sealed for this place, or under another master key."""
        return self.key(batch_id, sealed[:_WRAPPED_BYTES]).open(sealed[_WRAPPED_BYTES:], purpose)

    def key(self, batch_id: str, wrapped: bytes) -> BatchKey:
        """The batch's key; `PayloadCorruptError` where it was wrapped for another batch or under another master key."""
        return BatchKey(batch_id, _opened(self._cipher, wrapped, batch_id.encode()))


def cipher_of(key: bytes) -> "Aead":
    """The cipher of a key of 32 bytes."""
    return _aead()(key)


@cache
def _aead() -> "type[Aead]":
    """A gateway that seals nothing does not load it."""
    from gateway.ledger.aead import Aead

    return Aead


def _sealed(cipher: "Aead", data: bytes, about: bytes) -> bytes:
    return _VERSION + cipher.seal(data, about)


def _opened(cipher: "Aead", sealed: bytes, about: bytes) -> bytes:
    if sealed[:1] != _VERSION:
        raise PayloadCorruptError("not a sealed payload of version 1")
    return cipher.open(sealed[1:], about)
