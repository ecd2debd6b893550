"""A server that goes away when a call has had its effect: what is on record is told, and what was taken is held."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TypeVar

import pytest
from msgspec.structs import replace

from gateway.ledger.port import Begun
from gateway.ledger.redis import RedisLedger
from gateway.ledger.scripts import by_name
from tests.integration.ledger.relay import Relay
from tests.integration.ledger.servers import Server, batch, ledger_at, part

T = TypeVar("T")

_DEADLINE_S = 0.5


@asynccontextmanager
async def both(running: Server) -> AsyncIterator[tuple[Relay, RedisLedger, RedisLedger]]:
    """A relay, the ledger behind it, and the ledger without one."""
    relay = await Relay(running.port).open()
    url = f"redis://127.0.0.1:{relay.port}/0"
    try:
        async with ledger_at(url, timeout_s=_DEADLINE_S) as relayed, ledger_at(running.url) as direct:
            try:
                yield relay, relayed, direct
            finally:
                relay.released.set()
    finally:
        await relay.close()


async def cut_at_the_index(relay: Relay, call: "asyncio.Future[T]") -> T:
    """The answer to `call`, which is cut off where it tells the index what it did."""
    await relay.stopped.wait()
    relay.swallows = True
    return await call


@pytest.mark.parametrize("begun", [None, Begun("worker", [0, 1], 15_000)])
async def test_a_batch_on_record_was_accepted_whatever_the_index_heard_of_it(
    running: Server, begun: Begun | None
) -> None:
    new = replace(batch(slices=3), begun=begun)
    async with both(running) as (relay, relayed, direct):
        relay.stop_at(by_name()["index_note"].digest, before=True)
        told = await cut_at_the_index(relay, asyncio.ensure_future(relayed.accept(new)))
        on_record = await direct.view(new.id)

    assert told == on_record


async def test_what_was_leased_is_held_whatever_the_index_heard_of_it(running: Server) -> None:
    async with both(running) as (relay, relayed, direct):
        await direct.accept(batch(slices=2))
        relay.stop_at(by_name()["index_note"].digest, before=True)
        leases = await cut_at_the_index(relay, asyncio.ensure_future(relayed.lease("worker", most=2, lasts_ms=15_000)))
        for lease in leases:
            indexes = range(lease.first, lease.first + lease.count)
            await direct.record(lease, part(lease.slice, indexes), ends=True)
        view = await direct.view("b1")

    assert [lease.slice for lease in leases] == [0, 1]
    assert view is not None
    assert view.state == "completed"
