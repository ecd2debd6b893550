"""Workers that are lost, late, stopped, or without their ledger: nothing unsafe is sent twice, nothing forgotten."""

import asyncio
import dataclasses
import threading
from collections.abc import Sequence
from typing import Any, cast

import pytest

from gateway.ledger.port import Lease, LedgerUnavailableError, Part, Queue, Swept
from gateway.upstream.address import PoolLimits
from gateway.upstream.exchange import Exchange
from gateway.worker.worker import Store, Worker
from tests.fakes.asking import request_bytes
from tests.fakes.until import pass_by, until_so
from tests.fakes.upstream import Answer, Received, ScriptedUpstream, plain
from tests.integration.worker.desk import QUICK, SEALER, Desk, desk, operations, slugs
from tests.integration.worker.test_worker import numbers


async def kill(worker: Worker) -> None:
    """As a process dies: nothing more is said to the ledger."""
    await worker.stop(0.0)


async def expire_leases(at: Desk) -> None:
    """Once what the dead worker had asked for is done: a renewal of its would be right until 15 s later."""
    await at.store.health()
    at.clock.ahead_ms += 15_001


async def test_unsafe_operations_on_their_way_when_a_worker_died_are_unknown_and_the_rest_runs() -> None:
    never = asyncio.Event()

    def script(request: Received) -> Answer:
        return Answer([plain()], after=never if request.target in ("/1", "/2") else None)

    async with ScriptedUpstream(script) as upstream, desk(upstream.address) as at:
        batch = await at.submit(operations(10))
        first = at.worker(dataclasses.replace(QUICK, concurrency=2))
        await upstream.until_requests(3)
        await at.until(batch, lambda view: view.completed == 1)
        await kill(first)
        await expire_leases(at)
        at.worker()
        view = await at.ended(batch)
        outcomes = await at.outcomes(batch)

    assert sorted(numbers(upstream.requests)) == list(range(10))
    assert (view.succeeded, view.unknown) == (8, 2)
    assert {index for index, slug in slugs(outcomes).items() if slug == "outcome-unknown"} == {1, 2}
    assert at.metrics.lease_rescues.value() == 1


async def test_safe_operations_on_their_way_when_a_worker_died_are_sent_again() -> None:
    never = asyncio.Event()
    async with ScriptedUpstream() as upstream, desk(upstream.address) as at:
        upstream.script = lambda _: Answer([plain()], after=never)
        batch = await at.submit(operations(4, "GET"))
        first = at.worker()
        await upstream.until_requests(4)
        await kill(first)
        await expire_leases(at)
        upstream.script = lambda _: Answer([plain()])
        at.worker()
        view = await at.ended(batch)

    assert (view.succeeded, view.failed) == (4, 0)
    assert len(upstream.requests) == 8


async def test_an_operation_that_kills_its_workers_is_quarantined_and_the_rest_runs() -> None:
    never = asyncio.Event()

    def script(request: Received) -> Answer:
        return Answer([plain()], after=never if request.target == "/3" else None)

    async with ScriptedUpstream(script) as upstream, desk(upstream.address) as at:
        batch = await at.submit(operations(8, "GET"))
        for deaths in range(2):
            worker = at.worker()
            await upstream.until(lambda died=deaths: numbers(upstream.requests).count(3) > died)  # type: ignore[misc]
            await kill(worker)
            await expire_leases(at)
        at.worker()
        view = await at.ended(batch)
        outcomes = await at.outcomes(batch)

    assert (view.succeeded, view.failed) == (7, 1)
    assert {index: slug for index, slug in slugs(outcomes).items() if slug} == {3: "quarantined"}
    assert outcomes[3].status == 500
    assert numbers(upstream.requests).count(3) == 2
    assert at.metrics.operations_quarantined.value() == 1


@pytest.mark.parametrize("command", ["cancel", "pause"])
async def test_two_seconds_after_a_command_nothing_starts(command: str) -> None:
    async with ScriptedUpstream() as upstream, desk(upstream.address) as at:
        gate = asyncio.Event()

        def script(_: Received) -> Answer:
            return Answer([plain()], after=gate)

        upstream.script = script
        batch = await at.submit(operations(100))
        at.worker(dataclasses.replace(QUICK, renew_every_s=1.0, concurrency=4, slices=2))
        await upstream.until_requests(4)
        await at.store.command(batch, "cancel" if command == "cancel" else "pause")
        await pass_by(2.0)
        gate.set()
        await until_so(lambda: not at.workers[0].busy)
        view = await at.view(batch)

    assert len(upstream.requests) == 4
    assert view.succeeded == 4
    assert view.unknown == 0
    assert view.state == ("cancelled" if command == "cancel" else "processing")


