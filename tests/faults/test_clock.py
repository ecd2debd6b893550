"""Clocks that jump, of the server and of a gateway: nothing is lost, repeated or overdue (PROMISES D11)."""

import asyncio
import random
import time
from email.utils import parsedate_to_datetime
from pathlib import Path

import pytest

from tests.fakes.until import PATIENCE_S, until
from tests.faults.killing.caller import Caller
from tests.faults.killing.checker import violations
from tests.faults.killing.clock import Clock
from tests.faults.killing.nemesis import evidence
from tests.faults.killing.plan import Plan
from tests.faults.killing.replicas import fleet
from tests.integration.ledger.servers import server
from tests.integration.server.wire import get

_WITHIN_S = 60.0
_JUMPS = [120, 3600, -3600]
_PLAN = Plan(batches=3, size=200)


@pytest.mark.parametrize("by_s", _JUMPS)
async def test_a_jump_of_the_servers_clock_loses_and_repeats_nothing(by_s: int, tmp_path: Path) -> None:
    clock = Clock(tmp_path)
    with server("redis", prefix=clock.prefix) as store:
        async with fleet(tmp_path, store, latency_ms=100) as running:
            caller = Caller(_PLAN, [replica.port for replica in running.replicas], random.Random(1))
            for name in _PLAN.ids:
                await caller.submit(name)
            await until(lambda: caller.has_completed(name, more_than=20))
            clock.jump(by_s)
            told_s = int(str(store.ask("TIME")[0]))  # type: ignore[index]
            await asyncio.wait_for(caller.watch(), PATIENCE_S)
            found = evidence(_PLAN, 1, running, caller)

    assert abs(told_s - time.time() - by_s) < _WITHIN_S
    assert violations(found) == []


@pytest.mark.parametrize("by_s", [3600, -3600])
async def test_a_jump_of_a_gateways_clock_loses_and_repeats_nothing(by_s: int, tmp_path: Path) -> None:
    clock = Clock(tmp_path)
    with server("redis") as store:
        async with fleet(tmp_path, store, latency_ms=100, prefixes=[clock.prefix, ()]) as running:
            caller = Caller(_PLAN, [replica.port for replica in running.replicas], random.Random(1))
            for name in _PLAN.ids:
                await caller.submit(name)
            await until(lambda: caller.has_completed(name, more_than=20))
            clock.jump(by_s)
            await asyncio.wait_for(caller.watch(), PATIENCE_S)
            date = (await get(running.replicas[0].port, "/batch?limit=1")).header("Date")
            found = evidence(_PLAN, 0, running, caller)

    assert abs(parsedate_to_datetime(date or "").timestamp() - time.time() - by_s) < _WITHIN_S
    assert violations(found) == []
    assert {kept.slug for outcomes in found.outcomes.values() for kept in outcomes} == {None}


async def test_what_a_lost_gateway_held_is_back_in_half_a_minute_although_the_servers_clock_stepped_back(
    tmp_path: Path,
) -> None:
    plan = Plan(batches=1, size=400)
    (name,) = plan.ids
    clock = Clock(tmp_path)
    with server("redis", prefix=clock.prefix) as store:
        async with fleet(tmp_path, store, latency_ms=100, ASYNC__SLICE="400") as running:
            caller = Caller(plan, [replica.port for replica in running.replicas], random.Random(1))
            await caller.submit(name)
            await until(lambda: caller.has_completed(name, more_than=20))
            (holder,) = [replica for replica in running.replicas if await replica.works()]
            holder.process.kill()
            clock.jump(-3600)
            lost_s = time.monotonic()
            completed = caller.progress[name][-1].completed
            await until(lambda: caller.has_completed(name, more_than=completed + 50))
            gap_s = time.monotonic() - lost_s
            await asyncio.wait_for(caller.watch(), PATIENCE_S)
            found = evidence(plan, 1, running, caller)

    assert gap_s < 30.0
    assert violations(found) == []
