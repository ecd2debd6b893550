"""The idempotency keys of a slice, claimed in the batch's own name: whoever resumes it goes on under its own claims.

A key is claimed before the intent of its operation is put on record, and settled before its outcome is. So of an
operation in doubt the key may know more than the ledger: an answer that it keeps is the outcome. Otherwise nobody can
know, and from then on the key says that too.
"""

from collections.abc import Callable, Sequence
from hashlib import blake2b
from operator import attrgetter

import msgspec

from gateway.batch.model import Operation, Outcome
from gateway.ledger.port import Lease
from gateway.replay.keyed import Asked, Keyed
from gateway.replay.port import GROUP_BYTES, REPEATABLE
from gateway.replay.replay import Replay

_KEY = attrgetter("key")
AT_ONCE = 100  # keys that one call to their store claims


class Claims:
    """Of one lease. `operations` as the caller wrote them; `lasts_s`: the longest that one of them takes."""

    def __init__(
        self, replay: Replay | None, lease: Lease, operations: Sequence[Operation], identity: str, lasts_s: float
    ) -> None:
        self._replay = replay
        self._lease = lease
        self._group = blake2b(lease.batch.encode(), digest_size=GROUP_BYTES).digest()
        self._operations = operations
        self._identity = identity
        self._lasts_s = lasts_s
        self.has_any = replay is not None and any(map(_KEY, operations))

    async def of(self, positions: Sequence[int], is_repeatable: Callable[[int], bool]) -> Keyed | None:
        """Those of operations that are about to run, by their place among `positions`; None where none has a key."""
        asked = self._asked(positions, is_repeatable)
        if self._replay is None or not asked.places:
            return None
        return await self._replay.claim(asked, self._identity, self._lasts_s)

    async def known(self, doubtful: Sequence[Outcome]) -> Sequence[Outcome]:
        """What became of operations that a lost worker had begun, `doubtful` as far as the ledger knows; indexes are
        positions. Raises `LedgerUnavailableError`."""
        asked = self._asked([outcome.index for outcome in doubtful], lambda _: False)
        if self._replay is None or not asked.places:
            return doubtful
        keyed = await self._replay.recall(asked, self._identity, self._lasts_s)
        kept = {place: outcome for place, outcome in keyed.earlier.items() if outcome.failure is None}
        await keyed.settle([_at(place, outcome) for place, outcome in enumerate(doubtful)])
        return [_at(each.index, kept.get(place, each)) for place, each in enumerate(doubtful)]

    def _asked(self, positions: Sequence[int], is_repeatable: Callable[[int], bool]) -> Asked:
        operations, first = self._operations, self._lease.first
        places = [place for place, position in enumerate(positions) if operations[position].key]
        keyed = [positions[place] for place in places]
        return Asked(
            places,
            [operations[position] for position in keyed],
            bytes([REPEATABLE * is_repeatable(position) for position in keyed]),
            self._group,
            [first + position for position in keyed],
            self._lease.epoch,
        )


def _at(index: int, outcome: Outcome) -> Outcome:
    return msgspec.structs.replace(outcome, index=index)
