"""Outcomes and whole answers as the bytes that a key keeps: AES-256-GCM, compressed where that is worth its time.

Keys that were claimed together are sealed under one key, which no others are, each with a random nonce (NIST SP
800-38D) and bound to its name and fence. The fence stands in front: with it the seal is opened again.
"""

import zlib
from typing import TYPE_CHECKING

import msgspec

from gateway.batch.model import Failure, Outcome
from gateway.errors import GatewayError
from gateway.ledger.seal import PayloadCorruptError, cipher_of
from gateway.replay.names import Names
from gateway.replay.port import FENCE_BYTES, GROUP_BYTES, HOLDER_BYTES, Claim

if TYPE_CHECKING:
    from gateway.ledger.aead import Aead

_PLAIN, _PACKED = b"\x00", b"\x01"
_LEVEL = 1  # of zlib
_PACKED_FROM_BYTES = 1024  # less takes longer to compress than all the rest
_ANSWER_PACKED_FROM_BYTES = 65_536  # from here on it is done in a thread
_CIPHERS_MAX = 1024

_encode = msgspec.msgpack.Encoder().encode
_outcome = msgspec.msgpack.Decoder(Outcome)


class Vault:
    """Seals what is kept. What is above `bytes_max` is not, only that it was."""

    def __init__(self, names: Names, bytes_max: int) -> None:
        self._names = names
        self._bytes_max = bytes_max
        self._ciphers: dict[bytes, Aead] = {}

    def seal(self, name: bytes, fence: bytes, content: bytes, packed_from_bytes: int = _PACKED_FROM_BYTES) -> bytes:
        is_plain = len(content) < packed_from_bytes
        content = _PLAIN + content if is_plain else _PACKED + zlib.compress(content, _LEVEL)
        return fence + self._cipher(fence).seal(content, name + fence)

    def open(self, name: bytes, kept: bytes) -> bytes:
        """Raises `PayloadCorruptError`."""
        fence = kept[:FENCE_BYTES]
        content = self._cipher(fence).open(kept[FENCE_BYTES:], name + fence)
        return zlib.decompress(content[1:]) if content[:1] == _PACKED else content[1:]

    def seal_outcome(self, name: bytes, fence: bytes, outcome: Outcome) -> bytes:
        if len(outcome.body) > self._bytes_max:
            detail = "it ran under this key before; its answer was too large to be kept"
            members = {"upstreamStatus": outcome.status}
            outcome = Outcome(outcome.index, 507, failure=Failure("response-budget-exceeded", detail, members=members))
        return self.seal(name, fence, _encode(outcome))

    def open_outcome(self, claim: Claim, kept: bytes, index: int) -> Outcome:
        """The outcome of the operation at `index`: its own, where the claim's holder has left it, else marked as
        replayed; 500 where its record is damaged."""
        try:
            outcome = _outcome.decode(self.open(claim.name, kept))
        except (PayloadCorruptError, msgspec.DecodeError):
            detail = "the record of what this key stands for is damaged; the operation ran before"
            return Outcome(index, 500, failure=Failure("payload-corrupt", detail))
        if kept[:HOLDER_BYTES] == claim.fence[:HOLDER_BYTES]:
            return msgspec.structs.replace(outcome, index=index)
        return msgspec.structs.replace(outcome, index=index, upstream_s=0.0, attempts=0, replayed=True)

    def seal_answer(self, name: bytes, fence: bytes, answer: bytes | None) -> bytes:
        """None: it was too large to be kept."""
        return self.seal(name, fence, b"" if answer is None else b"\x01" + answer, _ANSWER_PACKED_FROM_BYTES)

    def open_answer(self, name: bytes, kept: bytes) -> bytes | None:
        """Raises 500 `payload-corrupt` where the record is damaged."""
        try:
            content = self.open(name, kept)
        except PayloadCorruptError:
            detail = "the record of what this key stands for is damaged; the envelope ran before"
            raise GatewayError("payload-corrupt", detail) from None
        return content[1:] if content else None

    def _cipher(self, fence: bytes) -> "Aead":
        group = fence[:GROUP_BYTES]
        cipher = self._ciphers.get(group)
        if cipher is None:
            if len(self._ciphers) >= _CIPHERS_MAX:
                self._ciphers.clear()
            cipher = self._ciphers[group] = cipher_of(self._names.seal_key(group))
        return cipher
