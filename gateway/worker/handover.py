"""What a batch had on its way when its time in place was up and it was put on record: it ends here.

The batch came to the ledger with leases on these operations, so nobody else runs them. Their outcomes go on record as
they come; then the slices are let go, with what is left of them. Where this process dies, its leases expire.
"""

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence

import structlog

from gateway.ledger.port import FIRST_EPOCH, Begun, Lease, LedgerUnavailableError, LostLeaseError, Queue, View
from gateway.ledger.seal import Sealer
from gateway.ledger.segments import Recorded
from gateway.plan import Underway
from gateway.worker.recorder import Ending, Recorder


class Handover:
    """Of a process, called `worker` in the ledger. Its leases last for `lasts_ms` and are renewed every `every_s`."""

    def __init__(
        self,
        worker: str,
        queue: Queue,
        sealer: Sealer,
        logger: Callable[[], structlog.typing.FilteringBoundLogger],
        *,
        lasts_s: float,
        every_s: float,
    ) -> None:
        self._worker = worker
        self._lasts_ms = int(lasts_s * 1000)
        self._queue = queue
        self._sealer = sealer
        self._logger = logger
        self._every_s = every_s
        self._tasks: set[asyncio.Task[None]] = set()

    def leased(self, indexes: Sequence[int]) -> Begun:
        """With what a batch comes to the ledger of which these operations are on their way."""
        return Begun(self._worker, indexes, self._lasts_ms)

    def take(self, view: View, underway: Underway) -> None:
        """See to the end of what the batch, just accepted, had on its way."""
        leases = _leases(view, underway.indexes)
        work = self._record(view, leases, underway)
        task = asyncio.get_running_loop().create_task(self._run(view.id, list(leases.values()), work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def finish(self, timeout_s: float) -> bool:
        """True where all that was taken ended in time; the rest is given up, and in doubt."""
        tasks = list(self._tasks)
        if tasks:
            await asyncio.wait(tasks, timeout=timeout_s)
        left = [task for task in tasks if not task.done()]
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
        return not left

    async def _run(self, batch_id: str, leases: Sequence[Lease], work: Coroutine[None, None, None]) -> None:
        """Hold the leases until the work is done."""
        renewing = asyncio.ensure_future(self._renew(leases))
        try:
            await work
        except LostLeaseError:
            self._logger().warning("lease lost", batch_id=batch_id)
        except Exception:
            self._logger().exception("defect", listener="handover", batch_id=batch_id)
        finally:
            renewing.cancel()

    async def _record(self, view: View, leases: Mapping[int, Lease], underway: Underway) -> None:
        key = self._sealer.key(view.id, view.key)
        recorders = {slice_: Recorder(self._queue, lease, key) for slice_, lease in leases.items()}
        again: dict[int, list[int]] = {slice_: [] for slice_ in leases}
        async for group in underway.groups:
            written = set()
            for outcome in group:
                slice_ = outcome.index // view.slice_size
                if underway.runs_again(outcome):
                    again[slice_].append(outcome.index)
                else:
                    recorders[slice_].add([Recorded.of(underway.ids[outcome.index], outcome.index, outcome)])
                    written.add(slice_)
            for slice_ in written:
                await recorders[slice_].write()
        for slice_, recorder in recorders.items():
            await recorder.write(Ending(retracts=sorted(again[slice_])))

    async def _renew(self, leases: Sequence[Lease]) -> None:
        """Nothing more is sent under the leases: that one is lost is early enough told by its next record."""
        while True:
            await asyncio.sleep(self._every_s)
            try:
                await self._queue.renew(leases, lasts_ms=self._lasts_ms)
            except LedgerUnavailableError:
                continue


def _leases(view: View, indexes: Sequence[int]) -> Mapping[int, Lease]:
    """Those that the batch came with, by slice."""
    size = view.slice_size
    return {
        slice_: Lease(
            batch=view.id,
            slice=slice_,
            epoch=FIRST_EPOCH,
            until_ms=0,
            owner=view.owner,
            dialect=view.dialect,
            first=slice_ * size,
            count=min(size, view.total - slice_ * size),
            operations=b"",
            context=b"",
            key=view.key,
        )
        for slice_ in sorted({index // size for index in indexes})
    }
