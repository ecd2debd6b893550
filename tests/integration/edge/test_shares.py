"""Uploads still to come, and answers that nobody reads, hold no more than their share of the upstream's connections."""

import asyncio
from contextlib import AsyncExitStack

import pytest

from tests.fakes.until import PATIENCE_S, until
from tests.integration.edge.test_patience import small_window
from tests.integration.server.api import Api, Talk, answer
from tests.integration.server.gateways import Gateway, gateway
from tests.integration.server.test_deadline_and_abort import metric
from tests.integration.server.wire import Wire, get, request

FOUR = "upstream: {connections: 4, streams_percent: 50}"
TWENTY = "upstream: {connections: 20, streams_percent: 10}"
CHUNKED = [("Transfer-Encoding", "chunked")]
LARGE = b"x" * (8 << 20)  # more than the gateway and the kernels keep


async def reaches(api: Api, data: bytes, rest: bytes) -> tuple[bool, bytes]:
    """Whether the upstream hears of the request before `rest` is sent, and the body that it got."""
    async with gateway(api.url) as running, await Wire.open(running.port) as wire:
        await wire.send(data)
        await get(running.port, "/between")  # behind it, so what was to go has gone
        heard = "/x" in api.targets
        await wire.send(rest)
        assert (await wire.answer()).status == 200
    return heard, next(received.body for received in api.received if received.target == "/x")


async def test_a_small_body_is_here_before_the_upstream_hears_of_the_request(api: Api) -> None:
    heard, body = await reaches(api, request("POST", "/x", [("Content-Length", "65536")]) + b"a" * 65535, b"a")

    assert (heard, body) == (False, b"a" * 65536)


async def test_of_a_larger_body_the_buffer_is_filled_first(api: Api) -> None:
    heard, body = await reaches(api, request("POST", "/x", [("Content-Length", "70000")]) + b"a" * 1000, b"a" * 69000)

    assert (heard, body) == (False, b"a" * 70000)


async def test_a_larger_body_goes_out_once_the_buffer_is_full(api: Api) -> None:
    async with gateway(api.url) as running, await Wire.open(running.port) as wire:
        await wire.send(request("POST", "/x", [("Content-Length", "70000")]) + b"a" * 69999)
        await api.until(1)
        await wire.send(b"a")
        assert (await wire.answer()).status == 200

    assert api.last.body == b"a" * 70000


async def test_the_buffer_is_set_by_the_configuration(api: Api) -> None:
    async with gateway(api.url, "listen: {body_buffer: 1B}") as running, await Wire.open(running.port) as wire:
        await wire.send(request("POST", "/x", [("Content-Length", "10")]) + b"a")
        await api.until(1)
        await wire.send(b"a" * 9)
        assert (await wire.answer()).status == 200


@pytest.mark.parametrize("framing", [CHUNKED, [("Content-Length", "5"), ("Expect", "100-continue")]])
async def test_chunks_and_what_waits_for_a_100_go_out_at_once(api: Api, framing: list[tuple[str, str]]) -> None:
    async with gateway(api.url) as running, await Wire.open(running.port) as wire:
        await wire.send(request("POST", "/x", framing))
        await api.until(1)
        await wire.send(b"5\r\nhello\r\n0\r\n\r\n" if framing == CHUNKED else b"hello")
        assert (await wire.answer()).status == 200

    assert api.last.body == b"hello"


async def test_a_small_body_that_breaks_or_drips_is_told_so_and_never_sent(api: Api) -> None:
    async with gateway(api.url, listen__rate_grace="250ms") as running, await Wire.open(running.port) as wire:
        await wire.send(request("POST", "/x", [("Content-Length", "10")]) + b"a")
        said = await wire.answer()

    assert (said.status, said.slug, said.header("Connection")) == (408, "request-timeout", "close")
    assert api.targets == []


async def begun(stack: AsyncExitStack, port: int, target: str = "/up") -> Wire:
    wire = await stack.enter_async_context(await Wire.open(port))
    await wire.send(request("POST", target, CHUNKED) + b"1\r\na\r\n")
    return wire


async def test_uploads_have_their_share_and_the_next_one_waits(api: Api) -> None:
    async with gateway(api.url, FOUR) as running, AsyncExitStack() as stack:
        wires = [await begun(stack, running.port) for _ in range(3)]
        await api.until(2)
        others = [(await get(running.port, "/x")).status for _ in range(5)]
        under_way = api.targets.count("/up")
        await wires[0].send(b"0\r\n\r\n")
        first = await wires[0].answer()
        for wire in wires[1:]:
            await wire.send(b"0\r\n\r\n")
        statuses = [(await wire.answer()).status for wire in wires[1:]]

    assert (others, under_way) == ([200] * 5, 2)
    assert (first.status, statuses) == (200, [200, 200])
    assert [received.body for received in api.received if received.target == "/up"] == [b"a"] * 3


async def test_an_upload_for_which_there_is_no_place_in_time_is_503(api: Api) -> None:
    one = "upstream: {connections: 4, streams_percent: 25}\nroutes: [{path: /up, timeout: 300ms}, {path: /held}]"
    async with gateway(api.url, one) as running, AsyncExitStack() as stack:
        await begun(stack, running.port, "/held")
        await api.until(1)
        said = await (await begun(stack, running.port)).answer()
        shed = await metric(running.admin_port, 'batch_gateway_shed_total{reason="overload"}')

    assert (said.status, said.slug, said.header("Retry-After")) == (503, "overloaded", "1")
    assert (api.targets, shed) == (["/held"], 1)


async def unread(stack: AsyncExitStack, running: Gateway, count: int) -> None:
    """Callers that ask for a large answer and read nothing of it."""
    loop = asyncio.get_running_loop()
    for _ in range(count):
        sock = small_window(running.port)
        stack.callback(sock.close)
        await loop.sock_sendall(sock, request("GET", "/large"))


async def cut(running: Gateway) -> float:
    return await metric(running.admin_port, 'batch_gateway_shed_total{reason="unread_answer"}')


async def test_answers_that_nobody_reads_give_way_where_connections_run_short(api: Api) -> None:
    api.on("/large", answer(200, LARGE, ("Content-Type", "text/plain")))
    async with gateway(api.url, FOUR) as running, AsyncExitStack() as stack:
        await unread(stack, running, 4)
        await api.until(4)
        answered = await asyncio.wait_for(get(running.port, "/x"), PATIENCE_S)
        ended = await cut(running)

    assert answered.status == 200
    assert 1 <= ended <= 2  # two are their share


async def test_answers_that_nobody_reads_stay_where_nobody_needs_their_connections(api: Api) -> None:
    async def large(talk: Talk) -> None:
        await talk.send(answer(200, LARGE, ("Content-Type", "text/plain")))

    api.on("/large", large)
    async with gateway(api.url, TWENTY) as running, AsyncExitStack() as stack:
        await unread(stack, running, 8)
        await api.until(8)
        loop = asyncio.get_running_loop()
        waited_until_s = loop.time() + 0.6

        async def is_later() -> bool:
            return loop.time() > waited_until_s

        await until(is_later)
        assert await cut(running) == 0
