"""A ledger in Redis: shared by gateways, away at the start, killed and back; and what none of that touches."""

import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest

from tests.contract.stores import STORES
from tests.fakes.until import until
from tests.integration.asynchronous.calls import ASYNC, Hold, ended, envelope, results, status, submit
from tests.integration.ledger.servers import ALWAYS, Server
from tests.integration.server.api import Api
from tests.integration.server.gateways import Gateway, gateway
from tests.integration.server.wire import get, post

_KEY = "async: {key: {value: 0123456789abcdef}, lease: 1s}"


@pytest.fixture(params=STORES)
def store(request: pytest.FixtureRequest) -> Iterator[Server]:
    """Not started yet."""
    with tempfile.TemporaryDirectory() as folder:
        server = Server(request.param, Path(folder))
        yield server
        server.kill()


@pytest.fixture
async def held() -> AsyncIterator[tuple[Api, Hold]]:
    hold = Hold()
    async with Api(hold) as api:
        api.on("/now", b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
        yield api, hold


def sharing(api: Api, store: Server) -> AbstractAsyncContextManager[Gateway]:
    return gateway(api.url, _KEY, async__ledger=store.url)


async def accepts(port: int) -> bool:
    return (await post(port, "/batch", envelope(1, path="/now"), ASYNC)).status == 202


async def metric(running: Gateway, name: str) -> float:
    page = (await get(running.admin_port, "/metrics")).body.decode()
    (line,) = [line for line in page.splitlines() if line.startswith(f"batch_gateway_{name} ")]
    return float(line.split()[1])


async def test_all_but_asynchronous_batches_go_on_while_redis_is_away_and_those_resume(
    store: Server, held: tuple[Api, Hold]
) -> None:
    api, hold = held
    hold.released.set()
    async with sharing(api, store) as running:
        refused = await post(running.port, "/batch", envelope(1), ASYNC)
        listed = await get(running.port, "/batch")
        forwarded = await get(running.port, "/now")
        in_place = await post(running.port, "/batch", b'[{"method": "GET", "path": "/now"}]')
        ready = await get(running.admin_port, "/readyz")
        up_before = await metric(running, "ledger_up")
        store.start()
        await until(lambda: accepts(running.port))
        up_after = await metric(running, "ledger_up")
        (first,) = (await get(running.port, "/batch")).json()["batches"][-1:]
        end = await ended(running.port, first["batchId"])

    assert (refused.status, refused.slug, refused.header("Retry-After")) == (503, "ledger-unavailable", "5")
    assert (listed.status, listed.slug) == (503, "ledger-unavailable")
    assert (forwarded.status, in_place.status, ready.status) == (200, 207, 200)
    assert (up_before, up_after) == (0.0, 1.0)
    assert (end["status"], end["succeeded"]) == ("completed", 1)


async def test_a_batch_that_was_running_when_redis_was_killed_ends_by_itself_after_its_return(
    store: Server, held: tuple[Api, Hold]
) -> None:
    api, hold = held
    store.start(*ALWAYS)
    async with sharing(api, store) as running:
        batch_id = await submit(running.port, envelope(20, "POST"))
        await api.until(1)
        store.kill()
        in_place = await post(running.port, "/batch", b'[{"method": "GET", "path": "/now"}]')
        forwarded = await get(running.port, "/now")
        refused = await post(running.port, "/batch", envelope(1), ASYNC)
        hold.released.set()
        store.start(*ALWAYS)
        await until(lambda: accepts(running.port))
        end = await ended(running.port, batch_id)
        lines = await results(running.port, batch_id)

    posts = [received.target for received in api.received if received.method == "POST"]
    assert (in_place.status, forwarded.status, refused.status) == (207, 200, 503)
    assert (end["status"], end["completed"]) == ("completed", 20)
    assert len(posts) == len(set(posts))  # no unsafe operation was sent twice
    assert len(lines) == 20


async def test_a_batch_that_one_gateway_took_is_told_by_the_other_and_run_once(
    store: Server, held: tuple[Api, Hold]
) -> None:
    api, hold = held
    hold.released.set()
    store.start()
    async with sharing(api, store) as first, sharing(api, store) as second:
        batch_ids = [
            await submit(running.port, envelope(60, "POST", f"/{n}")) for n, running in enumerate((first, second))
        ]
        ends = [await ended(running.port, id_) for running, id_ in zip((second, first), batch_ids, strict=True)]

    assert [(end["status"], end["succeeded"]) for end in ends] == [("completed", 60)] * 2
    assert len(api.targets) == len(set(api.targets)) == 120


async def test_what_one_gateway_has_told_another_does_not_take_back(store: Server, held: tuple[Api, Hold]) -> None:
    api, hold = held
    hold.released.set()
    store.start()
    told: list[int] = []
    async with sharing(api, store) as first, sharing(api, store) as second:
        batch_id = await submit(first.port, envelope(1000, "POST"))
        while not told or told[-1] < 1000:
            told += [(await status(running.port, batch_id))["completed"] for running in (first, second)]

    assert told == sorted(told)
    assert len(set(told)) > 3


async def test_a_redis_that_keeps_nothing_accepts_nothing_unless_told_to(held: tuple[Api, Hold]) -> None:
    api, hold = held
    hold.released.set()
    with tempfile.TemporaryDirectory() as folder:
        store = Server("valkey", Path(folder)).start("--appendonly", "no")
        try:
            async with sharing(api, store) as strict:
                refused = await post(strict.port, "/batch", envelope(1), ASYNC)
            async with gateway(api.url, _KEY, async__ledger=store.url, async__require_durable=False) as lax:
                taken = await post(lax.port, "/batch", envelope(1), ASYNC)
        finally:
            store.kill()

    assert (refused.status, refused.json()["detail"]) == (
        503,
        "Redis keeps nothing over a restart; set appendonly yes",
    )
    assert taken.status == 202


async def test_a_redis_that_lost_what_it_acknowledged_sounds_the_alarm(store: Server, held: tuple[Api, Hold]) -> None:
    api, _ = held
    store.start()
    async with sharing(api, store) as running:
        batch_id = await submit(running.port, envelope(1))
        await api.until(1)
        store.ask("FLUSHALL")
        told = await get(running.port, f"/batch/{batch_id}/results?partial=true")
        losses = await metric(running, "ledger_losses_total")

    assert (told.status, told.slug) == (503, "ledger-unavailable")
    assert losses >= 1
