"""What a store of idempotency keys promises (gateway/replay/port.py), held by SQLite, Redis 7.0 and Valkey 9."""

import asyncio
import gc
import os
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from msgspec.structs import replace

from gateway.replay.port import (
    ANEW,
    DIGEST_BYTES,
    GROUP_BYTES,
    KEPT_NAME_BYTES,
    NAME_BYTES,
    REPEATABLE,
    Claims,
    End,
    Found,
    Keys,
    Times,
    Verdict,
)
from gateway.replay.redis import RedisKeys
from tests.contract.limiter.test_limiter import lossy
from tests.contract.replay.conftest import World
from tests.contract.stores import running
from tests.fakes.ports import free_port
from tests.fakes.until import PATIENCE_S, until_so
from tests.integration.ledger.relay import Relay
from tests.integration.ledger.servers import Server
from tests.integration.ledger.topologies import cluster_info, clustered

OWNER, OTHER = b"o" * 24, b"p" * 24
TIMES = Times(60_000, 3_600_000)
SHORT = Times(100, 3_600_000)


def claims_of(*wishes: tuple[bytes, bytes], flags: int = 0) -> Claims:
    """Of one new group: names and digests, in any length."""
    names, digests = (
        [part.ljust(size) for part in parts]
        for parts, size in zip(zip(*wishes, strict=True), (NAME_BYTES, DIGEST_BYTES), strict=True)
    )
    return Claims(os.urandom(GROUP_BYTES), 0, range(1, len(wishes) + 1), names, digests, bytes([flags]) * len(wishes))


def a_claim(name: bytes = b"k", digest: bytes = b"d", *, repeatable: bool = False) -> Claims:
    return claims_of((name, digest), flags=REPEATABLE * repeatable)


def outcome(said: bytes) -> bytes:
    """What a key keeps, behind the name of that."""
    return said[:1].ljust(KEPT_NAME_BYTES) + said


async def one(keys: Keys, claim: Claims, times: Times = TIMES, keys_max: int = 100, owner: bytes = OWNER) -> Found:
    (found,) = await keys.claim(owner, claim, times, keys_max)
    return found


async def end(keys: Keys, claim: Claims, how: End, kept: bytes = b"") -> bool:
    (took,) = await keys.settle(OWNER, claim.ended([0], bytes([how]), kept and outcome(kept)), TIMES.keeps_ms)
    return took


def kept_by(claim: Claims, said: bytes) -> Found:
    return Found(Verdict.KEPT, claim.fence(0), outcome(said))


async def test_a_free_key_is_held_by_whoever_claims_it_first(keys: Keys) -> None:
    first, second = a_claim(), a_claim()

    assert await one(keys, first) == Found(Verdict.HELD)
    assert await one(keys, second) == Found(Verdict.BUSY)
    assert await one(keys, first) == Found(Verdict.HELD), "said twice"


async def test_of_a_hundred_at_once_one_holds_the_key(keys: Keys) -> None:
    found = await asyncio.gather(*(one(keys, a_claim()) for _ in range(100)))

    assert sorted(each.verdict for each in found) == [Verdict.HELD, *[Verdict.BUSY] * 99]


async def test_all_claims_of_a_call_are_answered_in_order(keys: Keys) -> None:
    kept = a_claim(b"kept")
    await one(keys, kept)
    await end(keys, kept, End.KEEP, b"\x00outcome\xff")

    wishes = claims_of((b"new", b"d"), (b"kept", b"d"), (b"kept", b"else"), (b"new", b"d"))
    found = await keys.claim(OWNER, wishes, TIMES, 100)

    assert found == [
        Found(Verdict.HELD), kept_by(kept, b"\x00outcome\xff"), Found(Verdict.REUSED), Found(Verdict.BUSY),
    ]  # fmt: skip


