"""`onFailure: halt` on record: nothing further is sent once one has failed, whatever lies between the two."""

import asyncio
import dataclasses
from typing import cast

from gateway.admission import Limit
from gateway.ledger.port import Ledger, LedgerUnavailableError, View
from gateway.limiter.bucket import Bucket
from gateway.worker.worker import Store
from tests.fakes.until import pass_by
from tests.fakes.upstream import Answer, Received, ScriptedUpstream, plain
from tests.integration.worker.desk import QUICK, SEALER, desk, operations, slugs
from tests.integration.worker.test_losing import Between, expire_leases, kill
from tests.integration.worker.test_worker import numbers

_FAILED = plain(status=b"500 Oops")


def _all_halted_but(count: int, known: dict[int, str | None]) -> dict[int, str | None]:
    return dict.fromkeys(range(count), "halted") | known


async def test_what_fails_last_in_its_round_halts_the_rounds_behind_it() -> None:
    def script(request: Received) -> Answer:
        return Answer([_FAILED if request.target == "/1" else plain()])

    async with ScriptedUpstream(script) as upstream, desk(upstream.address) as at:
        batch = await at.submit(operations(8), on_failure="halt")
        at.worker(dataclasses.replace(QUICK, concurrency=2), limits=[Limit(Bucket("all", 1000, 1, 1000), "global")])
        view = await at.ended(batch)
        outcomes = await at.outcomes(batch)

    assert sorted(numbers(upstream.requests)) == [0, 1]
    assert slugs(outcomes) == _all_halted_but(8, {0: None, 1: None})
    assert (view.state, view.succeeded, view.failed) == ("completed", 1, 7)


async def test_what_fails_after_its_slice_s_turn_halts_the_next_lease() -> None:
    first, second = asyncio.Event(), asyncio.Event()

    def script(request: Received) -> Answer:
        return Answer([_FAILED], after=first) if request.target == "/0" else Answer([plain()], after=second)

    async with ScriptedUpstream(script) as upstream, desk(upstream.address) as at:
        batch = await at.submit(operations(8), on_failure="halt")
        at.worker(dataclasses.replace(QUICK, concurrency=2, turn_s=0.2))
        await upstream.until_requests(2)
        await pass_by(0.3)
        second.set()
        await at.until(batch, lambda view: view.completed == 1)
        first.set()
        view = await at.ended(batch)
        outcomes = await at.outcomes(batch)

    assert sorted(numbers(upstream.requests)) == [0, 1]
    assert slugs(outcomes) == _all_halted_but(8, {0: None, 1: None})
    assert view.state == "completed"


async def test_what_has_failed_halts_the_batch_also_under_the_worker_after_the_one_that_died() -> None:
    never = asyncio.Event()

    def script(request: Received) -> Answer:
        return Answer([_FAILED], after=never if request.target == "/0" else None)

    async with ScriptedUpstream(script) as upstream, desk(upstream.address) as at:
        batch = await at.submit(operations(8), on_failure="halt")
        first = at.worker(dataclasses.replace(QUICK, concurrency=2))
        await at.until(batch, lambda view: view.failed == 1)
        await kill(first)
        await expire_leases(at)
        at.worker()
        await at.ended(batch)
        outcomes = await at.outcomes(batch)

    assert sorted(numbers(upstream.requests)) == [0, 1]
    assert slugs(outcomes) == _all_halted_but(8, {0: "outcome-unknown", 1: None})


async def test_what_nobody_knows_of_halts_as_well() -> None:
    never = asyncio.Event()
    async with ScriptedUpstream(lambda _: Answer(after=never)) as upstream, desk(upstream.address) as at:
        batch = await at.submit(operations(4), on_failure="halt")
        first = at.worker(dataclasses.replace(QUICK, concurrency=1))
        await upstream.until_requests(1)
        await kill(first)
        await expire_leases(at)
        at.worker()
        await at.ended(batch)
        outcomes = await at.outcomes(batch)

    assert numbers(upstream.requests) == [0]
    assert slugs(outcomes) == _all_halted_but(4, {0: "outcome-unknown"})


class Forgetful(Between):
    """A ledger that does not answer the first look."""

    looks = 0

    async def view(self, batch_id: str) -> View | None:
        self.looks += 1
        if self.looks == 1:
            raise LedgerUnavailableError("away")
        found: View | None = await self._ledger.view(batch_id)
        return found


async def test_a_ledger_that_is_away_as_a_lease_begins_makes_it_no_loss() -> None:
    async with ScriptedUpstream() as upstream, desk(upstream.address) as at:
        forgetful = Forgetful(at.store)
        batch = await at.submit(operations(3), on_failure="halt")
        at.worker(store=Store(cast(Ledger, forgetful), at.store, SEALER))
        view = await at.ended(batch)

    assert (view.state, view.succeeded) == ("completed", 3)
    assert forgetful.looks == 2
    assert at.metrics.lease_rescues.value() == 0
