"""A server that cannot keep what it acknowledges keeps no keys, and says so (PROMISES 1.2, D10)."""

import json
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import redis

from tests.contract.stores import running
from tests.fakes.until import until
from tests.integration.replay.test_operations import create
from tests.integration.server.api import Api
from tests.integration.server.gateways import Gateway, gateway
from tests.integration.server.wire import ask, get, post_batch, request

PLAIN = {"method": "GET", "path": "/"}
EVICTS = ("--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru")
FORGETS = ("--appendonly", "no")


@asynccontextmanager
async def over(api: Api, options: Sequence[str], **more: Any) -> AsyncIterator[tuple[Gateway, "redis.Redis"]]:
    settings = {"async__key__value": "one secret of all replicas"} | more
    with tempfile.TemporaryDirectory() as folder, running("redis", Path(folder), *options) as (_, url):
        async with gateway(api.url, replay__store=url, **settings) as started:
            with redis.Redis.from_url(url) as client:
                yield started, client


async def up(at: Gateway) -> bool:
    return b"batch_gateway_replay_up 1.0" in (await get(at.admin_port, "/metrics")).body


@pytest.mark.parametrize(("options", "reason"), [(EVICTS, "may evict"), (FORGETS, "appendonly")], ids=["lru", "no aof"])
async def test_a_server_that_forgets_is_refused_and_reported_before_anybody_needs_it(
    api: Api, options: Sequence[str], reason: str, capfd: pytest.CaptureFixture[str]
) -> None:
    async with over(api, options) as (at, _):

        async def is_reported() -> bool:
            return not await up(at)

        await until(is_reported)
        ready = await get(at.admin_port, "/readyz?verbose")
        index = await ask(at.admin_port, request("GET", "/", host="localhost"))
        said = await post_batch(at.port, [create(), PLAIN])
        whole = await post_batch(at.port, [PLAIN], ("Idempotency-Key", "k"))

    results = said.json()["results"]
    assert [each["status"] for each in results] == [503, 200]
    assert results[0]["error"]["type"] == "/batch/problems/ledger-unavailable"
    assert (whole.status, whole.slug) == (503, "ledger-unavailable")
    assert ready.status == 200
    assert reason in ready.body.decode()
    assert any(reason in each for each in index.json()["wrongNow"])
    assert [json.loads(line)["level"] for line in capfd.readouterr().err.splitlines() if reason in line] == ["warning"]
    assert api.targets == ["/"]


async def test_keys_are_kept_again_once_the_server_is_mended(api: Api) -> None:
    async with over(api, EVICTS) as (at, client):

        async def is_reported() -> bool:
            return not await up(at)

        await until(is_reported)
        client.config_set("maxmemory-policy", "noeviction")
        await until(lambda: up(at))
        said = await post_batch(at.port, [create()])
        ready = await get(at.admin_port, "/readyz?verbose")

    assert said.json()["results"][0]["status"] == 200
    assert b"[+] idempotency keys ok\n" in ready.body


async def test_an_operator_may_do_without_the_file(api: Api) -> None:
    async with over(api, FORGETS, async__require_durable=False) as (at, _):
        said = await post_batch(at.port, [create()])

    assert said.json()["results"][0]["status"] == 200
