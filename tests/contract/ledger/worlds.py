"""The stores that the suite runs against, each with a way to let time pass and to come back after a crash."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Protocol

from gateway.ledger.port import Ledger, Queue
from gateway.ledger.sqlite.store import SqliteStore, open_store

START_MS = 1_800_000_000_000


class Store(Ledger, Queue, Protocol):
    """Both faces of one store."""


class World(Protocol):
    """A store and its time. Tests use short times, because some stores have a clock of their own to wait for."""

    store: Store

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

    def __init__(self, store: SqliteStore, clock: Clock) -> None:
        self.store: Store = store
        self.clock = clock

    async def later(self, ms: int) -> None:
        self.clock.ms += ms


@asynccontextmanager
async def sqlite_world(file: Path | None) -> AsyncIterator[SqliteWorld]:
    clock = Clock()
    store = await open_store(file, now_ms=clock, scrub_every_ms=0)
    yield SqliteWorld(store, clock)
    await store.close()


def _sqlite_file(folder: Path) -> AbstractAsyncContextManager[World]:
    return sqlite_world(folder / "ledger.db")


def _sqlite_memory(folder: Path) -> AbstractAsyncContextManager[World]:
    return sqlite_world(None)


WORLDS: dict[str, Callable[[Path], AbstractAsyncContextManager[World]]] = {
    "sqlite-file": _sqlite_file,
    "sqlite-memory": _sqlite_memory,
}
