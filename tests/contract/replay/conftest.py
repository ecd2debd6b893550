"""One store of keys after the other, each with a way to let time pass."""

import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Protocol

import pytest
import redis

from gateway.replay.port import Keys
from gateway.replay.redis import RedisKeys
from gateway.replay.sqlite import open_keys
from tests.contract.stores import STORES, running
from tests.fakes.until import until_so


class World(Protocol):
    """A store and its time; tests use short times, because servers have clocks of their own to wait for."""

    keys: Keys

    async def later(self, ms: int) -> None: ...


class SqliteWorld:
    def __init__(self) -> None:
        self.ms = 1_800_000_000_000
        self.keys: Keys

    async def later(self, ms: int) -> None:
        self.ms += ms


class RedisWorld:
    def __init__(self, url: str) -> None:
        self.keys: Keys = RedisKeys(url)
        self.client = redis.Redis.from_url(url)

    async def later(self, ms: int) -> None:
        until_ms = self._now_ms() + ms
        await until_so(lambda: self._now_ms() >= until_ms, ms / 1000 + 10)

    def _now_ms(self) -> int:
        seconds, microseconds = self.client.time()
        return int(seconds) * 1000 + int(microseconds) // 1000


@pytest.fixture(params=["file", "memory", *STORES], scope="module")
def kind(request: pytest.FixtureRequest) -> Iterator[str]:
    if request.param not in STORES:
        yield request.param
        return
    with tempfile.TemporaryDirectory() as folder, running(request.param, Path(folder)) as (_, url):
        yield url


@pytest.fixture
async def world(kind: str, tmp_path: Path) -> AsyncIterator[World]:
    if kind in ("file", "memory"):
        found = SqliteWorld()
        found.keys = await open_keys(tmp_path / "replay.db" if kind == "file" else None, lambda: found.ms)
        yield found
        await found.keys.close()
        return
    shared = RedisWorld(kind)
    shared.client.flushall()
    yield shared
    shared.client.close()
    await shared.keys.close()


@pytest.fixture
def keys(world: World) -> Keys:
    return world.keys
