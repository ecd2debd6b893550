"""How each kind of slow caller ends, and that a caller who is merely not fast does not (PROMISES P9)."""

import asyncio
import socket
from collections.abc import Awaitable

import pytest

from tests.fakes.until import PATIENCE_S
from tests.integration.server.api import Api, Talk, answer, hang
from tests.integration.server.gateways import Gateway, gateway
from tests.integration.server.wire import Wire, ask, get, request

LIMITS = {"listen__rate_min": "1KiB", "listen__rate_grace": "1s"}
GRACE_S = 1.0
LATEST_S = GRACE_S + 1.0  # PROMISES P9: limit + 1 s
LARGE = b"x" * (24 << 20)  # more than the kernel's buffers hold
LENGTH = ("Content-Length", "100000")
JSON = ("Content-Type", "application/json")


async def paced(wire: Wire, piece: bytes, every_s: float, stop: asyncio.Event) -> None:
    """Send `piece` again and again until told to stop."""
    while not stop.is_set():
        await wire.send(piece)
        await asyncio.wait([asyncio.ensure_future(stop.wait())], timeout=every_s)


def small_window(port: int) -> socket.socket:
    """A connection whose kernel takes as little as can be of what it is sent."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.connect(("127.0.0.1", port))
    sock.setblocking(False)
    return sock


async def seconds_of(done: Awaitable[object]) -> float:
    loop = asyncio.get_running_loop()
    began_s = loop.time()
    await done
    return loop.time() - began_s


async def until_reset(sock: socket.socket, take_bytes: int, every_s: float) -> int:
    """Read `take_bytes` at a time until the other side resets; how many were read."""
    loop, taken = asyncio.get_running_loop(), 0
    async with asyncio.timeout(PATIENCE_S):
        while not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            try:
                taken += len(sock.recv(take_bytes)) if take_bytes else 0
            except BlockingIOError:
                pass
            except ConnectionResetError:
                break
            await asyncio.wait([loop.create_future()], timeout=every_s)
        return taken


@pytest.mark.parametrize("path", ["/batch", "/x"])
async def test_a_body_that_stops_coming_is_408(api: Api, path: str) -> None:
    async with gateway(api.url, **LIMITS) as running, await Wire.open(running.port) as wire:
        await wire.send(request("POST", path, [JSON, LENGTH]) + b"[")
        took_s = await seconds_of(asyncio.wait_for(wire.reader.readexactly(1), PATIENCE_S))
        answered = (await wire.reader.read()).decode()

    assert answered.startswith("TTP/1.1 408 ")
    assert "X-Gateway-Error: request-timeout" in answered
    assert "Connection: close" in answered
    assert GRACE_S <= took_s <= LATEST_S


@pytest.mark.parametrize("path", ["/batch", "/x"])
async def test_a_body_in_drips_is_408(api: Api, path: str) -> None:
    stop = asyncio.Event()
    async with gateway(api.url, **LIMITS) as running, await Wire.open(running.port) as wire:
        await wire.send(request("POST", path, [JSON, LENGTH]))
        dripping = asyncio.create_task(paced(wire, b"x", 0.05, stop))
        answered = await wire.answer()
        stop.set()
        await dripping

    assert (answered.status, answered.slug) == (408, "request-timeout")


async def test_a_body_that_keeps_the_rate_is_let_through_however_long_it_takes(api: Api) -> None:
    async with gateway(api.url, **LIMITS) as running, await Wire.open(running.port) as wire:
        await wire.send(request("POST", "/x", [("Content-Length", str(600 * 12))]))
        took_s = await seconds_of(sent_in_time(wire))
        answered = await wire.answer()

    assert took_s > LATEST_S
    assert answered.json()["bytes"] == 600 * 12


async def sent_in_time(wire: Wire) -> None:
    """Three seconds of twice the least rate."""
    for _ in range(12):
        await wire.send(b"x" * 600)
        await asyncio.wait([asyncio.get_running_loop().create_future()], timeout=0.25)


async def test_a_body_that_waits_for_the_upstreams_continue_is_not_late(api: Api) -> None:
    async def wait(talk: Talk) -> None:
        await asyncio.wait([asyncio.get_running_loop().create_future()], timeout=LATEST_S)
        await talk.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        await talk.request.read()
        await talk.send(answer())

    api.on("/slow", wait)
    async with gateway(api.url, **LIMITS) as running, await Wire.open(running.port) as wire:
        await wire.send(request("POST", "/slow", [("Expect", "100-continue"), ("Content-Length", "2")]))
        assert (await wire.head()).status == 100
        await wire.send(b"{}")
        answered = await wire.answer()

    assert answered.status == 200


async def test_an_envelope_that_was_told_to_continue_and_does_not_is_408(api: Api) -> None:
    async with gateway(api.url, **LIMITS) as running, await Wire.open(running.port) as wire:
        await wire.send(request("POST", "/batch", [JSON, LENGTH, ("Expect", "100-continue")]))
        answered = await wire.answer()

    assert [each.status for each in (*answered.interims, answered)] == [100, 408]


async def test_an_upstream_that_reads_slowly_is_not_the_callers_fault(api: Api) -> None:
    async def read_late(talk: Talk) -> None:
        await asyncio.wait([asyncio.get_running_loop().create_future()], timeout=LATEST_S + 0.5)
        await talk.request.read()
        await talk.send(answer())

    api.on("/slow", read_late)
    async with gateway(api.url, **LIMITS) as running, await Wire.open(running.port) as wire:
        await wire.send(request("POST", "/slow", [], LARGE))
        answered = await wire.answer()

    assert answered.status == 200


@pytest.mark.parametrize("take_bytes", [0, 16], ids=["zero window", "drip"])
@pytest.mark.parametrize("path", ["/large", "/batch"])
async def test_a_caller_who_does_not_read_is_cut_off(api: Api, path: str, take_bytes: int) -> None:
    api.on("/large", answer(200, LARGE, ("Content-Type", "application/octet-stream")))
    asked = request("GET", "/large")
    if path == "/batch":
        asked = request("POST", "/batch", [JSON], b'[{"method":"GET","path":"/large"}]')

    async with gateway(api.url, **LIMITS, upstream__answer_max="32MiB") as running:
        sock = small_window(running.port)
        sock.send(asked)
        took_s = await seconds_of(until_reset(sock, take_bytes, 0.05))
        sock.close()

        assert took_s <= LATEST_S + 0.5  # and the time to fetch it
        assert await is_free(running)


async def is_free(running: Gateway) -> bool:
    """Whether the gateway answers others, and has nothing under way but that."""
    answered, told = (
        await get(running.port, "/x"),
        await ask(running.admin_port, request("GET", "/info", host="localhost")),
    )
    return answered.status == 200 and told.json()["active"] == 0


async def test_a_caller_who_reads_slowly_but_at_the_rate_gets_everything(api: Api) -> None:
    size = 6 << 20
    api.on("/large", answer(200, b"x" * size, ("Content-Type", "application/octet-stream")))

    async with gateway(api.url, **LIMITS) as running:
        sock = small_window(running.port)
        sock.send(request("GET", "/large", [("Connection", "close")]))
        got, loop = 0, asyncio.get_running_loop()
        began_s = loop.time()
        while loop.time() < began_s + 2 * LATEST_S:
            got += len(await loop.sock_recv(sock, 1 << 12))
            await asyncio.wait([loop.create_future()], timeout=0.05)  # most of it waits in the kernel's buffers
        while chunk := await loop.sock_recv(sock, 1 << 16):
            got += len(chunk)
        sock.close()

    assert got > size


@pytest.mark.parametrize("limit", ["1s", "0s"])
async def test_a_stream_may_be_silent_for_so_long(api: Api, limit: str) -> None:
    async def begin(talk: Talk) -> None:
        await talk.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n")
        await asyncio.Event().wait()

    api.on("/stream", begin)
    async with gateway(api.url, listen__stream_idle_timeout=limit) as running, await Wire.open(running.port) as wire:
        await wire.send(request("GET", "/stream"))
        assert (await wire.head()).status == 200
        assert await wire.chunk() == b"x"
        ended, _ = await asyncio.wait([asyncio.ensure_future(wire.is_closed())], timeout=LATEST_S + 0.3)

    assert bool(ended) == (limit == "1s")


async def test_a_silent_tunnel_ends_at_both_sides(api: Api) -> None:
    gone = asyncio.Event()

    async def upgrade(talk: Talk) -> None:
        await talk.send(b"HTTP/1.1 101 Switching\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\nhello")
        assert await talk.reader.read(5) == b"there"
        assert await talk.reader.read(1) == b""
        gone.set()

    api.on("/ws", upgrade)
    async with gateway(api.url, listen__stream_idle_timeout="1s") as running, await Wire.open(running.port) as wire:
        await wire.send(request("GET", "/ws", [("Connection", "upgrade"), ("Upgrade", "websocket")]))
        assert (await wire.head()).status == 101
        assert await wire.reader.readexactly(5) == b"hello"
        await wire.send(b"there")
        took_s = await seconds_of(wire.is_closed())
        await asyncio.wait_for(gone.wait(), PATIENCE_S)

    assert GRACE_S <= took_s <= LATEST_S


async def test_ten_thousand_pipelined_requests_hold_back_their_sender_and_are_all_answered(api: Api) -> None:
    count = 10_000
    async with gateway(api.url) as running, await Wire.open(running.port) as wire:
        sending = asyncio.create_task(wire.send(request("GET", "/x") * count))
        statuses = [(await wire.answer()).status for _ in range(count)]
        await sending

    assert statuses == [200] * count


async def test_pipelined_requests_wait_in_the_kernel_behind_a_slow_one(api: Api) -> None:
    api.on("/slow", hang)
    async with gateway(api.url) as running, await Wire.open(running.port) as wire:
        await wire.send(request("GET", "/slow"))
        await api.until(1)
        sending = asyncio.create_task(wire.send(request("GET", "/x") * 500_000))
        done, _ = await asyncio.wait([sending], timeout=1)
        wire.writer.transport.abort()
        await asyncio.wait([sending])

    assert not done
