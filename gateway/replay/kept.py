"""Outcomes and whole answers as the bytes that a key keeps: compressed, AES-256-GCM (see gateway.ledger.seal)."""

import msgspec

from gateway.batch.model import Failure, Outcome
from gateway.errors import GatewayError
from gateway.ledger.seal import BatchKey, PayloadCorruptError
from gateway.replay.names import Names
from gateway.replay.port import EPOCH_BYTES, HOLDER_BYTES, Claim

_FENCE_BYTES = HOLDER_BYTES + EPOCH_BYTES
_PURPOSE = "replay"
_encode = msgspec.msgpack.Encoder().encode
_outcome = msgspec.msgpack.Decoder(Outcome)


class Vault:
    """Seals what is kept, each under a key of its own. What is above `bytes_max` is not kept, only that it was."""

    def __init__(self, names: Names, bytes_max: int) -> None:
        self._names = names
        self._bytes_max = bytes_max

    def seal(self, name: bytes, fence: bytes, content: bytes) -> bytes:
        """The fence goes in front: with it the seal is opened again."""
        return fence + self._key(name, fence).seal(content, _PURPOSE)

    def open(self, name: bytes, kept: bytes) -> bytes:
        """Raises `PayloadCorruptError`."""
        return self._key(name, kept[:_FENCE_BYTES]).open(kept[_FENCE_BYTES:], _PURPOSE)

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
        return self.seal(name, fence, b"" if answer is None else b"\x01" + answer)

    def open_answer(self, name: bytes, kept: bytes) -> bytes | None:
        """Raises 500 `payload-corrupt` where the record is damaged."""
        try:
            content = self.open(name, kept)
        except PayloadCorruptError:
            detail = "the record of what this key stands for is damaged; the envelope ran before"
            raise GatewayError("payload-corrupt", detail) from None
        return content[1:] if content else None

    def _key(self, name: bytes, fence: bytes) -> BatchKey:
        return BatchKey(name.hex(), self._names.seal_key(name, fence))
