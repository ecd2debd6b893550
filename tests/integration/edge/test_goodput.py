"""PROMISES P7: what is above the capacity is shed at once, and takes nothing from what is below it.

An open loop: each call has its planned time, from which its latency counts, whatever became of those before it. The
gateway is a process of its own; the API behind it takes 40 ms for each request, so the slots that the configuration
gives it are the capacity, which the same run measures. Every figure is held against those of the same run.
"""

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.fakes.machine import Machine
from tests.integration.cli.process import Process
from tests.integration.server.api import Api, Talk, answer
from tests.integration.server.wire import Answer, Wire, request

SLOTS = 4
SERVICE_S = 0.04
LASTS_S = 2.0
LOADS = (0.5, 1.0, 2.0, 4.0)
CONFIG = f"""
upstream: {{connections: {SLOTS}, requests_waiting_max: {SLOTS}, adaptive_concurrency: false}}
batch: {{in_flight_max: {SLOTS}, in_flight_of_caller_max: {SLOTS}}}
async: {{ledger: none}}
log: {{access: false}}
"""
NOISE_S = 0.15  # what a busy machine adds to a figure of some hundredths of a second
ENVELOPE = b'[{"method": "GET", "path": "/slow"}]'
CALLS = {
    "forwarded": (request("GET", "/slow"), 200),
    "batches": (request("POST", "/batch", [("Content-Type", "application/json")], ENVELOPE), 207),
}


@dataclass
class Tally:
    """What became of calls: latencies in seconds, from the planned time."""

    admitted_s: list[float] = field(default_factory=list)
    shed_s: list[float] = field(default_factory=list)
    took_s: float = 0.0
    others: list[Answer] = field(default_factory=list)

    @property
    def goodput(self) -> float:
        """Calls that were served, per second."""
        return len(self.admitted_s) / self.took_s


class Sender:
    """Sends one call again and again, on connections that are kept."""

    def __init__(self, port: int, call: bytes, status: int) -> None:
        self._port, self._call, self._status = port, call, status
        self._idle: list[Wire] = []
        self._loop = asyncio.get_running_loop()

    async def send(self, planned_s: float, tally: Tally) -> None:
        wire = self._idle.pop() if self._idle else await Wire.open(self._port)
        await wire.send(self._call)
        answered = await wire.answer()
        self._idle.append(wire)
        took_s = self._loop.time() - planned_s
        if answered.status == self._status:
            tally.admitted_s.append(took_s)
        elif (answered.status, answered.slug, answered.header("Retry-After")) == (503, "overloaded", "1"):
            tally.shed_s.append(took_s)
        else:
            tally.others.append(answered)

    async def capacity(self) -> float:
        """Served a second where there are as many callers as slots, each waiting for its answer."""
        began_s, tally = self._loop.time(), Tally()

        async def call() -> None:
            while self._loop.time() < began_s + LASTS_S / 2:
                await self.send(self._loop.time(), tally)

        await asyncio.gather(*[call() for _ in range(SLOTS)])
        tally.took_s = self._loop.time() - began_s
        assert not tally.shed_s + tally.others
        return tally.goodput

    async def load(self, rate: float, lasts_s: float = LASTS_S) -> Tally:
        """`rate` calls a second, each at its planned time."""
        began_s, calls, tally = self._loop.time(), list[asyncio.Task[None]](), Tally()
        for number in range(int(rate * lasts_s)):
            planned_s = began_s + number / rate
            await asyncio.wait([self._loop.create_future()], timeout=max(0.0, planned_s - self._loop.time()))
            calls.append(self._loop.create_task(self.send(planned_s, tally)))
        await asyncio.gather(*calls)
        tally.took_s = self._loop.time() - began_s
        return tally

    async def close(self) -> None:
        for wire in self._idle:
            wire.writer.close()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[[str], Process]]:
    started: list[Process] = []

    def run(upstream: str) -> Process:
        config = tmp_path / "gateway.yaml"
        config.write_text(CONFIG)
        listeners = ("--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0")
        started.append(Process.command(tmp_path, "serve", "--config", str(config), "--upstream", upstream, *listeners))
        return started[-1]

    yield run
    for process in started:
        process.kill()


def p99(times_s: list[float]) -> float:
    return sorted(times_s)[int(len(times_s) * 0.99)]


@pytest.mark.alone
@pytest.mark.parametrize("kind", CALLS)
async def test_four_times_the_capacity_keeps_the_goodput_and_is_over_when_it_is_over(
    api: Api, start: Callable[[str], Process], kind: str
) -> None:
    async def slow(talk: Talk) -> None:
        await asyncio.wait([asyncio.get_running_loop().create_future()], timeout=SERVICE_S)
        await talk.send(answer())

    api.on("/slow", slow)
    process = start(api.url)
    port, _ = await asyncio.to_thread(process.ports)
    sender = Sender(port, *CALLS[kind])

    with Machine() as machine:
        capacity = await sender.capacity()
        tallies = {load: await sender.load(load * capacity) for load in LOADS}
        after = await sender.load(capacity / 2, lasts_s=1.0)
    await sender.close()

    worst, calm = tallies[4.0], tallies[0.5]
    figures = {
        load: (round(tally.goodput), len(tally.shed_s), round(p99(tally.admitted_s), 3))
        for load, tally in tallies.items()
    }
    print(f"{kind}: capacity {capacity:.0f}/s; load: goodput, shed, p99 of the admitted:", figures, machine.away_s)
    assert [tally.others for tally in (*tallies.values(), after)] == [[]] * 5
    machine.expect_all()
    assert worst.goodput >= 0.8 * max(tally.goodput for tally in tallies.values())
    assert len(worst.shed_s) > len(worst.admitted_s)
    assert p99(worst.shed_s) <= SERVICE_S + NOISE_S
    assert p99(worst.admitted_s) <= 3 * max(p99(calm.admitted_s), SERVICE_S) + NOISE_S
    assert len(after.shed_s) <= 0.1 * len(after.admitted_s)
