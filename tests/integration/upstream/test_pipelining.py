"""Several safe requests on one connection: answers in order, nothing else shares, and a loss repeats safe ones only."""

import asyncio

import pytest

from gateway.upstream.address import PoolLimits
from tests.fakes.asking import Asking, slug_of
from tests.fakes.upstream import Answer, Received, ScriptedUpstream, Then, echo, in_turn, plain

FOUR = PoolLimits(connections_max=1, pipelining_max=4)


async def test_answers_come_back_in_order_to_their_own_requests() -> None:
    limits = PoolLimits(connections_max=2, pipelining_max=8)
    async with ScriptedUpstream() as upstream, Asking(upstream.address, limits) as client:
        exchanges = await client.ask_all(*[("GET", f"/{number}") for number in range(100)])

    assert [exchange.body for exchange in exchanges] == [b"GET /%d" % number for number in range(100)]
    assert upstream.connections <= 2


async def test_two_answers_in_one_segment_are_two_answers() -> None:
    def script(request: Received) -> Answer:
        return Answer([plain(b"a") + plain(b"b")] if request.target == "/a" else [])

    async with ScriptedUpstream(script) as upstream, Asking(upstream.address, FOUR) as client:
        first, second = await client.ask_all(("GET", "/a"), ("GET", "/b"))

    assert (first.body, second.body) == (b"a", b"b")
    assert upstream.connections == 1


async def test_two_answers_to_one_request_are_one_answer_and_a_poisoned_connection() -> None:
    script = in_turn(plain(b"a") + plain(b"stolen"))
    async with ScriptedUpstream(script) as upstream, Asking(upstream.address, FOUR) as client:
        first = await client.ask("GET", "/a")
        following = await client.ask("GET", "/b")

    assert (first.body, following.body) == (b"a", b"GET /b")
    assert upstream.connections == 2


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "HEAD"])
async def test_only_get_and_options_share_a_connection(method: str) -> None:
    held = asyncio.Event()

    def script(request: Received) -> Answer:
        return Answer(echo(request).parts, after=held)

    limits = PoolLimits(connections_max=8, pipelining_max=8)
    async with ScriptedUpstream(script) as upstream, Asking(upstream.address, limits) as client:
        asked = asyncio.create_task(client.ask_all(("GET", "/1"), (method, "/2"), ("OPTIONS", "/3"), (method, "/4")))
        await upstream.until_requests(3)
        held.set()
        exchanges = await asked

    assert [exchange.status for exchange in exchanges] == [200] * 4
    unsafe = {request.connection for request in upstream.received(method)}
    safe = {request.connection for request in upstream.requests if request.method in ("GET", "OPTIONS")}
    assert len(unsafe) == 2
    assert not unsafe & safe


@pytest.mark.parametrize("method", ["POST", "HEAD"])
async def test_a_connection_that_was_shared_before_is_not_shared_by_two_unsafe_requests(method: str) -> None:
    held = asyncio.Event()

    def script(request: Received) -> Answer:
        return echo(request) if request.method == "GET" else Answer(echo(request).parts, after=held)

    limits = PoolLimits(connections_max=8, pipelining_max=8)
    async with ScriptedUpstream(script) as upstream, Asking(upstream.address, limits) as client:
        await client.ask_all(("GET", "/1"), ("GET", "/2"))
        await client.ask_all(("GET", "/3"), ("GET", "/4"))
        asked = asyncio.create_task(client.ask_all((method, "/5"), (method, "/6"), ("GET", "/7")))
        await upstream.until(lambda: len(upstream.received(method)) == 2)
        held.set()
        exchanges = await asked

    assert [exchange.status for exchange in exchanges] == [200] * 3
    assert len({request.connection for request in upstream.received(method)}) == 2


async def test_a_lost_connection_repeats_what_was_safe_on_it() -> None:
    script = in_turn(Answer([plain(b"a")]), Answer(then=Then.RESET))
    async with ScriptedUpstream(script) as upstream, Asking(upstream.address, FOUR) as client:
        exchanges = await client.ask_all(*[("GET", f"/{number}") for number in range(4)])

    assert [exchange.body for exchange in exchanges] == [b"a", b"GET /1", b"GET /2", b"GET /3"]
    assert upstream.connections == 2


async def test_a_malformed_answer_ends_its_own_exchange_and_repeats_those_behind() -> None:
    script = in_turn(Answer([b"HTTP/1.1 999 No\r\n\r\n"], Then.HANG))
    async with ScriptedUpstream(script) as upstream, Asking(upstream.address, FOUR) as client:
        exchanges = await client.ask_all(*[("GET", f"/{number}") for number in range(4)])

    assert slug_of(exchanges[0]) == "upstream-malformed"
    assert [exchange.body for exchange in exchanges[1:]] == [b"GET /1", b"GET /2", b"GET /3"]


async def test_an_upstream_that_closes_after_each_answer_still_answers_all() -> None:
    def script(request: Received) -> Answer:
        return Answer([plain(request.target.encode(), fields=b"Connection: close\r\n")], Then.CLOSE)

    limits = PoolLimits(connections_max=1, pipelining_max=3)
    async with ScriptedUpstream(script) as upstream, Asking(upstream.address, limits) as client:
        exchanges = await client.ask_all(*[("GET", f"/{number}") for number in range(3)])

    assert [exchange.body for exchange in exchanges] == [b"/0", b"/1", b"/2"]
