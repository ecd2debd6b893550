"""Keys of whole envelopes: the right to run one, or what was answered to it before.

There are two kinds. A key of the caller's own stands for one envelope for as long as keys are kept. Under no key, an
envelope is known by its bytes for ten minutes, so that what a client repeats blindly finds what it repeats; whoever
sends the same bytes as something new takes their place. The second kind is counted apart, and never stands in the way.
"""

import asyncio
import os
import time
from collections.abc import Sequence
from typing import NamedTuple

from gateway.errors import GatewayError
from gateway.replay.port import ANEW, GROUP_BYTES, HOLDER_BYTES, REPEATABLE, Claims, End, Verdict
from gateway.replay.replay import Replay, Store

_REPEATED_S = 600.0  # CONTRACT 3
_AT_ONCE_BYTES = 65_536  # more is digested, sealed or opened in a thread: the loop has others to serve
_KEEP = bytes([End.KEEP])
_REFUSALS = {
    Verdict.BUSY: ("idempotency-in-progress", "this envelope is on its way; come back for its answer", "1"),
    Verdict.REUSED: ("idempotency-key-reused", "this key stands for another envelope; use a key of its own", None),
    Verdict.FULL: ("rate-limited", "this caller has as many keys on record as it may", "60"),
}


class Asked(NamedTuple):
    """`parts` are what makes the envelope the same; `key` is empty where they are all it is known by.

    `anew`: it takes the place of what was known by them. `repeatable`: running it once more cannot repeat an effect.
    """

    key: str
    parts: Sequence[bytes]
    repeatable: bool = False
    anew: bool = False


class Kept(NamedTuple):
    """What was answered; None where that was too large to be kept."""

    content: bytes | None


class Lost(NamedTuple):
    """Who ran the envelope under `fence` is gone, and nobody knows how far it came."""

    fence: bytes


class Hold:
    """The right to run an envelope, until it is settled by one of both."""

    def __init__(
        self, replay: Replay, store: Store, owner: bytes, claims: Claims, bytes_max: int, keeps_s: float
    ) -> None:
        self.fence = claims.fence(0)
        self._replay = replay
        self._store = store
        self._owner = owner
        self._claims = claims
        self._bytes_max = bytes_max
        self._keeps_s = keeps_s

    async def keep(self, content: bytes) -> None:
        """From now on `content` is what is answered; where it is too large, that it was."""
        name, fence, seal = self._claims.names[0], self.fence, self._store.vault.seal_answer
        if len(content) > self._bytes_max:
            kept = seal(name, fence, None)
        elif len(content) > _AT_ONCE_BYTES:
            kept = await asyncio.to_thread(seal, name, fence, content)
        else:
            kept = seal(name, fence, content)
        settled = self._claims.ended([0], _KEEP, kept)
        await self._replay.settle(self._owner, settled, self._keeps_s)

    def forget(self) -> None:
        """Nothing was run."""
        self._replay.settle_soon(self._owner, self._claims.forgotten([0]), self._keeps_s)


class Envelopes:
    """Over the store of operations' keys. Answers above `bytes_max` are not kept, only that they were given."""

    def __init__(self, replay: Replay, bytes_max: int) -> None:
        self._replay = replay
        self._bytes_max = bytes_max

    async def claim(self, asked: Asked, identity: str, lasts_s: float) -> Hold | Kept | Lost:
        """It is answered within `lasts_s`. Raises 409, 422 and 429 as `GatewayError`, and `LedgerUnavailableError`."""
        store = await self._replay.store()
        names = store.names
        owner = names.of_owner(identity if asked.key else f"repeated\n{identity}")
        if sum(map(len, asked.parts)) > _AT_ONCE_BYTES:
            digest = await asyncio.to_thread(names.of_envelope, asked.parts)
        else:
            digest = names.of_envelope(asked.parts)
        name = names.of_envelope_key(owner, asked.key or digest.hex())
        flags = REPEATABLE * asked.repeatable + ANEW * asked.anew
        claims = Claims(os.urandom(GROUP_BYTES), 0, [int(time.time())], [name], [digest], bytes([flags]))
        keeps_s = self._replay.keeps_s if asked.key else min(_REPEATED_S, self._replay.keeps_s)
        (found,) = await self._replay.claimed(store, owner, claims, lasts_s, keeps_s)
        match found.verdict:
            case Verdict.HELD:
                return Hold(self._replay, store, owner, claims, self._bytes_max, keeps_s)
            case Verdict.LOST:
                return Lost(found.fence)
            case Verdict.KEPT:
                self._replay.replayed(1)
                opened = store.vault.open_answer
                if len(found.kept) > _AT_ONCE_BYTES:
                    return Kept(await asyncio.to_thread(opened, name, found.fence, found.kept))
                return Kept(opened(name, found.fence, found.kept))
        slug, detail, retry_after = _REFUSALS[found.verdict]
        raise GatewayError(slug, detail, headers=None if retry_after is None else {"Retry-After": retry_after})


def made_s(fence: bytes) -> int:
    """When an envelope's key was claimed under `fence`, in seconds since 1970."""
    return int.from_bytes(fence[GROUP_BYTES:HOLDER_BYTES], "big")
