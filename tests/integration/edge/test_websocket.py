"""PROMISES P4: WebSocket by somebody else's client and server, through the gateway as without it."""

import asyncio
import random
from collections.abc import AsyncIterator, Iterator
from http import HTTPStatus

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed, ConnectionClosedOK, InvalidStatus
from websockets.http11 import Request, Response
from websockets.typing import Subprotocol

from tests.fakes.until import PATIENCE_S, until
from tests.integration.server.api import Api, Talk
from tests.integration.server.gateways import Gateway, gateway
from tests.integration.server.wire import Wire, request

MEBIBYTE = 1 << 20
UPGRADE = [
    ("Connection", "Upgrade"), ("Upgrade", "websocket"), ("Sec-WebSocket-Version", "13"),
    ("Sec-WebSocket-Key", "AAAAAAAAAAAAAAAAAAAAAA=="),
]  # fmt: skip


class Site:
    """A WebSocket server: it echoes, closes when told to, and remembers how each socket ended."""

    def __init__(self) -> None:
        self.ends: list[tuple[int | None, str | None]] = []
        self.port = 0

    async def serve(self, socket: ServerConnection) -> None:
        try:
            async for message in socket:
                if isinstance(message, str) and message.startswith("close "):
                    await socket.close(int(message[6:]), "as told")
                else:
                    await socket.send(message)
        except ConnectionClosed:
            pass  # by a code that means an error
        self.ends.append((socket.close_code, socket.close_reason))

    def decline(self, socket: ServerConnection, asked: Request) -> Response | None:
        return socket.respond(HTTPStatus.FORBIDDEN, "not you") if asked.path == "/declined" else None


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    running = Site()
    async with serve(
        running.serve, "127.0.0.1", 0, process_request=running.decline, max_size=4 * MEBIBYTE,
        subprotocols=[Subprotocol("chat")], ping_interval=None,
    ) as server:  # fmt: skip
        running.port = server.sockets[0].getsockname()[1]
        yield running


@pytest.fixture
async def front(site: Site) -> AsyncIterator[Gateway]:
    async with gateway(f"http://127.0.0.1:{site.port}") as running:
        yield running


def client(front: Gateway, path: str = "/", *, compression: str | None = "deflate") -> connect:
    return connect(
        f"ws://127.0.0.1:{front.port}{path}", max_size=4 * MEBIBYTE, compression=compression, ping_interval=None,
        subprotocols=[Subprotocol("chat")], open_timeout=10, close_timeout=10,
    )  # fmt: skip


async def is_left_alone(front: Gateway) -> bool:
    """Whether nothing is on its way any more."""
    pools = front.app._generations.current.pools.values()
    return not any(pool.in_flight or pool.waiting for pool in pools) and not front.app._edge.active


@pytest.mark.parametrize("compression", [None, "deflate"])
async def test_text_and_bytes_come_back_whole(front: Gateway, compression: str | None) -> None:
    messages: list[str | bytes] = ["", "grüß €", b"", bytes(range(256)), "x" * 125, "x" * 126, b"y" * 65_536]

    async with client(front, compression=compression) as socket, asyncio.timeout(PATIENCE_S):
        for message in messages:
            await socket.send(message)
        back = [await socket.recv() for _ in messages]

    assert back == messages
    assert socket.subprotocol == "chat"
    assert socket.response is not None
    assert ("sec-websocket-extensions" in socket.response.headers) == (compression is not None)


async def test_a_message_in_fragments_is_one_message(front: Gateway) -> None:
    def pieces() -> Iterator[bytes]:
        yield from (b"a" * 10, b"", b"b" * 70_000, b"c")

    async with client(front) as socket, asyncio.timeout(PATIENCE_S):
        await socket.send(pieces())
        back = await socket.recv()

    assert back == b"".join(pieces())


async def test_frames_of_a_mebibyte_come_back_whole(front: Gateway) -> None:
    chance = random.Random(7)
    frames = [chance.randbytes(MEBIBYTE) for _ in range(8)]

    async with client(front, compression=None) as socket, asyncio.timeout(PATIENCE_S):
        sending = asyncio.create_task(_send(socket, frames))
        back = [await socket.recv() for _ in frames]
        await sending

    assert back == frames


