"""Accepting a batch: whole or not at all, once, and never more than a caller may have."""

import pytest

from gateway.errors import GatewayError
from gateway.ledger.port import Begun, LostLeaseError
from tests.contract.ledger.batches import (
    KEPT_MS,
    LIVES_MS,
    begun_leases,
    new_batch,
    part,
    run,
    run_all,
    seen,
    take,
    take_one,
)
from tests.contract.ledger.worlds import Store, World

LONG_MS = 10_000


async def test_what_was_accepted_is_read_back(store: Store) -> None:
    batch = new_batch(total=5, retry_of="first", label={"model": "x", "ä": '"'}, priority=7)

    accepted = await store.accept(batch)

    assert accepted == await store.view(batch.id)
    assert (accepted.id, accepted.owner, accepted.dialect, accepted.state) == (batch.id, "owner", "native", "accepted")
    assert (accepted.total, accepted.slice_size, accepted.completed, accepted.unknown) == (5, 2, 0, 0)
    assert (accepted.key, accepted.retry_of, accepted.label) == (batch.key, "first", {"model": "x", "ä": '"'})
    assert (accepted.started_ms, accepted.ended_ms, accepted.kept_until_ms) == (None, None, None)
    assert accepted.expires_ms == accepted.accepted_ms + LIVES_MS
    assert not accepted.paused


async def test_accepting_the_same_id_again_answers_what_is_on_record(store: Store) -> None:
    batch = new_batch()
    await store.accept(batch)
    await run(store, await take_one(store))

    again = await store.accept(batch)

    assert again == await store.view(batch.id)
    assert again.completed == 2
    assert len(await store.browse("owner", limit=10, after=None, state=None)) == 1


async def test_a_batch_that_ended_is_not_run_again_by_accepting_it_again(store: Store) -> None:
    batch = new_batch()
    await store.accept(batch)
    await run_all(store)

    again = await store.accept(batch)

    assert again.state == "completed"
    assert await take(store) == []


async def test_a_caller_has_so_many_unfinished_batches_and_no_more(store: Store) -> None:
    batches = [new_batch(unfinished_max=2) for _ in range(3)]
    for batch in batches[:2]:
        await store.accept(batch)

    with pytest.raises(GatewayError) as refused:
        await store.accept(batches[2])
    await store.accept(new_batch(unfinished_max=2, owner="another"))

    assert (refused.value.problem.slug, refused.value.status) == ("too-many-batches", 429)
    assert refused.value.headers["Retry-After"]
    assert await store.view(batches[2].id) is None


async def test_the_limit_lets_an_accepted_batch_be_accepted_again(store: Store) -> None:
    batch = new_batch(unfinished_max=1)
    await store.accept(batch)

    assert (await store.accept(batch)).id == batch.id


async def test_a_batch_that_ended_makes_room_for_another(store: Store) -> None:
    await store.accept(new_batch(unfinished_max=1))
    await run_all(store)

    await store.accept(new_batch(unfinished_max=1))

    assert len(await store.browse("owner", limit=10, after=None, state=None)) == 2


async def test_outcomes_that_a_batch_comes_with_are_not_run_again(store: Store) -> None:
    whole, half = part(0, [0, 1]), part(1, [3], failed=1)
    batch = new_batch(total=6, parts=[whole, half])

    view = await store.accept(batch)
    leases = await take(store, most=10)

    assert (view.state, view.succeeded, view.failed) == ("accepted", 2, 1)
    assert [(lease.slice, list(lease.done)) for lease in leases] == [(1, [3]), (2, [])]
    assert [found.sealed for found in await store.parts(batch.id, after=0, limit=10)] == [whole.sealed, half.sealed]


async def test_a_batch_that_came_with_outcomes_completes(store: Store) -> None:
    batch = new_batch(parts=[part(0, [0, 1])])
    await store.accept(batch)

    await run_all(store)

    view = await seen(store, batch.id)
    assert (view.state, view.succeeded) == ("completed", 4)


async def test_a_batch_begins_no_earlier_than_it_says(world: World) -> None:
    store = world.store
    batch = new_batch(begins_after_ms=300)
    await store.accept(batch)

    before = await take(store)
    await world.later(301)
    after = await take(store)

    assert before == []
    assert [lease.batch for lease in after] == [batch.id]


async def test_how_long_results_are_kept_counts_from_the_end(store: Store) -> None:
    batch = new_batch()
    await store.accept(batch)

    await run_all(store)

    view = await seen(store, batch.id)
    assert view.ended_ms is not None
    assert view.kept_until_ms == view.ended_ms + KEPT_MS


async def test_what_is_on_its_way_when_a_batch_is_accepted_is_nobody_elses(store: Store) -> None:
    batch = new_batch(total=6, begun=Begun("us", (2, 3), LONG_MS))

    view = await store.accept(batch)
    others = await take(store, most=10)
    (ours,) = begun_leases(batch)
    await store.record(ours, part(1, [2]), ends=False)
    await store.record(ours, None, ends=True, retracts=[3])
    (last,) = await take(store, most=10)

    assert (view.state, view.completed) == ("processing", 0)
    assert view.started_ms == view.accepted_ms
    assert [lease.slice for lease in others] == [0, 2]
    assert (last.slice, list(last.done), list(last.in_doubt), last.losses) == (1, [2], [], 0)


async def test_what_was_on_its_way_is_in_doubt_when_its_lease_expires(world: World) -> None:
    store = world.store
    batch = new_batch(begun=Begun("us", (1,), 300))
    await store.accept(batch)
    (ours,) = begun_leases(batch)

    kept = await store.renew([ours], lasts_ms=600)
    await world.later(301)
    before = await take(store, most=10)
    await world.later(301)
    (after,) = await take(store, most=10)

    assert list(kept) == [True]
    assert [lease.slice for lease in before] == [1]
    assert (after.slice, list(after.in_doubt), after.losses) == (0, [1], 1)
    with pytest.raises(LostLeaseError):
        await store.record(ours, part(0, [1]), ends=False)


async def test_a_batch_that_is_cancelled_hears_what_was_on_its_way(store: Store) -> None:
    batch = new_batch(begun=Begun("us", (0,), LONG_MS))
    await store.accept(batch)
    (ours,) = begun_leases(batch)

    await store.command(batch.id, "cancel")
    await store.record(ours, part(0, [0]), ends=True)

    view = await seen(store, batch.id)
    assert (view.state, view.succeeded) == ("cancelled", 1)
