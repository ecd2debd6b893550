"""Outcomes on record: each once, the first one stays, and a batch ends with its last slice."""

import pytest

from gateway.ledger.port import LostLeaseError
from tests.contract.ledger.batches import LEASE_MS, new_batch, operations_of, part, run, run_all, seen, take, take_one
from tests.contract.ledger.worlds import Store, World


async def test_what_is_on_record_is_counted_at_once(store: Store) -> None:
    batch = new_batch(total=10, slice_size=10)
    await store.accept(batch)
    lease = await take_one(store)

    await store.record(lease, part(0, [0, 1, 2]), ends=False)
    await store.record(lease, part(0, [5, 6, 7], failed=2, unknown=1), ends=False)

    view = await seen(store, batch.id)
    assert (view.succeeded, view.failed, view.unknown, view.completed) == (4, 2, 1, 6)
    assert view.state == "processing"


async def test_the_last_slice_completes_the_batch(store: Store) -> None:
    batch = new_batch()
    await store.accept(batch)
    first, second = await take(store, most=2)

    await run(store, second)
    before = await seen(store, batch.id)
    await run(store, first, failed=1)
    after = await seen(store, batch.id)

    assert (before.state, before.ended_ms) == ("processing", None)
    assert (after.state, after.succeeded, after.failed) == ("completed", 3, 1)
    assert after.ended_ms is not None


async def test_the_same_part_again_has_no_effect(store: Store) -> None:
    batch = new_batch()
    await store.accept(batch)
    lease = await take_one(store)
    outcomes = part(0, [0, 1], failed=1)

    for ends in (False, False, True, True):
        await store.record(lease, outcomes, ends=ends)

    view = await seen(store, batch.id)
    assert (view.succeeded, view.failed) == (1, 1)
    assert len(await store.parts(batch.id, after=0, limit=100)) == 1


async def test_the_last_part_again_finds_the_batch_ended(store: Store) -> None:
    batch = new_batch(total=2)
    await store.accept(batch)
    lease = await take_one(store)
    await run(store, lease)
    ended = await seen(store, batch.id)

    await run(store, lease)
    await store.record(lease, None, ends=True)

    assert await seen(store, batch.id) == ended


async def test_the_same_part_again_is_no_error_for_an_older_epoch(world: World) -> None:
    store = world.store
    batch = new_batch(total=2)
    await store.accept(batch)
    old = await take_one(store)
    await store.record(old, part(0, [0]), ends=False)
    await world.later(LEASE_MS + 1)
    new = await take_one(store)

    await store.record(old, part(0, [0]), ends=True)

    assert await store.renew([new], lasts_ms=LEASE_MS) == [True]
    assert (await seen(store, batch.id)).completed == 1


async def test_an_older_epoch_puts_nothing_on_record(world: World) -> None:
    store = world.store
    batch = new_batch(total=2)
    await store.accept(batch)
    old = await take_one(store)
    await world.later(LEASE_MS + 1)
    new = await take_one(store)

    with pytest.raises(LostLeaseError):
        await store.record(old, part(0, [0]), ends=False)
    with pytest.raises(LostLeaseError):
        await store.record(old, None, ends=True)

    assert (await seen(store, batch.id)).completed == 0
    await run(store, new)
    assert (await seen(store, batch.id)).state == "completed"


async def test_an_expired_lease_may_record_while_nobody_took_it(world: World) -> None:
    store = world.store
    batch = new_batch(total=2)
    await store.accept(batch)
    lease = await take_one(store)
    await world.later(LEASE_MS + 1)

    await store.record(lease, part(0, [0]), ends=False)

    assert list((await take_one(store)).done) == [0]


async def test_the_first_outcome_of_an_operation_stays(store: Store) -> None:
    batch = new_batch(total=4, slice_size=4)
    await store.accept(batch)
    lease = await take_one(store)
    await store.record(lease, part(0, [0, 1], sealed=b"first"), ends=False)

    for indexes in ([0, 1], [1, 2], [1]):
        with pytest.raises(LostLeaseError):
            await store.record(lease, part(0, indexes, failed=1, sealed=b"second"), ends=False)

    found = await store.parts(batch.id, after=0, limit=100)
    assert [(list(each.indexes), each.sealed) for each in found] == [([0, 1], b"first")]
    assert (await seen(store, batch.id)).failed == 0


async def test_a_slice_that_is_let_go_unfinished_goes_on_where_it_was(store: Store) -> None:
    batch = new_batch(total=4, slice_size=4)
    await store.accept(batch)
    first = await take_one(store)

    await store.record(first, part(0, [1, 3]), ends=True)
    second = await take_one(store)

    assert list(second.done) == [1, 3]
    assert second.epoch > first.epoch
    await run(store, second)
    assert (await seen(store, batch.id)).state == "completed"


async def test_letting_go_twice_does_not_take_it_from_the_next_holder(store: Store) -> None:
    await store.accept(new_batch(total=2))
    lease = await take_one(store)
    await store.record(lease, part(0, [0]), ends=True)
    await take_one(store)

    await store.record(lease, part(0, [0]), ends=True)

    assert await take(store) == []


async def test_a_slice_rests_as_long_as_its_worker_says(world: World) -> None:
    store = world.store
    await store.accept(new_batch())
    leases = await take(store, most=2)

    for lease, rests_ms in zip(leases, (300, 30_000), strict=True):
        await store.record(lease, part(lease.slice, [lease.first]), ends=True, again_after_ms=rests_ms, tries=2)
    await world.later(301)
    again = await take(store, most=10)

    assert [(each.slice, each.tries, list(each.done)) for each in again] == [(0, 2, [0])]


async def test_tries_stay_until_they_are_replaced(store: Store) -> None:
    await store.accept(new_batch(total=2))
    tries = []

    for count in (3, None, 1, None):
        lease = await take_one(store)
        tries.append(lease.tries)
        await store.record(lease, None, ends=True, tries=count)

    assert tries == [0, 3, 3, 1]


async def test_retracted_intents_are_in_doubt_no_longer(store: Store) -> None:
    await store.accept(new_batch(total=4, slice_size=4))
    lease = await take_one(store)
    await store.intend(lease, [0, 1, 2])

    await store.record(lease, part(0, [2]), ends=True, retracts=[1])

    assert list((await take_one(store)).in_doubt) == [0]


async def test_what_succeeded_whole_is_erased_and_the_rest_can_be_asked_for_again(store: Store) -> None:
    batch = new_batch(total=6)
    await store.accept(batch)
    good, bad, never = await take(store, most=3)
    await run(store, good)
    await run(store, bad, failed=1)
    await store.record(never, None, ends=True)

    await store.command(batch.id, "cancel")

    kept = [await store.operations(batch.id, slice_) for slice_ in range(3)]
    assert kept == [None, operations_of(batch.id, 1), operations_of(batch.id, 2)]


async def test_operations_are_there_while_they_may_run(store: Store) -> None:
    batch = new_batch()
    await store.accept(batch)

    assert await store.operations(batch.id, 1) == operations_of(batch.id, 1)
    assert await store.operations(batch.id, 2) is None
    assert await store.operations("none", 0) is None


async def test_every_operation_of_a_long_batch_is_leased_once(store: Store) -> None:
    batch = new_batch(total=505, slice_size=10)
    await store.accept(batch)

    leases = await run_all(store)

    assert sorted(lease.slice for lease in leases) == list(range(51))
    view = await seen(store, batch.id)
    assert (view.state, view.succeeded) == ("completed", 505)
