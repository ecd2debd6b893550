"""Drain (EXPERIENCE 6): what is running ends well, what would never end is ended, and nobody is left in the dark."""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.fakes.until import until
from tests.integration.lifecycle.conftest import Serving, admin, settings
from tests.integration.server.api import Api, Talk, answer
from tests.integration.server.gateways import Gateway
from tests.integration.server.wire import Wire, get, post_batch, request

UPGRADE = [
    ("Upgrade", "websocket"),
    ("Connection", "Upgrade"),
    ("Sec-WebSocket-Key", "x"),
    ("Sec-WebSocket-Version", "13"),
]
QUICK = {"delay": "0s", "stream_grace": "50ms", "timeout": "10s"}
WITHIN_S = 5.0  # well below drain.timeout

Start = Callable[..., Awaitable[Gateway]]


@asynccontextmanager
async def draining(serving: Serving, tmp_path: Path, api: Api, **drain: str) -> AsyncIterator[Gateway]:
    path = tmp_path / "gateway.yaml"
    path.write_text(settings(api, drain={**QUICK, **drain}))
    async with serving(path) as running:
        yield running


async def not_ready(running: Gateway) -> None:
    async def is_told() -> bool:
        return (await get(running.admin_port, "/readyz")).status == 503

    await until(is_told)


async def test_a_websocket_is_closed_after_its_grace(api: Api, serving: Serving, tmp_path: Path) -> None:
    async def echo(talk: Talk) -> None:
        await talk.send(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n")
        while data := await talk.reader.read(100):
            await talk.send(data)

    api.on("/ws", echo)

    async with draining(serving, tmp_path, api) as running, await Wire.open(running.port) as wire:
        await wire.send(request("GET", "/ws", UPGRADE))
        opened = await wire.answer()
        await wire.send(b"before")
        echoed = await wire.reader.readexactly(6)
        async with asyncio.timeout(WITHIN_S):
            in_time = await running.app.drain()
        closed = await wire.is_closed()

    assert (opened.status, echoed) == (101, b"before")
    assert (in_time, closed) == (True, True)
    assert api.open == 0


async def events(talk: Talk) -> None:
    await talk.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
    await talk.send(b"9\r\ndata: 1\n\n\r\n")
    await talk.reader.read(1)  # until the other side goes


async def test_an_event_stream_is_closed_after_its_grace(api: Api, serving: Serving, tmp_path: Path) -> None:
    api.on("/events", events)

    async with draining(serving, tmp_path, api) as running, await Wire.open(running.port) as wire:
        await wire.send(request("GET", "/events"))
        head, first = await wire.head(), await wire.chunk()
        async with asyncio.timeout(WITHIN_S):
            in_time = await running.app.drain()
        closed = await wire.is_closed()

    assert (head.status, first) == (200, b"data: 1\n\n")
    assert (in_time, closed) == (True, True)


async def test_a_download_ends_to_its_last_byte_whatever_the_grace(api: Api, serving: Serving, tmp_path: Path) -> None:
    """A reader that is slow: when an event stream beside it is closed, more is to be read than buffers hold."""
    size = 32 << 20
    api.on("/events", events)
    api.on("/download", b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size + bytes(size))

    async with (
        draining(serving, tmp_path, api) as running,
        await Wire.open(running.port) as stream,
        Wire(*await asyncio.open_connection("127.0.0.1", running.port, limit=1 << 16)) as wire,
    ):
        await stream.send(request("GET", "/events"))
        await stream.head()
        await stream.chunk()
        await wire.send(request("GET", "/download"))
        head = await wire.head()
        drain = asyncio.create_task(running.app.drain())
        closed = await stream.is_closed()
        await not_ready(running)
        is_over = drain.done()
        received = len(await wire.reader.read())
        in_time = await drain

    assert head.status == 200
    assert (closed, is_over) == (True, False)
    assert received == size
    assert in_time


async def test_a_connection_between_requests_is_closed_and_a_head_that_has_begun_is_heard(
    api: Api, serving: Serving, tmp_path: Path
) -> None:
    async with (
        draining(serving, tmp_path, api) as running,
        await Wire.open(running.port) as idle,
        await Wire.open(running.port) as fresh,
        await Wire.open(running.port) as begun,
    ):
        await idle.send(request("GET", "/idle"))
        kept = await idle.answer()
        await begun.send(b"GET /begun HTTP/1.1\r\nHos")
        await until_read(running, 3)
        drain = asyncio.create_task(running.app.drain())
        closed = [await idle.is_closed(), await fresh.is_closed()]
        await begun.send(b"t: x\r\n\r\n")
        answered = await begun.answer()
        in_time = await drain

    assert kept.header("Connection") is None
    assert closed == [True, True]
    assert (answered.status, answered.header("Connection")) == (200, "close")
    assert in_time


async def until_read(running: Gateway, connections: int) -> None:
    """Connections that were opened have been taken: a later one on the same listener has been answered."""
    for _ in range(connections):
        assert (await get(running.port, "/batch/limits")).status == 200


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_an_upstream_that_went_first_is_503_draining(
    api: Api, serving: Serving, tmp_path: Path, method: str
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    api.port = port  # nobody listens there any more

    async with draining(serving, tmp_path, api, delay="10s") as running:
        before = await get(running.port, "/x")
        drain = asyncio.create_task(running.app.drain())
        await not_ready(running)
        async with await Wire.open(running.port) as wire:
            await wire.send(request(method, "/x", body=b"{}" if method == "POST" else b""))
            forwarded = await wire.answer()
        batch = await post_batch(running.port, [{"method": method, "path": "/x"}])
        drain.cancel()

    (result,) = batch.json()["results"]
    assert (before.status, before.slug) == (502, "upstream-connect")
    assert (forwarded.status, forwarded.slug) == (503, "draining")
    assert (forwarded.header("Retry-After"), forwarded.header("Connection")) == ("1", "close")
    assert (batch.status, batch.header("Connection")) == (207, "close")
    assert (result["status"], result["error"]["type"]) == (503, "/batch/problems/draining")
    assert (result["error"]["retryable"], result["error"]["retryAfter"]) == (True, 1)


async def test_an_upstream_of_a_later_configuration_drains_as_well(api: Api, serving: Serving, tmp_path: Path) -> None:
    async with Api() as gone:
        pass

    async with draining(serving, tmp_path, api, delay="10s") as running:
        drain = asyncio.create_task(running.app.drain())
        await not_ready(running)
        (tmp_path / "gateway.yaml").write_text(settings(gone))
        await admin(running, "POST", "/reload")
        answered = await get(running.port, "/x")
        drain.cancel()

    assert (answered.status, answered.slug) == (503, "draining")


async def test_a_page_and_a_signal_wait_for_the_same_drain(api: Api, serving: Serving, tmp_path: Path) -> None:
    release = asyncio.Event()

    async def wait(talk: Talk) -> None:
        await release.wait()
        await talk.send(answer(200, b'"slow"'))

    api.on("/slow", wait)

    async with draining(serving, tmp_path, api) as running, await Wire.open(running.port) as wire:
        await wire.send(request("GET", "/slow"))
        await api.until(1)
        page = asyncio.create_task(admin(running, "POST", "/drain"))
        await not_ready(running)
        by_signal = asyncio.create_task(running.app.drain())
        release.set()
        finished = await wire.answer()
        answered, in_time = await page, await by_signal
        state = (await admin(running, "GET", "/info")).json()["state"]

    assert finished.status == 200
    assert (answered.status, answered.body, in_time) == (200, b"drained\n", True)
    assert state == "draining"