async def test_what_ends_together_is_kept_once_and_answered_to_each(keys: Keys) -> None:
    wishes = claims_of(*((name, b"d") for name in (b"first", b"failed", b"free", b"last")))
    await keys.claim(OWNER, wishes, TIMES, 100)
    ends = bytes([End.KEEP, End.FAIL, End.FORGET, End.KEEP])
    together = wishes.ended(range(4), ends, outcome(b"both"))

    took = [await keys.settle(OWNER, together, TIMES.keeps_ms) for _ in range(2)]
    found = await keys.claim(OWNER, replace(wishes, group=os.urandom(GROUP_BYTES)), TIMES, 100)

    assert took == [[True] * 4] * 2
    assert found == [
        Found(Verdict.KEPT, wishes.fence(0), outcome(b"both")), Found(Verdict.HELD), Found(Verdict.HELD),
        Found(Verdict.KEPT, wishes.fence(3), outcome(b"both")),
    ]  # fmt: skip


async def test_what_is_kept_apart_is_answered_apart_in_one_call(keys: Keys) -> None:
    wishes = claims_of((b"a", b"d"), (b"b", b"d"), (b"c", b"d"))
    await keys.claim(OWNER, wishes, TIMES, 100)
    for row, said in enumerate([b"x", b"y", b"x"]):
        await keys.settle(OWNER, wishes.ended([row], bytes([End.KEEP]), outcome(said)), TIMES.keeps_ms)

    found = await keys.claim(OWNER, wishes, TIMES, 100)

    assert [each.kept for each in found] == [outcome(said) for said in (b"x", b"y", b"x")]


async def test_another_request_is_told_so_whatever_state_the_key_is_in(keys: Keys) -> None:
    for how in (None, End.KEEP, End.FAIL):
        mine = a_claim(str(how).encode())
        await one(keys, mine)
        if how is not None:
            await end(keys, mine, how, b"x")

        assert (await one(keys, a_claim(str(how).encode(), b"other"))).verdict is Verdict.REUSED


async def test_a_failed_key_is_held_again_by_the_same_request(keys: Keys) -> None:
    failed = a_claim()
    await one(keys, failed)

    assert await end(keys, failed, End.FAIL)
    assert (await one(keys, a_claim())).verdict is Verdict.HELD
    assert (await one(keys, a_claim())).verdict is Verdict.BUSY


async def test_a_forgotten_key_is_free_for_any_request(keys: Keys) -> None:
    forgotten = a_claim()
    await one(keys, forgotten)

    assert await end(keys, forgotten, End.FORGET)
    assert await end(keys, forgotten, End.FORGET), "said twice"
    assert (await one(keys, a_claim(digest=b"other"))).verdict is Verdict.HELD


async def test_a_hold_whose_time_is_up_is_lost_for_good(world: World) -> None:
    await one(world.keys, a_claim(), SHORT)
    await world.later(150)

    assert (await one(world.keys, a_claim())).verdict is Verdict.LOST
    assert (await one(world.keys, a_claim(repeatable=True))).verdict is Verdict.LOST


async def test_a_repeatable_hold_whose_time_is_up_goes_to_who_claims_it(world: World) -> None:
    before = a_claim(repeatable=True)
    await one(world.keys, before, SHORT)
    await world.later(150)

    assert (await one(world.keys, a_claim(repeatable=True))).verdict is Verdict.HELD
    assert not await end(world.keys, before, End.KEEP, b"late"), "another holds it"
    assert (await one(world.keys, a_claim(repeatable=True))).verdict is Verdict.BUSY


async def test_who_is_lost_is_told_by_the_fence_of_its_last_hold(world: World) -> None:
    before = a_claim()
    await one(world.keys, before, SHORT)
    await world.later(150)

    assert [await one(world.keys, a_claim()) for _ in range(2)] == [Found(Verdict.LOST, before.fence(0))] * 2


@pytest.mark.parametrize("how", [None, End.KEEP, End.FAIL])
async def test_a_claim_anew_takes_the_place_of_whatever_there_was(keys: Keys, how: End | None) -> None:
    before, anew = a_claim(), claims_of((b"k", b"other"), flags=ANEW)
    await one(keys, before)
    if how is not None:
        await end(keys, before, how, b"before")

    assert await one(keys, anew) == Found(Verdict.HELD)
    assert not await end(keys, before, End.KEEP, b"late")
    assert await end(keys, anew, End.KEEP, b"anew")
    assert await one(keys, a_claim(digest=b"other")) == kept_by(anew, b"anew")


async def test_a_claim_anew_is_counted_as_every_other(keys: Keys) -> None:
    await one(keys, a_claim(b"first"))

    assert (await one(keys, claims_of((b"second", b"d"), flags=ANEW), keys_max=1)).verdict is Verdict.FULL


