"""Outcomes and whole answers as the bytes that keys keep: AES-256-GCM, compressed where that is worth its time.

What ends together is sealed in one piece, the names and fences of its keys inside: each finds its own there, and no
other. A seal's key is of its group of holders alone, its nonce random (NIST SP 800-38D); both stand in front.
"""

import zlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import msgspec

from gateway.batch.model import Failure, Outcome
from gateway.errors import GatewayError
from gateway.ledger.seal import PayloadCorruptError, cipher_of
from gateway.replay.names import Names
from gateway.replay.port import GROUP_BYTES, HOLDER_BYTES, NAME_BYTES, Claims, Found, Verdict, fence_of

if TYPE_CHECKING:
    from gateway.ledger.aead import Aead

_PLAIN, _PACKED = b"\x00", b"\x01"
_LEVEL = 1  # of zlib
_PACKED_FROM_BYTES = 1024  # of each outcome; less takes longer to compress than all the rest
_ANSWER_PACKED_FROM_BYTES = 65_536  # from here on it is done in a thread
_CIPHERS_MAX = 1024


class _Together(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The i-th of `places`, of `names` and of `outcomes`, each encoded, belong together."""

    epoch: int
    places: list[int]
    names: bytes
    outcomes: list[msgspec.Raw]


_encode = msgspec.msgpack.Encoder().encode
_together = msgspec.msgpack.Decoder(_Together)
_outcome = msgspec.msgpack.Decoder(Outcome)


class Vault:
    """Seals what is kept. What is above `bytes_max` is not, only that it was."""

    def __init__(self, names: Names, bytes_max: int) -> None:
        self._names = names
        self._bytes_max = bytes_max
        self._ciphers: dict[bytes, Aead] = {}

    def seal_outcomes(self, claims: Claims, rows: Sequence[int], outcomes: Sequence[Outcome]) -> bytes:
        """What the claims in `rows` keep."""
        names, places, most = claims.names, claims.places, self._bytes_max
        fitting = [outcome if len(outcome.body) <= most else _too_large(outcome) for outcome in outcomes]
        content = _encode(
            (claims.epoch, [places[row] for row in rows], b"".join([names[row] for row in rows]), fitting)
        )
        return self._seal(claims.group, content, b"outcomes", _PACKED_FROM_BYTES * len(rows))

    def opened(self, claims: Claims, found: Sequence[Found]) -> Iterator[tuple[int, Outcome]]:
        """The rows of kept keys, each with its outcome: its own, where the claim's holder has left it, else marked as
        replayed; 500 where its record is damaged."""
        encoded: dict[bytes, dict[bytes, msgspec.Raw]] = {}
        for row, (verdict, fence, kept) in enumerate(found):
            if verdict is not Verdict.KEPT:
                continue
            if kept not in encoded:
                encoded[kept] = self._encoded(kept)
            raw = encoded[kept].get(claims.names[row] + fence)
            place = claims.places[row]
            try:
                outcome = _outcome.decode(b"" if raw is None else raw)
            except msgspec.DecodeError:
                detail = "the record of what this key stands for is damaged; the operation ran before"
                yield row, Outcome(place, 500, failure=Failure("payload-corrupt", detail))
                continue
            if fence[:HOLDER_BYTES] != claims.fence(row)[:HOLDER_BYTES]:
                outcome = msgspec.structs.replace(outcome, upstream_s=0.0, attempts=0, replayed=True)
            yield row, outcome

    def seal_answer(self, name: bytes, fence: bytes, answer: bytes | None) -> bytes:
        """None: it was too large to be kept."""
        content = b"" if answer is None else b"\x01" + answer
        return self._seal(fence[:GROUP_BYTES], content, name + fence, _ANSWER_PACKED_FROM_BYTES)

    def open_answer(self, name: bytes, fence: bytes, kept: bytes) -> bytes | None:
        """Raises 500 `payload-corrupt` where the record is damaged."""
        try:
            content = self._open(kept, name + fence)
        except PayloadCorruptError:
            detail = "the record of what this key stands for is damaged; the envelope ran before"
            raise GatewayError("payload-corrupt", detail) from None
        return content[1:] if content else None

    def _encoded(self, kept: bytes) -> dict[bytes, msgspec.Raw]:
        """Outcomes by name and fence; none where they do not open."""
        try:
            epoch, places, names, outcomes = msgspec.structs.astuple(_together.decode(self._open(kept, b"outcomes")))
        except (PayloadCorruptError, msgspec.DecodeError):
            return {}
        group = kept[:GROUP_BYTES]
        return {
            names[row * NAME_BYTES : (row + 1) * NAME_BYTES] + fence_of(group, place, epoch): outcomes[row]
            for row, place in enumerate(places)
        }

    def _seal(self, group: bytes, content: bytes, about: bytes, packed_from_bytes: int) -> bytes:
        is_plain = len(content) < packed_from_bytes
        content = _PLAIN + content if is_plain else _PACKED + zlib.compress(content, _LEVEL)
        return group + self._cipher(group).seal(content, about)

    def _open(self, kept: bytes, about: bytes) -> bytes:
        """Raises `PayloadCorruptError`."""
        content = self._cipher(kept[:GROUP_BYTES]).open(kept[GROUP_BYTES:], about)
        return zlib.decompress(content[1:]) if content[:1] == _PACKED else content[1:]

    def _cipher(self, group: bytes) -> "Aead":
        cipher = self._ciphers.get(group)
        if cipher is None:
            if len(self._ciphers) >= _CIPHERS_MAX:
                self._ciphers.clear()
            cipher = self._ciphers[group] = cipher_of(self._names.seal_key(group))
        return cipher


def _too_large(outcome: Outcome) -> Outcome:
    detail = "it ran under this key before; its answer was too large to be kept"
    members = {"upstreamStatus": outcome.status}
    return Outcome(outcome.index, 507, failure=Failure("response-budget-exceeded", detail, members=members))
