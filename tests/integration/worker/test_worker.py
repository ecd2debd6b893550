"""Batches through a worker: every operation once, its outcome on record, under the batch's limits and routes."""

import asyncio
import dataclasses

import pytest

from gateway.admission import Limit
from gateway.batch.model import Operation
from gateway.batch.routes import Route
from gateway.ledger.metered import MeteredQueue
from gateway.ledger.port import View
from gateway.ledger.seal import Sealer
from gateway.limiter.bucket import Bucket
from gateway.telemetry.metrics import Histogram
from gateway.upstream.address import Address
from gateway.worker.worker import Store
from tests.fakes.machine import Stopwatch
from tests.fakes.until import until_so
from tests.fakes.upstream import Answer, Received, ScriptedUpstream, echo, in_turn, plain
from tests.integration.worker.desk import QUICK, SEALER, desk, operations, slugs


def numbers(requests: list[Received]) -> list[int]:
    return [int(request.target[1:]) for request in requests]


async def test_every_operation_is_sent_once_and_has_its_own_outcome() -> None:
    async with ScriptedUpstream() as upstream, desk(upstream.address) as at:
        batch = await at.submit(operations(95))
        at.worker()
        view = await at.ended(batch)
        outcomes = await at.outcomes(batch)

    assert (view.state, view.succeeded, view.failed) == ("completed", 95, 0)
    assert sorted(numbers(upstream.requests)) == list(range(95))
    assert sorted(outcomes) == list(range(95))
    assert all(outcome.body == b"POST /%d" % index for index, outcome in outcomes.items())
    assert all(outcome.id == f"op{index}" for index, outcome in outcomes.items())


async def test_an_operation_carries_what_its_caller_s_request_gave() -> None:
    async with ScriptedUpstream() as upstream, desk(upstream.address) as at:
        batch = await at.submit(operations(12))
        at.worker()
        await at.ended(batch)
    request = next(request for request in upstream.requests if request.target == "/11")

    assert request.field(b"authorization") == b"Bearer t"
    assert request.field(b"host") == b"gateway.test"
    assert request.field(b"x-forwarded-for") == b"192.0.2.7"
    assert request.field(b"via") == b"1.1 test"
    assert request.field(b"x-request-id") == f"{batch}.op11".encode()
    assert len({request.field(b"traceparent") for request in upstream.requests}) == 12


async def test_failures_count_as_failed_and_the_batch_is_completed() -> None:
    async with ScriptedUpstream(in_turn(plain(status=b"404 Not Found"))) as upstream, desk(upstream.address) as at:
        batch = await at.submit(operations(5))
        at.worker()
        view = await at.ended(batch)

    assert (view.state, view.succeeded, view.failed, view.unknown) == ("completed", 4, 1, 0)


async def test_routes_that_refuse_are_outcomes_and_nothing_is_sent() -> None:
    async with ScriptedUpstream() as upstream, desk(upstream.address) as at:
        batch = await at.submit([*operations(3), Operation("x", "GET", "/closed")])
        at.worker(routes=[Route("/closed", batchable=False), Route("/{n}")])
        await at.ended(batch)
        outcomes = await at.outcomes(batch)

    assert slugs(outcomes) == {0: None, 1: None, 2: None, 3: "route-not-batchable"}
    assert len(upstream.requests) == 3


async def test_a_batch_never_has_more_on_its_way_than_its_concurrency() -> None:
    async with ScriptedUpstream() as upstream, desk(upstream.address) as at:
        batch = await at.submit(operations(80, "GET"))
        at.worker(dataclasses.replace(QUICK, concurrency=4, slices=4))
        await at.ended(batch)

    assert upstream.in_flight_max <= 4


async def test_all_batches_together_have_no_more_on_their_way_than_the_cap() -> None:
    async with ScriptedUpstream() as upstream, desk(upstream.address) as at:
        batches = [await at.submit(operations(20, "GET"), slice_size=20) for _ in range(4)]
        at.worker(dataclasses.replace(QUICK, slices=4, in_flight_max=8))
        for batch in batches:
            await at.ended(batch)

    assert upstream.in_flight_max <= 8


async def test_tokens_are_waited_for_whatever_the_limit_does_to_others() -> None:
    limits = [Limit(Bucket("all", 100, 1_000_000, 10, "reject"), "global")]
    async with ScriptedUpstream() as upstream, desk(upstream.address) as at:
        batch = await at.submit(operations(40))
        at.worker(limits=limits)
        began_s = asyncio.get_running_loop().time()
        view = await at.ended(batch)
        took_s = asyncio.get_running_loop().time() - began_s

    assert (view.succeeded, view.failed) == (40, 0)
    assert took_s >= 0.25  # 10 at once, the other 30 at 100 a second


