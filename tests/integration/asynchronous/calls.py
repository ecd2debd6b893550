"""What the tests of this folder ask of a gateway."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from tests.fakes.until import PATIENCE_S, until
from tests.integration.server.api import Talk, answer
from tests.integration.server.gateways import Gateway, gateway
from tests.integration.server.wire import Answer, ask, get, post, request

ASYNC = ("Prefer", "respond-async")
ALICE = ("Authorization", "Bearer alice")
BOB = ("Authorization", "Bearer bob")


@asynccontextmanager
async def keeping(upstream: str, folder: Path, settings: str = "", **flags: object) -> AsyncIterator[Gateway]:
    """A gateway with its ledger in `folder`."""
    async with gateway(upstream, settings, **{"async__ledger": f"sqlite:{folder}/ledger.db"} | flags) as running:
        yield running


def envelope(count: int, method: str = "GET", path: str = "/items", **more: Any) -> bytes:
    operations = [{"id": f"op{index}", "method": method, "path": f"{path}/{index}"} for index in range(count)]
    return json.dumps({"operations": operations, **more}).encode()


async def submit(port: int, body: bytes, *fields: tuple[str, str]) -> str:
    """The id of a batch that was accepted."""
    answered = await post(port, "/batch", body, ASYNC, *fields)
    assert answered.status == 202, answered
    return str(answered.json()["batchId"])


async def status(port: int, batch_id: str, *fields: tuple[str, str]) -> dict[str, Any]:
    answered = await get(port, f"/batch/{batch_id}", *fields)
    assert answered.status == 200, answered
    found: dict[str, Any] = answered.json()
    return found


async def ended(port: int, batch_id: str, *fields: tuple[str, str]) -> dict[str, Any]:
    """The status of a batch once it has ended."""
    found: dict[str, Any] = {}

    async def is_final() -> bool:
        found.update(await status(port, batch_id, *fields))
        return found["status"] not in ("processing", "cancelling")

    await until(is_final)
    return found


async def results(port: int, batch_id: str, query: str = "", *fields: tuple[str, str]) -> list[dict[str, Any]]:
    answered = await get(port, f"/batch/{batch_id}/results{query}", *fields)
    assert answered.status == 200, answered
    return [json.loads(line) for line in answered.body.splitlines()]


async def call(port: int, method: str, target: str, *fields: tuple[str, str]) -> Answer:
    return await ask(port, request(method, target, fields), method)


def failing(status_: int) -> bytes:
    return answer(status_, b'{"wrong": true}')


class Hold:
    """An API that answers nothing until it is told to."""

    def __init__(self) -> None:
        self.released = asyncio.Event()

    async def __call__(self, talk: Talk) -> None:
        await talk.request.read()
        async with asyncio.timeout(PATIENCE_S):
            await self.released.wait()
        await talk.send(answer(200, b'{"held": true}'))
