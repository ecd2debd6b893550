"""A body in chunks of one byte, either way, costs its reader much, and must not cost the others their turn."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from tests.fakes.until import PATIENCE_S
from tests.integration.edge.test_heavy_batches import turns_s
from tests.integration.server.api import Api, Talk
from tests.integration.server.gateways import Gateway
from tests.integration.server.wire import Wire, get, post_batch, request

BODY = b"[" + b" " * 200_000 + b'{"method": "GET", "path": "/x"}]'
CHUNKED = [("Content-Type", "application/json"), ("Transfer-Encoding", "chunked")]
WRITTEN = b"".join(b"1\r\n%c\r\n" % byte for byte in BODY) + b"0\r\n\r\n"


@pytest.mark.parametrize(("path", "status"), [("/batch", 207), ("/up", 200)])
async def test_a_body_in_chunks_of_a_byte_is_whole_and_others_are_answered_meanwhile(
    api: Api, plain: Gateway, path: str, status: int
) -> None:
    async with await Wire.open(plain.port) as wire, await Wire.open(plain.port) as other:
        sending = asyncio.create_task(wire.send(request("POST", path, CHUNKED) + WRITTEN + request("GET", "/next")))
        answering = asyncio.create_task(wire.answer())
        others = 0
        while not answering.done():
            await other.send(request("GET", "/other"))
            assert (await other.answer()).status == 200
            others += 1
        answered, following = await answering, await wire.answer()
        await sending

    assert (answered.status, following.status) == (status, 200)
    assert status == 207 or answered.json()["bytes"] == len(BODY)
    assert others >= 10


async def test_a_caller_who_leaves_among_many_chunks_leaves_nothing_behind(api: Api, plain: Gateway) -> None:
    async with await Wire.open(plain.port) as wire:
        await wire.send(request("POST", "/up", CHUNKED) + WRITTEN[: len(WRITTEN) // 2])
        await api.until(1)
        wire.writer.transport.abort()
    await asyncio.wait_for(plain.app._edge.idle.wait(), PATIENCE_S)

    assert api.open <= 1


async def test_chunks_behind_a_refusal_are_read_past(api: Api, plain: Gateway) -> None:
    async with await Wire.open(plain.port) as wire:
        await wire.send(request("POST", "/batch", [("Transfer-Encoding", "chunked")]) + WRITTEN[:60_000] + b"0\r\n\r\n")
        refused = await wire.answer()
        await wire.send(request("GET", "/x"))
        after = await wire.answer()

    assert (refused.status, after.status) == (415, 200)


async def forwarded(port: int) -> bytes:
    return (await get(port, "/down")).body


async def batched(port: int) -> bytes:
    answered = await post_batch(port, [{"method": "GET", "path": "/down"}])
    return str(answered.json()["results"][0]["result"]).encode()


@pytest.mark.parametrize("ask", [forwarded, batched])
@pytest.mark.parametrize("ends", ["with its connection", "and its connection goes on"])
async def test_an_answer_in_chunks_of_a_byte_is_whole_and_no_turn_of_the_loop_reads_much_of_it(
    api: Api, plain: Gateway, ask: Callable[[int], Awaitable[bytes]], ends: str
) -> None:
    more = "close" if ends == "with its connection" else "keep-alive"

    async def down(talk: Talk) -> None:
        head = f"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nConnection: {more}\r\n"
        await talk.send(head.encode() + b"Transfer-Encoding: chunked\r\n\r\n" + WRITTEN)
        if more == "close":
            talk.writer.close()

    api.on("/down", down)
    shares = []
    for _ in range(3):  # the API and the caller live on the same loop, and now and then have a long turn
        over = asyncio.Event()
        counting = asyncio.create_task(turns_s(over))
        body = await ask(plain.port)
        over.set()
        took_s = await counting
        assert body == BODY
        shares.append(max(took_s) / sum(took_s))

    assert min(shares) <= 1 / 8, shares