async def test_rounds_grow_while_tokens_last_and_shrink_when_they_do_not() -> None:
    bucket = Bucket("all", 100, 1_000_000, 30, "reject")
    async with ScriptedUpstream() as upstream, desk(upstream.address) as at:
        batch = await at.submit(operations(60), slice_size=60)
        at.worker(dataclasses.replace(QUICK, slices=1, concurrency=2), limits=[Limit(bucket, "global")])
        began_s = asyncio.get_running_loop().time()
        view = await at.ended(batch)
        took_s = asyncio.get_running_loop().time() - began_s

    assert (view.succeeded, view.failed) == (60, 0)
    assert len(upstream.requests) == 60
    assert took_s >= 0.25  # 30 at once, the other 30 at 100 a second


async def test_an_operation_that_costs_more_than_any_burst_fails_alone() -> None:
    limits = [Limit(Bucket("all", 100, 1_000_000, 10, "reject"), "global")]
    async with ScriptedUpstream() as upstream, desk(upstream.address) as at:
        batch = await at.submit([*operations(7), Operation("x", "GET", "/big")])
        at.worker(limits=limits, routes=[Route("/big", cost=11), Route("/{n}")])
        await at.ended(batch)
        outcomes = await at.outcomes(batch)

    assert slugs(outcomes) == {**dict.fromkeys(range(7)), 7: "cost-exceeds-capacity"}
    assert len(upstream.requests) == 7


async def test_outcomes_are_on_record_before_their_slice_is_done() -> None:
    held = asyncio.Event()

    def script(request: Received) -> Answer:
        return Answer([plain()], after=held) if request.target == "/9" else echo(request)

    async with ScriptedUpstream(script) as upstream, desk(upstream.address) as at:
        batch = await at.submit(operations(10))
        at.worker()
        view = await at.until(batch, lambda view: view.completed == 9)
        held.set()
        await at.ended(batch)

    assert view.state == "processing"


async def test_a_slice_that_fills_a_group_is_put_on_record_in_one_step() -> None:
    seconds = Histogram("ledger_calls", "each call", ("call",), (1.0,))
    async with ScriptedUpstream() as upstream, desk(upstream.address) as at:
        batch = await at.submit(operations(50, "GET"), slice_size=50)
        store = Store(at.store, MeteredQueue(at.store, seconds), SEALER)
        worker = at.worker(dataclasses.replace(QUICK, record_every_s=60.0), store=store)
        view = await at.ended(batch)
        await worker.stop(5.0)

    (told,) = seconds.collect()
    counts = {each.labels["call"]: each.value for each in told.samples if each.name.endswith("_count")}
    assert view.succeeded == 50
    assert counts["record"] == 1


async def test_halt_stops_the_whole_batch() -> None:
    async with (
        ScriptedUpstream(in_turn(plain(status=b"500 Oops"))) as upstream,
        desk(upstream.address) as at,
    ):
        batch = await at.submit(operations(40), on_failure="halt")
        at.worker(dataclasses.replace(QUICK, slices=1, concurrency=1))
        view = await at.ended(batch)
        outcomes = await at.outcomes(batch)

    assert len(upstream.requests) == 1
    assert view.state == "cancelled"
    assert slugs(outcomes) == {0: None, **dict.fromkeys(range(1, 10), "halted")}


@pytest.mark.parametrize("spoil", ["operations", "context"])
async def test_a_slice_that_does_not_open_is_corrupt_and_nothing_of_it_is_sent(spoil: str) -> None:
    async with ScriptedUpstream() as upstream, desk(upstream.address) as at:
        batch = await at.submit(operations(15), spoil=spoil)
        at.worker()
        view = await at.ended(batch)
        outcomes = await at.outcomes(batch)
    corrupt = range(10) if spoil == "operations" else range(15)

    assert view.state == "completed"
    assert {index for index, slug in slugs(outcomes).items() if slug == "payload-corrupt"} == set(corrupt)
    assert sorted(numbers(upstream.requests)) == sorted(set(range(15)) - set(corrupt))


async def test_a_batch_whose_key_does_not_open_has_failed() -> None:
    async with ScriptedUpstream() as upstream, desk(upstream.address) as at:
        batch = await at.submit(operations(15), spoil="key")
        at.worker()
        view = await at.ended(batch)

    assert view.state == "failed"
    assert upstream.connections == 0


async def test_another_master_key_opens_nothing_and_sends_nothing() -> None:
    async with ScriptedUpstream() as upstream, desk(upstream.address) as at:
        batch = await at.submit(operations(5))
        at.worker(store=Store(at.store, at.store, Sealer(b"x" * 32)))
        view = await at.ended(batch)

    assert view.state == "failed"
    assert upstream.connections == 0


async def test_a_small_batch_waits_for_nobody_s_slow_slices() -> None:
    async with ScriptedUpstream() as upstream, desk(upstream.address) as at:
        held = asyncio.Event()
        upstream.script = lambda request: Answer([plain()], after=held) if request.target != "/small" else echo(request)
        large = await at.submit(operations(200), owner="large")
        worker = at.worker(dataclasses.replace(QUICK, slices=2, concurrency=2, turn_s=0.1))
        await upstream.until_requests(2)
        small = await at.submit([Operation("s", "POST", "/small")], owner="small")
        with Stopwatch() as watch:
            held.set()
            upstream.script = lambda request: Answer([plain()])
            await at.ended(small)
        left = await at.view(large)
        await worker.stop(5.0)

    assert watch.ran_s < 2.0
    assert left.completed < 200