async def test_ping_and_pong_pass(front: Gateway) -> None:
    async with client(front) as socket, asyncio.timeout(PATIENCE_S):
        pong = await socket.ping(b"are you there")
        latency_s = await pong

    assert latency_s < 5


@pytest.mark.parametrize("code", [1000, 1001, 1003, 1008, 1011, 3000, 4999])
async def test_a_close_by_the_caller_reaches_the_upstream_with_code_and_reason(
    front: Gateway, site: Site, code: int
) -> None:
    socket = await client(front)
    await socket.close(code, "done")

    await until(lambda: _holds(bool(site.ends)))
    assert site.ends == [(code, "done")]
    await until(lambda: is_left_alone(front))


@pytest.mark.parametrize("code", [1000, 1001, 1003, 1008, 1011, 3000, 4999])
async def test_a_close_by_the_upstream_reaches_the_caller_with_code_and_reason(front: Gateway, code: int) -> None:
    async with client(front) as socket, asyncio.timeout(PATIENCE_S):
        await socket.send(f"close {code}")
        with pytest.raises(ConnectionClosed) as closed:
            await socket.recv()

    assert closed.value.rcvd is not None
    assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (code, "as told")
    assert isinstance(closed.value, ConnectionClosedOK) == (code in (1000, 1001))
    await until(lambda: is_left_alone(front))


async def test_twenty_sockets_at_a_time_do_not_mix(front: Gateway, site: Site) -> None:
    async def talk(number: int) -> bool:
        chance = random.Random(number)
        said = [chance.randbytes(chance.randint(0, 20_000)) for _ in range(20)]
        async with client(front) as socket:
            sending = asyncio.create_task(_send(socket, said))
            back = [await socket.recv() for _ in said]
            await sending
        return back == said

    async with asyncio.timeout(30):
        assert await asyncio.gather(*[talk(number) for number in range(20)]) == [True] * 20

    await until(lambda: _holds(len(site.ends) == 20))
    await until(lambda: is_left_alone(front))


async def test_a_declined_upgrade_is_the_upstreams_answer_and_leaves_nothing(front: Gateway) -> None:
    for _ in range(20):
        with pytest.raises(InvalidStatus) as declined:
            await client(front, "/declined")
        assert declined.value.response.status_code == 403
        assert declined.value.response.body == b"not you"

    await until(lambda: is_left_alone(front))


async def test_a_declined_upgrade_leaves_its_connection_clean() -> None:
    async def say(talk: Talk) -> None:
        body = talk.request.target.encode()
        await talk.send(b"HTTP/1.1 200 No\r\nContent-Length: %d\r\n\r\n" % len(body) + body)

    async with Api(say) as api, gateway(api.url) as running, await Wire.open(running.port) as wire:
        for number in range(20):
            await wire.send(request("GET", f"/{number}", UPGRADE) + request("GET", f"/{number}/behind"))
        bodies = [(await wire.answer()).body.decode() for _ in range(40)]

    assert bodies == [f"/{number}{behind}" for number in range(20) for behind in ("", "/behind")]
    assert api.targets == bodies


async def test_what_a_caller_says_before_it_hangs_up_arrives() -> None:
    """Also when the upstream is slow to read it, so that much of it is still in the gateway by then."""
    said = random.Random(3).randbytes(16 * MEBIBYTE)
    heard = bytearray()
    is_over = asyncio.Event()

    async def listen(talk: Talk) -> None:
        talk.reader._limit = 65_536  # type: ignore[attr-defined]  # what it takes in before it is asked for
        await talk.send(b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n")
        while piece := await talk.reader.read(65_536):
            heard.extend(piece)
            await asyncio.sleep(0)
        is_over.set()

    async with Api(listen) as api, gateway(api.url) as running:
        async with await Wire.open(running.port) as wire:
            await wire.send(request("GET", "/", UPGRADE))
            assert (await wire.head()).status == 101
            await wire.send(said)
        async with asyncio.timeout(PATIENCE_S):
            await is_over.wait()
        await until(lambda: is_left_alone(running))

    assert bytes(heard) == said


async def _send(socket: ClientConnection, messages: list[bytes]) -> None:
    for message in messages:
        await socket.send(message)


async def _holds(fact: bool) -> bool:
    return fact
