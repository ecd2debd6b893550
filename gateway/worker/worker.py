"""The worker: leases slices, keeps the leases, runs what is in them, and sweeps up behind lost workers.

Three loops a worker and two tasks a slice; none an operation. A slice whose run fails with a defect is not handed back:
its lease expires and counts as a loss, so that what always fails is set aside in the end (see `decision`).
"""

import asyncio
import contextlib
import random
import time
from collections import Counter
from collections.abc import Callable, Coroutine
from dataclasses import dataclass

import structlog

from gateway.batch.model import Failure, Outcome
from gateway.errors import PROBLEMS
from gateway.ledger.port import Lease, Ledger, LedgerUnavailableError, LostLeaseError, Queue
from gateway.ledger.seal import BatchKey, PayloadCorruptError, Sealer
from gateway.ledger.segments import Recorded
from gateway.telemetry.metrics import Metrics
from gateway.worker.decision import unknown
from gateway.worker.floor import Floor
from gateway.worker.hold import Hold
from gateway.worker.means import Means, Surroundings
from gateway.worker.opened import key_of, opened
from gateway.worker.ordered import earlier_of
from gateway.worker.pauses import Pauses
from gateway.worker.recorder import Ending, Recorder
from gateway.worker.running import Running


@dataclass(frozen=True, slots=True)
class Pace:
    """How much at once and how often. `concurrency` is one batch's here, `in_flight_max` that of all batches.

    `turn_s`: after this a slice lets others take their turn. `tries_max`: how often a slice is tried again.
    `quiet_s`: how long all must have been quiet before what may have killed its worker runs again (see `decision`).
    """

    slices: int = 4
    concurrency: int = 10
    in_flight_max: int = 50
    tries_max: int = 5
    lease_s: float = 15.0
    renew_every_s: float = 1.0
    record_every_s: float = 0.25
    sweep_every_s: float = 1.0
    poll_s: float = 1.0
    turn_s: float = 1.0
    quiet_s: float = 3.0  # longer than the lives of a process that is killed all the time, shorter than a lease


@dataclass(frozen=True, slots=True)
class Store:
    """Both faces of one ledger, and what opens the payloads in it."""

    ledger: Ledger
    queue: Queue
    sealer: Sealer


