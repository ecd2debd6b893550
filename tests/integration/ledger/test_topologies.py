"""The ledger on a cluster of three nodes, and behind a Sentinel that fails over."""

import tempfile
from pathlib import Path

import pytest

from gateway.ledger.port import Lease, LedgerUnavailableError, View
from gateway.ledger.redis import RedisLedger
from gateway.limiter.bucket import Bucket
from gateway.limiter.port import LimiterUnavailableError
from gateway.limiter.redis import RedisLimiter
from gateway.redis_client import connect
from gateway.replay.redis import RedisKeys
from tests.contract.stores import STORES
from tests.fakes.ports import free_port
from tests.fakes.until import until_so
from tests.integration.ledger.servers import ALWAYS, Server, batch, ledger_at, part, until_it_works
from tests.integration.ledger.topologies import (
    WITHIN_S,
    all_keys,
    behind_sentinel,
    cluster,
    clustered,
    is_whole,
    knows_replica,
)

BATCHES = 12  # enough to meet every node


async def run_all(store: RedisLedger) -> list[Lease]:
    done: list[Lease] = []
    while leases := await store.lease("worker", most=4, lasts_ms=15_000):
        for lease in leases:
            indexes = range(lease.first, lease.first + lease.count)
            await store.intend(lease, indexes)
            await store.record(lease, part(lease.slice, indexes), ends=True)
        done += leases
    return done


@pytest.mark.parametrize("kind", STORES)
async def test_batches_live_on_every_node_of_a_cluster(kind: str) -> None:
    with cluster(kind) as nodes:
        await until_so(lambda: is_whole(nodes), WITHIN_S)
        url = f"redis+cluster://127.0.0.1:{nodes[1].port},127.0.0.1:{nodes[0].port}"
        async with ledger_at(url, timeout_s=5) as store:
            for i in range(BATCHES):
                await store.accept(batch(f"batch-{i}"))

            await run_all(store)
            await store.sweep()

            ended = await store.browse("ada", limit=100, after=None, state="completed")
            homes = {i for i, node in enumerate(nodes) if any("batch-" in key for key in all_keys(node))}
            assert [view.succeeded for view in ended] == [4] * BATCHES
            assert homes == {0, 1, 2}
            assert (await store.health())["batches_completed"] == BATCHES


async def views(store: RedisLedger) -> list[View | None]:
    return [await store.view(f"batch-{i}") for i in range(BATCHES)]


async def test_a_cluster_that_lost_a_node_says_so_and_goes_on_when_it_is_back() -> None:
    with cluster("redis", *ALWAYS) as nodes:
        await until_so(lambda: is_whole(nodes), WITHIN_S)
        async with ledger_at(f"redis+cluster://127.0.0.1:{nodes[0].port}", timeout_s=2) as store:
            for i in range(BATCHES):
                await store.accept(batch(f"batch-{i}"))
            nodes[2].kill()

            with pytest.raises(LedgerUnavailableError):
                await views(store)
            nodes[2].start(*clustered(free_port()))

            found, _ = await until_it_works(lambda: views(store), WITHIN_S)
            assert None not in found


async def test_a_batch_that_the_index_lost_is_found_again() -> None:
    with cluster("redis") as nodes:
        await until_so(lambda: is_whole(nodes), WITHIN_S)
        async with ledger_at(f"redis+cluster://127.0.0.1:{nodes[0].port}", timeout_s=5) as store:
            for i in range(BATCHES):
                await store.accept(batch(f"batch-{i}"))
            for node in nodes:
                for key in all_keys(node):
                    if "{bg:index}" in key:
                        node.ask("DEL", key)
            assert await store.lease("worker", most=1, lasts_ms=15_000) == []

            for _ in nodes:
                await store.sweep()

            assert len({lease.batch for lease in await run_all(store)}) == BATCHES


@pytest.mark.parametrize("kind", STORES)
async def test_work_goes_on_after_a_failover(kind: str) -> None:
    with behind_sentinel(kind) as (primary, replica, url):
        await until_so(lambda: knows_replica(url), WITHIN_S)
        async with ledger_at(url) as store:
            await store.accept(batch("before"))
            await until_so(lambda: "{bg:before}:meta" in all_keys(replica), WITHIN_S)
            primary.kill()

            _, waited_s = await until_it_works(lambda: store.accept(batch("after")), WITHIN_S)
            await until_so(lambda: store.may_lease, WITHIN_S)
            leases = await run_all(store)

            assert waited_s < WITHIN_S
            assert {lease.batch for lease in leases} == {"before", "after"}


@pytest.mark.parametrize("kind", STORES)
async def test_a_failover_that_lost_acknowledged_changes_is_noticed_and_its_intents_put_back(kind: str) -> None:
    with behind_sentinel(kind) as (primary, replica, url):
        await until_so(lambda: knows_replica(url), WITHIN_S)
        lost: list[str] = []
        async with ledger_at(url, lost) as store, ledger_at(replica.url) as at_new:
            await store.accept(batch("before", slices=1, size=4))
            await until_so(lambda: "{bg:before}:meta" in all_keys(replica), WITHIN_S)
            replica.ask("REPLICAOF", "127.0.0.1", 1)  # cut off: what follows stays with the primary
            [lease] = await store.lease("worker", most=1, lasts_ms=1000)
            await store.intend(lease, [1, 2])
            primary.kill()
            replica.ask("REPLICAOF", "NO", "ONE")

            await until_it_works(store.health, WITHIN_S)
            await until_so(lambda: store.may_lease, WITHIN_S)
            [again] = await at_new.lease("another", most=1, lasts_ms=1000)

            assert lost == ["before"]
            assert list(again.in_doubt) == [1, 2]
            assert again.epoch > lease.epoch


async def test_a_cluster_that_is_not_whole_is_a_store_that_is_away() -> None:
    with tempfile.TemporaryDirectory() as folder:
        node = Server("redis", Path(folder))
        node.start(*clustered(free_port()))
        url = f"redis+cluster://127.0.0.1:{node.port}"
        keys, limiter = RedisKeys(url), RedisLimiter(connect(url, timeout_s=2, connections_max=2), timeout_s=2)
        try:
            async with ledger_at(url) as ledger:
                with pytest.raises(LedgerUnavailableError):
                    await ledger.view("batch-0")
            with pytest.raises(LedgerUnavailableError):
                await keys.sweep()
            with pytest.raises(LimiterUnavailableError):
                await limiter.look([(Bucket("all", 1, 1_000_000, 1), "")])
        finally:
            await keys.close()
            await limiter.close()
            node.kill()
