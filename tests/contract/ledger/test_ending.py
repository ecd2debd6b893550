"""Commands, time, and the table: what may happen to a batch in each state, on every store alike."""

from typing import get_args

import pytest

from gateway.batch.states import FINAL, STATES, Event, State, advance
from gateway.ledger.port import Command, LostLeaseError
from tests.contract.ledger.batches import (
    LEASE_MS,
    LIVES_MS,
    batch_in,
    new_batch,
    part,
    run,
    run_all,
    seen,
    take,
    take_one,
)
from tests.contract.ledger.worlds import Store, World

SHORT_MS = 1500  # a life that tests can wait for; the way to any state is shorter
CAUSED: tuple[Event, ...] = ("lease", "cancel", "expire", "break")


async def cause(world: World, id_: str, event: Event) -> None:
    match event:
        case "lease":
            await take(world.store)
        case "cancel" | "break":
            await world.store.command(id_, event)
        case "expire":
            await world.later(SHORT_MS + 1)
            await world.store.sweep()


@pytest.mark.parametrize("event", CAUSED)
@pytest.mark.parametrize("state", STATES)
async def test_what_an_event_does_stands_in_the_table(world: World, state: State, event: Event) -> None:
    batch = await batch_in(world, state, SHORT_MS if event == "expire" else LIVES_MS)

    await cause(world, batch.id, event)

    expected = advance(state, event) or state
    if event == "cancel" and expected == "cancelling" and state != "cancelling":
        expected = "cancelled"  # nothing is leased: it settles at once
    assert (await seen(world.store, batch.id)).state == expected


@pytest.mark.parametrize("command", get_args(Command))
@pytest.mark.parametrize("state", sorted(FINAL))
async def test_a_batch_that_has_ended_only_lets_itself_be_deleted(world: World, state: State, command: Command) -> None:
    batch = await batch_in(world, state)
    ended = await seen(world.store, batch.id)

    answer = await world.store.command(batch.id, command)

    assert answer == await world.store.view(batch.id) == (None if command == "delete" else ended)


@pytest.mark.parametrize("state", sorted(set(STATES) - FINAL))
async def test_a_batch_that_may_run_is_not_deleted(world: World, state: State) -> None:
    batch = await batch_in(world, state)

    answer = await world.store.command(batch.id, "delete")

    assert answer is not None
    assert answer.state == state


@pytest.mark.parametrize("command", get_args(Command))
async def test_there_is_no_telling_a_batch_that_is_not_there(store: Store, command: Command) -> None:
    assert await store.command("none", command) is None


@pytest.mark.parametrize("command", ["cancel", "pause", "resume", "break"])
async def test_a_command_twice_is_a_command_once(store: Store, command: Command) -> None:
    batch = new_batch()
    await store.accept(batch)
    await take_one(store)

    once = await store.command(batch.id, command)

    assert await store.command(batch.id, command) == once


async def test_a_cancelled_batch_waits_for_what_was_sent(store: Store) -> None:
    batch = new_batch(total=6)
    await store.accept(batch)
    lease = await take_one(store)

    cancelling = await store.command(batch.id, "cancel")
    leased = await take(store)
    await store.record(lease, part(0, [0], failed=1), ends=True)
    cancelled = await seen(store, batch.id)

    assert cancelling is not None
    assert (cancelling.state, cancelling.ended_ms) == ("cancelling", None)
    assert leased == []
    assert (cancelled.state, cancelled.completed, cancelled.failed) == ("cancelled", 1, 1)


async def test_a_cancelled_batch_ends_though_its_worker_is_gone(world: World) -> None:
    store = world.store
    batch = new_batch()
    await store.accept(batch)
    await take_one(store)
    await store.command(batch.id, "cancel")
    await world.later(LEASE_MS + 1)

    await store.sweep()

    assert (await seen(store, batch.id)).state == "cancelled"


@pytest.mark.parametrize(
    ("state", "command", "is_known"),
    [
        ("cancelled", "cancel", False),
        ("cancelled", "cancel", True),
        ("failed", "break", False),
        ("failed", "break", True),
        ("expired", "resume", True),  # which changes nothing
    ],
)
async def test_what_a_lost_worker_had_announced_is_unknown_where_the_batch_ends_without_it(
    world: World, state: State, command: Command, is_known: bool
) -> None:
    """Told before or after it `is_known` that the worker is lost."""
    store = world.store
    batch = new_batch(total=40, slice_size=20, lives_ms=2 * LEASE_MS if state == "expired" else LIVES_MS)
    await store.accept(batch)
    lease = await take_one(store)
    await store.intend(lease, [1, 2, 7, 8, 17])
    await store.record(lease, part(0, [0, 2, 8]), ends=False)
    for found in (False, True):
        if found is is_known:
            await store.command(batch.id, command)
        await world.later(LEASE_MS + 1)
        await store.sweep()

    view = await seen(store, batch.id)
    unknown = [each for each in await store.parts(batch.id, after=0, limit=100) if not each.sealed]
    assert view.state == state
    assert (view.succeeded, view.failed, view.unknown) == (3, 3, 3)
    assert [(each.slice, list(each.indexes), each.succeeded, each.failed, each.unknown) for each in unknown] == [
        (0, [1, 7, 17], 0, 3, 3)
    ]
    with pytest.raises(LostLeaseError):
        await store.record(lease, part(0, [1]), ends=True)


@pytest.mark.parametrize("again", ["cancel", "break", "pause"])
async def test_what_is_asked_of_a_broken_batch_before_the_sweep_loses_no_doubt(world: World, again: Command) -> None:
    store = world.store
    batch = new_batch()
    await store.accept(batch)
    lease = await take_one(store)
    await store.intend(lease, [0])
    await store.command(batch.id, "break")
    await world.later(LEASE_MS + 1)

    await store.command(batch.id, again)
    await take(store)
    await store.sweep()

    assert (await seen(store, batch.id)).unknown == 1


