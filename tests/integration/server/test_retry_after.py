"""PROMISES L7 over HTTP, with the buckets in a Redis and in real time: waiting as long as told is enough."""

import asyncio
import json
import tempfile
from pathlib import Path
from random import Random

import pytest

from tests.contract.stores import STORES, running
from tests.integration.server.api import Api
from tests.integration.server.gateways import gateway
from tests.integration.server.wire import post_batch

_CALLERS = 500
_AT_ONCE = 20
_RATE, _BURST, _COST = 20, 100, 30


@pytest.mark.parametrize("store", STORES)
async def test_who_waits_as_long_as_told_is_admitted(store: str, capsys: pytest.CaptureFixture[str]) -> None:
    chance, room = Random(7), asyncio.Semaphore(_AT_ONCE)
    admitted, waited_s = 0, list[int]()
    limit = {"name": "b", "key": "caller", "rate": f"{_RATE}/s", "burst": _BURST}
    routes = [{"path": "/x", "cost": _COST}]

    async def caller(port: int, number: int) -> None:
        """One who spends until it is told to wait, waits, and asks for the same again."""
        nonlocal admitted
        envelope = [{"method": "GET", "path": "/x"}] * chance.randint(2, _BURST // _COST)
        who = ("Authorization", f"Bearer {number}")
        async with room:
            while (refused := await post_batch(port, envelope, who)).status == 207:
                pass
        assert refused.slug == "rate-limited"
        told_s = int(refused.header("Retry-After") or "0")
        waited_s.append(told_s)
        await _passed(told_s)
        async with room:
            last = await post_batch(port, envelope, who)
            admitted += last.status == 207

    with tempfile.TemporaryDirectory() as folder, running(store, Path(folder)) as (_, url):
        settings = json.dumps(
            {"routes": routes, "limits": [limit], "limiter": {"url": url, "fail": "closed", "timeout": "8s"}}
        )
        async with Api() as api, gateway(api.url, settings) as it:
            await asyncio.gather(*(caller(it.port, number) for number in range(_CALLERS)))

    with capsys.disabled():
        print(f"\nRetry-After honoured: {admitted} of {_CALLERS} admitted, on {store}, after {set(waited_s)} s")
    assert min(waited_s) >= 1
    assert admitted >= 0.99 * _CALLERS


async def _passed(seconds: float) -> None:
    """Until so long has passed."""
    loop = asyncio.get_running_loop()
    over = loop.create_future()
    loop.call_later(seconds, over.set_result, None)
    await over
