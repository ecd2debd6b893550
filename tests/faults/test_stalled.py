"""A gateway that stands still for longer than its lease, and comes back when another has done its work (PROMISES D5).

SIGSTOP of a real process, at a moment that a relay before its Redis chooses. KILL_LOOP=full: it stands for 40 s.
"""

import asyncio
import os
import random
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from gateway.ledger import keys
from gateway.ledger.scripts import by_name
from tests.fakes.until import PATIENCE_S, until
from tests.faults.killing.caller import Caller
from tests.faults.killing.checker import violations
from tests.faults.killing.nemesis import evidence
from tests.faults.killing.plan import Plan
from tests.faults.killing.replicas import Fleet, fleet
from tests.integration.ledger.relay import Relay
from tests.integration.ledger.servers import server
from tests.integration.server.wire import get

_PLAN = Plan(batches=1, size=20)
_IS_FULL = os.environ.get("KILL_LOOP") == "full"
_STALL_S = 40.0 if _IS_FULL else 2.5
_SCRIPTS = by_name()
_WRITES = ("intend", "record")


@asynccontextmanager
async def relayed(folder: Path, latency_ms: int) -> AsyncIterator[tuple[Fleet, list[Relay]]]:
    """Two gateways, each with a relay before the Redis that they share."""
    with server("redis") as store:
        for name in _WRITES:
            store.ask("SCRIPT", "LOAD", _SCRIPTS[name].text)  # so that the first call of each is one exchange
        relays = [await Relay(store.port).open() for _ in range(2)]
        urls = [f"redis://127.0.0.1:{relay.port}/0" for relay in relays]
        try:
            async with fleet(folder, store, latency_ms=latency_ms, ledgers=urls, ASYNC__LEASE="2s") as running:
                yield running, relays
        finally:
            for relay in relays:
                await relay.close()


async def one_at(relays: list[Relay], script: str, *, before: bool) -> int:
    """Which of the gateways came to the script first: it waits there; the others will not."""
    for relay in relays:
        relay.stop_at(_SCRIPTS[script].digest, before=before)
    waiting = [asyncio.create_task(relay.stopped.wait()) for relay in relays]
    async with asyncio.timeout(PATIENCE_S):
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    for relay, task in zip(relays, waiting, strict=True):
        task.cancel()
        relay.stop_at("", before=False)
    return [relay.stopped.is_set() for relay in relays].index(True)


async def one_that_waits_for_its_upstream(running: Fleet) -> int:
    async def has_sent() -> bool:
        return len(running.receipts) > 5

    await until(has_sent)
    return [await replica.works() for replica in running.replicas].index(True)


def writes(relay: Relay, after: int, epoch: str) -> list[bytes]:
    """The answers to what was written under the epoch after so many exchanges."""
    scripts = [_SCRIPTS[name].digest.encode() for name in _WRITES]
    return [
        answer
        for request, answer in relay.exchanges[after:]
        if f"\r\n{epoch}\r\n".encode() in request and any(script in request for script in scripts)
    ]


_PHASES = {
    "before its intent": ("intend", True, 50),
    "after its intent": ("intend", False, 50),
    "while the upstream works": (None, True, 1500),
    "answered and unrecorded": ("record", True, 50),
}
_LATE = list(_PHASES) if _IS_FULL else ["after its intent"]
_RUNS = [*((phase, False) for phase in _PHASES), *((phase, True) for phase in _LATE)]


@pytest.mark.parametrize(
    ("phase", "late"), _RUNS, ids=[f"{phase}-{'late' if late else 'early'}" for phase, late in _RUNS]
)
async def test_a_gateway_that_stood_still_for_longer_than_its_lease_repeats_nothing_and_overwrites_nothing(
    phase: str, late: bool, tmp_path: Path
) -> None:
    """It comes back when another is at its work, or `late`: when that is done."""
    script, before, latency_ms = _PHASES[phase]
    (name,) = _PLAN.ids
    async with relayed(tmp_path, latency_ms) as (running, relays):
        caller = Caller(_PLAN, [replica.port for replica in running.replicas], random.Random(1))
        choosing = asyncio.create_task(
            one_that_waits_for_its_upstream(running) if script is None else one_at(relays, script, before=before)
        )
        await asyncio.sleep(0)
        await caller.submit(name)
        which = await choosing
        victim, other, relay = running.replicas[which], running.replicas[1 - which], relays[which]
        victim.process.signal(signal.SIGSTOP)
        stopped_s = time.monotonic()
        epoch = str(running.server.ask("HGET", keys.of_batch(caller.ids[name])[4], "e0"))
        written = len(relay.exchanges)
        caller.ports = [other.port]
        if late:
            await asyncio.wait_for(caller.watch(), PATIENCE_S)
        await until(other.works if not late else other.is_idle)
        await asyncio.sleep(max(0.0, stopped_s + _STALL_S - time.monotonic()))
        told = dict(caller.outcomes)
        victim.process.signal(signal.SIGCONT)
        relay.released.set()

        async def has_written() -> bool:
            return bool(writes(relay, written, epoch))

        await until(has_written)
        await asyncio.wait_for(caller.watch(), PATIENCE_S)
        await until(victim.is_idle)
        answered = await get(victim.port, f"/batch/{caller.ids[name]}")
        found = evidence(_PLAN, 1, running, caller)

    assert violations(found) == []
    assert {answer.split(b"\r\n")[1] for answer in writes(relay, written, epoch)} == {b"lost"}
    assert answered.status == 200
    if late:
        assert caller.outcomes == told
