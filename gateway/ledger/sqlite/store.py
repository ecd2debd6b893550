"""The port's two faces on one SQLite file: one thread writes, another reads."""

import asyncio
import os
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from gateway.batch.states import State
from gateway.ledger.port import Command, Lease, NewBatch, OnEnd, Part, Swept, View, on_end_ignored
from gateway.ledger.sqlite import life, reading, work
from gateway.ledger.sqlite.committer import Committer
from gateway.ledger.sqlite.opening import Opened, connect, open_file, open_memory, raise_epoch
from gateway.ledger.state_folder import StateFolderError

_BITES = 20  # transactions in which one sweep removes large bytes, so that others get between them
_BITE_ROWS = 50
_CLOCK_EVERY_MS = 10_000
_LEASE_PATIENCE_S, _RECORD_PATIENCE_S = 0.002, 0.005  # so that slices that end one after the other share a COMMIT


async def open_store(
    file: Path | None,
    *,
    now_ms: Callable[[], int],
    waiting_max: int = 10_000,
    scrub_every_ms: int = 10_000,
    on_end: OnEnd = on_end_ignored,
) -> "SqliteStore":
    """Open the ledger in `file`, in memory where that is None. Raises `StateFolderError`.

    `now_ms` is a clock since 1970 that never jumps (`gateway.ledger.clock`); it is called from another thread. Above
    `waiting_max` waiting calls, further ones are refused. What was erased is gone from the disk `scrub_every_ms` later.
    """
    opened = open_memory(now_ms) if file is None else await asyncio.to_thread(open_file, file, now_ms)
    return SqliteStore(opened, waiting_max, scrub_every_ms, on_end)


