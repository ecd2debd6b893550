"""Two gateways on one Redis, any of the three killed at any moment: D1 to D4, D8 and D17 (PROMISES 3).

KILL_LOOP=full runs the long ones: 20 000 operations and at least 100 kills each, some minutes.
"""

import asyncio
import os
import random
import time
from collections import Counter
from pathlib import Path

import pytest

from tests.fakes.until import PATIENCE_S, until
from tests.faults.killing.caller import Caller
from tests.faults.killing.checker import violations
from tests.faults.killing.loop import summary
from tests.faults.killing.nemesis import SERVER_EVERY, Run, evidence, run
from tests.faults.killing.plan import Plan, target_of
from tests.faults.killing.replicas import fleet
from tests.integration.ledger.servers import server

_IS_FULL = os.environ.get("KILL_LOOP") == "full"
_SHORT = Run(kills=10, operations=1000, pause_s=(0.5, 1.5))
_FULL = Run(kills=100, operations=20_000, pause_s=(0.5, 3.0))
_FREE, _ORDERED = Plan(batches=5000, size=100, cancels=True), Plan(batches=5000, size=96, is_ordered=True)
_KIND = {_FREE: "free", _ORDERED: "ordered"}
_RUNS = [
    ("redis", "everysec", _FREE),
    ("valkey", "always", _ORDERED),
    *([("valkey", "always", _FREE), ("redis", "always", _ORDERED)] if _IS_FULL else []),
]


@pytest.mark.parametrize(
    ("store", "fsync", "plan"), _RUNS, ids=[f"{store}-{fsync}-{_KIND[plan]}" for store, fsync, plan in _RUNS]
)
async def test_whoever_is_killed_nothing_acknowledged_is_lost_and_nothing_unsafe_is_sent_twice(
    store: str, fsync: str, plan: Plan, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    began_s = time.monotonic()

    found = await run((_FULL if _IS_FULL else _SHORT)._replace(store=store, fsync=fsync, plan=plan), tmp_path)

    with capsys.disabled():
        told = f"{found.kills // SERVER_EVERY} of the server, {len(found.acknowledged)} batches acknowledged"
        print(f"\nkill loop, {store} {fsync}: {summary(found, began_s)}; {told}; {len(found.noticed)} losses noticed")
    assert violations(found) == []
    assert fsync != "always" or not found.noticed


@pytest.mark.parametrize("lease_s", [3, 15] if _IS_FULL else [3])
async def test_what_a_lost_gateway_held_resumes_and_nothing_that_finished_is_sent_again(
    lease_s: int, tmp_path: Path
) -> None:
    plan = Plan(batches=1, size=400)
    (name,) = plan.ids
    with server("redis") as store:
        async with fleet(tmp_path, store, latency_ms=100, ASYNC__SLICE="400", ASYNC__LEASE=f"{lease_s}s") as running:
            caller = Caller(plan, [replica.port for replica in running.replicas], random.Random(1))
            await caller.submit(name)
            await until(lambda: caller.has_completed(name, more_than=50))
            (holder,) = [replica for replica in running.replicas if await replica.works()]
            holder.process.kill()
            killed_s = time.monotonic()
            assert await caller.read(name)
            finished = {target_of(name, kept.place) for kept in caller.outcomes[name]}
            before = Counter(receipt.target for receipt in running.receipts)
            await until(lambda: caller.has_completed(name, more_than=len(finished)))
            gap_s = time.monotonic() - killed_s
            await asyncio.wait_for(caller.watch(), PATIENCE_S)
            found = evidence(plan, 1, running, caller)

    after = Counter(receipt.target for receipt in found.receipts)
    assert gap_s <= lease_s + 5
    assert len(finished) > 50
    assert {target: after[target] for target in finished} == {target: before[target] for target in finished}
    assert violations(found) == []