@pytest.mark.parametrize("command", ["cancel", "pause"])
async def test_what_waits_for_a_connection_at_a_command_is_not_sent_when_it_has_one(command: str) -> None:
    gate, loop = asyncio.Event(), asyncio.get_running_loop()

    def script(request: Received) -> Answer:
        return Answer([plain()], after=gate if request.target == "/lone" else None)

    async with ScriptedUpstream(script) as upstream, desk(upstream.address) as at:
        at.worker(limits_of_pool=PoolLimits(connections_max=1))
        lone = Exchange("GET", request_bytes("GET", "/lone"), loop.time() + 60, True, lambda _: None, streamed=True)
        at.pools[0].submit(lone, loop.time())
        await upstream.until_requests(1)
        batch = await at.submit(operations(3))
        await until_so(lambda: at.pools[0].waiting)
        await at.store.command(batch, "cancel" if command == "cancel" else "pause")
        await until_so(lambda: all(hold.stopped.done() for hold in at.workers[0]._holds.values()))
        gate.set()
        await until_so(lambda: not at.workers[0].busy)
        view = await at.view(batch)

    assert [request.target for request in upstream.requests] == ["/lone"]
    assert (view.completed, view.unknown) == (0, 0)
    assert view.state == ("cancelled" if command == "cancel" else "processing")


async def test_a_resumed_batch_goes_on_where_it_was() -> None:
    gate = asyncio.Event()

    def script(request: Received) -> Answer:
        return Answer([plain()], after=gate if int(request.target[1:]) >= 200 else None)

    async with ScriptedUpstream(script) as upstream, desk(upstream.address) as at:
        batch = await at.submit(operations(400), slice_size=50)
        at.worker(dataclasses.replace(QUICK, concurrency=2))
        await at.until(batch, lambda view: view.completed >= 1)
        await at.store.command(batch, "pause")
        await until_so(lambda: all(hold.stopped.done() for hold in at.workers[0]._holds.values()))
        gate.set()
        await until_so(lambda: not at.workers[0].busy)
        paused = await at.view(batch)
        await at.store.command(batch, "resume")
        view = await at.ended(batch)

    assert paused.completed < 400
    assert (view.state, view.succeeded, view.unknown) == ("completed", 400, 0)
    assert sorted(numbers(upstream.requests)) == list(range(400))


async def test_an_expired_batch_keeps_what_finished_and_sends_no_more() -> None:
    gate = asyncio.Event()
    async with ScriptedUpstream(lambda _: Answer([plain()], after=gate)) as upstream, desk(upstream.address) as at:
        batch = await at.submit(operations(20), lives_ms=5000)
        at.worker(dataclasses.replace(QUICK, concurrency=2, slices=1))
        await upstream.until_requests(2)
        at.clock.ahead_ms += 5001
        await until_so(lambda: all(hold.stopped.done() for hold in at.workers[0]._holds.values()))
        gate.set()
        view = await at.ended(batch)

    assert (view.state, view.succeeded, view.unknown) == ("expired", 2, 0)
    assert len(upstream.requests) == 2


class Between:
    """Stands before a store, and hands on what it does not do itself."""

    def __init__(self, ledger: Any) -> None:
        self._ledger = ledger

    def __getattr__(self, name: str) -> Any:
        return getattr(self._ledger, name)


class Standing(Between):
    """A ledger whose renewals never arrive, as for a process that stands still."""

    async def renew(self, leases: Sequence[Lease], *, lasts_ms: int) -> Sequence[bool]:
        raise LedgerUnavailableError("it stands still")


