"""Batches, parts and the steps that tests of stores take again and again. Lengths are small, so that time is short."""

from collections.abc import Sequence
from itertools import count
from typing import Any

from gateway.batch.states import State
from gateway.ledger.port import FIRST_EPOCH, Lease, NewBatch, Part, View
from tests.contract.ledger.worlds import Store, World

LEASE_MS = 400  # long enough for a slow machine, short enough to wait for
LIVES_MS = 60_000
KEPT_MS = 600_000

_ids = count()


def new_batch(total: int = 4, slice_size: int = 2, **more: Any) -> NewBatch:
    """A batch with an id of its own; `more` are members of NewBatch."""
    id_ = more.pop("id", f"batch-{next(_ids):026d}")
    members: dict[str, Any] = {
        "owner": "owner",
        "dialect": "native",
        "context": b"context of " + id_.encode(),
        "key": b"key of " + id_.encode(),
        "lives_ms": LIVES_MS,
        "kept_ms": KEPT_MS,
        "unfinished_max": 1000,
        "slices": [operations_of(id_, slice_) for slice_ in range(-(-total // slice_size))],
        **more,
    }
    return NewBatch(id_, total=total, slice_size=slice_size, **members)


def operations_of(id_: str, slice_: int) -> bytes:
    return f"operations of {id_}/{slice_}".encode()


def part(
    slice_: int, indexes: Sequence[int], *, failed: int = 0, unknown: int = 0, sealed: bytes | None = None
) -> Part:
    """Outcomes of `indexes`: the last `failed` of them failed, and of these the last `unknown` are unknown."""
    sealed = f"outcomes of {list(indexes)}".encode() if sealed is None else sealed
    return Part(slice_, tuple(indexes), sealed, len(indexes) - failed, failed, unknown)


def begun_leases(batch: NewBatch) -> list[Lease]:
    """Those that a batch comes with."""
    size, indexes = batch.slice_size, () if batch.begun is None else batch.begun.indexes
    return [
        Lease(
            batch.id, slice_, FIRST_EPOCH, 0, batch.owner, batch.dialect, slice_ * size,
            min(size, batch.total - slice_ * size), b"", b"", batch.key,
        )
        for slice_ in sorted({index // size for index in indexes})
    ]  # fmt: skip


def left(lease: Lease) -> list[int]:
    """The operations of a lease that have no outcome."""
    return [index for index in range(lease.first, lease.first + lease.count) if index not in lease.done]


async def take(store: Store, most: int = 1, *, lasts_ms: int = LEASE_MS, worker: str = "worker") -> Sequence[Lease]:
    return await store.lease(worker, most=most, lasts_ms=lasts_ms)


async def take_one(store: Store, *, lasts_ms: int = LEASE_MS, worker: str = "worker") -> Lease:
    (lease,) = await take(store, lasts_ms=lasts_ms, worker=worker)
    return lease


async def run(store: Store, lease: Lease, *, failed: int = 0) -> None:
    """What a worker does with a lease when all goes well."""
    await store.record(lease, part(lease.slice, left(lease), failed=failed), ends=True)


async def run_all(store: Store) -> list[Lease]:
    """Run whatever there is; the leases in their order."""
    leases: list[Lease] = []
    while taken := await take(store):
        await run(store, taken[0])
        leases += taken
    return leases


async def seen(store: Store, id_: str) -> View:
    view = await store.view(id_)
    assert view is not None
    return view


async def batch_in(world: World, state: State, lives_ms: int = LIVES_MS) -> NewBatch:
    """A batch of two slices in `state`, of which a worker holds one where it is cancelling, else none."""
    store = world.store
    batch = new_batch(lives_ms=LEASE_MS if state == "expired" else lives_ms)
    await store.accept(batch)
    match state:
        case "processing":
            await store.record(await take_one(store), None, ends=True)
        case "cancelling":
            await take_one(store)
            await store.command(batch.id, "cancel")
        case "completed":
            await run_all(store)
        case "failed":
            await store.command(batch.id, "break")
        case "cancelled":
            await store.command(batch.id, "cancel")
        case "expired":
            await world.later(LEASE_MS + 1)
            await store.sweep()
    assert (await seen(store, batch.id)).state == state
    return batch
