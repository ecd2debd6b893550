"""The stores that the suite runs against, each with a way to let time pass and to come back after a crash."""

import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Protocol

import redis

from gateway.ledger.port import Ledger, Queue
from gateway.ledger.redis import RedisLedger
from gateway.ledger.sqlite.store import SqliteStore, open_store
from tests.contract.stores import running
from tests.fakes.until import until_so
from tests.integration.ledger.servers import until_it_works
from tests.integration.ledger.topologies import WITHIN_S, behind_sentinel, cluster, is_whole, knows_replica

START_MS = 1_800_000_000_000


class Store(Ledger, Queue, Protocol):
    """Both faces of one store."""


class World(Protocol):
    """A store and its time. Tests use short times, because some stores have a clock of their own to wait for."""

    store: Store
    ends: list[tuple[str, float]]
    """What the store told of batches that ended: dialect and age in seconds."""

    async def later(self, ms: int) -> None:
        """Let so much time pass for the store."""
        ...


class Clock:
    """A clock that only a test moves."""

    def __init__(self) -> None:
        self.ms = START_MS

    def __call__(self) -> int:
        return self.ms


class SqliteWorld:
    """SQLite under a clock of the test's; `file` is None for a store in memory."""

    def __init__(self, store: SqliteStore, clock: Clock, ends: list[tuple[str, float]]) -> None:
        self.store: Store = store
        self.clock = clock
        self.ends = ends

    async def later(self, ms: int) -> None:
        self.clock.ms += ms


@asynccontextmanager
async def sqlite_world(file: Path | None) -> AsyncIterator[SqliteWorld]:
    clock = Clock()
    ends: list[tuple[str, float]] = []
    store = await open_store(file, now_ms=clock, scrub_every_ms=0, on_end=lambda *told: ends.append(told))
    try:
        yield SqliteWorld(store, clock, ends)
    finally:
        await store.close()


def _sqlite_file(folder: Path) -> AbstractAsyncContextManager[World]:
    return sqlite_world(folder / "ledger.db")


def _sqlite_memory(folder: Path) -> AbstractAsyncContextManager[World]:
    return sqlite_world(None)


class RedisWorld:
    """Redis or Valkey, whose clock is its own: time passes by waiting."""

    def __init__(self, ledger: RedisLedger, client: "redis.Redis", ends: list[tuple[str, float]]) -> None:
        self.store: Store = ledger
        self.ends = ends
        self._ledger = ledger
        self._client = client

    async def later(self, ms: int) -> None:
        until_ms = self._now_ms() + ms
        await until_so(lambda: self._now_ms() >= until_ms, ms / 1000 + WITHIN_S)

    @property
    def may_lease(self) -> bool:
        """Not for a few seconds after a server was replaced."""
        return self._ledger.may_lease

    def _now_ms(self) -> int:
        seconds, microseconds = self._client.time()
        return seconds * 1000 + microseconds // 1000


@asynccontextmanager
async def redis_world(url: str, node: str) -> AsyncIterator[RedisWorld]:
    """A ledger at `url`, and the time of `node`."""
    lost: list[str] = []
    ends: list[tuple[str, float]] = []
    ledger = RedisLedger(url, went_back=lost.append, on_end=lambda *told: ends.append(told))
    try:
        with redis.Redis.from_url(node) as client:
            yield RedisWorld(ledger, client, ends)
    finally:
        await ledger.close()
    assert lost == []


@asynccontextmanager
async def one_server(store: str) -> AsyncIterator[RedisWorld]:
    with tempfile.TemporaryDirectory() as folder, running(store, Path(folder)) as (_, url):
        async with redis_world(url, url) as world:
            yield world


@asynccontextmanager
async def cluster_of_three(store: str) -> AsyncIterator[RedisWorld]:
    with cluster(store) as nodes:
        await until_so(lambda: is_whole(nodes), WITHIN_S)
        async with redis_world(f"redis+cluster://127.0.0.1:{nodes[0].port}", nodes[0].url) as world:
            yield world


@asynccontextmanager
async def after_a_failover(store: str) -> AsyncIterator[RedisWorld]:
    """The ledger has known the primary, which is gone, and works on what was its replica."""
    with behind_sentinel(store) as (primary, replica, url):
        await until_so(lambda: knows_replica(url), WITHIN_S)
        async with redis_world(url, replica.url) as world:
            await world.store.health()
            primary.kill()
            await until_it_works(world.store.health, WITHIN_S)
            await until_so(lambda: world.may_lease, WITHIN_S)
            yield world


def _redis(folder: Path) -> AbstractAsyncContextManager[World]:
    del folder  # too long a path for a socket
    return one_server("redis")


def _valkey(folder: Path) -> AbstractAsyncContextManager[World]:
    del folder
    return one_server("valkey")


def _cluster(folder: Path) -> AbstractAsyncContextManager[World]:
    del folder
    return cluster_of_three("redis")


def _failed_over(folder: Path) -> AbstractAsyncContextManager[World]:
    del folder
    return after_a_failover("redis")


WORLDS: dict[str, Callable[[Path], AbstractAsyncContextManager[World]]] = {
    "sqlite-file": _sqlite_file,
    "sqlite-memory": _sqlite_memory,
    "redis": _redis,
    "valkey": _valkey,
}
TOPOLOGIES: dict[str, Callable[[Path], AbstractAsyncContextManager[World]]] = {
    "redis-cluster": _cluster,
    "redis-failed-over": _failed_over,
}
"""Of several servers: some seconds for each test."""
