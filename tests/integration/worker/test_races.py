"""Fairness, cancels and expiries against the clock (PROMISES L5, D14, D15), with a worker at work."""

import asyncio
import random
from collections import Counter
from statistics import median

from gateway.batch.model import Operation
from gateway.batch.states import FINAL
from gateway.ledger.port import View
from tests.fakes.until import pass_by
from tests.fakes.upstream import Answer, Received, ScriptedUpstream, plain
from tests.integration.worker.desk import Desk, desk

_LIVES_MS = (1, 20, 50, 100, 200, 60_000)  # on every machine some expire and some do not
_START_WITHIN_S = 2.0  # L5, D14
_NORMAL = 8  # of so many batches on an idle ledger the usual time is taken


def target_of(batch: str, index: int) -> str:
    return f"/{batch}/{index}"


def named(batch: str, count: int) -> list[Operation]:
    return [Operation(str(index), "POST", target_of(batch, index)) for index in range(count)]


def received_of(upstream: ScriptedUpstream, batch: str) -> list[Received]:
    return [request for request in upstream.requests if request.target.startswith(f"/{batch}/")]


async def start_s(at: Desk, upstream: ScriptedUpstream, owner: str, batch: str) -> float:
    """How long a batch of one operation waits from its acceptance until it is sent."""
    accepted_s = asyncio.get_running_loop().time()
    await at.ended(await at.submit(named(batch, 1), owner=owner))
    (request,) = received_of(upstream, batch)
    return request.time_s - accepted_s


async def test_one_operation_starts_within_two_seconds_behind_another_s_ten_thousand() -> None:
    async with ScriptedUpstream(lambda _: Answer([plain()])) as upstream, desk(upstream.address) as at:
        at.worker()
        usual_s = median([await start_s(at, upstream, "small", f"idle{number}") for number in range(_NORMAL)])
        backlog = [await at.submit(named(f"large{number}", 500), owner="large", slice_size=50) for number in range(20)]
        waits_s = [await start_s(at, upstream, "small", f"busy{number}") for number in range(_NORMAL)]
        left = [await at.view(batch) for batch in backlog]

    assert max(waits_s) <= max(_START_WITHIN_S, 4 * usual_s)
    assert sum(view.total - view.completed for view in left) > 1000  # they did wait behind something


async def test_a_hundred_cancels_at_random_moments_leave_true_results_and_nothing_starts_after_them() -> None:
    chance = random.Random(14)
    async with ScriptedUpstream(lambda _: Answer([plain()])) as upstream, desk(upstream.address) as at:
        loop = asyncio.get_running_loop()
        at.worker()
        acknowledged_s: dict[str, float] = {}

        async def cancelled(name: str) -> View:
            batch = await at.submit(named(name, 30), owner=name)
            await pass_by(chance.uniform(0.0, 0.5))
            await at.store.command(batch, "cancel")
            acknowledged_s[name] = loop.time()
            return await at.ended(batch)

        ended: dict[str, View] = {}
        for first in range(0, 100, 20):
            names = [f"batch{number}" for number in range(first, first + 20)]
            ended |= dict(zip(names, await asyncio.gather(*map(cancelled, names)), strict=True))
        outcomes = {name: await at.outcomes(view.id) for name, view in ended.items()}

    assert {view.state for view in ended.values()} <= {"cancelled", "completed"}
    assert "cancelled" in {view.state for view in ended.values()}
    for name, view in ended.items():
        sent = received_of(upstream, name)
        assert max(Counter(request.target for request in sent).values(), default=1) == 1
        assert {request.target for request in sent} == {target_of(name, index) for index in outcomes[name]}
        assert view.succeeded == len(sent)
        assert all(request.time_s <= acknowledged_s[name] + _START_WITHIN_S for request in sent)


async def test_of_expiry_and_completion_one_wins_and_what_finished_is_kept() -> None:
    chance = random.Random(15)
    async with ScriptedUpstream(lambda _: Answer([plain()])) as upstream, desk(upstream.address) as at:
        at.worker()
        ended: dict[str, View] = {}
        for first in range(0, 200, 50):
            names = [f"batch{number}" for number in range(first, first + 50)]
            batches = {
                name: await at.submit(named(name, 3), owner=name, lives_ms=chance.choice(_LIVES_MS)) for name in names
            }
            ended |= {name: await at.ended(batch) for name, batch in batches.items()}
        outcomes = {name: await at.outcomes(view.id) for name, view in ended.items()}
        await at.store.sweep()
        later = {name: await at.view(view.id) for name, view in ended.items()}

    states = Counter(view.state for view in ended.values())
    assert set(states) == {"completed", "expired"} <= FINAL
    assert later == ended
    assert len(at.ends) == 200  # each has ended once
    for name, view in ended.items():
        assert view.succeeded == len(outcomes[name]) == len(received_of(upstream, name))
        assert view.state == "expired" or view.succeeded == 3
