"""AES-256-GCM (NIST SP 800-38D) as seals use it. Imported when something is first sealed: its library takes 7 MiB."""

import os

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from gateway.ledger.seal import NONCE_BYTES, PayloadCorruptError


class Aead:
    """Encrypts under one key of 32 bytes, each time with a random nonce, which stands in front."""

    def __init__(self, key: bytes) -> None:
        self._cipher = AESGCM(key)

    def seal(self, data: bytes, about: bytes) -> bytes:
        nonce = os.urandom(NONCE_BYTES)
        return nonce + self._cipher.encrypt(nonce, data, about)

    def open(self, sealed: bytes, about: bytes) -> bytes:
        """Raises `PayloadCorruptError` where it was not sealed under this key, about this."""
        try:
            return self._cipher.decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], about)
        except (InvalidTag, ValueError):
            raise PayloadCorruptError("the seal does not match") from None
