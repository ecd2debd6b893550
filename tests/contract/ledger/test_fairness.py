"""Turns: owners by operations served, batches of one owner by priority, then by age."""

from collections import Counter

from tests.contract.ledger.batches import new_batch, run, take, take_one
from tests.contract.ledger.worlds import Store, World


async def test_a_small_batch_waits_for_nobodys_backlog(store: Store) -> None:
    for _ in range(10):
        await store.accept(new_batch(total=200, slice_size=2, owner="busy"))
    for _ in range(30):
        await run(store, await take_one(store))

    small = new_batch(total=1, owner="small")
    await store.accept(small)

    assert small.id in {lease.batch for lease in await take(store, most=2)}


async def test_every_newcomer_has_its_turn_at_once(store: Store) -> None:
    await store.accept(new_batch(total=400, slice_size=2, owner="busy"))
    await take(store, most=50)
    newcomers = [new_batch(total=1, owner=f"small-{number}") for number in range(5)]
    for batch in newcomers:
        await store.accept(batch)

    leased = {lease.batch for lease in await take(store, most=6)}

    assert {batch.id for batch in newcomers} <= leased


async def test_owners_get_the_same_number_of_operations(store: Store) -> None:
    await store.accept(new_batch(total=400, slice_size=10, owner="large slices"))
    await store.accept(new_batch(total=400, slice_size=2, owner="small slices"))

    leases = await take(store, most=60)

    served = Counter[str]()
    for lease in leases:
        served[lease.owner] += lease.count
    assert abs(served["large slices"] - served["small slices"]) <= 10


async def test_many_batches_give_no_owner_more_than_one_does(store: Store) -> None:
    for _ in range(10):
        await store.accept(new_batch(total=40, owner="many"))
    await store.accept(new_batch(total=40, owner="one"))

    leases = await take(store, most=20)

    assert abs(sum(1 if lease.owner == "one" else -1 for lease in leases)) <= 1


async def test_idle_time_saves_up_no_turns(store: Store) -> None:
    await store.accept(new_batch(total=2, owner="idle"))
    await store.accept(new_batch(total=200, owner="busy"))
    await take(store, most=40)
    await store.accept(new_batch(total=200, owner="idle"))

    leases = await take(store, most=10)

    assert 4 <= sum(lease.owner == "idle" for lease in leases) <= 6


async def test_work_of_long_ago_is_not_held_against_an_owner(world: World) -> None:
    store = world.store
    await store.accept(new_batch(total=100, owner="before"))
    while taken := await take(store):
        await run(store, taken[0])
    await store.accept(new_batch(total=100, owner="new"))
    await take(store, most=3)
    await store.accept(new_batch(total=100, owner="before"))

    leases = await take(store, most=10)

    assert 4 <= sum(lease.owner == "before" for lease in leases) <= 6


async def test_within_an_owner_priority_goes_before_age(store: Store) -> None:
    batches = [new_batch(total=2, priority=priority) for priority in (5, 1, 9, 5)]
    for batch in batches:
        await store.accept(batch)

    order = [lease.batch for lease in await take(store, most=10)]

    assert order == [batches[number].id for number in (2, 0, 3, 1)]


async def test_one_owners_priority_takes_nothing_from_another(store: Store) -> None:
    await store.accept(new_batch(total=100, owner="important", priority=9))
    await store.accept(new_batch(total=100, owner="modest", priority=0))

    leases = await take(store, most=10)

    assert sum(lease.owner == "modest" for lease in leases) == 5
