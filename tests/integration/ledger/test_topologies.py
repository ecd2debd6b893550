"""The ledger on a cluster of three nodes, and behind a Sentinel that fails over."""

import asyncio
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import redis

from gateway.ledger.port import Lease, LedgerUnavailableError, View
from gateway.ledger.redis import RedisLedger
from gateway.limiter.bucket import Bucket
from gateway.limiter.port import LimiterUnavailableError
from gateway.limiter.redis import RedisLimiter
from gateway.redis_client import connect
from gateway.replay.redis import RedisKeys
from tests.contract.stores import STORES, binary, spawn
from tests.fakes.ports import free_port
from tests.integration.ledger.servers import Server, batch, ledger_at, part, until_it_works

WITHIN_S = 15.0
SLOTS = ((0, 5460), (5461, 10922), (10923, 16383))
BATCHES = 12  # enough to meet every node


async def until(holds: Callable[[], bool]) -> None:
    until_s = time.monotonic() + WITHIN_S
    while not holds():
        assert time.monotonic() < until_s
        await asyncio.sleep(0.05)


@contextmanager
def cluster(store: str) -> Iterator[list[Server]]:
    with tempfile.TemporaryDirectory() as folder:
        nodes = [Server(store, Path(folder) / str(i)) for i in range(len(SLOTS))]
        buses = [free_port() for _ in nodes]
        try:
            for node, bus in zip(nodes, buses, strict=True):
                node.start(*clustered(bus))
            for node, slots in zip(nodes, SLOTS, strict=True):
                node.ask("CLUSTER", "ADDSLOTSRANGE", *slots)
            for node, bus in zip(nodes[1:], buses[1:], strict=True):
                nodes[0].ask("CLUSTER", "MEET", "127.0.0.1", node.port, bus)
            yield nodes
        finally:
            for node in nodes:
                node.kill()


def clustered(bus: int) -> tuple[str, ...]:
    return "--cluster-enabled", "yes", "--cluster-port", str(bus), "--cluster-node-timeout", "2000"


def is_whole(nodes: list[Server]) -> bool:
    told = [cluster_info(node) for node in nodes]
    return all("cluster_state:ok" in each and "cluster_known_nodes:3" in each for each in told)


def cluster_info(node: Server) -> str:
    with redis.Redis.from_url(node.url, decode_responses=True) as client:
        found = client.execute_command("CLUSTER INFO")
    return "\n".join(f"{name}:{value}" for name, value in found.items())


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
        await until(lambda: is_whole(nodes))
        store = ledger_at(f"redis+cluster://127.0.0.1:{nodes[1].port},127.0.0.1:{nodes[0].port}", timeout_s=5)
        for i in range(BATCHES):
            await store.accept(batch(f"batch-{i}"))

        await run_all(store)
        await store.sweep()

        ended = await store.browse("ada", limit=100, after=None, state="completed")
        homes = {i for i, node in enumerate(nodes) if any("batch-" in key for key in all_keys(node))}
        assert [view.succeeded for view in ended] == [4] * BATCHES
        assert homes == {0, 1, 2}
        assert (await store.health())["batches_completed"] == BATCHES
        await store.close()


def all_keys(node: Server) -> list[str]:
    with redis.Redis.from_url(node.url, decode_responses=True) as client:
        return [str(key) for key in client.scan_iter(count=1000)]


async def views(store: RedisLedger) -> list[View | None]:
    return [await store.view(f"batch-{i}") for i in range(BATCHES)]


async def test_a_cluster_that_lost_a_node_says_so_and_goes_on_when_it_is_back() -> None:
    with cluster("redis") as nodes:
        await until(lambda: is_whole(nodes))
        store = ledger_at(f"redis+cluster://127.0.0.1:{nodes[0].port}", timeout_s=2)
        for i in range(BATCHES):
            await store.accept(batch(f"batch-{i}"))
        nodes[2].kill()

        with pytest.raises(LedgerUnavailableError):
            await views(store)
        nodes[2].start(*clustered(free_port()))

        found, _ = await until_it_works(lambda: views(store), WITHIN_S)
        assert None not in found
        await store.close()


async def test_a_batch_that_the_index_lost_is_found_again() -> None:
    with cluster("redis") as nodes:
        await until(lambda: is_whole(nodes))
        store = ledger_at(f"redis+cluster://127.0.0.1:{nodes[0].port}", timeout_s=5)
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
        await store.close()


