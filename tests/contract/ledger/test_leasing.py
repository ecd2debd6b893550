"""Leases: one holder a slice, an epoch that grows, losses that are counted."""

import pytest

from gateway.ledger.port import LostLeaseError
from tests.contract.ledger.batches import LEASE_MS, LIVES_MS, new_batch, operations_of, part, run, seen, take, take_one
from tests.contract.ledger.worlds import Store, World


async def test_a_lease_tells_a_worker_all_it_needs(store: Store) -> None:
    batch = new_batch(total=5)
    await store.accept(batch)

    leases = await take(store, most=10)

    assert [(each.slice, each.first, each.count) for each in leases] == [(0, 0, 2), (1, 2, 2), (2, 4, 1)]
    assert [each.operations for each in leases] == [operations_of(batch.id, slice_) for slice_ in range(3)]
    for lease in leases:
        assert (lease.batch, lease.owner, lease.dialect) == (batch.id, "owner", "native")
        assert (lease.context, lease.key) == (batch.context, batch.key)
        assert (list(lease.done), list(lease.in_doubt), lease.losses, lease.tries) == ([], [], 0, 0)
        view = await seen(store, batch.id)
        assert lease.expires_ms == view.expires_ms
        assert view.accepted_ms + LEASE_MS <= lease.until_ms < view.accepted_ms + LIVES_MS


async def test_a_slice_has_one_holder(store: Store) -> None:
    await store.accept(new_batch())

    first, second = await take(store, most=1), await take(store, most=10)

    assert [lease.slice for lease in [*first, *second]] == [0, 1]
    assert await take(store) == []


async def test_no_more_are_taken_than_were_asked_for(store: Store) -> None:
    await store.accept(new_batch(total=20))

    assert len(await take(store, most=3)) == 3
    assert await take(store, most=0) == []


async def test_the_first_lease_starts_the_batch(store: Store) -> None:
    batch = new_batch()
    await store.accept(batch)

    await take_one(store)
    started = await seen(store, batch.id)
    await take_one(store)

    assert started.state == "processing"
    assert started.started_ms is not None
    assert (await seen(store, batch.id)).started_ms == started.started_ms


async def test_an_expired_lease_is_a_loss_and_its_slice_is_free_with_a_higher_epoch(world: World) -> None:
    store = world.store
    await store.accept(new_batch(total=2))
    first = await take_one(store)

    held = await take(store)
    await world.later(LEASE_MS + 1)
    second = await take_one(store)

    assert held == []
    assert second.slice == first.slice
    assert second.epoch > first.epoch
    assert (first.losses, second.losses) == (0, 1)


async def test_losses_add_up(world: World) -> None:
    await world.store.accept(new_batch(total=2))
    losses = []

    for _ in range(3):
        losses.append((await take_one(world.store)).losses)
        await world.later(LEASE_MS + 1)

    assert losses == [0, 1, 2]


async def test_what_was_lost_says_how_long_ago_that_was_found(world: World) -> None:
    await world.store.accept(new_batch(total=2))
    fresh = await take_one(world.store)
    await world.later(LEASE_MS + 1)
    await world.store.sweep()
    await world.later(LEASE_MS)

    lost = await take_one(world.store)

    assert (fresh.lost_ago_ms, fresh.others_lost) == (0, False)
    assert LEASE_MS <= lost.lost_ago_ms < LIVES_MS
    assert not lost.others_lost


async def test_a_slice_hears_that_another_worker_was_lost_after_its_own(world: World) -> None:
    store = world.store
    await store.accept(new_batch())
    first = await take_one(store, worker="first")
    await world.later(LEASE_MS + 1)
    await store.sweep()
    await store.record(await take_one(store, worker="second"), None, ends=True, again_after_ms=2 * LEASE_MS)
    other = await take_one(store, worker="second")
    await world.later(LEASE_MS + 1)
    await store.sweep()
    await world.later(LEASE_MS + 1)

    leases = {lease.slice: lease for lease in await take(store, most=2, worker="third")}

    assert {slice_: lease.losses for slice_, lease in leases.items()} == {0: 1, 1: 1}
    assert leases[first.slice].others_lost
    assert not leases[other.slice].others_lost


async def test_slices_that_were_lost_with_one_worker_do_not_speak_for_each_other(world: World) -> None:
    store = world.store
    await store.accept(new_batch(owner="first"))
    await store.accept(new_batch(owner="second"))
    assert len(await take(store, most=4)) == 4
    await world.later(LEASE_MS + 1)
    await store.sweep()

    assert [(lease.losses, lease.others_lost) for lease in await take(store, most=4)] == [(1, False)] * 4


