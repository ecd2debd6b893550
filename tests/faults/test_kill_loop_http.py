"""One gateway on SQLite, killed again and again, as its callers see it: D1 to D4 and D17 (PROMISES 3).

KILL_LOOP=full runs 100 kills.
"""

import asyncio
import os
import random
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.faults.killing.caller import Caller
from tests.faults.killing.checker import Evidence, violations
from tests.faults.killing.loop import summary
from tests.faults.killing.plan import Plan
from tests.faults.killing.received import NAME, receipts_in
from tests.faults.killing.replicas import IN_FLIGHT_MAX, Replica, gateways
from tests.faults.killing.watcher import Watcher, contradictions

_IS_FULL = os.environ.get("KILL_LOOP") == "full"
_KILLS = 100 if _IS_FULL else 20
_PLANS = {"free": Plan(batches=5000, size=500)}
if _IS_FULL:  # after each kill it waits for quiet
    _PLANS["ordered"] = Plan(batches=5000, size=96, is_ordered=True)
_LIFE_S = (0.1, 0.6)  # from when it has resumed
_RESUMES_WITHIN_S = 2.0 + 3.0  # where all that is left was perhaps on its way, it waits for 3 s (README)
_QUIET_S = 90.0
_LOOK_S = 0.01


@pytest.mark.parametrize("plan", _PLANS.values(), ids=_PLANS)
async def test_a_gateway_that_is_killed_again_and_again_keeps_its_word_over_http(
    plan: Plan, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    began_s = time.monotonic()
    async with gateways(tmp_path, [f"sqlite:{tmp_path}/ledger.db"], latency_ms=40) as (replica,):
        caller = Caller(plan, [replica.port], random.Random(3))
        watchers: dict[str, Watcher] = {}
        submitting, looking = asyncio.create_task(caller.keep_busy(2)), asyncio.create_task(caller.watch())
        watching = asyncio.create_task(watch(caller, replica.port, watchers))
        gaps_s = await kill(replica, tmp_path / NAME)
        caller.enough()
        async with asyncio.timeout(_QUIET_S):
            await asyncio.gather(submitting, looking, watching)
        again = {await watcher.read() for watcher in watchers.values()}
        found = Evidence(
            plan._replace(batches=caller.attempted),
            _KILLS,
            IN_FLIGHT_MAX,
            list(caller.ids),
            caller.states,
            caller.outcomes,
            receipts_in(tmp_path),
            caller.progress,
            guilty=frozenset(
                range(plan.size)
            ),  # a kill of who runs one alone cannot be told from a crash of its making
        )

    streams = [watcher.events[-1].stream for watcher in watchers.values()]
    with capsys.disabled():
        told = f"{sum(streams)} streams of {len(watchers)} batches, resumed after {max(gaps_s):.2f} s at most"
        print(f"\nkill loop over HTTP: {summary(found, began_s)}; {told}")
    assert violations(found) == []
    assert [each for watcher in watchers.values() for each in contradictions(watcher.events)] == []
    assert max(streams) > 1
    assert again == {204}
    assert max(gaps_s) <= _RESUMES_WITHIN_S


async def watch(caller: Caller, port: int, watchers: dict[str, Watcher]) -> None:
    """A reader of events for every batch that is acknowledged, until all have told the end."""
    async with asyncio.TaskGroup() as group:
        while caller.submits or len(watchers) < len(caller.ids):
            for name in caller.ids.keys() - watchers.keys():
                watchers[name] = Watcher(port, caller.ids[name])
                group.create_task(watchers[name].follow())
            await asyncio.sleep(_LOOK_S)


async def kill(replica: Replica, log: Path) -> list[float]:
    """Kill and start again; how long after each start the upstream was asked for something."""
    chance = random.Random(5)
    gaps_s = []
    for _ in range(_KILLS):
        await asyncio.sleep(chance.uniform(*_LIFE_S))
        replica.process.kill()
        replica.start()
        await replica.until_ready()
        gaps_s.append(await until_larger(lambda: log.stat().st_size))
    return gaps_s


async def until_larger(size: Callable[[], int]) -> float:
    """Until it has grown; the seconds that took, without those in which this process stood still."""
    before, waited_s = size(), 0.0
    while size() == before:
        await asyncio.sleep(_LOOK_S)
        waited_s += _LOOK_S
        assert waited_s < _QUIET_S
    return waited_s
