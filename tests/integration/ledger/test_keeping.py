"""No key outlives its batch (PROMISES L6), and what is deleted or over is gone."""

import asyncio
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import redis

from gateway.ledger.port import LedgerUnavailableError
from gateway.ledger.redis import RedisLedger
from tests.contract.stores import STORES, running
from tests.integration.ledger.servers import batch, ledger_at, part, server

LONGEST_MS = 2 * 86_400_000 + 3_600_000  # its life, its keeping, and the mark of what was deleted


@pytest.fixture(params=STORES)
async def both(request: pytest.FixtureRequest) -> AsyncIterator[tuple[RedisLedger, "redis.Redis"]]:
    with (
        tempfile.TemporaryDirectory() as folder,
        running(request.param, Path(folder)) as (_, url),
        redis.Redis.from_url(url, decode_responses=True) as client,
    ):
        async with ledger_at(url) as ledger:
            yield ledger, client


def endless(client: "redis.Redis") -> list[str]:
    return [key for key in client.scan_iter(count=1000) if not 0 < int(str(client.pttl(key))) <= LONGEST_MS]


async def test_every_key_has_an_end_of_life_at_every_step(both: tuple[RedisLedger, "redis.Redis"]) -> None:
    ledger, client = both
    found = []
    await ledger.accept(batch(slices=3))
    found += endless(client)
    first, second = await ledger.lease("worker", most=2, lasts_ms=15_000)
    found += endless(client)
    await ledger.intend(first, [0])
    found += endless(client)
    await ledger.record(second, part(1, [2]), ends=True)
    found += endless(client)
    await ledger.record(first, part(0, [0, 1]), ends=True, retracts=[0])
    found += endless(client)
    await ledger.command("b1", "cancel")
    found += endless(client)
    await ledger.sweep()

    assert found + endless(client) == []
    assert len(list(client.scan_iter())) > 5


async def test_a_deleted_batch_leaves_only_a_mark(both: tuple[RedisLedger, "redis.Redis"]) -> None:
    ledger, client = both
    await ledger.accept(batch())
    await ledger.command("b1", "cancel")

    await ledger.command("b1", "delete")

    assert [key for key in client.scan_iter() if "b1" in key] == ["{bg:b1}:meta"]
    assert client.hgetall("{bg:b1}:meta").keys() == {"state", "seq"}
    assert not any("b1" in str(entry) for entry in client.zrange("{bg:index}:due", 0, -1))
    assert await ledger.view("b1") is None


async def test_a_batch_that_is_looked_at_while_it_moves_on_has_lost_nothing() -> None:
    lost: list[str] = []
    with server("valkey") as running:
        async with ledger_at(running.url, lost, timeout_s=10.0) as ledger:
            await ledger.accept(batch(slices=100, size=1))

            async def work() -> None:
                for lease in await ledger.lease("worker", most=100, lasts_ms=60_000):
                    await ledger.intend(lease, [lease.first])
                    await ledger.record(lease, part(lease.slice, [lease.first]), ends=True)

            working = [asyncio.create_task(work()) for _ in range(2)]
            looks = 0
            while not all(task.done() for task in working):
                await asyncio.gather(*(ledger.view("b1") for _ in range(8)))
                looks += 8
            await asyncio.gather(*working)

        assert lost == []
        assert looks >= 8


async def test_what_a_store_has_forgotten_was_announced_is_unknown_where_the_batch_has_ended_meanwhile() -> None:
    lost: list[str] = []
    with server("redis") as running, redis.Redis.from_url(running.url) as client:
        async with ledger_at(running.url, lost) as ledger, ledger_at(running.url) as other:
            await ledger.accept(batch(slices=1, size=4))
            before = {key: client.dump(key) for key in client.scan_iter("{bg:b1}:*")}
            [lease] = await ledger.lease("worker", most=1, lasts_ms=15_000)
            for index in (0, 2, 3):
                await ledger.intend(lease, [index])
            client.delete(*client.scan_iter("{bg:b1}:*"))
            for key, dumped in before.items():
                client.restore(key, LONGEST_MS, dumped)
            await other.command("b1", "cancel")
            with pytest.raises(LedgerUnavailableError, match="lost acknowledged changes"):
                await ledger.view("b1")
            view = await ledger.view("b1")

    assert lost == ["b1"]
    assert view is not None
    assert (view.state, view.completed, view.unknown) == ("cancelled", 3, 3)
