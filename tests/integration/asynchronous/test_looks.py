"""What pollers of one batch are told of each other's looks: nothing older than what was told (PROMISES D17)."""

import asyncio
from typing import cast

from gateway.ledger.names import Names
from gateway.ledger.port import Ledger, View
from gateway.ledger.seal import Sealer
from gateway.ledger.sqlite.store import SqliteStore, open_store
from gateway.server.clock import Clock
from gateway.server.records import Records
from tests.contract.ledger.batches import new_batch
from tests.contract.ledger.worlds import Clock as LedgerClock

_AGE_S = 60.0
_NAMES = Names(bytes(32))


class Late:
    """A ledger whose first look comes back after what was looked at has changed."""

    def __init__(self, store: SqliteStore) -> None:
        self._store = store
        self.looked = asyncio.Event()
        self.comes_back = asyncio.Event()

    async def view(self, batch_id: str) -> View | None:
        found = await self._store.view(batch_id)
        if not self.looked.is_set():
            self.looked.set()
            await self.comes_back.wait()
        return found


async def test_a_look_from_before_a_command_is_told_to_nobody_after_it() -> None:
    clock = LedgerClock()
    store = await open_store(None, now_ms=clock)
    late = Late(store)
    now_s = clock.ms / 1000
    records = Records(
        cast(Ledger, late), Sealer(bytes(32)), _NAMES, Clock(lambda: now_s, lambda: 0.0), retention_s=60.0
    )
    batch = new_batch(id=_NAMES.new_id("owner", now_s))
    await store.accept(batch)

    early = asyncio.ensure_future(records.find(batch.id, "owner", age_max_s=_AGE_S))
    await late.looked.wait()
    after = await store.command(batch.id, "cancel")
    assert after is not None
    records.keep(after)
    joining = asyncio.ensure_future(records.find(batch.id, "owner", age_max_s=_AGE_S))
    await asyncio.sleep(0)
    late.comes_back.set()
    await early
    later = [await joining, await records.find(batch.id, "owner", age_max_s=_AGE_S)]
    await store.close()

    assert [view.state for view in later] == ["cancelled", "cancelled"]
