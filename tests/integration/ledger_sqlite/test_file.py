"""The file: durable with every commit, refused where it is foreign or older, and free of what was erased."""

import asyncio
import shutil
import sqlite3
from pathlib import Path

import pytest

from gateway.ledger.port import NewBatch
from gateway.ledger.sqlite.opening import open_file, open_memory
from gateway.ledger.sqlite.store import open_store
from gateway.ledger.state_folder import StateFolderError
from tests.contract.ledger.batches import LEASE_MS, new_batch, part, run, run_all, seen, take_one
from tests.contract.ledger.worlds import Clock, sqlite_world

ENDINGS = ("", "-wal", "-shm")
_OF_A_BATCH = ("batches", "slices", "operations", "parts", "rubbish")


def copied(file: Path, to: Path) -> None:
    for ending in ENDINGS:
        source = file.with_name(file.name + ending)
        if source.exists():
            shutil.copy(source, to.with_name(to.name + ending))


def written(file: Path) -> bytes:
    return b"".join(path.read_bytes() for path in file.parent.iterdir())


def test_the_writer_syncs_every_commit_and_overwrites_what_it_deletes(tmp_path: Path) -> None:
    opened = open_file(tmp_path / "ledger.db", Clock())

    pragmas = {
        name: opened.writer.execute(f"PRAGMA {name}").fetchone()[0]
        for name in ("journal_mode", "synchronous", "secure_delete")
    }

    assert pragmas == {"journal_mode": "wal", "synchronous": 2, "secure_delete": 1}
    assert (tmp_path / "ledger.db").stat().st_mode & 0o777 == 0o600
    assert opened.reader is not None
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        opened.reader.execute("DELETE FROM batches")


async def test_a_folder_that_is_missing_is_made_for_its_owner_alone(tmp_path: Path) -> None:
    async with sqlite_world(tmp_path / "a" / "b" / "ledger.db"):
        assert (tmp_path / "a" / "b").stat().st_mode & 0o777 == 0o700


async def test_a_store_finds_everything_again(tmp_path: Path) -> None:
    batch = new_batch(total=6)
    async with sqlite_world(tmp_path / "ledger.db") as world:
        await world.store.accept(batch)
        await run(world.store, await take_one(world.store), failed=1)
        before = await seen(world.store, batch.id)

    async with sqlite_world(tmp_path / "ledger.db") as world:
        assert await seen(world.store, batch.id) == before
        assert [lease.slice for lease in await run_all(world.store)] == [1, 2]
        assert (await seen(world.store, batch.id)).state == "completed"


async def test_an_older_copy_put_back_is_refused_with_the_cure(tmp_path: Path) -> None:
    file, copy = tmp_path / "ledger.db", tmp_path / "copy.db"
    async with sqlite_world(file) as world:
        await world.store.accept(new_batch(id="one"))
    copied(file, copy)
    async with sqlite_world(file) as world:
        await world.store.accept(new_batch(id="two"))
    copied(copy, file)

    with pytest.raises(StateFolderError, match=r"older than the ledger that was here.*ledger\.db\.epoch"):
        await open_store(file, now_ms=Clock())

    (tmp_path / "ledger.db.epoch").unlink()
    async with sqlite_world(file) as world:
        assert await world.store.view("two") is None
        assert await world.store.view("one") is not None


async def test_a_copy_taken_while_it_ran_is_older_than_its_end(tmp_path: Path) -> None:
    file, copy = tmp_path / "ledger.db", tmp_path / "copy.db"
    async with sqlite_world(file) as world:
        await world.store.accept(new_batch())
        copied(file, copy)
    copied(copy, file)

    with pytest.raises(StateFolderError, match="older"):
        await open_store(file, now_ms=Clock())


async def test_a_ledger_that_is_gone_is_not_replaced_in_silence(tmp_path: Path) -> None:
    async with sqlite_world(tmp_path / "ledger.db") as world:
        await world.store.accept(new_batch())
    (tmp_path / "ledger.db").unlink()

    with pytest.raises(StateFolderError, match="older"):
        await open_store(tmp_path / "ledger.db", now_ms=Clock())


async def test_a_refused_file_can_be_opened_when_its_trouble_is_over(tmp_path: Path) -> None:
    file = tmp_path / "ledger.db"
    file.write_bytes(b"this is no database" * 100)
    with pytest.raises(StateFolderError, match="cannot be opened as a ledger"):
        await open_store(file, now_ms=Clock())

    file.unlink()

    async with sqlite_world(file) as world:
        assert await world.store.view("none") is None


async def test_another_programs_database_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "ledger.db"
    connection = sqlite3.connect(file)
    connection.execute("CREATE TABLE theirs (a)")
    connection.close()

    with pytest.raises(StateFolderError, match="no ledger"):
        await open_store(file, now_ms=Clock())


async def test_a_newer_versions_ledger_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "ledger.db"
    connection = sqlite3.connect(file)
    connection.execute("PRAGMA user_version = 99")
    connection.close()

    with pytest.raises(StateFolderError, match="newer version"):
        await open_store(file, now_ms=Clock())


