"""Outcomes on their way to the ledger, in groups: what came within `every_s`, or as many as fill a group.

An outcome that the ledger does not take because it is unavailable is kept and offered again until it does, or until
another worker has the slice: the upstream has acted, so forgetting it would make it unknown.
"""

import asyncio
from collections.abc import Coroutine, Sequence
from operator import attrgetter
from typing import NamedTuple

from gateway.batch.model import summarize
from gateway.ledger.port import Lease, LedgerUnavailableError, Part, Queue
from gateway.ledger.seal import BatchKey
from gateway.ledger.segments import Recorded, of_outcomes, outcomes_to_bytes

GROUP = 100
"""Outcomes that are put on record together, where they come fast."""

_GROUP_BYTES = 1 << 20  # what is sealed at once, on top of the last outcome
_AT_ONCE_BYTES = 65_536  # more is sealed in a thread: the loop has others to serve
_AGAIN_S, _AGAIN_S_MAX = 0.1, 2.0
_INDEX = attrgetter("index")


class Ending(NamedTuple):
    """The last word on a lease: when the rest may run (None: at once), what is not in doubt, the count of tries."""

    again_after_ms: int | None = None
    retracts: Sequence[int] = ()
    tries: int | None = None


class Recorder:
    """Of one lease. Every method that writes raises `LostLeaseError` once the slice is another's."""

    def __init__(self, queue: Queue, lease: Lease, key: BatchKey) -> None:
        self._queue = queue
        self._lease = lease
        self._key = key
        self._left = lease.count - len(lease.done)
        self._waiting: list[Recorded] = []
        self._bytes = 0
        self._writing = asyncio.Lock()

    def add(self, outcomes: Sequence[Recorded]) -> None:
        self._left -= len(outcomes)
        self._waiting += outcomes
        self._bytes += _bytes_of(outcomes)

    @property
    def is_full(self) -> bool:
        """Whether there is a group to write. The slice's last outcomes go with the last word on it."""
        return self._left > 0 and (len(self._waiting) >= GROUP or self._bytes >= _GROUP_BYTES)

    async def while_writing(self, run: Coroutine[None, None, Ending], every_s: float) -> Ending:
        """What `run` returns; while it runs, what it adds is written every `every_s` seconds, and so is what it leaves
        when it fails."""
        running = asyncio.ensure_future(run)
        try:
            while not running.done():
                await asyncio.wait({running}, timeout=every_s)
                if self._waiting and (not running.done() or running.exception() is not None):
                    await self.write()
        finally:
            running.cancel()
            await asyncio.wait({running})
        return running.result()

    async def write(self, ending: Ending | None = None) -> None:
        """Put what waits on record; with `ending` that is the last of it and the slice is let go."""
        async with self._writing:
            waiting, self._waiting, self._bytes = self._waiting, [], 0
            part = await self._part(waiting) if waiting else None
            await self._put(part, ending)

    async def _put(self, part: Part | None, ending: Ending | None) -> None:
        wait_s = _AGAIN_S
        while True:
            try:
                if ending is None:
                    return await self._queue.record(self._lease, part, ends=False)
                return await self._queue.record(
                    self._lease,
                    part,
                    ends=True,
                    again_after_ms=ending.again_after_ms,
                    retracts=ending.retracts,
                    tries=ending.tries,
                )
            except LedgerUnavailableError:
                await asyncio.sleep(wait_s)
                wait_s = min(wait_s * 2, _AGAIN_S_MAX)

    async def _part(self, outcomes: list[Recorded]) -> Part:
        outcomes.sort(key=_INDEX)
        size = _bytes_of(outcomes)
        sealed = self._sealed(outcomes) if size < _AT_ONCE_BYTES else await asyncio.to_thread(self._sealed, outcomes)
        others = summarize(each.outcome for each in outcomes if each.failure is not None or each.status >= 400)
        indexes = [outcome.index for outcome in outcomes]
        return Part(self._lease.slice, indexes, sealed, len(outcomes) - others.failed, others.failed, others.unknown)

    def _sealed(self, outcomes: Sequence[Recorded]) -> bytes:
        return self._key.seal(outcomes_to_bytes(outcomes), of_outcomes(self._lease.slice))


def _bytes_of(outcomes: Sequence[Recorded]) -> int:
    return sum([len(outcome.body) for outcome in outcomes])
