"""What asynchronous operations pass before they start: a durable intent, and whether they may start at all."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

from msgspec.structs import replace

from gateway.batch.model import Failure
from gateway.plan import Gate, Plan
from tests.fakes.asking import until_idle
from tests.fakes.until import PATIENCE_S
from tests.fakes.upstream import Answer, Received, ScriptedUpstream, echo, plain
from tests.integration.test_executor import numbers, operations, plan_of, running, slugs

CANCELLED = Failure("cancelled", "the batch was cancelled")


@dataclass
class Gatekeeper:
    """Puts intents on record when the test says so. `closed` is why nothing may start."""

    holds: Sequence[bool]
    at_once: bool = True
    closed: Failure | None = None
    asked: list[Sequence[int]] = field(default_factory=list)
    waiting: list[asyncio.Future[Failure | None]] = field(default_factory=list)
    stopped: asyncio.Future[None] = field(default_factory=lambda: asyncio.get_running_loop().create_future())

    def intend(self, indexes: Sequence[int]) -> asyncio.Future[Failure | None]:
        self.asked.append(indexes)
        future: asyncio.Future[Failure | None] = asyncio.get_running_loop().create_future()
        if self.at_once:
            future.set_result(None)
        self.waiting.append(future)
        return future

    def stop(self) -> None:
        self.closed = CANCELLED
        self.stopped.set_result(None)

    def at(self, plan: Plan) -> Plan:
        return replace(plan, gate=Gate(lambda: self.closed, self.holds, self.intend, self.stopped))


async def until_asked(gate: Gatekeeper, times: int) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while len(gate.asked) < times:  # noqa: ASYNC110  # the gatekeeper is asked by a callback
            await asyncio.sleep(0)


async def test_nothing_of_an_operation_leaves_before_its_intent_is_on_record() -> None:
    gate = Gatekeeper([True] * 5, at_once=False)
    async with ScriptedUpstream() as upstream, running(upstream.address) as gateway:
        run = asyncio.create_task(gateway.run(gate.at(plan_of(operations(5)))))
        await until_asked(gate, 1)
        before = upstream.connections
        gate.waiting[0].set_result(None)
        outcomes = await run

    assert gate.asked == [[0, 1, 2, 3, 4]]
    assert before == 0
    assert [outcome.status for outcome in outcomes] == [200] * 5


async def test_what_is_not_held_starts_at_once() -> None:
    gate = Gatekeeper([True, False, True, False], at_once=False)
    async with ScriptedUpstream() as upstream, running(upstream.address) as gateway:
        run = asyncio.create_task(gateway.run(gate.at(plan_of(operations(4)))))
        await upstream.until_requests(2)
        early = sorted(numbers(upstream.requests))
        gate.waiting[0].set_result(None)
        outcomes = await run

    assert early == [1, 3]
    assert gate.asked == [[0, 2]]
    assert len(outcomes) == 4


async def test_intents_never_run_ahead_of_the_concurrency() -> None:
    gate = Gatekeeper([True] * 40)
    async with ScriptedUpstream() as upstream, running(upstream.address) as gateway:
        outcomes = await gateway.run(gate.at(plan_of(operations(40), concurrency=4)))

    assert upstream.in_flight_max <= 4
    assert max(len(indexes) for indexes in gate.asked) <= 4
    assert sorted(index for indexes in gate.asked for index in indexes) == list(range(40))
    assert len(outcomes) == 40


async def test_an_intent_that_is_refused_ends_its_operations_unsent() -> None:
    gate = Gatekeeper([True] * 3, at_once=False)
    async with ScriptedUpstream() as upstream, running(upstream.address) as gateway:
        run = asyncio.create_task(gateway.run(gate.at(plan_of(operations(3), concurrency=2))))
        await until_asked(gate, 1)
        gate.closed = CANCELLED
        gate.waiting[0].set_result(CANCELLED)
        outcomes = await run

    assert upstream.connections == 0
    assert slugs(outcomes) == dict.fromkeys(range(3), "cancelled")
    assert all(outcome.attempts == 0 for outcome in outcomes)


async def test_once_stopped_nothing_starts_and_what_is_on_its_way_keeps_its_answer() -> None:
    held = asyncio.Event()

    def script(request: Received) -> Answer:
        return Answer([plain()], after=held)

    gate = Gatekeeper([True] * 10)
    async with ScriptedUpstream(script) as upstream, running(upstream.address) as gateway:
        run = asyncio.create_task(gateway.run(gate.at(plan_of(operations(10), concurrency=3))))
        await upstream.until_requests(3)
        gate.stop()
        held.set()
        outcomes = await run

    assert sorted(numbers(upstream.requests)) == [0, 1, 2]
    assert slugs(outcomes) == {**dict.fromkeys(range(3)), **dict.fromkeys(range(3, 10), "cancelled")}


async def test_a_gate_that_closed_between_start_and_intent_is_not_asked() -> None:
    gate = Gatekeeper([True] * 3)
    async with ScriptedUpstream() as upstream, running(upstream.address) as gateway:
        run = asyncio.create_task(gateway.run(gate.at(plan_of(operations(3)))))
        asyncio.get_running_loop().call_soon(gate.stop)  # after the run's start, before its intents
        outcomes = await run

    assert upstream.connections == 0
    assert gate.asked == []
    assert set(slugs(outcomes).values()) == {"cancelled"}


async def test_who_stops_listening_while_an_intent_is_written_sends_nothing() -> None:
    gate = Gatekeeper([True] * 3, at_once=False)
    async with ScriptedUpstream(echo) as upstream, running(upstream.address) as gateway:
        run = asyncio.create_task(gateway.run(gate.at(plan_of(operations(3)))))
        await until_asked(gate, 1)
        run.cancel()
        await asyncio.gather(run, return_exceptions=True)
        gate.waiting[0].set_result(None)
        await asyncio.sleep(0)
        await until_idle(gateway.pool)

    assert upstream.connections == 0
    assert gateway.strays == []