def secret(total: int = 4) -> NewBatch:
    return new_batch(
        total=total, context=b"CANARY-context", slices=[b"CANARY-operations" * 1000] * (total // 2), key=b"CANARY-key"
    )


async def test_nothing_erased_is_left_in_any_file_after_the_end(tmp_path: Path) -> None:
    async with sqlite_world(tmp_path / "ledger.db") as world:
        batch = secret()
        await world.store.accept(batch)
        while_it_runs = written(tmp_path / "ledger.db")

        await run_all(world.store)
        await world.store.sweep()

        assert b"CANARY-context" in while_it_runs
        assert b"CANARY-operations" in while_it_runs
        after = written(tmp_path / "ledger.db")
        assert b"CANARY-context" not in after
        assert b"CANARY-operations" not in after


@pytest.mark.parametrize("end", ["cancel", "expire", "break"])
async def test_credentials_are_erased_however_a_batch_ends(tmp_path: Path, end: str) -> None:
    async with sqlite_world(tmp_path / "ledger.db") as world:
        batch = secret()
        await world.store.accept(batch)
        if end == "expire":
            await world.later(batch.lives_ms + 1)
        else:
            await world.store.command(batch.id, end)  # type: ignore[arg-type]

        await world.store.sweep()

        assert (await seen(world.store, batch.id)).ended_ms is not None
        assert b"CANARY-context" not in written(tmp_path / "ledger.db")


async def test_a_deleted_batch_is_gone_from_the_disk_with_its_key(tmp_path: Path) -> None:
    async with sqlite_world(tmp_path / "ledger.db") as world:
        batch = secret()
        await world.store.accept(batch)
        lease = await take_one(world.store)
        await world.store.record(lease, part(0, [0, 1], failed=1, sealed=b"CANARY-outcomes"), ends=True)
        await world.store.command(batch.id, "cancel")
        await world.store.command(batch.id, "delete")

        await world.store.sweep()

        assert b"CANARY" not in written(tmp_path / "ledger.db")


async def test_the_file_stops_growing_when_batches_come_and_go(tmp_path: Path) -> None:
    sizes = []
    async with sqlite_world(tmp_path / "ledger.db") as world:
        for _ in range(5):
            for _ in range(5):
                await world.store.accept(new_batch(total=20, slices=[bytes(20_000)] * 10, kept_ms=1))
            await run_all(world.store)
            await world.later(2)
            for _ in range(3):
                await world.store.sweep()
            sizes.append((tmp_path / "ledger.db").stat().st_size)

        health = await world.store.health()

    assert sizes[-1] <= sizes[1] * 1.05
    assert health["stored_bytes"] < 200_000


async def test_small_batches_go_as_fast_as_they_are_forgotten(tmp_path: Path) -> None:
    async with sqlite_world(tmp_path / "ledger.db") as world:
        await asyncio.gather(*(world.store.accept(new_batch(total=1, kept_ms=1)) for _ in range(300)))
        await run_all(world.store)
        await world.later(2)
        forgotten = [(await world.store.sweep()).forgotten for _ in range(3)]

    with sqlite3.connect(tmp_path / "ledger.db") as file:
        left = [file.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in _OF_A_BATCH]
    file.close()
    assert sum(forgotten) == 300
    assert left == [0] * len(_OF_A_BATCH)


async def test_time_does_not_go_back_while_the_gateway_is_down(tmp_path: Path) -> None:
    batch = new_batch(lives_ms=1000)
    async with sqlite_world(tmp_path / "ledger.db") as world:
        await world.store.accept(batch)
        await world.later(900)

    clock = Clock()
    clock.ms -= 3_600_000
    store = await open_store(tmp_path / "ledger.db", now_ms=clock)
    early = await store.sweep()
    clock.ms += 101
    late = await store.sweep()
    await store.close()

    assert (early.expired, late.expired) == (0, 1)


async def test_a_lease_is_lost_by_a_restart_at_once(tmp_path: Path) -> None:
    file, copy = tmp_path / "ledger.db", tmp_path / "crashed.db"
    async with sqlite_world(file) as world:
        await world.store.accept(new_batch(total=2))
        first = await take_one(world.store, lasts_ms=1000 * LEASE_MS)
        copied(file, copy)

    async with sqlite_world(copy) as world:
        second = await take_one(world.store)

    assert (second.slice, second.losses) == (first.slice, 1)
    assert second.epoch > first.epoch


async def test_a_ledger_of_the_version_before_is_taken_over_with_what_is_in_it(tmp_path: Path) -> None:
    file = tmp_path / "ledger.db"
    batch = new_batch(total=2)
    async with sqlite_world(file) as world:
        await world.store.accept(batch)
    with sqlite3.connect(file) as old:
        old.executescript(
            "ALTER TABLE slices DROP COLUMN lost_ms; DELETE FROM marks WHERE name = 'lost_ms'; PRAGMA user_version = 1;"
        )
    old.close()

    async with sqlite_world(file) as world:
        lease = await take_one(world.store)

    assert (lease.batch, lease.losses, lease.lost_ago_ms, lease.others_lost) == (batch.id, 0, 0, False)


def test_a_ledger_in_memory_needs_no_folder() -> None:
    opened = open_memory(Clock())

    assert (opened.folder, opened.reader) == (None, None)
    opened.writer.close()
