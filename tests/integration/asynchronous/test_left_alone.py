"""What SDKs would repeat by themselves and must not: every row of PROMISES 6 with a dagger, and one that has none."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from tests.integration.asynchronous.calls import Hold, call, ended, envelope, keeping, submit
from tests.integration.server.api import Api
from tests.integration.server.gateways import Gateway, gateway
from tests.integration.server.wire import Answer, get, post


async def _too_late(api: Api, _: Gateway) -> Answer:
    api.on("/items/0", Hold())
    async with gateway(api.url, batch__sync_timeout="100ms") as without_ledger:
        return await post(without_ledger.port, "/batch", envelope(1))


async def _read_too_early(api: Api, plain: Gateway) -> Answer:
    batch_id = await submit(plain.port, envelope(1, notBefore=60))
    return await get(plain.port, f"/batch/{batch_id}/results")


async def _cancel_what_has_ended(api: Api, plain: Gateway) -> Answer:
    batch_id = await submit(plain.port, envelope(1))
    await ended(plain.port, batch_id)
    return await post(plain.port, f"/batch/{batch_id}/cancel", b"")


async def _retry_what_succeeded(api: Api, plain: Gateway) -> Answer:
    batch_id = await submit(plain.port, envelope(1))
    await ended(plain.port, batch_id)
    return await post(plain.port, f"/batch/{batch_id}/retry", b"")


async def _delete_what_runs(api: Api, plain: Gateway) -> Answer:
    return await call(plain.port, "DELETE", f"/batch/{await submit(plain.port, envelope(1, notBefore=60))}")


async def _retry_what_runs(api: Api, plain: Gateway) -> Answer:
    return await post(plain.port, f"/batch/{await submit(plain.port, envelope(1, notBefore=60))}/retry", b"")


@pytest.mark.parametrize(
    ("provoke", "status", "slug"),
    [
        (_too_late, 408, "batch-deadline"),
        (_read_too_early, 409, "results-not-ready"),
        (_cancel_what_has_ended, 409, "batch-terminal"),
        (_retry_what_succeeded, 409, "batch-terminal"),
        (_delete_what_runs, 409, "batch-running"),
        (_retry_what_runs, 409, "batch-running"),
    ],
)
async def test_what_a_repeat_cannot_mend_says_so(
    api: Api, plain: Gateway, provoke: Callable[[Api, Gateway], Awaitable[Answer]], status: int, slug: str
) -> None:
    refused = await provoke(api, plain)

    assert (refused.status, refused.slug) == (status, slug)
    assert refused.headers("x-should-retry") == ["false"]


async def test_an_envelope_that_is_on_its_way_may_be_asked_for_again(api: Api, tmp_path: Path) -> None:
    api.on("/items/0", hold := Hold())
    key = ("Idempotency-Key", "k")
    async with keeping(api.url, tmp_path) as running:
        first = asyncio.create_task(post(running.port, "/batch", envelope(1), key))
        await api.until(1)
        busy = await post(running.port, "/batch", envelope(1), key)
        hold.released.set()
        await first

    assert (busy.status, busy.slug) == (409, "idempotency-in-progress")
    assert busy.headers("x-should-retry") == []