class SqliteStore:
    """A `Ledger` and a `Queue`. Use `open_store`."""

    def __init__(self, opened: Opened, waiting_max: int, scrub_every_ms: int, on_end: OnEnd) -> None:
        self._opened = opened
        self._on_end = on_end
        self._now_ms = opened.now_ms
        self._scrub_every_ms = scrub_every_ms
        self._scrubbed_ms = opened.now_ms()
        self._erased = True  # perhaps by the process before
        self._rescued = 0  # by leases since the last sweep
        self._news = asyncio.Event()
        self._writer = Committer(opened.writer, begin="BEGIN IMMEDIATE", name="ledger-writer", waiting_max=waiting_max)
        self._reader = (
            self._writer
            if opened.reader is None
            else Committer(opened.reader, begin="BEGIN", name="ledger-reader", waiting_max=waiting_max)
        )

    # The callers' face.

    async def accept(self, batch: NewBatch) -> View:
        accepted = await self._writer.do(lambda db: life.accept(db, self._now_ms(), batch))
        self._news.set()
        return accepted

    async def view(self, batch_id: str) -> View | None:
        return await self._reader.do(lambda db: reading.view(db, batch_id))

    async def browse(self, owner: str, *, limit: int, after: str | None, state: State | None) -> Sequence[View]:
        return await self._reader.do(lambda db: reading.browse(db, owner, limit, after, state))

    async def parts(self, batch_id: str, *, after: int, limit: int) -> Sequence[Part]:
        return await self._reader.do(lambda db: reading.parts(db, batch_id, after, limit))

    async def operations(self, batch_id: str, slice_: int) -> bytes | None:
        return await self._reader.do(lambda db: reading.operations(db, batch_id, slice_))

    async def command(self, batch_id: str, command: Command) -> View | None:
        view = await self._writer.do(lambda db: life.command(db, self._now_ms(), batch_id, command))
        self._erased = True
        self._news.set()
        return view

    async def health(self) -> Mapping[str, float]:
        found = await self._reader.do(lambda db: reading.health(db, self._now_ms()))
        return {**found, "capacity_bytes": self._room_bytes(found["stored_bytes"])}

    def _room_bytes(self, stored_bytes: float) -> float:
        if self._opened.folder is None:
            return 0
        disk = os.statvfs(self._opened.folder.file.parent)
        return stored_bytes + disk.f_bavail * disk.f_frsize

    async def close(self) -> None:
        await self._writer.close()
        if self._reader is not self._writer:
            await self._reader.close()
        await asyncio.to_thread(_close, self._opened, self._now_ms())

    # The workers' face.

    async def lease(self, worker: str, *, most: int, lasts_ms: int) -> Sequence[Lease]:
        leases, rescued = await self._writer.do(
            lambda db: work.lease(db, self._now_ms(), most, lasts_ms), _LEASE_PATIENCE_S
        )
        self._rescued += rescued
        return leases

    async def renew(self, leases: Sequence[Lease], *, lasts_ms: int) -> Sequence[bool]:
        return await self._writer.do(lambda db: work.renew(db, self._now_ms(), leases, lasts_ms))

    async def intend(self, lease: Lease, indexes: Sequence[int]) -> None:
        await self._writer.do(lambda db: work.intend(db, lease, indexes))

    async def record(
        self,
        lease: Lease,
        part: Part | None,
        *,
        ends: bool,
        again_after_ms: int | None = None,
        retracts: Sequence[int] = (),
        tries: int | None = None,
    ) -> None:
        outcome = work.Recording(lease, part, ends, again_after_ms, retracts, tries)
        await self._writer.do(lambda db: work.record(db, self._now_ms(), outcome), _RECORD_PATIENCE_S)
        if ends:
            self._erased = True
            self._news.set()

    async def sweep(self) -> Swept:
        swept, ended = await self._writer.do(lambda db: self._swept(db))
        for dialect, age_ms in ended:
            self._on_end(dialect, age_ms / 1000)
        rescued, self._rescued = self._rescued, 0
        removed = 0
        while removed < _BITES and await self._writer.do(lambda db: life.remove_rubbish(db, _BITE_ROWS)):
            removed += 1
        self._erased = self._erased or removed > 0 or swept.expired > 0
        if swept.rescued:
            self._news.set()
        await self._scrub()
        return Swept(swept.expired, swept.rescued + rescued, swept.forgotten)

    def _swept(self, db: sqlite3.Connection) -> tuple[Swept, Sequence[tuple[str, int]]]:
        now_ms = self._now_ms()
        db.execute(
            "UPDATE marks SET value = ? WHERE name = 'clock_ms' AND value <= ?"
            " AND EXISTS (SELECT 1 FROM batches WHERE ended_ms IS NULL)",
            (now_ms, now_ms - _CLOCK_EVERY_MS),
        )
        swept = work.sweep(db, now_ms)
        return swept, db.execute("DELETE FROM temp.ended RETURNING dialect, age_ms").fetchall()

    async def wait(self, timeout_s: float) -> None:
        """News that came since the last wait count; those of another process cannot be."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._news.wait()
        except TimeoutError:
            return
        self._news.clear()

    async def _scrub(self) -> None:
        """Move the WAL into the file and empty it: erased bytes lie in it, and behind it in the file, until then."""
        folder = self._opened.folder
        now_ms = self._now_ms()
        if folder is None or not self._erased or now_ms - self._scrubbed_ms < self._scrub_every_ms:
            return
        self._erased, self._scrubbed_ms = False, now_ms
        self._erased = not await asyncio.to_thread(_truncated, str(folder.file)) or self._erased


def _truncated(file: str) -> bool:
    """Whether the WAL is empty now. A connection of its own, because the others are always in a transaction."""
    try:
        connection = connect(file)
    except sqlite3.Error:
        return False
    try:
        connection.execute("PRAGMA wal_checkpoint(PASSIVE)")  # the long half, which holds nobody up
        busy: int = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
    except sqlite3.Error:  # a full disk: every other call says so as well, and the next sweep tries again
        return False
    finally:
        connection.close()
    return busy == 0


def _close(opened: Opened, now_ms: int) -> None:
    """End in order: a copy of the file that was taken while it was in use is older than what is left."""
    if opened.reader is not None:
        opened.reader.close()
    if opened.folder is not None:
        with suppress(sqlite3.Error, StateFolderError):  # a full disk: the next start finds an end like a crash
            opened.writer.execute("UPDATE marks SET value = ? WHERE name = 'clock_ms'", (now_ms,))
            raise_epoch(opened.writer, opened.folder, opened.epoch + 1)
    opened.writer.close()
    if opened.folder is not None:
        opened.folder.release()
