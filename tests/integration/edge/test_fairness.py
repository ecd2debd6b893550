"""Batches and forwarded requests share an upstream's connections; neither can take them all (PROMISES P6, L2)."""

import asyncio

from tests.integration.server.api import Api, after, answer
from tests.integration.server.gateways import gateway
from tests.integration.server.wire import get, post_batch

CONNECTIONS = "upstream: {connections: 10}"
LARGEST = [{"method": "GET", "path": "/hang"}] * 100


async def test_batches_that_hang_leave_connections_to_forwarded_requests(api: Api) -> None:
    release = asyncio.Event()

    api.on("/hang", after(release, answer()))
    async with gateway(api.url, CONNECTIONS) as running:
        batches = [asyncio.create_task(post_batch(running.port, LARGEST)) for _ in range(10)]
        await api.until(8)
        lone = [(await get(running.port, "/x")).status for _ in range(20)]
        hanging = sum(target == "/hang" for target in api.targets)
        release.set()
        answered = [await batch for batch in batches]

    assert lone == [200] * 20
    assert hanging == 8
    assert [each.json()["summary"] for each in answered] == [{"total": 100, "succeeded": 100, "failed": 0}] * 10


async def test_forwarded_requests_that_hang_leave_connections_to_batches(api: Api) -> None:
    release = asyncio.Event()

    api.on("/hang", after(release, answer()))
    async with gateway(api.url, CONNECTIONS) as running:
        first = [asyncio.create_task(get(running.port, "/hang")) for _ in range(8)]
        await api.until(8)
        batch = asyncio.create_task(post_batch(running.port, [{"method": "GET", "path": "/x"}] * 30))
        await api.until(9)
        rest = [asyncio.create_task(get(running.port, "/hang")) for _ in range(12)]
        answered = await batch
        release.set()
        statuses = [(await each).status for each in (*first, *rest)]

    assert answered.json()["summary"]["succeeded"] == 30
    assert statuses == [200] * 20