async def test_stop_hands_leases_back_at_an_operation_s_boundary() -> None:
    held = asyncio.Event()

    def script(request: Received) -> Answer:
        return Answer([plain()], after=held)

    async with ScriptedUpstream(script) as upstream, desk(upstream.address) as at:
        batch = await at.submit(operations(10))
        worker = at.worker(dataclasses.replace(QUICK, concurrency=3))
        await upstream.until_requests(3)
        stopping = asyncio.create_task(worker.stop(5.0))
        await until_so(lambda: all(hold.stopped.done() for hold in worker._holds.values()))
        held.set()
        in_time = await stopping
        between = await at.view(batch)
        at.worker()
        view = await at.ended(batch)

    assert in_time
    assert between.completed == 3
    assert (view.succeeded, view.unknown) == (10, 0)
    assert sorted(numbers(upstream.requests)) == list(range(10))


async def test_what_does_not_end_in_time_is_left_and_its_outcome_is_unknown() -> None:
    never = asyncio.Event()
    async with (
        ScriptedUpstream(lambda _: Answer([plain()], after=never)) as upstream,
        desk(upstream.address) as at,
    ):
        batch = await at.submit(operations(4))
        worker = at.worker()
        await upstream.until_requests(4)
        in_time = await worker.stop(0.05)
        at.clock.ahead_ms += 16_000
        at.worker()
        view = await at.ended(batch)

    assert not in_time
    assert view.unknown == 4
    assert len(upstream.requests) == 4


async def test_an_unreachable_upstream_is_tried_again_later_and_nothing_is_unknown(unused_tcp_port: int) -> None:
    nowhere = Address("127.0.0.1", unused_tcp_port)
    async with ScriptedUpstream() as upstream, desk(upstream.address) as at:
        batch = await at.submit(operations(10))
        first = at.worker(address=nowhere)
        await at.until(batch, lambda view: view.started_ms is not None)
        await until_so(lambda: not first.busy)
        await first.stop(1.0)
        between = await at.view(batch)
        at.clock.ahead_ms += 2_000  # the backoff
        at.worker()
        view = await at.ended(batch)

    assert between.completed == 0
    assert (view.succeeded, view.unknown) == (10, 0)
    assert sorted(numbers(upstream.requests)) == list(range(10))


async def test_tries_come_to_an_end(unused_tcp_port: int) -> None:
    async with desk(Address("127.0.0.1", unused_tcp_port)) as at:
        batch = await at.submit(operations(3))
        at.worker(dataclasses.replace(QUICK, tries_max=2))

        def has_ended(view: View) -> bool:
            at.clock.ahead_ms += 500
            return view.state == "completed"

        await at.until(batch, has_ended)
        outcomes = await at.outcomes(batch)

    assert slugs(outcomes) == dict.fromkeys(range(3), "upstream-connect")


async def test_retry_after_pauses_the_upstream_and_burns_no_try() -> None:
    busy = plain(status=b"503 Busy", fields=b"Retry-After: 1\r\n")
    async with ScriptedUpstream(in_turn(busy)) as upstream, desk(upstream.address) as at:
        batch = await at.submit(operations(30, "GET"))
        at.worker(dataclasses.replace(QUICK, slices=1, concurrency=1, tries_max=0))
        view = await at.ended(batch)
    first_s = upstream.requests[0].time_s
    during = [request for request in upstream.requests if request.time_s < first_s + 0.99]

    assert len(during) <= 2  # the next may be on its way before the answer is looked at
    assert (view.succeeded, view.failed) == (30, 0)
    assert len(upstream.requests) == 31


async def test_what_one_caller_is_asked_to_wait_nobody_else_waits() -> None:
    def script(request: Received) -> Answer:
        if request.target == "/0":
            return Answer([plain(status=b"429 No", fields=b"Retry-After: 3600\r\n")])
        return Answer([plain()])

    async with ScriptedUpstream(script) as upstream, desk(upstream.address) as at:
        paused = await at.submit(operations(2, "GET"), identity="one")
        at.worker(dataclasses.replace(QUICK, concurrency=1))
        await upstream.until_requests(1)
        other = await at.submit(operations(3, "POST")[1:], identity="another")
        view, waiting = await at.ended(other), await at.view(paused)

    assert view.succeeded == 2
    assert waiting.state == "processing"
    assert [request.target for request in upstream.requests].count("/0") == 1


async def test_retry_after_on_an_unsafe_operation_is_its_answer() -> None:
    busy = plain(status=b"503 Busy", fields=b"Retry-After: 1\r\n")
    async with ScriptedUpstream(in_turn(busy)) as upstream, desk(upstream.address) as at:
        batch = await at.submit(operations(3))
        at.worker(dataclasses.replace(QUICK, slices=1, concurrency=1))
        view = await at.ended(batch)

    assert (view.succeeded, view.failed) == (2, 1)
    assert len(upstream.requests) == 3
