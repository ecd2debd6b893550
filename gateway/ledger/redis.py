"""The ledger in Redis or Valkey, shared by any number of replicas: both faces of the port.

Each transition is one Lua script in the slot of its batch (lua/); time is the server's. `accept` takes a place in
the index, then puts the batch on record, then tells the index; `sweep` gives back a place without a batch, and finds a
batch again that the index does not know.
"""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from gateway.batch.states import STATES, State
from gateway.errors import GatewayError
from gateway.ledger import keys, redis_records
from gateway.ledger.port import (
    Command,
    Lease,
    LedgerUnavailableError,
    LostLeaseError,
    NewBatch,
    OnEnd,
    Part,
    Swept,
    View,
    on_end_ignored,
)
from gateway.ledger.redis_store import Store
from gateway.redis_client import connect

_PLACE_MS = 60_000  # how long a place waits for its batch: longer than any accept may take
_PUT_OFF_MS = 10_000  # what one replica sweeps, the others leave alone for so long
_DUE_MAX = 100  # batches in one sweep
_POLL_S = 0.2  # a one-operation batch has to start within 2 s (PROMISES L5)
_ROUNDS_MAX = 16  # of picking in one lease, where hints turn out to be wrong
_FOUND_ANEW_MAX = 500


class RedisLedger:
    """`went_back` is told each batch of which the store has lost acknowledged changes (PROMISES D8)."""

    def __init__(
        self,
        url: str,
        *,
        went_back: Callable[[str], None],
        timeout_s: float = 5.0,
        connections_max: int = 32,
        require_durable: bool = True,
        on_end: OnEnd = on_end_ignored,
    ) -> None:
        client = connect(url, timeout_s=timeout_s, connections_max=connections_max)
        self._store = Store(client, timeout_s=timeout_s, require_durable=require_durable, went_back=went_back)
        self._on_end = on_end
        self._bell = asyncio.Event()
        self._scan = (0, 0)
        self._rescued = 0  # by leases, to be told by the next sweep

    @property
    def may_lease(self) -> bool:
        """Whether leases are given out: not for a few seconds after a server was replaced."""
        return self._store.may_lease

    async def accept(self, batch: NewBatch) -> View:
        place = await self._store.index("reserve", batch.id, batch.owner, batch.unfinished_max, _PLACE_MS)
        if place[0] == b"full":
            raise GatewayError(
                "too-many-batches", f"{place[1]} of your batches have not ended", headers={"Retry-After": "5"}
            )
        answer = await self._store.batch(batch.id, "accept", *redis_records.accepted(batch))
        if answer[0] != b"ok":
            raise LedgerUnavailableError("the batch was deleted while it was accepted")
        hint, is_new = self._hint(answer[1]), answer[2]
        try:
            await self._store.note(batch.id, hint)
            self._bell.set()
            view = await self.view(batch.id)
        except LedgerUnavailableError:
            if not is_new:
                raise
            return redis_records.view_of_new(batch, hint)  # whoever were told otherwise would send it again
        if view is None:
            raise LedgerUnavailableError("the batch was deleted while it was accepted")
        return view

    async def view(self, batch_id: str) -> View | None:
        return (await self._views([batch_id]))[0]

    async def browse(self, owner: str, *, limit: int, after: str | None, state: State | None) -> Sequence[View]:
        found = await self._store.index("browse", owner, limit, after or "", state or "")
        views = await self._views([batch_id.decode() for batch_id in found])
        return [view for view in views if view is not None and state in (None, view.state)]

    async def parts(self, batch_id: str, *, after: int, limit: int) -> Sequence[Part]:
        answer = await self._store.batch(batch_id, "parts", after, limit)
        return [redis_records.part(*pair) for pair in zip(answer[1::2], answer[2::2], strict=True)]

    async def operations(self, batch_id: str, slice_: int) -> bytes | None:
        sealed: bytes | None = (await self._store.read(("HGET", keys.operations(batch_id), slice_)))[0]
        return sealed

    async def command(self, batch_id: str, command: Command) -> View | None:
        if command == "delete":
            answer = await self._store.batch(batch_id, "forget", 0)
        else:
            answer = await self._store.batch(batch_id, "command", command)
        if answer[0] == b"gone":
            await self._store.forget(batch_id)
            return None
        await self._store.note(batch_id, self._hint(answer[1]))
        return await self.view(batch_id)

    async def health(self) -> Mapping[str, float]:
        *counts, oldest_ms = await self._store.index("health", *STATES)
        infos = self._store.durability.infos
        return {f"batches_{state}": float(count) for state, count in zip(STATES, counts, strict=True)} | {
            "oldest_waiting_ms": float(oldest_ms),
            "stored_bytes": float(sum(info.get("used_memory", 0) for info in infos)),
            "capacity_bytes": float(sum(info.get("maxmemory", 0) for info in infos)),
        }

    async def close(self) -> None:
        await self._store.close()

    async def lease(self, worker: str, *, most: int, lasts_ms: int) -> Sequence[Lease]:
        leases: list[Lease] = []
        for _ in range(_ROUNDS_MAX if self.may_lease else 0):
            if len(leases) >= most:
                break
            picked = await self._pick(most - len(leases), leases)
            if not picked:
                break
            for batch_id, slices, operations in picked:
                try:
                    leases += await self._take(worker, batch_id, slices, operations, lasts_ms)
                except LedgerUnavailableError:
                    if not leases:
                        raise
                    return leases  # what was taken is held; the next call meets the trouble again
        return leases

    async def renew(self, leases: Sequence[Lease], *, lasts_ms: int) -> Sequence[bool]:
        by_batch: dict[str, list[int]] = {}
        for i, lease in enumerate(leases):
            by_batch.setdefault(lease.batch, []).append(i)
        held = [False] * len(leases)
        for batch_id, positions in by_batch.items():
            pairs = [number for i in positions for number in (leases[i].slice, leases[i].epoch)]
            answer = await self._store.batch(batch_id, "renew", lasts_ms, *pairs)
            for i, flag in zip(positions, answer[1:], strict=False):  # no flags where the batch is gone
                held[i] = bool(flag)
        return held

    async def intend(self, lease: Lease, indexes: Sequence[int]) -> None:
        wanted = redis_records.mask(indexes)
        answer = await self._store.batch(lease.batch, "intend", lease.slice, lease.epoch, wanted)
        if answer[0] != b"ok":
            raise LostLeaseError
        self._store.memory.saw(lease.batch, answer[1])
        self._store.memory.intended(lease.batch, indexes)

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
        answer = await self._store.batch(
            lease.batch,
            "record",
            lease.slice,
            lease.epoch,
            redis_records.header(part) if part is not None else "",
            redis_records.mask(part.indexes) if part is not None else b"",
            part.sealed if part is not None else b"",
            int(ends),
            -1 if again_after_ms is None else again_after_ms,
            redis_records.by_comma(retracts),
            -1 if tries is None else tries,
        )
        if answer[0] != b"ok":
            raise LostLeaseError
        self._store.memory.saw(lease.batch, answer[1])
        self._store.memory.retracted(lease.batch, retracts)
        if len(answer) > 2:
            await self._store.note(lease.batch, self._hint(answer[2]))
            self._bell.set()

    async def sweep(self) -> Swept:
        expired = forgotten = 0
        rescued, self._rescued = self._rescued, 0
        for batch_id in await self._due():
            answer = await self._store.batch(batch_id, "tend")
            if answer[0] == b"ok":
                await self._found_lost(answer[2])
                rescued, expired = rescued + len(answer[2]), expired + answer[3]
                hint = self._hint(answer[1])
                if not hint.is_final:
                    await self._store.note(batch_id, hint)
                    continue
                answer = await self._store.batch(batch_id, "forget", 1)
                forgotten += answer[0] == b"gone"
            if answer[0] == b"gone":
                await self._store.forget(batch_id)
            else:
                await self._store.note(batch_id, self._hint(answer[1]))
        return Swept(expired, rescued, forgotten)

    async def wait(self, timeout_s: float) -> None:
        until_s = time.monotonic() + timeout_s
        while (left_s := until_s - time.monotonic()) > 0:
            if self.may_lease and await self._store.index("waits"):
                return
            self._bell.clear()
            try:
                async with asyncio.timeout(min(_POLL_S, left_s)):
                    await self._bell.wait()
            except TimeoutError:
                continue

    async def _views(self, ids: Sequence[str]) -> list[View | None]:
        if not ids:
            return []
        known = [
            self._store.memory.seen(batch_id) for batch_id in ids
        ]  # before the read: what comes meanwhile is newer
        answers = await self._store.read(*(("HMGET", keys.meta(id_), *redis_records.VIEWED) for id_ in ids))
        for batch_id, fields, seen in zip(ids, answers, known, strict=True):
            if int(fields[0] or 0) < seen:
                await self._store.mend(batch_id)
        return [redis_records.view(*pair) for pair in zip(ids, answers, strict=True)]

    async def _pick(self, most: int, taken: Sequence[Lease]) -> list[tuple[str, int, int]]:
        try:
            picked = await self._store.index("pick", most)
        except LedgerUnavailableError:
            if not taken:
                raise
            return []
        return [
            (batch.decode(), slices, operations)
            for batch, slices, operations in zip(picked[::3], picked[1::3], picked[2::3], strict=True)
        ]

    async def _take(self, worker: str, batch_id: str, slices: int, operations: int, lasts_ms: int) -> list[Lease]:
        """Up to `slices` leases of a batch; `slices * operations` were charged to its owner for them."""
        answer = await self._store.batch(batch_id, "lease", slices, lasts_ms, worker)
        if answer[0] != b"ok":
            await self._store.forget(batch_id)
            return []
        hint = self._hint(answer[1])
        taken = answer[5:]
        self._rescued += len(answer[3])
        self._store.memory.saw(batch_id, hint.seq, is_final=hint.is_final)
        last_lost = None
        try:
            await self._found_lost(answer[3])
            if answer[2] or len(taken) < slices or hint.ready_ms != 0:
                await self._store.note(batch_id, hint, (slices - len(taken)) * operations)
            if redis_records.any_lost(taken):
                [last_lost] = await self._store.index("lost", "")
        except LedgerUnavailableError:
            if not taken:
                raise
        return redis_records.leases(batch_id, hint, answer[4], taken, last_lost)

    def _hint(self, answer: Sequence[Any]) -> redis_records.Hint:
        hint = redis_records.hint(answer)
        if hint.ended_age_ms >= 0:
            self._on_end(hint.dialect.decode(), hint.ended_age_ms / 1000)
        return hint

    async def _found_lost(self, workers: Sequence[bytes]) -> None:
        if workers:
            await self._store.index("lost", workers[-1])

    async def _due(self) -> list[str]:
        """Batches to look at: those that are due, and a few that the index may have lost."""
        due = [batch_id.decode() for batch_id in await self._store.index("due", _DUE_MAX, _PUT_OFF_MS)]
        cursor, found, node = await self._store.scan(*self._scan)
        self._scan = (cursor, node)
        if found:
            [known] = await self._store.read(("HMGET", keys.INDEX[0], *found))
            due += [batch_id for batch_id, what in zip(found, known, strict=True) if what is None][:_FOUND_ANEW_MAX]
        return due
