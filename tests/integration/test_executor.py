"""The executor over real sockets: order, limits, failures, deadlines, and what happens when its caller is gone."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from time import monotonic
from typing import Literal

import pytest
import uvloop
from msgspec.structs import replace

from gateway.batch.model import Batch, Failure, Operation, Outcome
from gateway.batch.routes import EVERY_ROUTE, Route
from gateway.executor import Executor
from gateway.plan import Plan
from gateway.upstream.address import Address, PoolLimits
from gateway.upstream.pool import Pool
from gateway.upstream.upstream import Upstream
from tests.fakes.asking import request_bytes, until_idle
from tests.fakes.machine import Stopwatch
from tests.fakes.upstream import Answer, Received, ScriptedUpstream, Then, echo, in_turn, plain

HANG = Answer(then=Then.HANG)


@dataclass
class Running:
    """An executor with one upstream; `strays` are the outcomes that nobody waited for."""

    executor: Executor
    pool: Pool
    strays: list[Outcome] = field(default_factory=list)

    async def run(self, plan: Plan) -> list[Outcome]:
        return [outcome async for group in self.executor.run(plan) for outcome in group]


@contextlib.asynccontextmanager
async def running(
    address: Address,
    limits: PoolLimits | None = None,
    *,
    timeout_s: float = 5,
    answer_bytes_max: int = 1 << 20,
) -> AsyncIterator[Running]:
    loop = asyncio.get_running_loop()
    pool = Pool(address, limits or PoolLimits(), loop)
    upstream = Upstream(pool, timeout_s, answer_bytes_max, retries_max=2)
    strays: list[Outcome] = []
    try:
        yield Running(Executor({"default": upstream}, loop, strays.extend), pool, strays)
    finally:
        await pool.close()


def plan_of(
    operations: Sequence[Operation],
    *,
    routes: Sequence[Route | Failure] | None = None,
    on_failure: Literal["continue", "halt"] = "continue",
    concurrency: int = 10,
    deadline_s: float = 10,
    answers_bytes_max: int = 1 << 30,
    delays_us: Sequence[int] = (),
) -> Plan:
    """`deadline_s` from now."""
    return Plan(
        Batch(operations, on_failure),
        routes or [EVERY_ROUTE] * len(operations),
        lambda operation, _: request_bytes(operation.method, operation.target, operation.body),
        concurrency,
        asyncio.get_running_loop().time() + deadline_s,
        answers_bytes_max,
        delays_us,
    )


def operations(count: int, method: str = "POST") -> list[Operation]:
    return [Operation(str(number), method, f"/{number}") for number in range(count)]


def slugs(outcomes: Sequence[Outcome]) -> dict[int, str | None]:
    return {outcome.index: outcome.failure.slug if outcome.failure else None for outcome in outcomes}


def numbers(requests: Sequence[Received]) -> list[int]:
    return [int(request.target[1:]) for request in requests]


async def test_each_operation_has_one_outcome_and_it_is_its_own() -> None:
    async with ScriptedUpstream() as upstream, running(upstream.address) as gateway:
        outcomes = await gateway.run(plan_of(operations(500)))

    assert sorted(outcome.index for outcome in outcomes) == list(range(500))
    assert all(outcome.body == b"POST /%d" % outcome.index for outcome in outcomes)
    assert all(outcome.attempts == 1 for outcome in outcomes)
    assert sorted(numbers(upstream.requests)) == list(range(500))


async def test_operations_leave_in_their_order_one_at_a_time_when_concurrency_is_one() -> None:
    async with ScriptedUpstream() as upstream, running(upstream.address) as gateway:
        outcomes = await gateway.run(plan_of(operations(50), concurrency=1))

    assert numbers(upstream.requests) == list(range(50))
    assert [outcome.index for outcome in outcomes] == list(range(50))
    assert upstream.in_flight_max == 1


async def test_outcomes_come_in_the_order_in_which_they_finish() -> None:
    held = asyncio.Event()

    def script(request: Received) -> Answer:
        return Answer([plain()], after=held) if request.target == "/0" else echo(request)

    async with ScriptedUpstream(script) as upstream, running(upstream.address) as gateway:
        finished: list[int] = []
        async for group in gateway.executor.run(plan_of(operations(10))):
            finished += [outcome.index for outcome in group]
            if len(finished) == 9:
                held.set()

    assert sorted(finished[:9]) == list(range(1, 10))
    assert finished[9] == 0


@pytest.mark.parametrize("concurrency", [1, 3, 10])
async def test_never_more_in_flight_than_the_plan_allows(concurrency: int) -> None:
    async with ScriptedUpstream() as upstream, running(upstream.address) as gateway:
        await gateway.run(plan_of(operations(200), concurrency=concurrency))

    assert upstream.in_flight_max <= concurrency
    assert upstream.open_max <= concurrency


async def test_the_plan_s_concurrency_is_used() -> None:
    held = asyncio.Event()
    async with (
        ScriptedUpstream(lambda _: Answer([plain()], after=held)) as upstream,
        running(upstream.address) as gateway,
    ):
        run = asyncio.create_task(gateway.run(plan_of(operations(30), concurrency=7)))
        await upstream.until(lambda: upstream.in_flight == 7)
        held.set()
        await run

    assert upstream.in_flight_max == 7


async def test_a_failure_leaves_the_others_alone() -> None:
    answers = {
        "/1": Answer(then=Then.RESET),
        "/2": Answer([plain(status=b"500 No")]),
        "/3": Answer([b"garbage\r\n\r\n"]),
    }

    def script(request: Received) -> Answer:
        return answers.get(request.target) or echo(request)

    async with ScriptedUpstream(script) as upstream, running(upstream.address) as gateway:
        outcomes = await gateway.run(plan_of(operations(6)))

    assert slugs(outcomes) == {0: None, 1: "outcome-unknown", 2: None, 3: "upstream-malformed", 4: None, 5: None}
    assert sorted(outcome.index for outcome in outcomes if outcome.succeeded) == [0, 4, 5]
    assert sorted(numbers(upstream.requests)) == list(range(6))


async def test_halt_sends_nothing_after_the_first_failure() -> None:
    script = in_turn(plain(), plain(), plain(status=b"409 No"))
    async with ScriptedUpstream(script) as upstream, running(upstream.address) as gateway:
        outcomes = await gateway.run(plan_of(operations(20), on_failure="halt", concurrency=1))

    assert numbers(upstream.requests) == [0, 1, 2]
    assert slugs(outcomes) == {0: None, 1: None, 2: None, **dict.fromkeys(range(3, 20), "halted")}
    assert {outcome.status for outcome in outcomes if outcome.failure} == {424}


async def test_halt_sends_nothing_after_what_was_refused_unsent() -> None:
    routes: list[Route | Failure] = [EVERY_ROUTE, Failure("route-not-allowed", "no"), EVERY_ROUTE, EVERY_ROUTE]
    async with ScriptedUpstream() as upstream, running(upstream.address) as gateway:
        outcomes = await gateway.run(plan_of(operations(4), routes=routes, on_failure="halt", concurrency=1))

    assert numbers(upstream.requests) == [0]
    assert slugs(outcomes) == {0: None, 1: "route-not-allowed", 2: "halted", 3: "halted"}


async def test_halt_sends_nothing_after_what_has_failed_before() -> None:
    earlier = {1: Outcome(1, 409, failure=Failure("idempotency-in-progress", ""))}
    async with ScriptedUpstream() as upstream, running(upstream.address) as gateway:
        outcomes = await gateway.run(replace(plan_of(operations(3), on_failure="halt"), earlier=earlier))

    assert upstream.requests == []
    assert slugs(outcomes) == {0: "halted", 2: "halted"}


async def test_halt_keeps_the_answers_of_what_was_in_flight() -> None:
    held = asyncio.Event()

    def script(request: Received) -> Answer:
        return Answer([plain(status=b"409 No")]) if request.target == "/1" else Answer([plain()], after=held)

    async with ScriptedUpstream(script) as upstream, running(upstream.address) as gateway:
        outcomes: list[Outcome] = []
        async for group in gateway.executor.run(plan_of(operations(10), on_failure="halt", concurrency=3)):
            outcomes += group
            held.set()

    assert sorted(numbers(upstream.requests)) == [0, 1, 2]
    assert slugs(outcomes) == {0: None, 1: None, 2: None, **dict.fromkeys(range(3, 10), "halted")}


async def test_a_refused_route_is_an_outcome_and_nothing_is_sent() -> None:
    refusal = Failure("route-not-allowed", "no")
    routes: list[Route | Failure] = [EVERY_ROUTE, refusal, EVERY_ROUTE, refusal]
    async with ScriptedUpstream() as upstream, running(upstream.address) as gateway:
        outcomes = await gateway.run(plan_of(operations(4), routes=routes))

    assert sorted(numbers(upstream.requests)) == [0, 2]
    assert slugs(outcomes) == {0: None, 1: "route-not-allowed", 2: None, 3: "route-not-allowed"}
    assert {outcome.status for outcome in outcomes if outcome.failure} == {403}


async def test_a_batch_that_is_refused_in_all_its_parts_ends_at_once() -> None:
    async with ScriptedUpstream() as upstream, running(upstream.address) as gateway:
        routes: list[Route | Failure] = [Failure("route-not-allowed", "no")] * 100
        outcomes = await gateway.run(plan_of(operations(100), routes=routes))

    assert len(outcomes) == 100
    assert upstream.connections == 0


async def test_at_the_deadline_the_unsent_were_not_sent_and_those_in_flight_timed_out() -> None:
    batch = [Operation("g", "GET", "/0"), *operations(20)[1:]]
    async with ScriptedUpstream(lambda _: HANG) as upstream, running(upstream.address) as gateway:
        with Stopwatch() as watch:
            outcomes = await gateway.run(plan_of(batch, concurrency=4, deadline_s=0.3))

    said = {
        outcome.index: (outcome.status, slug) for outcome, slug in zip(outcomes, slugs(outcomes).values(), strict=True)
    }
    assert said[0] == (504, "upstream-timeout")
    assert [said[index] for index in (1, 2, 3)] == [(504, "outcome-unknown")] * 3
    assert [said[index] for index in range(4, 20)] == [(408, "batch-deadline")] * 16
    assert sorted(numbers(upstream.requests)) == [0, 1, 2, 3]
    assert watch.took_s >= 0.29
    assert watch.ran_s <= 0.55


async def test_a_loop_that_stood_still_over_the_deadline_sends_nothing_behind_it() -> None:
    loop = asyncio.get_running_loop()

    def stand_still() -> None:
        until_s = monotonic() + 1.5
        while monotonic() < until_s:
            pass

    async with ScriptedUpstream(lambda _: HANG) as upstream, running(upstream.address) as gateway:
        routes = [Route("first", timeout_s=1), EVERY_ROUTE, EVERY_ROUTE]
        plan = plan_of(operations(3), routes=routes, concurrency=1, deadline_s=1.2)
        loop.call_later(0.1, stand_still)
        outcomes = await gateway.run(plan)

    assert slugs(outcomes) == {0: "outcome-unknown", 1: "batch-deadline", 2: "batch-deadline"}
    assert numbers(upstream.requests) == [0]


async def test_who_waits_for_a_connection_at_the_deadline_was_not_sent() -> None:
    async with (
        ScriptedUpstream(lambda _: HANG) as upstream,
        running(upstream.address, PoolLimits(connections_max=1)) as gateway,
    ):
        outcomes = await gateway.run(plan_of(operations(3), deadline_s=1))

    assert slugs(outcomes) == {0: "outcome-unknown", 1: "batch-deadline", 2: "batch-deadline"}
    assert numbers(upstream.requests) == [0]


@pytest.mark.parametrize(
    ("upstream_s", "route_s", "operation_s"), [(0.5, None, None), (5, 0.5, None), (5, 5, 0.5), (0.5, None, 5)]
)
async def test_the_shortest_timeout_counts(upstream_s: float, route_s: float | None, operation_s: float | None) -> None:
    batch = [Operation("0", "POST", "/0", timeout_s=operation_s)]
    routes = [Route("/**", timeout_s=route_s)]
    async with (
        ScriptedUpstream(lambda _: HANG) as upstream,
        running(upstream.address, timeout_s=upstream_s) as gateway,
    ):
        with Stopwatch() as watch:
            outcomes = await gateway.run(plan_of(batch, routes=routes))

    assert (outcomes[0].status, slugs(outcomes)[0]) == (504, "outcome-unknown")
    assert watch.took_s >= 0.49
    assert watch.ran_s <= 0.75


async def test_a_route_may_be_given_more_time_than_the_upstream_s_default() -> None:
    held = asyncio.Event()
    asyncio.get_running_loop().call_later(0.3, held.set)
    async with (
        ScriptedUpstream(lambda _: Answer([plain()], after=held)) as upstream,
        running(upstream.address, timeout_s=0.1) as gateway,
    ):
        outcomes = await gateway.run(plan_of(operations(1), routes=[Route("/**", timeout_s=5)]))

    assert slugs(outcomes) == {0: None}


async def test_answers_above_the_batch_s_budget_are_507_with_the_status_they_had() -> None:
    def script(request: Received) -> Answer:
        return Answer([plain(b"x" * 1000, status=b"201 Created")])

    async with ScriptedUpstream(script) as upstream, running(upstream.address) as gateway:
        outcomes = await gateway.run(plan_of(operations(5), concurrency=1, answers_bytes_max=2500))

    assert [outcome.status for outcome in outcomes] == [201, 201, 507, 507, 507]
    failure = outcomes[2].failure
    assert failure is not None
    assert failure.slug == "response-budget-exceeded"
    assert failure.members == {"upstreamStatus": 201}
    assert outcomes[2].body == b""


async def test_an_answer_above_its_own_cap_is_refused() -> None:
    async with (
        ScriptedUpstream(lambda _: Answer([plain(b"x" * 1001)])) as upstream,
        running(upstream.address, answer_bytes_max=1000) as gateway,
    ):
        outcomes = await gateway.run(plan_of(operations(1)))

    assert slugs(outcomes) == {0: "upstream-response-too-large"}


async def test_an_operation_is_not_sent_before_its_tokens_are_there() -> None:
    loop = asyncio.get_running_loop()
    async with ScriptedUpstream() as upstream, running(upstream.address) as gateway:
        began_s = loop.time()
        outcomes = await gateway.run(plan_of(operations(4), delays_us=[0, 100_000, 100_000, 200_000]))

    sent_s = {request.target: request.time_s - began_s for request in upstream.requests}
    assert len(outcomes) == 4
    assert sent_s["/0"] < min(sent_s["/1"], sent_s["/2"]) <= max(sent_s["/1"], sent_s["/2"]) < sent_s["/3"]
    assert min(sent_s["/1"], sent_s["/2"]) >= 0.099
    assert sent_s["/3"] >= 0.199


def test_tokens_that_come_within_a_millisecond_are_waited_for_as_well() -> None:
    async def run() -> list[Outcome]:
        async with ScriptedUpstream() as upstream, running(upstream.address) as gateway:
            return await gateway.run(plan_of(operations(30), delays_us=[n * 10_300 for n in range(30)], deadline_s=2))

    outcomes = uvloop.run(run())  # whose timers are in whole milliseconds, and none at all below half of one

    assert set(slugs(outcomes).values()) == {None}


async def test_tokens_that_come_after_the_deadline_come_too_late() -> None:
    async with ScriptedUpstream() as upstream, running(upstream.address) as gateway:
        outcomes = await gateway.run(plan_of(operations(3), delays_us=[0, 0, 5_000_000], deadline_s=0.2))

    assert slugs(outcomes) == {0: None, 1: None, 2: "batch-deadline"}
    assert sorted(numbers(upstream.requests)) == [0, 1]


async def test_a_caller_that_goes_stops_the_sending_and_what_was_sent_is_on_record() -> None:
    before = asyncio.all_tasks()
    held = asyncio.Event()

    def script(request: Received) -> Answer:
        return echo(request) if request.target == "/0" else Answer([plain()], after=held)

    async with ScriptedUpstream(script) as upstream:
        async with running(upstream.address) as gateway:
            outcomes = gateway.executor.run(plan_of(operations(50), concurrency=5))
            read = list(await anext(outcomes))
            await upstream.until_requests(6)
            await outcomes.aclose()
            held.set()
            await upstream.until(lambda: upstream.in_flight == 0)
            await until_idle(gateway.pool)
        sent = sorted(numbers(upstream.requests))

    assert sent == list(range(6))
    assert sorted(outcome.index for outcome in [*read, *gateway.strays]) == sent
    assert asyncio.all_tasks() <= before


async def test_a_caller_that_is_cancelled_while_it_waits_stops_the_sending() -> None:
    held = asyncio.Event()
    async with (
        ScriptedUpstream(lambda _: Answer([plain()], after=held)) as upstream,
        running(upstream.address, PoolLimits(connections_max=2)) as gateway,
    ):
        run = asyncio.create_task(gateway.run(plan_of(operations(50), concurrency=20)))
        await upstream.until_requests(2)
        run.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await run
        held.set()
        await until_idle(gateway.pool)
        waiting = gateway.pool.waiting

    assert waiting == 0
    assert sorted(numbers(upstream.requests)) == [0, 1]
    assert sorted(outcome.index for outcome in gateway.strays) == [0, 1]


async def test_outcomes_that_nobody_fetched_are_on_record() -> None:
    async with ScriptedUpstream() as upstream, running(upstream.address) as gateway:
        outcomes = gateway.executor.run(plan_of(operations(20), concurrency=5))
        read = list(await anext(outcomes))
        await upstream.until_requests(20)
        await until_idle(gateway.pool)
        await outcomes.aclose()

    assert sorted(outcome.index for outcome in [*read, *gateway.strays]) == list(range(20))


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_nothing_is_sent_again_for_a_caller_that_is_gone(method: str) -> None:
    held = asyncio.Event()
    async with (
        ScriptedUpstream(lambda _: Answer(then=Then.RESET, after=held)) as upstream,
        running(upstream.address) as gateway,
    ):
        run = asyncio.create_task(gateway.run(plan_of(operations(5, method))))
        await upstream.until_requests(5)
        run.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await run
        held.set()
        await until_idle(gateway.pool)

    assert len(upstream.requests) == 5
    assert sorted(outcome.index for outcome in gateway.strays) == list(range(5))


async def test_a_batch_through_a_refused_connection_is_not_sent_and_says_so(unused_tcp_port: int) -> None:
    async with running(Address("127.0.0.1", unused_tcp_port), PoolLimits(connections_max=2)) as gateway:
        outcomes = await gateway.run(plan_of(operations(20)))

    assert set(slugs(outcomes).values()) == {"upstream-connect"}


async def test_two_batches_share_the_upstream_s_connections_and_keep_their_answers_apart() -> None:
    async with (
        ScriptedUpstream() as upstream,
        running(upstream.address, PoolLimits(connections_max=3)) as gateway,
    ):
        first, second = await asyncio.gather(
            gateway.run(plan_of(operations(100, "GET"))), gateway.run(plan_of(operations(100, "PUT")))
        )

    assert all(outcome.body == b"GET /%d" % outcome.index for outcome in first)
    assert all(outcome.body == b"PUT /%d" % outcome.index for outcome in second)
    assert upstream.open_max <= 3
