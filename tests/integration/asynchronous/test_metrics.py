"""What a scrape says about batches on record (EXPERIENCE 9), on each store."""

import hashlib
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from gateway.batch.model import Operation
from gateway.ledger.clock import steady_clock
from gateway.ledger.port import Lease, Ledger, Queue
from gateway.ledger.seal import Sealer
from gateway.ledger.sqlite.store import open_store
from tests.contract.stores import STORES
from tests.fakes.ledgered import submit as put_on_record
from tests.fakes.until import until
from tests.integration.asynchronous.calls import Hold, call, ended, envelope, status, submit
from tests.integration.ledger.servers import Server, ledger_at
from tests.integration.server.api import Api
from tests.integration.server.gateways import Gateway, gateway
from tests.integration.server.wire import get

_KEY = "0123456789abcdef"
_LEASE_MS = 100
Samples = dict[tuple[str, ...], float]


@pytest.fixture(params=["sqlite", *STORES])
def ledger(request: pytest.FixtureRequest) -> Iterator[str]:
    """The URL of an empty ledger."""
    with tempfile.TemporaryDirectory() as name:
        if request.param == "sqlite":
            yield f"sqlite:{name}/ledger.db"
            return
        server = Server(request.param, Path(name)).start()
        try:
            yield server.url
        finally:
            server.kill()


@asynccontextmanager
async def keeping(api: Api, ledger: str) -> AsyncIterator[Gateway]:
    async with gateway(api.url, f"async: {{key: {{value: {_KEY}}}}}", async__ledger=ledger) as running:
        yield running


@asynccontextmanager
async def store_at(ledger: str) -> AsyncIterator[tuple[Ledger, Queue]]:
    """The ledger itself, as another process would open it."""
    if ledger.startswith("sqlite:"):
        file = await open_store(Path(ledger.removeprefix("sqlite:")), now_ms=steady_clock())
        try:
            yield file, file
        finally:
            await file.close()
        return
    async with ledger_at(ledger, timeout_s=5) as shared:
        yield shared, shared


async def scraped(running: Gateway) -> Samples:
    """Every sample by its name and the values of its labels, in the order of their names."""
    page = (await get(running.admin_port, "/metrics")).body.decode()
    return {
        (
            sample.name.removeprefix("batch_gateway_"),
            *(value for _, value in sorted(sample.labels.items())),
        ): sample.value
        for family in text_string_to_metric_families(page)
        for sample in family.samples
    }


async def until_scraped(running: Gateway, name: tuple[str, ...], value: float) -> Samples:
    found: Samples = {}

    async def is_so() -> bool:
        found.update(await scraped(running))
        return found.get(name) == value

    await until(is_so)
    return found


async def test_batches_are_counted_by_state_and_how_long_they_took(ledger: str) -> None:
    async with Api(hold := Hold()) as api, keeping(api, ledger) as running:
        began_s = time.time()
        running_id = await submit(running.port, envelope(400, "POST"))  # four slices: all that a worker runs at once
        await api.until(4)
        waiting_id = await submit(running.port, envelope(1))
        during = await until_scraped(running, ("batches", "accepted"), 1)
        accepted = datetime.fromisoformat((await status(running.port, waiting_id))["createdAt"])
        await call(running.port, "POST", f"/batch/{waiting_id}/cancel")
        hold.released.set()
        await ended(running.port, running_id)
        after = await until_scraped(running, ("batches", "completed"), 1)
        after = await until_scraped(running, ("batch_age_seconds_count", "native"), 2)
        took_s = time.time() - began_s

    assert during["batches", "processing"] == 1
    assert during["oldest_waiting_batch_timestamp_seconds",] == pytest.approx(accepted.timestamp(), abs=0.01)
    assert during["ledger_stored_bytes",] > 0
    assert during["ledger_up",] == 1
    assert (after["batches", "cancelled"], after["batches", "processing"], after["batches", "accepted"]) == (1, 0, 0)
    assert after["oldest_waiting_batch_timestamp_seconds",] == 0
    assert 0 < after["batch_age_seconds_sum", "native"] <= 2 * took_s
    calls = {name[1] for name in after if name[0] == "ledger_call_duration_seconds_count" and after[name]}
    assert {"accept", "view", "command", "health", "lease", "renew", "intend", "record", "sweep"} <= calls


async def test_what_a_lost_worker_leaves_is_counted_as_rescued_and_what_killed_it_as_quarantined(ledger: str) -> None:
    sealer = Sealer(hashlib.sha256(_KEY.encode()).digest())
    async with store_at(ledger) as (callers, workers):
        await put_on_record(callers, sealer, [Operation(str(index), "GET", f"/{index}") for index in range(2)])
        (first,) = await workers.lease("first", most=1, lasts_ms=_LEASE_MS)
        again: list[Lease] = []

        async def is_free() -> bool:
            again.extend(await workers.lease("second", most=1, lasts_ms=_LEASE_MS))
            return bool(again)

        await until(is_free)
        await workers.intend(again[0], [1])

    async with Api() as api, keeping(api, ledger) as running:
        before = await scraped(running)
        await until_scraped(running, ("operations_quarantined_total",), 1)
        after = await until_scraped(running, ("batch_age_seconds_count", "native"), 1)

    assert first.slice == again[0].slice
    assert after["lease_rescues_total",] == 1
    assert before["idempotent_replays_total",] == 0
    assert after["operations_total", "native", "GET", "ok", "_other"] == 1
    assert api.targets == ["/0"]
