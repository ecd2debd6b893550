"""A process that accepts and runs batches without end, and says what was acknowledged, until it is killed.

    python -m tests.integration.ledger_sqlite.acknowledging FILE RUN

One line on standard output for each acknowledgement: `accepted ID` or `recorded ID SLICE`.
"""

import asyncio
import sys
from itertools import count
from pathlib import Path

from gateway.ledger.clock import steady_clock
from gateway.ledger.sqlite.store import SqliteStore, open_store
from tests.contract.ledger.batches import new_batch, part, take


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


async def _accept(store: SqliteStore, run: str, accepter: int) -> None:
    for number in count():
        id_ = f"{run}-{accepter}-{number}"
        await store.accept(new_batch(total=4, id=id_, owner=id_))
        _say(f"accepted {id_}")


async def _work(store: SqliteStore) -> None:
    while True:
        for lease in await take(store, most=4):
            indexes = range(lease.first, lease.first + lease.count)
            await store.intend(lease, indexes)
            await store.record(
                lease, part(lease.slice, [index for index in indexes if index not in lease.done]), ends=True
            )
            _say(f"recorded {lease.batch} {lease.slice}")


async def _main(file: Path, run: str) -> None:
    store = await open_store(file, now_ms=steady_clock())
    _say("open")
    async with asyncio.TaskGroup() as group:
        for accepter in range(3):
            group.create_task(_accept(store, run, accepter))
        group.create_task(_work(store))


if __name__ == "__main__":
    asyncio.run(_main(Path(sys.argv[1]), sys.argv[2]))