async def test_a_late_outcome_resolves_a_lost_key(world: World) -> None:
    late = a_claim()
    await one(world.keys, late, SHORT)
    await world.later(150)
    await one(world.keys, a_claim())

    assert await end(world.keys, late, End.KEEP, b"late")
    assert await one(world.keys, a_claim()) == kept_by(late, b"late")


def later(claim: Claims, epoch: int = 1) -> Claims:
    """The same holder's claim under another epoch, as the ledger in Redis counts them: by the clock, in ms."""
    return replace(claim, epoch=1_800_000_000_000 + epoch)


async def test_a_holder_goes_on_under_a_later_epoch_and_the_earlier_one_proves_nothing(keys: Keys) -> None:
    before = later(a_claim(), 255)
    after = later(before, 256)
    await one(keys, before)

    assert await one(keys, after) == Found(Verdict.HELD)
    assert await one(keys, before) == Found(Verdict.BUSY)
    assert not await end(keys, before, End.FORGET)
    assert await end(keys, after, End.KEEP, b"x")
    assert await one(keys, later(before, 257)) == kept_by(after, b"x")


async def test_a_holder_goes_on_with_what_was_lost_meanwhile(world: World) -> None:
    before = a_claim()
    await one(world.keys, before, SHORT)
    await world.later(150)
    assert (await one(world.keys, a_claim())).verdict is Verdict.LOST

    assert (await one(world.keys, later(before, 1 << 31))).verdict is Verdict.HELD
    assert (await one(world.keys, a_claim())).verdict is Verdict.BUSY


@pytest.mark.parametrize("how", [End.KEEP, End.FAIL])
async def test_what_is_settled_stays_and_may_be_said_twice(keys: Keys, how: End) -> None:
    mine = a_claim()
    await one(keys, mine)
    await end(keys, mine, how, b"first")
    other = End.FAIL if how is End.KEEP else End.KEEP

    assert await end(keys, mine, how, b"second")
    assert not await end(keys, mine, other, b"third")
    found = await one(keys, a_claim())
    assert found == (kept_by(mine, b"first") if how is End.KEEP else Found(Verdict.HELD))


@pytest.mark.parametrize("first", End)
async def test_of_ends_of_one_hold_that_are_told_together_the_first_takes_effect(keys: Keys, first: End) -> None:
    mine = a_claim()
    await one(keys, mine)
    then = [how for how in End if how is not first]

    took = await keys.settle(OWNER, mine.ended([0] * 3, bytes([first, *then]), outcome(b"x")), TIMES.keeps_ms)

    assert took == [True, False, False]
    assert await one(keys, a_claim()) == (kept_by(mine, b"x") if first is End.KEEP else Found(Verdict.HELD))


async def test_what_follows_a_call_that_was_cancelled_comes_after_it(keys: Keys) -> None:
    for turns in range(8):
        claims = a_claim(b"cancelled %d" % turns)
        asking = asyncio.ensure_future(keys.claim(OWNER, claims, TIMES, 100))
        for _ in range(turns):
            await asyncio.sleep(0)
        asking.cancel()
        await asyncio.wait([asking])

        assert await keys.settle(OWNER, claims.forgotten([0]), TIMES.keeps_ms) == [True]
        assert (await one(keys, a_claim(b"cancelled %d" % turns))).verdict is Verdict.HELD


