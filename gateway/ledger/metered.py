"""Both faces of a ledger with their calls timed, and whether the last call of a caller's was answered."""

from collections.abc import Awaitable, Mapping, Sequence
from time import perf_counter
from typing import TypeVar

from gateway.batch.states import State
from gateway.ledger.port import Command, Lease, Ledger, LedgerUnavailableError, NewBatch, Part, Queue, Swept, View
from gateway.telemetry.metrics import Histogram

T = TypeVar("T")


class Metered:
    """A `Ledger` around another one."""

    def __init__(self, ledger: Ledger, seconds: Histogram) -> None:
        self._ledger = ledger
        self._seconds = seconds
        self.trouble = ""
        """Why the last call was not answered."""

    @property
    def is_up(self) -> bool:
        return not self.trouble

    async def accept(self, batch: NewBatch) -> View:
        return await self._timed("accept", self._ledger.accept(batch))

    async def view(self, batch_id: str) -> View | None:
        return await self._timed("view", self._ledger.view(batch_id))

    async def browse(self, owner: str, *, limit: int, after: str | None, state: State | None) -> Sequence[View]:
        return await self._timed("browse", self._ledger.browse(owner, limit=limit, after=after, state=state))

    async def parts(self, batch_id: str, *, after: int, limit: int) -> Sequence[Part]:
        return await self._timed("parts", self._ledger.parts(batch_id, after=after, limit=limit))

    async def operations(self, batch_id: str, slice_: int) -> bytes | None:
        return await self._timed("operations", self._ledger.operations(batch_id, slice_))

    async def command(self, batch_id: str, command: Command) -> View | None:
        return await self._timed("command", self._ledger.command(batch_id, command))

    async def health(self) -> Mapping[str, float]:
        return await self._timed("health", self._ledger.health())

    async def close(self) -> None:
        await self._ledger.close()

    async def _timed(self, call: str, asked: Awaitable[T]) -> T:
        began_s = perf_counter()
        try:
            answer = await asked
        except LedgerUnavailableError as error:
            self.trouble = error.detail
            raise
        finally:
            self._seconds.observe((call,), perf_counter() - began_s)
        self.trouble = ""
        return answer


class MeteredQueue:
    """A `Queue` around another one. Waiting is not timed."""

    def __init__(self, queue: Queue, seconds: Histogram) -> None:
        self._queue = queue
        self._seconds = seconds
        self.wait = queue.wait

    async def lease(self, worker: str, *, most: int, lasts_ms: int) -> Sequence[Lease]:
        return await self._timed("lease", self._queue.lease(worker, most=most, lasts_ms=lasts_ms))

    async def renew(self, leases: Sequence[Lease], *, lasts_ms: int) -> Sequence[bool]:
        return await self._timed("renew", self._queue.renew(leases, lasts_ms=lasts_ms))

    async def intend(self, lease: Lease, indexes: Sequence[int]) -> None:
        await self._timed("intend", self._queue.intend(lease, indexes))

    async def record(
        self,
        lease: Lease,
        part: Part | None,
        *,
        ends: bool,
        again_after_ms: int | None = None,
        retracts: Sequence[int] = (),
        tries: int | None = None,
    ) -> None:
        recording = self._queue.record(
            lease, part, ends=ends, again_after_ms=again_after_ms, retracts=retracts, tries=tries
        )
        await self._timed("record", recording)

    async def sweep(self) -> Swept:
        return await self._timed("sweep", self._queue.sweep())

    async def _timed(self, call: str, asked: Awaitable[T]) -> T:
        began_s = perf_counter()
        try:
            return await asked
        finally:
            self._seconds.observe((call,), perf_counter() - began_s)
