"""A process that is killed at any moment leaves behind everything that it has acknowledged."""

import random
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gateway.ledger.clock import steady_clock
from gateway.ledger.sqlite.store import SqliteStore, open_store
from tests.contract.ledger.batches import new_batch, take_one

KILLS = 20


def arguments(file: Path, run: str) -> list[str]:
    return [sys.executable, "-m", "tests.integration.ledger_sqlite.acknowledging", str(file), run]


@contextmanager
def acknowledging(file: Path, run: str) -> Iterator["subprocess.Popen[str]"]:
    with subprocess.Popen(arguments(file, run), stdout=subprocess.PIPE, text=True) as child:
        try:
            yield child
        finally:
            child.kill()


def acknowledged(file: Path, run: str, lines_max: int) -> list[list[str]]:
    """What the process said until it was killed, somewhere behind the line `lines_max`."""
    with acknowledging(file, run) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "open\n"
        lines = [child.stdout.readline() for _ in range(lines_max)]
        child.kill()
        lines += child.stdout.readlines()
    return [line.split() for line in lines if line.endswith("\n")]


async def missing(store: SqliteStore, said: list[list[str]]) -> list[list[str]]:
    lost = []
    for line in said:
        match line:
            case ["accepted", id_]:
                found = await store.view(id_) is not None
            case ["recorded", id_, slice_]:
                found = int(slice_) in {each.slice for each in await store.parts(id_, after=int(slice_), limit=1)}
            case _:
                found = False
        if not found:
            lost.append(line)
    return lost


async def test_what_was_acknowledged_survives_twenty_kills(tmp_path: Path) -> None:
    file = tmp_path / "ledger.db"
    chance = random.Random(4)
    said: list[list[str]] = []

    for run in range(KILLS):
        said += acknowledged(file, f"run{run}", chance.randrange(1, 60))

    store = await open_store(file, now_ms=steady_clock())
    lost = await missing(store, said)
    await store.close()
    assert lost == []
    assert {line[0] for line in said} == {"accepted", "recorded"}


async def test_leases_of_a_dead_process_are_free_at_once_and_losses(tmp_path: Path) -> None:
    file = tmp_path / "ledger.db"
    with acknowledging(file, "run") as child:
        assert child.stdout is not None
        while not child.stdout.readline().startswith("recorded"):
            pass
    store = await open_store(file, now_ms=steady_clock())
    await store.accept(new_batch(total=4, id="mine", owner="0"))

    held_before = await take_one(store, lasts_ms=3_600_000)
    await store.intend(held_before, [held_before.first])
    # A crash is an end without `close`: the file as it is at this moment, under another name.
    for ending in ("", "-wal"):
        (tmp_path / f"crashed.db{ending}").write_bytes((tmp_path / f"ledger.db{ending}").read_bytes())
    await store.close()
    crashed = await open_store(tmp_path / "crashed.db", now_ms=steady_clock())
    leases = await crashed.lease("worker", most=1000, lasts_ms=1000)
    await crashed.close()

    again = {(lease.batch, lease.slice): lease for lease in leases}[held_before.batch, held_before.slice]
    assert again.epoch > held_before.epoch
    assert again.losses == held_before.losses + 1
    assert held_before.first in again.in_doubt


def test_a_second_process_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "ledger.db"
    with acknowledging(file, "first") as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "open\n"

        second = subprocess.run(arguments(file, "second"), capture_output=True, text=True, timeout=30, check=False)

        assert second.returncode == 1
        assert f"StateFolderError: {file}: another process has this ledger" in second.stderr
        assert child.stdout.readline().startswith("accepted first-")
