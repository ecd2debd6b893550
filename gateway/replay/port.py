"""What a store of idempotency keys promises.

A key is free, held (its operation is on its way), kept (its outcome is on record), failed (it ran and failed: the same
request may hold the key again) or lost (its holder is gone, and nobody knows whether its operation ran). A lost key
stays so until its end. Who holds a key proves it by a fence: the holder, and the epoch of its hold. The same holder may
go on under a later epoch, as a batch does whose worker died; from then on the fence of the earlier one proves nothing.
"""

import enum
from collections.abc import Sequence
from typing import NamedTuple, Protocol

NAME_BYTES = DIGEST_BYTES = 24
GROUP_BYTES, HOLDER_BYTES = 8, 12  # holders that claim together begin alike
EPOCH_BYTES = 6  # an epoch may be a time in milliseconds (gateway.ledger.redis)
FENCE_BYTES = HOLDER_BYTES + EPOCH_BYTES


def fence_of(group: bytes, place: int, epoch: int = 0) -> bytes:
    """Of the holder at `place` of a `group`: `GROUP_BYTES` that nobody else has."""
    return group + (place << 8 * EPOCH_BYTES | epoch).to_bytes(FENCE_BYTES - GROUP_BYTES, "big")


class Claim(NamedTuple):
    """A wish to hold a key. `name` and `digest` are keyed digests of the key and of the request, in the lengths above.

    `repeatable`: the request may be sent again after its holder is lost (the retry law, PROMISES 2.1). `anew`: whatever
    the key stood for, it stands for this claim from now on.
    """

    name: bytes
    digest: bytes
    fence: bytes
    repeatable: bool
    anew: bool = False


class Verdict(enum.IntEnum):
    """How a claim was answered; the numbers are those of the scripts."""

    HELD = 0  # by this very claim: its operation may be sent
    BUSY = 1  # another holds it
    REUSED = 2  # it stands for another request
    KEPT = 3  # it has an outcome
    LOST = 4  # its holder is gone, and nobody knows
    FULL = 5  # its owner has too many keys


class Found(NamedTuple):
    """The answer to a claim; `kept` are the bytes that `settle` was given, of a lost key the fence of its last hold."""

    verdict: Verdict
    kept: bytes = b""


class End(enum.IntEnum):
    """What becomes of a held key; the numbers are those of the scripts."""

    KEEP = 0  # its outcome is answered from now on
    FAIL = 1  # the same request may hold it again
    FORGET = 2  # it is free for any request: nothing happened


class Settlement(NamedTuple):
    """The end of the hold that `fence` proves."""

    name: bytes
    fence: bytes
    end: End
    kept: bytes = b""


class Times(NamedTuple):
    """Milliseconds: for how long a hold lasts, and for how long a key is kept after that."""

    holds_ms: int
    keeps_ms: int


class Keys(Protocol):
    """Keys of many owners; `owner` is a keyed digest. Every method may raise `LedgerUnavailableError`: nobody knows
    then whether it had an effect, and the same call again has none beyond it."""

    async def claim(self, owner: bytes, claims: Sequence[Claim], times: Times, keys_max: int) -> Sequence[Found]:
        """One answer a claim, in order, all in one atomic step: of those who claim a free key at once, one holds it.

        A hold whose time is up is lost, or goes to the claim where that is repeatable. One of the same holder, lost or
        not, goes to the claim unless its epoch is later. Durable before it is answered, as far as the store is. Above
        `keys_max` keys of the owner a free one is not given out.
        """
        ...

    async def settle(self, owner: bytes, settlements: Sequence[Settlement], keeps_ms: int) -> Sequence[bool]:
        """Whether each took effect, or had done so before; all in one atomic step.

        A hold that was lost meanwhile may still be settled by its own fence. One that another holds, or that is settled
        already, stays as it is.
        """
        ...

    async def sweep(self) -> int:
        """Remove keys whose end has come, some at a time; how many."""
        ...

    async def close(self) -> None:
        """Finish what was asked. Holds of a store that only this process uses are lost at its next start."""
        ...