@contextmanager
def behind_sentinel(kind: str) -> Iterator[tuple[Server, Server, str]]:
    """A primary, its replica, and the URL of a service that one sentinel watches."""
    with tempfile.TemporaryDirectory() as folder:
        primary, replica = (Server(kind, Path(folder) / name) for name in ("primary", "replica"))
        watched = Path(folder) / "sentinel.conf"
        port = free_port()
        sentinel: subprocess.Popen[bytes] | None = None
        try:
            primary.start("--repl-diskless-sync-delay", "0")
            replica.start("--replicaof", f"127.0.0.1 {primary.port}")
            watched.write_text(
                f"port {port}\nbind 127.0.0.1\ndir {folder}\nlogfile {folder}/sentinel.log\n"
                f"sentinel monitor ledger 127.0.0.1 {primary.port} 1\n"
                "sentinel down-after-milliseconds ledger 1000\nsentinel failover-timeout ledger 3000\n"
            )
            sentinel = spawn(binary(kind), str(watched), "--sentinel")
            yield primary, replica, f"redis+sentinel://127.0.0.1:{port}/ledger"
        finally:
            for server in (primary, replica):
                server.kill()
            if sentinel is not None:
                sentinel.kill()
                sentinel.wait(10)


def knows_replica(url: str) -> bool:
    port = int(url.split(":")[2].split("/")[0])
    with suppress(redis.RedisError), redis.Redis(port=port, decode_responses=True) as client:
        return len(client.sentinel_slaves("ledger")) == 1
    return False


@pytest.mark.parametrize("kind", STORES)
async def test_work_goes_on_after_a_failover(kind: str) -> None:
    with behind_sentinel(kind) as (primary, replica, url):
        await until(lambda: knows_replica(url))
        store = ledger_at(url)
        await store.accept(batch("before"))
        await until(lambda: "{bg:before}:meta" in all_keys(replica))
        primary.kill()

        _, waited_s = await until_it_works(lambda: store.accept(batch("after")), WITHIN_S)
        await until(lambda: store.may_lease)
        leases = await run_all(store)

        assert waited_s < WITHIN_S
        assert {lease.batch for lease in leases} == {"before", "after"}
        await store.close()


@pytest.mark.parametrize("kind", STORES)
async def test_a_failover_that_lost_acknowledged_changes_is_noticed_and_its_intents_put_back(kind: str) -> None:
    with behind_sentinel(kind) as (primary, replica, url):
        await until(lambda: knows_replica(url))
        lost: list[str] = []
        store = ledger_at(url, lost)
        await store.accept(batch("before", slices=1, size=4))
        await until(lambda: "{bg:before}:meta" in all_keys(replica))
        replica.ask("REPLICAOF", "127.0.0.1", 1)  # cut off: what follows stays with the primary
        [lease] = await store.lease("worker", most=1, lasts_ms=1000)
        await store.intend(lease, [1, 2])
        primary.kill()
        replica.ask("REPLICAOF", "NO", "ONE")

        at_new = ledger_at(replica.url)
        await until_it_works(store.health, WITHIN_S)
        await until(lambda: store.may_lease)
        [again] = await at_new.lease("another", most=1, lasts_ms=1000)

        assert lost == ["before"]
        assert list(again.in_doubt) == [1, 2]
        assert again.epoch > lease.epoch
        await store.close()
        await at_new.close()


async def test_a_cluster_that_is_not_whole_is_a_store_that_is_away() -> None:
    with tempfile.TemporaryDirectory() as folder:
        node = Server("redis", Path(folder))
        node.start(*clustered(free_port()))
        url = f"redis+cluster://127.0.0.1:{node.port}"
        ledger, keys = ledger_at(url, timeout_s=2), RedisKeys(url)
        limiter = RedisLimiter(connect(url, timeout_s=2, connections_max=2), timeout_s=2)
        try:
            with pytest.raises(LedgerUnavailableError):
                await ledger.view("batch-0")
            with pytest.raises(LedgerUnavailableError):
                await keys.sweep()
            with pytest.raises(LimiterUnavailableError):
                await limiter.look([(Bucket("all", 1, 1_000_000, 1), "")])
        finally:
            await ledger.close()
            await keys.close()
            await limiter.close()
            node.kill()