@asynccontextmanager
async def in_a_cluster_behind_a_relay() -> AsyncIterator[tuple[RedisKeys, Relay]]:
    """Keys in a cluster of one node, which is reached through the relay alone."""
    with tempfile.TemporaryDirectory() as folder:
        node = Server("redis", Path(folder))
        relay = await Relay(node.port).open()
        keys = RedisKeys(f"redis+cluster://127.0.0.1:{relay.port}", timeout_s=PATIENCE_S)
        announced = ("--cluster-announce-ip", "127.0.0.1", "--cluster-announce-port", str(relay.port))
        try:
            node.start(*clustered(free_port()), *announced)
            node.ask("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
            await until_so(lambda: "cluster_state:ok" in cluster_info(node))
            yield keys, relay
        finally:
            relay.released.set()
            await keys.close()
            await relay.close()
            node.kill()


async def test_who_is_cancelled_in_a_cluster_is_not_back_before_what_it_asked() -> None:
    claims = a_claim()
    async with in_a_cluster_behind_a_relay() as (keys, relay):
        await one(keys, a_claim(b"other"))  # the server knows the script from here on
        relay.stop_at("EVALSHA", before=True)
        asking = asyncio.ensure_future(keys.claim(OWNER, claims, TIMES, 100))
        await relay.stopped.wait()  # it is on its way; what is asked over another connection would be there before it
        asking.cancel()
        for _ in range(100):  # turns, of which none waits for anything: a call that is given up ends in a few
            await asyncio.sleep(0)
        was_back = asking.done()
        relay.released.set()
        await asyncio.wait([asking])

        assert not was_back
        assert asking.cancelled()
        assert await keys.settle(OWNER, claims.forgotten([0]), TIMES.keeps_ms) == [True]
        assert (await one(keys, a_claim())).verdict is Verdict.HELD


async def test_what_becomes_of_a_call_that_is_cancelled_in_a_cluster_is_told_to_nobody() -> None:
    told: list[str] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context["message"]))
    async with in_a_cluster_behind_a_relay() as (keys, relay):
        await one(keys, a_claim(b"other"))
        relay.stop_at("EVALSHA", before=True)
        asking = asyncio.ensure_future(one(keys, a_claim()))
        await relay.stopped.wait()
        asking.cancel()
        await asyncio.sleep(0)
        await relay.close()  # its connection is lost
        await asyncio.wait([asking])
    assert asking.cancelled()
    del asking
    gc.collect()

    assert "Task exception was never retrieved" not in told


async def test_a_fence_that_holds_nothing_settles_nothing(keys: Keys) -> None:
    mine = a_claim()
    await one(keys, mine)

    assert not await end(keys, a_claim(), End.KEEP, b"forged")
    assert not await end(keys, a_claim(), End.FORGET)
    assert not await end(keys, a_claim(b"never claimed"), End.KEEP, b"x")
    assert (await one(keys, a_claim())).verdict is Verdict.BUSY


async def test_ends_that_are_told_together_take_effect_one_after_the_other(keys: Keys) -> None:
    twice = claims_of((b"k", b"d"), (b"k", b"d"))

    assert [found.verdict for found in await keys.claim(OWNER, twice, TIMES, 100)] == [Verdict.HELD, Verdict.BUSY]
    assert await keys.settle(OWNER, twice.forgotten([0, 1]), TIMES.keeps_ms) == [True, True], "nobody holds it any more"
    assert await one(keys, a_claim()) == Found(Verdict.HELD)


async def test_an_owner_has_so_many_keys_at_most(keys: Keys) -> None:
    found = await keys.claim(OWNER, claims_of(*((b"%d" % number, b"d") for number in range(5))), TIMES, 3)

    assert [each.verdict for each in found] == [*[Verdict.HELD] * 3, *[Verdict.FULL] * 2]
    assert (await one(keys, a_claim(b"0"), keys_max=3)).verdict is Verdict.BUSY, "no new key"
    assert (await one(keys, a_claim(b"other's"), keys_max=3, owner=OTHER)).verdict is Verdict.HELD


async def test_a_key_is_free_again_at_its_end_and_leaves_room(world: World) -> None:
    times = Times(50, 100)
    mine = a_claim()
    await one(world.keys, mine, times)
    await world.keys.settle(OWNER, mine.ended([0], bytes([End.KEEP]), outcome(b"x")), times.keeps_ms)
    await world.later(200)

    assert (await one(world.keys, a_claim(digest=b"other"), keys_max=1)).verdict is Verdict.HELD


async def test_many_more_than_fit_one_command_are_claimed_and_settled_by_one_call(keys: Keys) -> None:
    many = claims_of(*((b"%d" % (number % 2300), b"d") for number in range(2500)))
    rows = range(2300)

    found = await keys.claim(OWNER, many, TIMES, 2300)
    took = await keys.settle(OWNER, many.ended(rows, bytes([End.KEEP]) * 2300, outcome(b"x")), TIMES.keeps_ms)
    again = await keys.claim(OWNER, replace(many, group=b"another."), TIMES, 2300)

    assert [each.verdict for each in found] == [*[Verdict.HELD] * 2300, *[Verdict.BUSY] * 200]
    assert all(took)
    assert again == [Found(Verdict.KEPT, many.fence(number % 2300), outcome(b"x")) for number in range(2500)]