async def test_a_batch_that_was_broken_off_hears_what_its_workers_had_sent_and_the_rest_is_unknown(
    store: Store,
) -> None:
    batch = new_batch(total=4, slice_size=4)
    await store.accept(batch)
    lease = await take_one(store)
    await store.intend(lease, [0, 1, 2])

    await store.command(batch.id, "break")
    before = await seen(store, batch.id)
    await store.record(lease, part(0, [0]), ends=True, retracts=[1])
    after = await seen(store, batch.id)

    assert (before.state, before.completed) == ("failed", 0)
    assert (after.succeeded, after.failed, after.unknown) == (1, 1, 1)


async def test_an_outcome_that_comes_after_the_end_changes_nothing(world: World) -> None:
    store = world.store
    batch = new_batch()
    await store.accept(batch)
    lease = await take_one(store)
    await store.command(batch.id, "cancel")
    await world.later(LEASE_MS + 1)
    await store.sweep()
    ended = await seen(store, batch.id)

    with pytest.raises(LostLeaseError):
        await run(store, lease)

    assert await seen(store, batch.id) == ended


async def test_a_paused_batch_rests_until_it_is_resumed(store: Store) -> None:
    batch = new_batch()
    await store.accept(batch)

    paused = await store.command(batch.id, "pause")
    nothing = await take(store)
    resumed = await store.command(batch.id, "resume")

    assert paused is not None
    assert resumed is not None
    assert (paused.paused, resumed.paused) == (True, False)
    assert nothing == []
    assert len(await run_all(store)) == 2


async def test_a_paused_batch_can_be_cancelled(store: Store) -> None:
    batch = new_batch()
    await store.accept(batch)
    await store.command(batch.id, "pause")

    view = await store.command(batch.id, "cancel")

    assert view is not None
    assert view.state == "cancelled"


async def test_a_batch_expires_once_and_keeps_what_finished(world: World) -> None:
    store = world.store
    batch = new_batch(lives_ms=300)
    await store.accept(batch)
    await run(store, await take_one(store))
    await world.later(301)

    swept = [await store.sweep(), await store.sweep()]

    view = await seen(store, batch.id)
    assert [each.expired for each in swept] == [1, 0]
    assert (view.state, view.succeeded, view.total) == ("expired", 2, 4)
    assert await take(store) == []


async def test_a_batch_expires_after_what_was_sent_is_on_record(world: World) -> None:
    store = world.store
    batch = new_batch(lives_ms=300)
    await store.accept(batch)
    lease = await take_one(store, lasts_ms=LIVES_MS)
    await world.later(301)

    await store.sweep()
    before = await seen(store, batch.id)
    await store.record(lease, part(0, [0, 1]), ends=True)
    await store.sweep()
    after = await seen(store, batch.id)

    assert before.state == "processing"
    assert (after.state, after.succeeded) == ("expired", 2)


async def test_a_paused_batch_expires(world: World) -> None:
    store = world.store
    batch = new_batch(lives_ms=300)
    await store.accept(batch)
    await store.command(batch.id, "pause")
    await world.later(301)

    await store.sweep()

    assert (await seen(store, batch.id)).state == "expired"


async def test_a_batch_is_forgotten_when_its_time_is_up_and_no_earlier(world: World) -> None:
    store = world.store
    batch = new_batch(kept_ms=300)
    await store.accept(batch)
    await run_all(store)

    early = await store.sweep()
    kept = await store.view(batch.id)
    await world.later(301)
    late = await store.sweep()

    assert (early.forgotten, late.forgotten) == (0, 1)
    assert kept is not None
    assert await store.view(batch.id) is None
    assert await store.parts(batch.id, after=0, limit=10) == []
    assert await store.browse("owner", limit=10, after=None, state=None) == []


async def test_a_deleted_batch_leaves_nothing_to_read(store: Store) -> None:
    batch = new_batch()
    await store.accept(batch)
    await run(store, await take_one(store), failed=1)
    await store.command(batch.id, "cancel")

    await store.command(batch.id, "delete")

    assert await store.view(batch.id) is None
    assert await store.parts(batch.id, after=0, limit=10) == []
    assert await store.operations(batch.id, 0) is None
    assert await store.browse("owner", limit=10, after=None, state="cancelled") == []


async def test_what_was_sent_before_a_break_is_recorded_after_it(store: Store) -> None:
    batch = new_batch()
    await store.accept(batch)
    lease = await take_one(store)
    await store.command(batch.id, "break")

    await run(store, lease)

    view = await seen(store, batch.id)
    assert (view.state, view.succeeded) == ("failed", 2)


@pytest.mark.parametrize("state", sorted(FINAL))
async def test_an_end_is_told_once_with_its_dialect_and_age(world: World, state: State) -> None:
    batch = await batch_in(world, state)
    for _ in range(2):
        await world.store.sweep()
        await world.store.command(batch.id, "cancel")

    ((dialect, age_s),) = world.ends

    view = await seen(world.store, batch.id)
    assert view.ended_ms is not None
    assert (dialect, age_s) == ("native", (view.ended_ms - view.accepted_ms) / 1000)


async def test_an_end_that_is_said_twice_is_told_once(store: Store, world: World) -> None:
    await store.accept(new_batch(total=2))
    lease = await take_one(store)
    for _ in range(2):
        await store.record(lease, part(0, [0, 1]), ends=True)
    await store.sweep()

    assert [dialect for dialect, _ in world.ends] == ["native"]
