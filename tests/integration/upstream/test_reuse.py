"""Connections between two requests: kept, counted, limited, and never trusted blindly."""

import asyncio
from pathlib import Path

import pytest

from gateway.upstream.address import PoolLimits
from gateway.upstream.exchange import Exchange
from tests.fakes.asking import Asking, request_bytes, slug_of
from tests.fakes.upstream import Answer, Received, ScriptedUpstream, Then, echo, in_turn, plain, turn_of_the_loop

PATIENT = PoolLimits(connections_max=1, idle_timeout_s=60)


async def test_requests_one_after_the_other_share_one_connection() -> None:
    async with ScriptedUpstream() as upstream, Asking(upstream.address) as client:
        exchanges = [await client.ask("POST", f"/{number}") for number in range(20)]

    assert [exchange.body for exchange in exchanges] == [b"POST /%d" % number for number in range(20)]
    assert upstream.connections == 1


async def test_a_unix_socket_is_an_upstream_like_any_other(tmp_path: Path) -> None:
    async with ScriptedUpstream(path=tmp_path / "up.sock") as upstream, Asking(upstream.address) as client:
        exchanges = await client.ask_all(*[("POST", f"/{number}") for number in range(20)])

    assert [exchange.body for exchange in exchanges] == [b"POST /%d" % number for number in range(20)]


async def test_never_more_connections_than_allowed_and_the_rest_wait_in_order() -> None:
    held = asyncio.Event()

    def script(request: Received) -> Answer:
        return Answer(echo(request).parts, after=held)

    limits = PoolLimits(connections_max=3)
    async with ScriptedUpstream(script) as upstream, Asking(upstream.address, limits) as client:
        asked = asyncio.gather(*(client.ask("POST", f"/{number}") for number in range(30)))
        await upstream.until_requests(3)
        waiting, in_flight = client.pool.waiting, client.pool.in_flight
        held.set()
        exchanges = await asked

    assert (waiting, in_flight) == (27, 3)
    assert (upstream.open_max, upstream.in_flight_max) == (3, 3)
    arrived = [int(request.target[1:]) for request in upstream.requests]
    assert sorted(arrived[:3]) == [0, 1, 2]
    assert all(abs(place - number) < 3 for place, number in enumerate(arrived))  # three servers, one line
    assert [exchange.body for exchange in exchanges] == [b"POST /%d" % number for number in range(30)]


async def test_who_finds_the_line_full_is_refused_and_not_sent() -> None:
    held = asyncio.Event()
    limits = PoolLimits(connections_max=1, batched_waiting_max=2)
    script = in_turn(Answer([plain()], after=held))
    async with ScriptedUpstream(script) as upstream, Asking(upstream.address, limits) as client:
        first = asyncio.create_task(client.ask("POST", "/0"))
        await upstream.until_requests(1)
        rest = [asyncio.create_task(client.ask("POST", f"/{number}")) for number in (1, 2, 3)]
        refused = await rest[2]
        held.set()
        answered = [await task for task in (first, rest[0], rest[1])]

    assert (refused.status, slug_of(refused), refused.attempt) == (503, "overloaded", 0)
    assert [exchange.status for exchange in answered] == [200, 200, 200]
    assert [request.target for request in upstream.requests] == ["/0", "/1", "/2"]


async def test_who_waits_past_the_deadline_is_refused_and_not_sent() -> None:
    script = in_turn(Answer(then=Then.HANG))
    async with ScriptedUpstream(script) as upstream, Asking(upstream.address, PATIENT) as client:
        first, second = await asyncio.gather(
            client.ask("POST", "/0", timeout_s=1), client.ask("POST", "/1", timeout_s=0.2)
        )

    assert slug_of(first) == "outcome-unknown"
    assert (second.status, slug_of(second)) == (503, "overloaded")
    assert [request.target for request in upstream.requests] == ["/0"]


async def test_an_idle_connection_is_closed_after_the_idle_timeout() -> None:
    limits = PoolLimits(idle_timeout_s=0.1)
    async with ScriptedUpstream() as upstream, Asking(upstream.address, limits) as client:
        await client.ask()
        await upstream.until(lambda: upstream.open == 0)
        following = await client.ask("POST", "/next")

    assert following.body == b"POST /next"
    assert upstream.connections == 2


async def test_an_idle_connection_is_closed_a_second_before_the_upstream_announced_to_close_it() -> None:
    script = in_turn(plain(fields=b"Keep-Alive: timeout=1, max=9\r\n"))
    async with ScriptedUpstream(script) as upstream, Asking(upstream.address, PATIENT) as client:
        await client.ask()
        await upstream.until(lambda: upstream.open == 0)

        assert upstream.connections == 1


@pytest.mark.parametrize("then", [Then.CLOSE, Then.RESET])
async def test_an_idle_connection_that_the_upstream_closed_is_never_used(then: Then) -> None:
    async with ScriptedUpstream() as upstream, Asking(upstream.address, PATIENT) as client:
        for number in range(20):
            await client.ask("POST", f"/{number}")
            upstream.hang_up(upstream.connections, then)
            await upstream.until(lambda: upstream.open == 0)
            await turn_of_the_loop()
            following = await client.ask("POST", "/next")

            assert following.body == b"POST /next"

    assert len(upstream.requests) == 40


async def test_a_pool_that_is_closed_sends_nothing_again_and_leaves_nothing_behind() -> None:
    held = asyncio.Event()
    limits = PoolLimits(connections_max=2)
    before = asyncio.all_tasks()
    async with ScriptedUpstream(lambda _: Answer([plain()], after=held)) as upstream:
        async with Asking(upstream.address, limits) as client:
            asked = [asyncio.create_task(client.ask("GET", f"/{number}")) for number in range(6)]
            await upstream.until_requests(2)
        exchanges = await asyncio.gather(*asked)
        held.set()
        await upstream.until(lambda: upstream.open == 0)
        sent, opened = len(upstream.requests), upstream.connections

    assert (sent, opened) == (2, 2)
    assert {slug_of(exchange) for exchange in exchanges} == {"upstream-reset", "overloaded"}
    assert asyncio.all_tasks() <= before


async def test_a_defect_at_one_deadline_leaves_the_others_theirs() -> None:
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda *_: None)

    def defect(_: Exchange) -> None:
        raise RuntimeError("a defect")

    async with ScriptedUpstream(lambda _: Answer(then=Then.HANG)) as upstream, Asking(upstream.address) as client:
        now_s = loop.time()
        client.pool.submit(Exchange("POST", request_bytes("POST", "/0"), now_s + 0.1, False, defect), now_s)
        other = await client.ask("POST", "/1", timeout_s=1)

    assert slug_of(other) == "outcome-unknown"