async def test_a_worker_without_renewals_stops_before_its_lease_ends() -> None:
    gate = asyncio.Event()
    async with ScriptedUpstream(lambda _: Answer([plain()], after=gate)) as upstream, desk(upstream.address) as at:
        standing = cast(Queue, Standing(at.store))
        batch = await at.submit(operations(20))
        pace = dataclasses.replace(QUICK, lease_s=0.5, concurrency=2, slices=1)
        worker = at.worker(pace, store=Store(at.store, standing, SEALER))
        await upstream.until_requests(2)
        await pass_by(0.41)
        worker._stopping.set()  # leases nothing new
        gate.set()
        await at.until(batch, lambda view: view.completed == 2)

    assert len(upstream.requests) == 2


class Away(Between):
    """A ledger that can be taken away."""

    is_away = False

    async def intend(self, lease: Lease, indexes: Sequence[int]) -> None:
        self._check()
        await self._ledger.intend(lease, indexes)

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
        self._check()
        await self._ledger.record(lease, part, ends=ends, again_after_ms=again_after_ms, retracts=retracts, tries=tries)

    async def lease(self, worker: str, *, most: int, lasts_ms: int) -> Sequence[Lease]:
        self._check()
        leases: Sequence[Lease] = await self._ledger.lease(worker, most=most, lasts_ms=lasts_ms)
        return leases

    def _check(self) -> None:
        if self.is_away:
            raise LedgerUnavailableError("away")


async def test_while_the_ledger_is_away_nothing_unsafe_starts_and_no_outcome_is_forgotten() -> None:
    gate = asyncio.Event()
    async with ScriptedUpstream(lambda _: Answer([plain()], after=gate)) as upstream, desk(upstream.address) as at:
        away = Away(at.store)
        batch = await at.submit(operations(20))
        at.worker(dataclasses.replace(QUICK, concurrency=3, slices=1), store=Store(at.store, cast(Queue, away), SEALER))
        await upstream.until_requests(3)
        away.is_away = True
        gate.set()
        await upstream.until(lambda: upstream.in_flight == 0)
        await pass_by(0.3)
        during = len(upstream.requests)
        away.is_away = False
        view = await at.ended(batch)

    assert during == 3
    assert (view.succeeded, view.unknown) == (20, 0)
    assert sorted(numbers(upstream.requests)) == list(range(20))


async def test_a_lease_that_another_worker_has_is_given_up_and_nothing_is_recorded_under_it() -> None:
    gate = asyncio.Event()
    async with (
        ScriptedUpstream(lambda _: Answer([plain(b"late")], after=gate)) as upstream,
        desk(upstream.address) as at,
    ):
        batch = await at.submit(operations(2))
        late = at.worker(dataclasses.replace(QUICK, renew_every_s=30.0))
        await upstream.until_requests(2)
        await expire_leases(at)
        late._stopping.set()  # it leases nothing new
        at.worker()
        view = await at.ended(batch)
        gate.set()
        await until_so(lambda: not late.busy)
        outcomes = await at.outcomes(batch)

    assert len(upstream.requests) == 2
    assert view.unknown == 2
    assert slugs(outcomes) == dict.fromkeys(range(2), "outcome-unknown")


class Full(Between):
    """A ledger with more to sweep than one sweep does."""

    sweeps = 0

    async def sweep(self) -> Swept:
        self.sweeps += 1
        return Swept(expired=int(self.sweeps == 1), forgotten=int(self.sweeps == 2))


async def test_where_one_sweep_is_not_enough_the_next_follows_at_once() -> None:
    async with ScriptedUpstream() as upstream, desk(upstream.address) as at:
        full = Full(at.store)
        at.worker(dataclasses.replace(QUICK, sweep_every_s=3600.0), store=Store(at.store, cast(Queue, full), SEALER))
        await until_so(lambda: full.sweeps == 3)


async def test_a_process_that_stood_still_finds_its_slices_its_own_and_records_what_was_answered() -> None:
    gate = asyncio.Event()
    async with ScriptedUpstream(lambda _: Answer([plain()], after=gate)) as upstream, desk(upstream.address) as at:
        batch = await at.submit(operations(2))
        pace = dataclasses.replace(QUICK, lease_s=0.5, renew_every_s=0.3, sweep_every_s=0.02, poll_s=0.02)
        at.worker(pace)
        await upstream.until_requests(2)
        for _ in range(5):
            threading.Event().wait(0.6)  # all of the process stands still, longer than its lease lasts
            await pass_by(0.05)
        gate.set()
        view = await at.ended(batch)

    assert (view.succeeded, view.unknown) == (2, 0)
    assert len(upstream.requests) == 2
