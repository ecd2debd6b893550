"""Idempotency keys of slices whose workers are lost: who resumes goes on under the batch's own claims."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import cast

import pytest

from gateway.batch.model import Operation
from gateway.ledger.port import Lease, LedgerUnavailableError, Part, Queue
from gateway.replay.port import Claims, Found, Keys, Times
from gateway.replay.sqlite import open_keys
from gateway.worker.worker import Store
from tests.fakes.keyring import replay_over
from tests.fakes.until import pass_by
from tests.fakes.upstream import Answer, ScriptedUpstream, Then, plain
from tests.integration.worker.desk import SEALER, Desk, desk, slugs
from tests.integration.worker.test_losing import Between, expire_leases, kill


class Clock:
    ms = 1_800_000_000_000

    def __call__(self) -> int:
        return self.ms


@pytest.fixture
async def keys() -> AsyncIterator[Keys]:
    """A store that outlives the workers, as Redis does."""
    made = await open_keys(None, Clock())
    yield made
    await made.close()


def keyed(count: int, method: str = "POST", key: str = "k") -> list[Operation]:
    return [Operation(f"op{n}", method, f"/{n}", key=f"{key}-{n}") for n in range(count)]


class Mute(Between):
    """A ledger that takes intents, and no outcomes."""

    async def record(self, lease: Lease, part: Part | None, **_: object) -> None:
        raise LedgerUnavailableError("away")


async def result_of(at: Desk, batch: str) -> list[tuple[int, bytes, bool]]:
    found = await at.outcomes(batch)
    return [(each.status, each.body, each.replayed) for _, each in sorted(found.items())]


async def test_an_answer_that_only_the_key_knows_is_the_outcome_after_its_worker_is_lost(keys: Keys) -> None:
    async with ScriptedUpstream(lambda _: Answer([plain(b"made")])) as upstream, desk(upstream.address) as at:
        batch = await at.submit(keyed(3))
        mute = Store(at.store, cast(Queue, Mute(at.store)), SEALER)
        first = at.worker(store=mute, replay=replay_over(keys))
        await upstream.until(lambda: upstream.in_flight == 0 and len(upstream.requests) == 3)
        await pass_by(0.2)  # it tries to record them
        await kill(first)
        await expire_leases(at)
        at.worker(replay=replay_over(keys))
        await at.ended(batch)
        found = await result_of(at, batch)

    assert len(upstream.requests) == 3
    assert found == [(200, b"made", False)] * 3


async def test_what_was_on_its_way_when_its_worker_was_lost_is_unknown_to_its_key_as_well(keys: Keys) -> None:
    async with (
        ScriptedUpstream(lambda _: Answer([plain()], after=asyncio.Event())) as upstream,
        desk(upstream.address) as at,
    ):
        batch = await at.submit(keyed(2))
        first = at.worker(replay=replay_over(keys))
        await upstream.until_requests(2)
        await kill(first)
        await expire_leases(at)
        second = at.worker(replay=replay_over(keys))
        await at.ended(batch)
        again = await at.submit(keyed(2))
        view = await at.ended(again)
        outcomes = await at.outcomes(again)
        await second.stop(1.0)

    assert view.unknown == 2
    assert slugs(outcomes) == dict.fromkeys(range(2), "outcome-unknown")
    assert all(each.replayed for each in outcomes.values())
    assert len(upstream.requests) == 2


class Hasty(Between):
    """A store of keys whose worker is lost right after its claim, before anything was sent."""

    def __init__(self, keys: Keys) -> None:
        super().__init__(keys)
        self.claimed = asyncio.Event()

    async def claim(self, owner: bytes, claims: Claims, times: Times, keys_max: int) -> Sequence[Found]:
        await self._ledger.claim(owner, claims, times, keys_max)
        self.claimed.set()
        await asyncio.Event().wait()
        raise AssertionError


async def test_what_was_claimed_and_never_sent_runs_when_its_slice_is_resumed(keys: Keys) -> None:
    async with ScriptedUpstream() as upstream, desk(upstream.address) as at:
        batch = await at.submit(keyed(2))
        hasty = Hasty(keys)
        first = at.worker(replay=replay_over(cast(Keys, hasty)))
        await hasty.claimed.wait()
        await kill(first)
        await expire_leases(at)
        at.worker(replay=replay_over(keys))
        view = await at.ended(batch)

    assert view.succeeded == 2
    assert len(upstream.requests) == 2


async def test_who_finds_a_key_in_use_comes_back_for_what_it_stands_for(keys: Keys) -> None:
    gate = asyncio.Event()

    async with (
        ScriptedUpstream(lambda _: Answer([plain(b"made")], after=gate)) as upstream,
        desk(upstream.address) as at,
    ):
        one = await at.submit(keyed(1))
        at.worker(replay=replay_over(keys))
        await upstream.until_requests(1)
        other = await at.submit(keyed(1))
        await pass_by(0.3)
        gate.set()
        first, second = await at.ended(one), await at.ended(other)
        found = await result_of(at, other)

    assert (first.succeeded, second.succeeded) == (1, 1)
    assert found == [(200, b"made", True)]
    assert len(upstream.requests) == 1


class Away(Between):
    is_away = True

    async def claim(self, owner: bytes, claims: Claims, times: Times, keys_max: int) -> Sequence[Found]:
        if self.is_away:
            raise LedgerUnavailableError("away")
        found: Sequence[Found] = await self._ledger.claim(owner, claims, times, keys_max)
        return found


async def test_while_the_store_of_keys_is_away_keyed_operations_wait_and_the_others_run(keys: Keys) -> None:
    away = Away(keys)
    mixed = [*keyed(2), Operation("plain", "POST", "/plain")]
    async with ScriptedUpstream() as upstream, desk(upstream.address) as at:
        batch = await at.submit(mixed)
        at.worker(replay=replay_over(cast(Keys, away)))
        await at.until(batch, lambda view: view.completed == 1)
        during = [request.target for request in upstream.requests]
        away.is_away = False
        view = await at.ended(batch)

    assert during == ["/plain"]
    assert view.succeeded == 3


async def test_an_outcome_in_doubt_is_not_decided_while_the_store_of_keys_is_away(keys: Keys) -> None:
    away = Away(keys)
    away.is_away = False
    async with ScriptedUpstream(lambda _: Answer([plain(b"made")])) as upstream, desk(upstream.address) as at:
        batch = await at.submit(keyed(2))
        first = at.worker(store=Store(at.store, cast(Queue, Mute(at.store)), SEALER), replay=replay_over(keys))
        await upstream.until(lambda: upstream.in_flight == 0 and len(upstream.requests) == 2)
        await pass_by(0.2)
        await kill(first)
        await expire_leases(at)
        away.is_away = True
        at.worker(replay=replay_over(cast(Keys, away)))
        await pass_by(0.5)
        during = await at.view(batch)
        away.is_away = False
        view = await at.ended(batch)

    assert during.completed == 0
    assert (view.succeeded, view.unknown) == (2, 0)
    assert len(upstream.requests) == 2


async def test_a_key_that_is_turned_away_is_tried_again_under_it(keys: Keys) -> None:
    answers = [
        Answer([plain(status=b"503 Busy", fields=b"Retry-After: 0\r\n")], then=Then.KEEP),
        Answer([plain(b"made")]),
    ]
    async with ScriptedUpstream(lambda _: answers.pop(0)) as upstream, desk(upstream.address) as at:
        batch = await at.submit(keyed(1, "GET"))
        at.worker(replay=replay_over(keys))
        await at.ended(batch)
        found = await result_of(at, batch)

    assert found == [(200, b"made", False)]
    assert len(upstream.requests) == 2


async def test_a_slice_claims_its_keys_a_hundred_at_a_time(keys: Keys) -> None:
    sizes: list[int] = []

    class Counting(Between):
        async def claim(self, owner: bytes, claims: Claims, times: Times, keys_max: int) -> Sequence[Found]:
            sizes.append(len(claims.names))
            found: Sequence[Found] = await keys.claim(owner, claims, times, keys_max)
            return found

    async with ScriptedUpstream() as upstream, desk(upstream.address) as at:
        batch = await at.submit(keyed(250), slice_size=250)
        at.worker(replay=replay_over(cast(Keys, Counting(keys))))
        view = await at.ended(batch)

    assert view.succeeded == 250
    assert sizes == [100, 100, 50]
