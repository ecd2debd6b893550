"""A body in chunks of one byte costs its reader much, and must not cost the others their turn."""

import asyncio

import pytest

from tests.integration.server.api import Api
from tests.integration.server.gateways import Gateway
from tests.integration.server.wire import Wire, request

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
    await asyncio.wait_for(plain.app._edge.idle.wait(), 5)

    assert api.open <= 1


async def test_chunks_behind_a_refusal_are_read_past(api: Api, plain: Gateway) -> None:
    async with await Wire.open(plain.port) as wire:
        await wire.send(request("POST", "/batch", [("Transfer-Encoding", "chunked")]) + WRITTEN[:60_000] + b"0\r\n\r\n")
        refused = await wire.answer()
        await wire.send(request("GET", "/x"))
        after = await wire.answer()

    assert (refused.status, after.status) == (415, 200)