async def test_letting_go_is_no_loss(store: Store) -> None:
    await store.accept(new_batch(total=2))

    await store.record(await take_one(store), None, ends=True)

    assert (await take_one(store)).losses == 0


async def test_a_sweep_rescues_what_nobody_leases(world: World) -> None:
    store = world.store
    await store.accept(new_batch())
    await take(store, most=2)
    await world.later(LEASE_MS + 1)

    swept = await store.sweep()

    assert swept.rescued == 2
    assert (await store.sweep()).rescued == 0
    assert [lease.losses for lease in await take(store, most=2)] == [1, 1]


async def test_a_rescue_by_a_lease_is_told_by_the_next_sweep(world: World) -> None:
    store = world.store
    await store.accept(new_batch(total=2))
    await take_one(store)
    await world.later(LEASE_MS + 1)
    await take_one(store)

    assert (await store.sweep()).rescued == 1


async def test_a_renewed_lease_is_held_on(world: World) -> None:
    store = world.store
    await store.accept(new_batch(total=2))
    lease = await take_one(store)

    for _ in range(3):
        await world.later(LEASE_MS // 2)
        assert await store.renew([lease], lasts_ms=LEASE_MS) == [True]

    assert await take(store) == []


async def test_a_lost_lease_is_not_renewed(world: World) -> None:
    store = world.store
    await store.accept(new_batch())
    lost, kept = await take(store, most=2)
    await world.later(LEASE_MS // 2)
    await store.renew([kept], lasts_ms=LEASE_MS)
    await world.later(LEASE_MS // 2 + 1)
    await take_one(store)

    assert await store.renew([lost, kept], lasts_ms=LEASE_MS) == [False, True]


@pytest.mark.parametrize("command", ["cancel", "pause", "break"])
async def test_a_batch_that_runs_no_further_stops_its_workers(store: Store, command: str) -> None:
    batch = new_batch()
    await store.accept(batch)
    lease = await take_one(store)

    await store.command(batch.id, command)  # type: ignore[arg-type]

    assert await store.renew([lease], lasts_ms=LEASE_MS) == [False]
    assert await take(store) == []


async def test_time_that_is_up_stops_the_workers(world: World) -> None:
    store = world.store
    await store.accept(new_batch(lives_ms=200))
    lease = await take_one(store, lasts_ms=LIVES_MS)
    await world.later(201)

    assert await store.renew([lease], lasts_ms=LEASE_MS) == [False]
    assert await take(store) == []


async def test_a_worker_that_has_to_stop_is_not_overtaken_while_it_renews(world: World) -> None:
    store = world.store
    batch = new_batch(total=2)
    await store.accept(batch)
    lease = await take_one(store)
    await store.command(batch.id, "pause")

    for _ in range(3):
        await world.later(LEASE_MS // 2)
        assert await store.renew([lease], lasts_ms=LEASE_MS) == [False]
    await store.command(batch.id, "resume")

    assert await take(store) == []
    await store.record(lease, part(0, [0, 1]), ends=True)
    assert (await seen(store, batch.id)).state == "completed"


async def test_intended_operations_without_outcome_are_in_doubt(world: World) -> None:
    store = world.store
    await store.accept(new_batch(total=6, slice_size=6))
    lease = await take_one(store)
    await store.intend(lease, [0, 1])
    await store.intend(lease, [3])
    await store.intend(lease, [3])
    await store.record(lease, part(0, [1, 2]), ends=False)
    await world.later(LEASE_MS + 1)

    again = await take_one(store)

    assert list(again.done) == [1, 2]
    assert list(again.in_doubt) == [0, 3]


async def test_an_older_epoch_may_intend_nothing(world: World) -> None:
    store = world.store
    await store.accept(new_batch(total=2))
    old = await take_one(store)
    await world.later(LEASE_MS + 1)
    new = await take_one(store)

    with pytest.raises(LostLeaseError):
        await store.intend(old, [0])
    await store.intend(new, [1])
    await store.record(new, None, ends=True)

    assert list((await take_one(store)).in_doubt) == [1]


async def test_nothing_is_intended_for_a_batch_that_is_gone(store: Store) -> None:
    batch = new_batch()
    await store.accept(batch)
    lease = await take_one(store)
    await store.command(batch.id, "break")
    await store.command(batch.id, "delete")

    with pytest.raises(LostLeaseError):
        await store.intend(lease, [0])
    with pytest.raises(LostLeaseError):
        await run(store, lease)
    assert await store.renew([lease], lasts_ms=LEASE_MS) == [False]


async def test_new_work_ends_the_wait_and_so_does_time(store: Store) -> None:
    await store.wait(0.01)
    await store.accept(new_batch())

    await store.wait(60)

    assert len(await take(store)) == 1
