"""Kills one of two gateways and their Redis again and again while batches come in; gathers the evidence at the end."""

import asyncio
import random
from pathlib import Path
from typing import NamedTuple

from tests.fakes.until import until
from tests.faults.killing.caller import Caller
from tests.faults.killing.checker import Evidence
from tests.faults.killing.plan import Plan
from tests.faults.killing.replicas import IN_FLIGHT_MAX, Fleet, Replica, fleet
from tests.integration.ledger.servers import Server
from tests.integration.server.wire import get

SERVER_EVERY = 5  # kills


class Run(NamedTuple):
    """At least `kills`, every fifth of them of the server, and until `operations` were acknowledged; `pause_s` (least,
    most) between the kills, `unfinished` batches at a time."""

    kills: int
    operations: int
    pause_s: tuple[float, float]
    plan: Plan = Plan(batches=5000, size=100)
    unfinished: int = 4
    store: str = "redis"
    fsync: str = "everysec"
    latency_ms: int = 25
    quiet_s: float = 90.0
    seed: int = 1


async def run(this: Run, folder: Path) -> Evidence:
    """The evidence of a whole run. What has not ended by the end of its time, the evidence shows as it is."""
    chance = random.Random(this.seed)
    server = Server(this.store, folder / "store")
    try:
        server.start("--appendfsync", this.fsync)
        async with fleet(folder, server, latency_ms=this.latency_ms) as running:
            caller = Caller(this.plan, [replica.port for replica in running.replicas], chance)
            submitting = asyncio.create_task(caller.keep_busy(this.unfinished))
            watching = asyncio.create_task(caller.watch())
            kills = await _kill(this, running, caller, chance)
            caller.enough()
            await asyncio.wait({submitting, watching}, timeout=this.quiet_s)
            await _over(submitting, watching)
            return evidence(this.plan._replace(batches=caller.attempted), kills, running, caller)
    finally:
        server.kill()


async def _kill(this: Run, running: Fleet, caller: Caller, chance: random.Random) -> int:
    """How many kills there were."""
    kills = 0
    while kills < this.kills or len(caller.ids) * this.plan.size < this.operations:
        await asyncio.sleep(chance.uniform(*this.pause_s))
        kills += 1
        if kills % SERVER_EVERY == 0:
            running.server.kill()
            await asyncio.sleep(chance.uniform(0.0, 1.0))
            running.server.start("--appendfsync", this.fsync, awaited=False)
            for replica in running.replicas:
                await _until_it_noticed(replica)
            continue
        victim = chance.choice([each for each in running.replicas if each.is_ready] or running.replicas)
        await victim.until_ready()
        victim.process.kill()
        victim.start()
    for replica in running.replicas:
        await replica.until_ready()
    return kills


async def _until_it_noticed(replica: Replica) -> None:
    """A gateway that dies with the server can put nothing back on record: what the last second held is not promised."""
    await replica.until_ready()

    async def answers() -> bool:
        return (await get(replica.port, "/batch?limit=1")).status == 200

    await until(answers)


async def _over(*tasks: asyncio.Task[None]) -> None:
    """End them; what one of them failed with is raised."""
    for task in tasks:
        task.cancel()
    for found in await asyncio.gather(*tasks, return_exceptions=True):
        if isinstance(found, Exception):
            raise found


def evidence(plan: Plan, kills: int, running: Fleet, caller: Caller) -> Evidence:
    """What the processes and the caller have written down."""
    names = {batch_id: name for name, batch_id in caller.ids.items()}
    return Evidence(
        plan,
        kills,
        IN_FLIGHT_MAX,
        list(caller.ids),
        caller.states,
        caller.outcomes,
        running.receipts,
        caller.progress,
        guilty=frozenset(range(plan.size)),  # a kill of who runs one alone cannot be told from a crash of its making
        noticed=frozenset(names.get(batch_id, batch_id) for batch_id in running.losses),
    )
