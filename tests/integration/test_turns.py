"""Batches before an upstream in trouble: the breaker and the limit that adapts, over real sockets (PROMISES L4)."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from statistics import median

import pytest

from gateway.batch.model import Outcome
from gateway.upstream.address import PoolLimits
from gateway.upstream.breaker import State
from tests.fakes.machine import Machine, Stopwatch
from tests.fakes.until import PATIENCE_S, pass_by, until, until_so
from tests.fakes.upstream import Answer, Received, ScriptedUpstream, Then, plain
from tests.integration.test_executor import Running, operations, plan_of, running, slugs

BUSY = plain(b"busy", b"503 No")


async def _until_open(gateway: Running) -> None:
    while gateway.pool.turns.state is not State.OPEN:
        await gateway.run(plan_of(operations(20)))


async def test_while_all_fails_one_operation_a_second_is_sent_and_recovery_is_seen_within_five() -> None:
    loop = asyncio.get_running_loop()
    answer = BUSY
    async with ScriptedUpstream(lambda _: Answer([answer])) as upstream, running(upstream.address) as gateway:
        async with asyncio.timeout(PATIENCE_S):
            await _until_open(gateway)
        before, opened_s = len(upstream.requests), loop.time()
        while loop.time() < opened_s + 4:
            outcomes = await gateway.run(plan_of(operations(5)))
            await pass_by(0.02)
        sends, refused = len(upstream.requests) - before, set(slugs(outcomes).values())
        answer = plain()
        healed_s = loop.time()

        async def is_closed() -> bool:
            await gateway.run(plan_of(operations(5)))
            return gateway.pool.turns.state is State.CLOSED

        await until(is_closed)
        took_s = loop.time() - healed_s
        outcomes = await gateway.run(plan_of(operations(50)))

    assert 1 <= sends <= 4
    assert refused == {"upstream-unavailable"}
    assert took_s <= 5
    assert all(outcome.succeeded for outcome in outcomes)


async def test_an_operation_that_was_refused_unsent_says_when_to_come_back() -> None:
    async with ScriptedUpstream(lambda _: Answer([BUSY])) as upstream, running(upstream.address) as gateway:
        await _until_open(gateway)
        sent = len(upstream.requests)
        outcomes = await gateway.run(plan_of(operations(3)))

    failure = outcomes[0].failure
    assert failure is not None
    assert (outcomes[0].status, failure.slug, failure.retryable, outcomes[0].attempts) == (
        503, "upstream-unavailable", True, 0,
    )  # fmt: skip
    assert failure.members in ({"retryAfter": 1}, {"retryAfter": 2})
    assert len(upstream.requests) == sent


async def test_a_batch_that_halts_is_halted_by_an_upstream_that_is_away() -> None:
    async with ScriptedUpstream(lambda _: Answer([BUSY])) as upstream, running(upstream.address) as gateway:
        await _until_open(gateway)
        outcomes = await gateway.run(plan_of(operations(3), on_failure="halt"))

    assert slugs(outcomes) == {0: "upstream-unavailable", 1: "halted", 2: "halted"}


@pytest.mark.parametrize("answer", [plain(status=b"404 No"), plain(status=b"429 No"), plain(status=b"500 No")])
async def test_answers_that_speak_of_the_request_open_nothing(answer: bytes) -> None:
    async with ScriptedUpstream(lambda _: Answer([answer])) as upstream, running(upstream.address) as gateway:
        outcomes = await gateway.run(plan_of(operations(200)))
        state = gateway.pool.turns.state

    assert state is State.CLOSED
    assert len(upstream.requests) == len(outcomes) == 200


async def test_lost_connections_open_it_too() -> None:
    async with ScriptedUpstream(lambda _: Answer(then=Then.RESET)) as upstream, running(upstream.address) as gateway:
        outcomes = await gateway.run(plan_of(operations(100)))

    assert 20 <= len(upstream.requests) <= 40
    assert set(slugs(outcomes).values()) == {"outcome-unknown", "upstream-unavailable"}


async def test_timeouts_that_a_caller_asked_for_open_nothing() -> None:
    async with (
        ScriptedUpstream(lambda _: Answer(then=Then.HANG)) as upstream,
        running(upstream.address, timeout_s=60) as gateway,
    ):
        await gateway.run(plan_of(operations(40), concurrency=40, deadline_s=0.2))
        state = gateway.pool.turns.state

    assert state is State.CLOSED


async def test_batches_wait_for_the_probe_and_go_on_when_it_is_answered() -> None:
    held = asyncio.Event()
    answer = Answer([BUSY])
    async with ScriptedUpstream(lambda _: answer) as upstream, running(upstream.address) as gateway:
        await _until_open(gateway)
        answer = Answer([plain()], after=held)
        await until_so(lambda: not gateway.pool.turns.retry_after_s())  # nobody is told when a pause ends
        before = len(upstream.requests)
        runs = [asyncio.create_task(gateway.run(plan_of(operations(10)))) for _ in range(3)]
        await upstream.until_requests(before + 1)
        held.set()
        outcomes = [outcome for run in runs for outcome in await run]

    assert len(outcomes) == 30
    assert all(outcome.succeeded for outcome in outcomes)


async def test_a_probe_that_hangs_holds_batches_up_for_half_a_second_only() -> None:
    answer = Answer([BUSY])
    async with ScriptedUpstream(lambda _: answer) as upstream, running(upstream.address) as gateway:
        await _until_open(gateway)
        answer = Answer(then=Then.HANG)
        await until_so(lambda: not gateway.pool.turns.retry_after_s())  # nobody is told when a pause ends
        before = len(upstream.requests)
        probing = asyncio.create_task(gateway.run(plan_of(operations(1))))
        await upstream.until_requests(before + 1)
        with Stopwatch() as watch:
            outcomes = await gateway.run(plan_of(operations(10)))
        probing.cancel()
        with suppress(asyncio.CancelledError):
            await probing

    assert set(slugs(outcomes).values()) == {"upstream-unavailable"}
    assert watch.ran_s < 1
    assert len(upstream.requests) == before + 1


async def test_batches_that_stand_in_line_take_turns() -> None:
    async with (
        ScriptedUpstream() as upstream,
        running(upstream.address, PoolLimits(connections_max=2, adapts=False)) as gateway,
    ):
        long = asyncio.create_task(gateway.run(plan_of(operations(400))))
        await upstream.until_requests(20)
        await gateway.run(plan_of(operations(10)))
        is_over = long.done()
        await long

    assert not is_over
    assert upstream.in_flight_max <= 2


async def test_a_caller_that_goes_gives_its_turns_back() -> None:
    held = asyncio.Event()
    async with (
        ScriptedUpstream(lambda _: Answer([plain()], after=held)) as upstream,
        running(upstream.address, PoolLimits(connections_max=2)) as gateway,
    ):
        runs = [asyncio.create_task(gateway.run(plan_of(operations(20)))) for _ in range(3)]
        await upstream.until_requests(2)
        for run in runs:
            run.cancel()
        await asyncio.gather(*runs, return_exceptions=True)
        held.set()
        await upstream.until(lambda: upstream.in_flight == 0)
        outcomes = await gateway.run(plan_of(operations(20)))
        in_flight, line = gateway.pool.turns.in_flight, len(gateway.pool.turns.line)

    assert all(outcome.succeeded for outcome in outcomes)
    assert (in_flight, line) == (0, 0)


@asynccontextmanager
async def _degrading(service_s: float, knee: int, in_flight: list[int]) -> AsyncIterator[ScriptedUpstream]:
    """Serves `knee` at a time, each for `service_s`; the others wait: latency grows with concurrency. As each
    arrives, how many are there goes into `in_flight`, itself among them."""
    loop = asyncio.get_running_loop()
    free = [0.0] * knee

    def script(_: Received) -> Answer:
        in_flight.append(upstream.in_flight)
        done_s = max(loop.time(), min(free)) + service_s
        free[free.index(min(free))] = done_s
        served = asyncio.Event()
        loop.call_at(done_s, served.set)
        return Answer([plain()], after=served)

    async with ScriptedUpstream(script) as upstream:
        yield upstream


async def test_an_upstream_that_only_queues_is_asked_for_no_more_than_it_serves() -> None:
    loop = asyncio.get_running_loop()
    in_flight: list[int] = []
    async with _degrading(0.04, 8, in_flight) as upstream, running(upstream.address) as gateway:
        with Machine() as machine:
            runs = [asyncio.create_task(gateway.run(plan_of(operations(200)))) for _ in range(8)]
            await pass_by(4)  # to settle
            settled_s, settled_at = loop.time(), len(upstream.requests)
            await upstream.until_requests(1500)
            goodput = (1500 - settled_at) / (loop.time() - settled_s)
        outcomes: list[Outcome] = [outcome for run in runs for outcome in await run]

    machine.expect_all(stolen_max=1.0)  # a pause, not a slow host, is taken for an upstream that is overloaded
    assert all(outcome.succeeded for outcome in outcomes)
    assert median(in_flight[settled_at:1500]) <= 16  # it tries more now and then
    assert goodput >= 0.7 * 8 / 0.04