async def test_many_that_are_kept_each_apart_are_answered_by_one_call(keys: Keys) -> None:
    many = claims_of(*((b"%d" % number, b"d") for number in range(9000)))
    await keys.claim(OWNER, many, TIMES, 9000)
    apart = [b"%0*d" % (KEPT_NAME_BYTES, row) for row in range(9000)]
    keep = bytes([End.KEEP])
    for first in range(0, 9000, 500):  # each call has its time
        ends = [many.ended([row], keep, apart[row]) for row in range(first, first + 500)]
        await asyncio.gather(*(keys.settle(OWNER, end, TIMES.keeps_ms) for end in ends))

    found = await keys.claim(OWNER, replace(many, group=b"another."), TIMES, 9000)

    assert [each.kept for each in found] == apart


async def test_as_many_as_have_ended_are_claimed_at_once(world: World) -> None:
    for call in range(3):
        part = claims_of(*((b"%d/%d" % (call, number), b"d") for number in range(250)))
        await world.keys.claim(OWNER, part, Times(10, 10), 750)
    await world.later(50)

    found = await world.keys.claim(OWNER, claims_of(*((b"%d" % number, b"d") for number in range(750))), TIMES, 750)

    assert {each.verdict for each in found} == {Verdict.HELD}


async def test_of_keys_that_were_claimed_together_each_has_an_end_of_its_own(world: World) -> None:
    both = claims_of((b"short", b"d"), (b"long", b"d"))
    await world.keys.claim(OWNER, both, Times(50, 50), 2)
    await world.keys.settle(OWNER, both.ended([1], bytes([End.KEEP]), outcome(b"x")), TIMES.keeps_ms)
    await world.later(200)

    assert (await one(world.keys, a_claim(b"another"), keys_max=2)).verdict is Verdict.HELD
    assert await one(world.keys, a_claim(b"long"), keys_max=2) == Found(Verdict.KEPT, both.fence(1), outcome(b"x"))
    assert (await one(world.keys, a_claim(b"short"), keys_max=2)).verdict is Verdict.FULL


async def test_a_key_is_free_at_its_end_though_its_hold_was_to_last_longer(world: World) -> None:
    mine, times = a_claim(), Times(400, 450)
    await one(world.keys, mine, times)
    await world.keys.settle(OWNER, mine.ended([0], bytes([End.KEEP]), outcome(b"x")), times.keeps_ms)
    await world.later(500)

    assert (await one(world.keys, a_claim(digest=b"other"))).verdict is Verdict.HELD


async def test_a_key_that_has_ended_long_before_its_hold_would_have_leaves_room(world: World) -> None:
    mine = a_claim()
    await one(world.keys, mine)
    await world.keys.settle(OWNER, mine.ended([0], bytes([End.KEEP]), outcome(b"x")), 50)
    await world.later(100)

    assert (await one(world.keys, a_claim(b"another"), keys_max=1)).verdict is Verdict.HELD


async def test_a_sweep_removes_what_has_ended_and_nothing_else(world: World) -> None:
    await one(world.keys, a_claim(b"short"), Times(10, 10))
    await one(world.keys, a_claim(b"long"))
    await world.later(100)

    await world.keys.sweep()

    assert await world.keys.sweep() == 0
    assert (await one(world.keys, a_claim(b"long"))).verdict is Verdict.BUSY


async def test_a_claim_whose_answer_is_lost_is_made_once_more_and_holds(tmp_path: Path) -> None:
    with tempfile.TemporaryDirectory() as folder, running("valkey", Path(folder)) as (_, url):
        warm = RedisKeys(url)
        await one(warm, a_claim(b"other"))  # the server knows the script from here on
        await warm.close()
        async with lossy(url.removeprefix("unix://"), tmp_path / "lossy") as asked:
            keys = RedisKeys(f"unix://{tmp_path / 'lossy'}")
            found = await one(keys, a_claim())
            again = await one(keys, a_claim())
            await keys.close()

    assert (found.verdict, again.verdict) == (Verdict.HELD, Verdict.BUSY)
    assert asked == ["lost"]