class Worker:
    """One worker of a process. `means()` is asked for every slice: a reload may change the answer."""

    def __init__(
        self,
        name: str,
        store: Store,
        pace: Pace,
        means: Callable[[], Means],
        metrics: Metrics,
        logger: structlog.typing.FilteringBoundLogger,
    ) -> None:
        self._name = name
        self._store = store
        self._pace = pace
        self._means = means
        self._metrics = metrics
        self._logger = logger
        self._holds: dict[asyncio.Task[None], Hold] = {}
        self._slot_is_free = asyncio.Event()
        self._loops: list[asyncio.Task[None]] = []
        self._leasing = asyncio.Lock()
        self._stopping = asyncio.Event()
        self._around = Surroundings(
            store.queue,
            Pauses(time.monotonic, self._tell_pause),
            metrics,
            logger,
            time.monotonic,
            time.time,
            random.random,
            pace.turn_s,
            pace.record_every_s / 2,
            pace.tries_max,
            Floor(),
            pace.quiet_s,
            time.monotonic() + pace.quiet_s,
            {},
        )

    def start(self) -> None:
        create, pace = asyncio.get_running_loop().create_task, self._pace
        self._loops = [
            create(self._often(self._lease, 0.0)),
            create(self._often(self._renew, pace.renew_every_s)),
            create(self._often(self._sweep, pace.sweep_every_s)),
        ]

    async def stop(self, timeout_s: float) -> bool:
        """Start nothing further and hand the leases back; True where everything on its way ended in time."""
        self._stopping.set()
        try:
            async with asyncio.timeout(timeout_s):
                async with self._leasing:  # what is being leased now is handed back as well
                    for hold in self._holds.values():
                        hold.stop()
                while self._holds:
                    await asyncio.wait(list(self._holds))
            return True
        except TimeoutError:
            return False
        finally:
            left = [*self._loops, *self._holds]
            for task in left:
                task.cancel()
            await asyncio.gather(*left, return_exceptions=True)

    @property
    def busy(self) -> int:
        """Slices that are running now."""
        return len(self._holds)

    def _tell_pause(self, upstream: str, caller: str, wait_s: float) -> None:
        self._logger.warning("paused", upstream=upstream, caller=caller[:9] or "everybody", wait_s=round(wait_s, 1))

    async def _often(self, step: Callable[[], Coroutine[None, None, None]], every_s: float) -> None:
        """`step` again and again; what it cannot do now it tries a second later."""
        while True:
            try:
                await step()
                wait_s = every_s
            except LedgerUnavailableError as unavailable:
                self._logger.warning("ledger unavailable", step=step.__name__, reason=unavailable.detail)
                wait_s = 1.0
            except Exception:
                self._logger.exception("defect", listener="worker", step=step.__name__)
                wait_s = 1.0
            await asyncio.sleep(wait_s)

    async def _lease(self) -> None:
        """Fill the free places; wait for one, or for work."""
        free = self._free()
        if free <= 0 or self._stopping.is_set():
            self._slot_is_free.clear()
            await self._slot_is_free.wait()
            return
        async with self._leasing:
            found = await self._take(free)
        if not found:
            await self._store.queue.wait(self._pace.poll_s)

    def _free(self) -> int:
        """How many slices may be leased. One that only waits for its last word to be on record has left its place."""
        slices, running = self._pace.slices, sum(not hold.is_over for hold in self._holds.values())
        return min(slices - running, 2 * slices - len(self._holds))

    async def _take(self, most: int) -> int:
        """Lease up to `most` slices and run them; how many there were."""
        pace, loop = self._pace, asyncio.get_running_loop()
        await self._catch_up()
        asked_s = time.monotonic()
        leases = await self._store.queue.lease(self._name, most=most, lasts_ms=int(pace.lease_s * 1000))
        for lease in leases:
            hold = Hold(lease, pace.lease_s, asked_s, time.monotonic, loop.create_future())
            task = loop.create_task(self._run(hold))
            self._holds[task] = hold
            task.add_done_callback(self._ended)
        return len(leases)

    def _ended(self, task: asyncio.Task[None]) -> None:
        ended = self._holds.pop(task).lease.batch
        if not any(hold.lease.batch == ended for hold in self._holds.values()):
            self._around.rates.pop(ended, None)
        self._slot_is_free.set()

    async def _renew(self) -> None:
        """Hold on to what is running. A lease that is lost is given up at once, with all that was not sent."""
        asked_s = time.monotonic()
        running = list(self._holds.items())
        if not running:
            return
        leases = [hold.lease for _, hold in running]
        kept = await self._store.queue.renew(leases, lasts_ms=int(self._pace.lease_s * 1000))
        for (task, hold), is_kept in zip(running, kept, strict=True):
            if is_kept:
                hold.extend(asked_s)
                continue
            hold.stop()
            try:  # is it another's, or does its batch only stop?
                await self._store.queue.record(hold.lease, None, ends=False)
            except LostLeaseError:
                task.cancel()

    async def _catch_up(self) -> None:
        """Who stood still holds on to what it has before it looks for what was lost, or takes its own for that."""
        if any(hold.has_lapsed for hold in self._holds.values()):
            await self._renew()

    async def _sweep(self) -> None:
        """Again at once where there may be more than one sweep does, or batches would end faster than they go."""
        await self._catch_up()
        swept = None
        while swept is None or swept.expired or swept.forgotten:
            swept = await self._store.queue.sweep()
            if swept.rescued:
                self._metrics.lease_rescues.add((), swept.rescued)
                self._logger.warning("rescued", slices=swept.rescued)

    async def _run(self, hold: Hold) -> None:
        """One lease from its payloads to its last word."""
        lease = hold.lease
        try:
            key = key_of(lease, self._store.sealer)
            await self._run_opened(hold, key, Recorder(self._store.queue, lease, key))
        except PayloadCorruptError as corrupt:  # not even outcomes could be sealed
            self._logger.error("batch broken", batch_id=lease.batch, reason=str(corrupt))
            await self._break(lease)
        except LostLeaseError:
            self._logger.warning("lease lost", batch_id=lease.batch, slice=lease.slice, epoch=lease.epoch)
        except Exception:
            self._logger.exception("defect", listener="worker", batch_id=lease.batch, slice=lease.slice)

    async def _break(self, lease: Lease) -> None:
        """Fail the batch and let go; where the ledger is away, its slice comes back and we are here again."""
        with contextlib.suppress(LedgerUnavailableError, LostLeaseError):
            await self._store.ledger.command(lease.batch, "break")
            await self._store.queue.record(lease, None, ends=True)

    async def _run_opened(self, hold: Hold, key: BatchKey, recorder: Recorder) -> None:
        lease = hold.lease
        try:
            inside = await opened(lease, key, self._store.sealer)
            earlier = await earlier_of(inside, lease.batch, self._store.ledger, key)
            has_halted = inside.halts and await self._has_failed(lease.batch)
            at_once = self._concurrency(lease.batch)
            running = Running(
                self._around, self._means(), hold, inside, recorder, at_once, earlier, has_halted=has_halted
            )
        except LedgerUnavailableError:  # it is no loss: nothing was begun
            await recorder.write(Ending(1000))
            return
        except PayloadCorruptError as corrupt:
            self._logger.error("payload corrupt", batch_id=lease.batch, slice=lease.slice, reason=str(corrupt))
            _record_corrupt(hold, recorder)
            await recorder.write(Ending())
            return
        ending = await recorder.while_writing(running.run(), self._pace.record_every_s)
        hold.is_over = not running.has_halted  # else nothing of the batch shall be leased before the last word
        self._slot_is_free.set()
        await recorder.write(ending)
        if running.has_halted:
            with contextlib.suppress(LedgerUnavailableError):  # what else is leased of it finds out by itself
                await self._store.ledger.command(lease.batch, "cancel")

    async def _has_failed(self, batch_id: str) -> bool:
        """Whether anything of the batch has."""
        view = await self._store.ledger.view(batch_id)
        return view is not None and view.failed > 0

    def _concurrency(self, batch_id: str) -> int:
        """Slices of one batch share its concurrency, and all slices what is asked of the upstreams at once."""
        of_batch = Counter(hold.lease.batch for hold in self._holds.values() if not hold.is_over)[batch_id]
        return max(1, min(self._pace.concurrency // max(1, of_batch), self._pace.in_flight_max // self._pace.slices))


def _record_corrupt(hold: Hold, recorder: Recorder) -> None:
    """Every operation of the slice that has no outcome: its id cannot be read, so its index stands for it."""
    lease = hold.lease
    corrupt = Failure("payload-corrupt", "the record of this operation does not open; it was not sent")
    for index in sorted(set(range(lease.first, lease.first + lease.count)) - set(lease.done)):
        failure = unknown() if index in lease.in_doubt else corrupt
        outcome = Outcome(index, PROBLEMS[failure.slug].status, failure=failure)
        recorder.add([Recorded.of(str(index), index, outcome)])
