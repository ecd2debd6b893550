"""Reading: a caller's own batches, newest first, and outcomes by whole slices."""

from tests.contract.ledger.batches import new_batch, part, run, run_all, take, take_one
from tests.contract.ledger.worlds import Store


async def test_a_caller_sees_its_own_batches_newest_first_page_by_page(store: Store) -> None:
    batches = [new_batch() for _ in range(5)]
    for batch in batches:
        await store.accept(batch)
        await store.accept(new_batch(owner="another"))

    first = await store.browse("owner", limit=2, after=None, state=None)
    second = await store.browse("owner", limit=2, after=first[-1].id, state=None)
    third = await store.browse("owner", limit=2, after=second[-1].id, state=None)

    ids = [[view.id for view in page] for page in (first, second, third)]
    newest = [batch.id for batch in reversed(batches)]
    assert ids == [newest[:2], newest[2:4], newest[4:]]


async def test_batches_are_found_by_state(store: Store) -> None:
    batches = [new_batch() for _ in range(4)]
    for batch in batches:
        await store.accept(batch)
    for batch in batches[1:3]:
        await store.command(batch.id, "cancel")

    cancelled = await store.browse("owner", limit=10, after=None, state="cancelled")
    behind = await store.browse("owner", limit=10, after=batches[2].id, state="cancelled")

    assert [view.id for view in cancelled] == [batches[2].id, batches[1].id]
    assert [view.id for view in behind] == [batches[1].id]
    assert await store.browse("owner", limit=10, after=None, state="failed") == []


async def test_another_callers_batch_is_no_place_to_go_on_from(store: Store) -> None:
    foreign = new_batch(owner="another")
    await store.accept(new_batch())
    await store.accept(foreign)

    assert await store.browse("owner", limit=10, after=foreign.id, state=None) == []
    assert await store.browse("owner", limit=10, after="none", state=None) == []


async def test_parts_come_by_whole_slices_in_order(store: Store) -> None:
    batch = new_batch(total=12, slice_size=4)
    await store.accept(batch)
    leases = await take(store, most=3)
    for lease in reversed(leases):
        first = lease.first
        await store.record(lease, part(lease.slice, [first + 1, first + 2]), ends=False)
        await store.record(lease, part(lease.slice, [first, first + 3], failed=1), ends=True)

    one = await store.parts(batch.id, after=0, limit=1)
    two = await store.parts(batch.id, after=0, limit=5)
    rest = await store.parts(batch.id, after=1, limit=1000)

    assert [each.slice for each in one] == [0, 0]
    assert [each.slice for each in two] == [0, 0, 1, 1]
    assert [each.slice for each in rest] == [1, 1, 2, 2]
    assert sorted(index for each in rest for index in each.indexes) == list(range(4, 12))
    assert sum(each.failed for each in rest) == 2


async def test_parts_are_what_was_recorded(store: Store) -> None:
    batch = new_batch(total=3, slice_size=3)
    await store.accept(batch)
    recorded = part(0, [0, 2], failed=1, unknown=1, sealed=b"\x00\xff" * 1000)

    await store.record(await take_one(store), recorded, ends=False)

    (found,) = await store.parts(batch.id, after=0, limit=10)
    assert (found.slice, list(found.indexes), found.sealed) == (0, [0, 2], recorded.sealed)
    assert (found.succeeded, found.failed, found.unknown) == (1, 1, 1)


async def test_there_are_no_parts_of_nothing(store: Store) -> None:
    assert await store.view("none") is None
    assert await store.parts("none", after=0, limit=10) == []


async def test_health_counts_batches_by_state(store: Store) -> None:
    empty = await store.health()
    oldest, _ = await store.accept(new_batch()), await store.accept(new_batch())
    waiting = await store.health()
    await run_all(store)
    done = await store.health()

    assert (empty["batches_accepted"], empty["oldest_waiting_ms"]) == (0, 0)
    assert (waiting["batches_accepted"], waiting["oldest_waiting_ms"]) == (2, oldest.accepted_ms)
    assert (done["batches_accepted"], done["batches_completed"], done["oldest_waiting_ms"]) == (0, 2, 0)
    assert waiting["stored_bytes"] > 0
    assert waiting["capacity_bytes"] >= 0


async def test_a_batch_that_runs_waits_no_longer(store: Store) -> None:
    await store.accept(new_batch())
    await run(store, await take_one(store))

    health = await store.health()

    assert (health["batches_processing"], health["oldest_waiting_ms"]) == (1, 0)
