"""A disk that is full or read-only: refused in clear words, nothing half done, and well again when it is."""

import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.ledger.clock import steady_clock
from gateway.ledger.port import LedgerUnavailableError
from gateway.ledger.sqlite.opening import open_file
from gateway.ledger.sqlite.store import SqliteStore, open_store
from gateway.ledger.state_folder import StateFolderError
from tests.contract.ledger.batches import new_batch, part, seen, take, take_one

DISK_BYTES = 2 << 20


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    if os.geteuid() != 0:
        pytest.skip("mounting a small file system needs root")
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(tmp_path)]
    mounted = subprocess.run(mount, capture_output=True, text=True, check=False)
    if mounted.returncode:
        pytest.skip(f"a small file system cannot be mounted here: {mounted.stderr.strip()}")
    yield tmp_path
    subprocess.run(["umount", "--lazy", str(tmp_path)], check=True)


async def fill(store: SqliteStore) -> str:
    """Accept batches until there is no room; the id of the one that was refused."""
    for number in range(1000):
        batch = new_batch(id=f"batch{number}", slices=[os.urandom(50_000)] * 2)
        try:
            await store.accept(batch)
        except LedgerUnavailableError:
            return batch.id
    raise AssertionError("the disk never filled")


async def test_a_full_disk_is_said_and_leaves_nothing_half_done(small_disk: Path) -> None:
    store = await open_store(small_disk / "ledger.db", now_ms=steady_clock())

    refused = await fill(store)
    started_s = time.monotonic()
    with pytest.raises(LedgerUnavailableError, match="disk is full") as unavailable:
        await store.accept(new_batch(slices=[bytes(1 << 20)] * 2))

    assert time.monotonic() - started_s < 2
    assert (unavailable.value.status, unavailable.value.problem.slug) == (503, "ledger-unavailable")
    assert unavailable.value.headers["Retry-After"]
    assert await store.view(refused) is None
    assert (await seen(store, "batch0")).state == "accepted"
    health = await store.health()
    assert health["batches_accepted"] == int(refused.removeprefix("batch"))
    assert health["capacity_bytes"] <= DISK_BYTES
    await store.close()


async def test_the_ledger_works_again_when_there_is_room(small_disk: Path) -> None:
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(DISK_BYTES // 2))
    store = await open_store(small_disk / "ledger.db", now_ms=steady_clock())
    refused = await fill(store)

    ballast.unlink()
    await store.accept(new_batch(id=refused))
    lease = await take_one(store)
    await store.record(lease, part(0, [0, 1]), ends=True)

    assert (await seen(store, refused)).state == "accepted"
    assert (await seen(store, lease.batch)).completed == 2
    await store.close()


async def test_a_ledger_that_was_full_at_its_end_opens_again(small_disk: Path) -> None:
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(DISK_BYTES // 2))
    store = await open_store(small_disk / "ledger.db", now_ms=steady_clock())
    await fill(store)
    await store.close()
    ballast.unlink()

    store = await open_store(small_disk / "ledger.db", now_ms=steady_clock())

    assert len(await take(store, most=10)) == 10
    await store.close()


def test_a_read_only_folder_is_refused_at_the_start(small_disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)

    with pytest.raises(StateFolderError, match="Read-only file system"):
        open_file(small_disk / "ledger.db", steady_clock())
