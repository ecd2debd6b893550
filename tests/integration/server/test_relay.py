"""Whole requests and whole plain answers, which go through without a coroutine; and all that makes them need one."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from tests.fakes.until import until
from tests.integration.server.api import Api, Talk, answer
from tests.integration.server.gateways import Gateway, gateway
from tests.integration.server.wire import Wire, get, request

VIA = ("Via", "1.1 batch-gateway")
DATED = ("Date", "Sun, 06 Nov 1994 08:49:37 GMT")  # without one it is no plain answer
LIMIT = "limits: [{name: one, key: KEY, rate: 100/h, burst: 3}]"


@pytest.fixture
async def counting(api: Api) -> AsyncIterator[Gateway]:
    async with gateway(api.url, LIMIT.replace("KEY", "header:X-Who")) as running:
        yield running


def edge_of(running: Gateway) -> int:
    return running.app._edge.active


async def counted(running: Gateway) -> list[str]:
    """The lines of the counter of forwarded requests."""
    page = (await get(running.admin_port, "/metrics")).body.decode()
    return [line for line in page.splitlines() if line.startswith("batch_gateway_forwarded_requests_total{")]


async def test_a_whole_answer_is_passed_on_and_the_connection_serves_on(api: Api, plain: Gateway) -> None:
    api.on("/x", answer(201, b"{}", DATED, ("Content-type", "a/b"), reason="Made"))

    async with await Wire.open(plain.port) as wire:
        for _ in range(3):
            await wire.send(request("POST", "/x", [("Content-Length", "2")]) + b"ab")
            answered = await wire.answer()
            assert (answered.status, answered.reason, answered.body) == (201, "Made", b"{}")
            assert answered.fields == [DATED, ("Content-type", "a/b"), ("Content-Length", "2"), VIA]
    assert await api.last.read() == b"ab"
    assert edge_of(plain) == 0


@pytest.mark.parametrize("size", [32 * 1024, 32 * 1024 + 1, 150_000])
async def test_a_body_of_any_size_is_passed_on(api: Api, plain: Gateway, size: int) -> None:
    api.on("/x", answer(200, b"x" * size, DATED))

    async with await Wire.open(plain.port) as wire:
        for _ in range(2):
            await wire.send(request("GET", "/x"))
            assert (await wire.answer()).body == b"x" * size


async def test_a_request_that_says_close_gets_an_answer_that_closes(api: Api, plain: Gateway) -> None:
    api.on("/x", answer(200, b"{}", DATED))

    async with await Wire.open(plain.port) as wire:
        await wire.send(request("GET", "/x", [("Connection", "close")]))
        assert (await wire.answer()).header("Connection") == "close"
        assert await wire.is_closed()


async def test_a_caller_that_goes_takes_its_request_along(api: Api, plain: Gateway) -> None:
    arrived = asyncio.Event()

    async def never(talk: Talk) -> None:
        arrived.set()
        await asyncio.Event().wait()

    api.on("/x", never)
    async with await Wire.open(plain.port) as wire:
        await wire.send(request("GET", "/x"))
        await arrived.wait()
        assert edge_of(plain) == 1

    async def is_over() -> bool:
        pools = plain.app._generations.pools
        return edge_of(plain) == 0 and not any(pool.in_flight for pool in pools)

    await until(is_over)
    assert ['"4xx"' in line for line in await counted(plain)] == [True]


async def test_what_comes_behind_a_request_under_way_waits_for_its_answer(api: Api, plain: Gateway) -> None:
    go = asyncio.Event()

    async def late(talk: Talk) -> None:
        await go.wait()
        await talk.send(answer(200, b"late", DATED))

    api.on("/late", late)
    api.on("/x", answer(200, b"x", DATED))
    async with await Wire.open(plain.port) as wire:
        await wire.send(request("GET", "/late"))
        await api.until(1)
        await wire.send(request("GET", "/x") + request("GET", "/x")[:10])
        go.set()
        assert [(await wire.answer()).body for _ in range(2)] == [b"late", b"x"]
        await wire.send(request("GET", "/x")[10:])
        assert (await wire.answer()).body == b"x"


async def test_an_interim_answer_and_a_plain_one_behind_it_come_in_order(api: Api, plain: Gateway) -> None:
    async def hinted(talk: Talk) -> None:
        await talk.send(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n")
        await talk.send(answer(200, b"x", DATED))

    api.on("/x", hinted)
    answered = await get(plain.port, "/x")

    assert ([interim.status for interim in answered.interims], answered.body) == ([103], b"x")


async def test_tokens_are_taken_by_whom_the_fields_name_and_a_bucket_that_is_empty_refuses(
    api: Api, counting: Gateway
) -> None:
    api.on("/x", answer(200, b"x", DATED))

    async with await Wire.open(counting.port) as wire:
        seen = []
        for who in ("a", "b", "a", "a", "a", "b"):
            await wire.send(request("GET", "/x", [("X-Who", who)]))
            answered = await wire.answer()
            seen.append((answered.status, answered.header("RateLimit").partition(";t")[0]))  # type: ignore[union-attr]

    left = [(200, f'"one";r={number}') for number in (2, 2, 1, 0)]
    assert seen == [*left, (429, '"one";r=0'), (200, '"one";r=1')]


@pytest.mark.parametrize("name", ["X-Forwarded-For", "x_forwarded_for", "Via", "X-Real-IP"])
async def test_what_one_request_says_of_itself_does_not_stick_to_the_next(api: Api, plain: Gateway, name: str) -> None:
    api.on("/x", answer(200, b"x", DATED))

    async with await Wire.open(plain.port) as wire:
        told = []
        for fields in ([("X-A", "1")], [("X-A", "2"), (name, "1.1 other")], [("X-A", "3")]):
            await wire.send(request("GET", "/x", fields))
            assert (await wire.answer()).status == 200
            told.append([field for field in api.last.fields if field[0] not in ("X-A", "X-Real-IP")])

    assert told[0] == told[1] == told[2]
    assert api.last.header("X-Real-IP") is None


async def test_another_host_is_told_and_a_bad_one_refused(api: Api, plain: Gateway) -> None:
    api.on("/x", answer(200, b"x", DATED))

    async with await Wire.open(plain.port) as wire:
        for host in ("a.test", "b.test"):
            await wire.send(b"GET /x HTTP/1.1\r\nHost: %b\r\n\r\n" % host.encode())
            assert (await wire.answer()).status == 200
            assert api.last.header("X-Forwarded-Host") == host
        await wire.send(b"GET /x HTTP/1.1\r\nHost: a/b\r\n\r\n")
        assert (await wire.answer()).slug == "bad-host"
