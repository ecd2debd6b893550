"""What a store of idempotency keys promises.

A key is free, held (its operation is on its way), kept (its outcome is on record), failed (it ran and failed: the same
request may hold the key again) or lost (its holder is gone, and nobody knows whether its operation ran). A lost key
stays so until its end. Who holds a key proves it by a fence: the holder, and the epoch of its hold. The same holder may
go on under a later epoch, as a batch does whose worker died; from then on the fence of the earlier one proves nothing.
"""

import enum
from collections.abc import Sequence
from typing import NamedTuple, Protocol

from msgspec import Struct

NAME_BYTES = DIGEST_BYTES = 24
GROUP_BYTES, HOLDER_BYTES = 8, 12  # holders that claim together begin alike
EPOCH_BYTES = 6  # an epoch may be a time in milliseconds (gateway.ledger.redis)
FENCE_BYTES = HOLDER_BYTES + EPOCH_BYTES
KEPT_NAME_BYTES = GROUP_BYTES + 12  # the group that left it, and a nonce


def fence_of(group: bytes, place: int, epoch: int = 0) -> bytes:
    """Of the holder at `place` of a `group`: `GROUP_BYTES` that nobody else has."""
    return group + (place << 8 * EPOCH_BYTES | epoch).to_bytes(FENCE_BYTES - GROUP_BYTES, "big")


REPEATABLE = 1
"""A flag of a claim: the request may be sent again after its holder is lost (the retry law, PROMISES 2.1)."""
ANEW = 2
"""Another: whatever the key stood for, it stands for this claim from now on. What it kept goes: such a key is settled
by itself."""


class Claims(Struct, frozen=True, gc=False):
    """Wishes of one group to hold keys, in columns: row i of each belongs to the i-th.

    `places` are those of the holders in their group, `names` and `digests` keyed digests of the keys and of the
    requests, in the lengths above; `flags` has a byte for each.
    """

    group: bytes
    epoch: int
    places: Sequence[int]
    names: Sequence[bytes]
    digests: Sequence[bytes]
    flags: bytes

    def fence(self, row: int) -> bytes:
        return fence_of(self.group, self.places[row], self.epoch)

    def ended(self, rows: Sequence[int], ends: bytes, kept: bytes = b"") -> "Settlements":
        """The ends of those in `rows`."""
        places, names = self.places, self.names
        return Settlements(
            self.group, self.epoch, [places[row] for row in rows], [names[row] for row in rows], ends, kept
        )

    def forgotten(self, rows: Sequence[int]) -> "Settlements":
        return self.ended(rows, bytes([End.FORGET]) * len(rows))


class Verdict(enum.IntEnum):
    """How a claim was answered; the numbers are those of the scripts."""

    HELD = 0  # by this very claim: its operation may be sent
    BUSY = 1  # another holds it
    REUSED = 2  # it stands for another request
    KEPT = 3  # it has an outcome
    LOST = 4  # its holder is gone, and nobody knows
    FULL = 5  # its owner has too many keys


class Found(NamedTuple):
    """The answer to a claim. Of a kept or lost key `fence` is that of its last hold; `kept` are the bytes that `settle`
    was given, for this key and perhaps for others."""

    verdict: Verdict
    fence: bytes = b""
    kept: bytes = b""


HELD = Found(Verdict.HELD)


class End(enum.IntEnum):
    """What becomes of a held key; the numbers are those of the scripts."""

    KEEP = 0  # its outcome is answered from now on
    FAIL = 1  # the same request may hold it again
    FORGET = 2  # it is free for any request: nothing happened


class Settlements(Struct, frozen=True, gc=False):
    """Ends of holds of one group, in columns as in `Claims`; `ends` has a byte for each. Those that end with `KEEP`
    keep the same bytes, whose first `KEPT_NAME_BYTES` nobody else's begin with."""

    group: bytes
    epoch: int
    places: Sequence[int]
    names: Sequence[bytes]
    ends: bytes
    kept: bytes = b""

    def fence(self, row: int) -> bytes:
        return fence_of(self.group, self.places[row], self.epoch)


class Times(Struct, frozen=True, gc=False):
    """Milliseconds: for how long a hold lasts, and for how long a key is kept after that."""

    holds_ms: int
    keeps_ms: int


class Keys(Protocol):
    """Keys of many owners; `owner` is a keyed digest. Every method may raise `LedgerUnavailableError`: nobody knows
    then whether it had an effect, and the same call again has none beyond it. So it is with a call that is cancelled:
    what is asked afterwards comes after it."""

    async def claim(self, owner: bytes, claims: Claims, times: Times, keys_max: int) -> Sequence[Found]:
        """One answer a claim, in order, all in one atomic step: of those who claim a free key at once, one holds it.

        A hold whose time is up is lost, or goes to the claim where that is repeatable. One of the same holder, lost or
        not, goes to the claim unless its epoch is later. Durable before it is answered, as far as the store is. Above
        `keys_max` keys of the owner a free one is not given out.
        """
        ...

    async def settle(self, owner: bytes, settlements: Settlements, keeps_ms: int) -> Sequence[bool]:
        """Whether each took effect, or had done so before, in order; all in one atomic step.

        A hold that was lost meanwhile may still be settled by its own fence. One that another holds, or that is settled
        already, stays as it is. To forget what nobody holds is to have done so before.
        """
        ...

    async def sweep(self) -> int:
        """Remove keys whose end has come, some at a time; how many."""
        ...

    async def close(self) -> None:
        """Finish what was asked. Holds of a store that only this process uses are lost at its next start."""
        ...
