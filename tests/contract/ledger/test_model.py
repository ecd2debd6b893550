"""Whatever callers, workers, crashes and time do in whatever order: the store does what the model does."""

import asyncio
import os
from itertools import count
from typing import cast

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    MultipleResults,
    RuleBasedStateMachine,
    consumes,
    invariant,
    multiple,
    rule,
)

from gateway.errors import GatewayError
from gateway.ledger import redis_records
from gateway.ledger.port import Begun, Command, Lease, LostLeaseError, Part
from gateway.ledger.redis import RedisLedger
from gateway.ledger.sqlite.store import open_store
from tests.contract.ledger.batches import begun_leases, new_batch, part
from tests.contract.ledger.model import Model, RefusedError, Slice
from tests.contract.ledger.worlds import Clock, Store
from tests.contract.machines import OnServer, run, run_on
from tests.contract.stores import STORES

LEASE_MS = 100
TIMES_MS = st.sampled_from([0, 1, 50, LEASE_MS + 1, 1000])
COMMANDS: st.SearchStrategy[Command] = st.sampled_from(["cancel", "pause", "resume", "break", "delete"])
PICKS = st.sets(st.integers(0, 3))  # which operations of a slice


class Life(RuleBasedStateMachine):
    """A store under a clock that a rule moves: here SQLite in memory."""

    batches: Bundle[str] = Bundle("batches")
    leases: Bundle[Lease] = Bundle("leases")
    sent: Bundle[tuple[Lease, Part | None, bool]] = Bundle("sent")

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.store, self.clock = self.opened()
        self.model = Model()
        self.ids = count()

    def opened(self) -> tuple[Store, Clock]:
        clock = Clock()
        return self.runner.run(open_store(None, now_ms=clock)), clock

    def look_at_all(self) -> None:
        """Whatever time has done to leases and batches, the store has seen it."""

    def teardown(self) -> None:
        self.runner.run(self.store.close())
        self.runner.close()

    def others_lost(self, each: Slice) -> bool:
        """Losses that are found in different looks are of different workers to this store."""
        return each.losses > 0 and each.lost_at < self.model.looks

    @rule(
        target=batches,
        owner=st.sampled_from("ab"),
        total=st.integers(1, 6),
        slice_size=st.integers(1, 4),
        lives_ms=st.sampled_from([150, 100_000]),
        begins_after_ms=st.sampled_from([0, 0, 60]),
        priority=st.integers(0, 9),
        begun=st.sets(st.integers(0, 5), max_size=3),
    )
    def accept(
        self,
        owner: str,
        total: int,
        slice_size: int,
        lives_ms: int,
        begins_after_ms: int,
        priority: int,
        begun: set[int],
    ) -> str:
        on_their_way = sorted(index for index in begun if index < total)
        batch = new_batch(
            id=f"batch{next(self.ids)}",
            owner=owner,
            total=total,
            slice_size=slice_size,
            lives_ms=lives_ms,
            begins_after_ms=begins_after_ms,
            kept_ms=2000,
            priority=priority,
            unfinished_max=4,
            begun=Begun("worker", on_their_way, LEASE_MS) if on_their_way else None,
        )
        try:
            self.model.accept(batch, self.clock.ms)
        except RefusedError:
            with pytest.raises(GatewayError, match="too-many-batches"):
                self.runner.run(self.store.accept(batch))
        else:
            for _ in range(2):  # the second time is an answer that was lost
                self.runner.run(self.store.accept(batch))
        return batch.id

    @rule(target=leases, id_=batches)
    def began(self, id_: str) -> MultipleResults[Lease]:
        """What a batch had on its way ends, sooner or later."""
        kept = self.model.batches.get(id_)
        return multiple(*(begun_leases(kept.new) if kept is not None else ()))

    @rule(target=leases, most=st.integers(1, 4))
    def lease(self, most: int) -> MultipleResults[Lease]:
        self.model.rescue(self.clock.ms)
        free = self.model.free(self.clock.ms)

        leases = self.runner.run(self.store.lease("worker", most=most, lasts_ms=LEASE_MS))

        places = {(lease.batch, lease.slice) for lease in leases}
        assert len(leases) == len(places) == min(most, len(free))
        assert places <= free
        for lease in leases:
            each = self.model.lease(lease.batch, lease.slice, lease.epoch, self.clock.ms + LEASE_MS, self.clock.ms)
            assert set(lease.done) == each.outcomes
            assert set(lease.in_doubt) == each.intended - each.outcomes
            assert lease.losses == each.losses
            assert lease.others_lost == self.others_lost(each)
            assert (lease.first, lease.count) == (each.first, each.count)
            assert lease.operations == self.model.batches[lease.batch].new.slices[lease.slice]
        return multiple(*leases)

    @rule(lease=leases)
    def renew(self, lease: Lease) -> None:
        expected = self.model.renew(lease, self.clock.ms + LEASE_MS, self.clock.ms)

        assert self.runner.run(self.store.renew([lease], lasts_ms=LEASE_MS)) == [expected]

    @rule(lease=leases, picks=PICKS)
    def intend(self, lease: Lease, picks: set[int]) -> None:
        indexes = _indexes(lease, picks)
        try:
            self.model.intend(lease, set(indexes))
        except RefusedError:
            with pytest.raises(LostLeaseError):
                self.runner.run(self.store.intend(lease, indexes))
        else:
            self.runner.run(self.store.intend(lease, indexes))

    @rule(
        target=sent,
        lease=leases,
        picks=PICKS,
        failed=st.booleans(),
        ends=st.booleans(),
        again_after_ms=st.sampled_from([0, 50]),
        retracts=PICKS,
    )
    def record(
        self, lease: Lease, picks: set[int], failed: bool, ends: bool, again_after_ms: int, retracts: set[int]
    ) -> tuple[Lease, Part | None, bool]:
        indexes = [index for index in _indexes(lease, picks) if index not in lease.done]
        outcomes = part(lease.slice, indexes, failed=int(failed), sealed=b"%d" % next(self.ids)) if indexes else None
        self._record(lease, outcomes, ends, again_after_ms, _indexes(lease, retracts))
        return lease, outcomes, ends

    @rule(said=sent)
    def record_again(self, said: tuple[Lease, Part | None, bool]) -> None:
        lease, outcomes, ends = said
        self._record(lease, outcomes, ends, 0, [])

    @rule(lease=consumes(leases))
    def finish(self, lease: Lease) -> None:
        indexes = [index for index in _indexes(lease, set(range(4))) if index not in lease.done]
        outcomes = part(lease.slice, indexes, sealed=b"%d" % next(self.ids)) if indexes else None
        self._record(lease, outcomes, True, 0, [])

    def _record(
        self, lease: Lease, outcomes: Part | None, ends: bool, again_after_ms: int, retracts: list[int]
    ) -> None:
        call = self.store.record(lease, outcomes, ends=ends, again_after_ms=again_after_ms, retracts=retracts)
        try:
            self.model.record(lease, outcomes, ends, again_after_ms, set(retracts), self.clock.ms)
        except RefusedError:
            with pytest.raises(LostLeaseError):
                self.runner.run(call)
        else:
            self.runner.run(call)

    @rule(id_=batches, command=COMMANDS)
    def command(self, id_: str, command: Command) -> None:
        self.model.command(id_, command, self.clock.ms)
        view = self.runner.run(self.store.command(id_, command))

        assert (view is None) == (id_ not in self.model.batches)

    @rule(ms=TIMES_MS)
    def time_passes(self, ms: int) -> None:
        self.clock.ms += ms
        self.look_at_all()

    @rule()
    def sweep(self) -> None:
        self.model.sweep(self.clock.ms)
        self.runner.run(self.store.sweep())

    @invariant()
    def what_is_read_is_what_is_on_record(self) -> None:
        for id_, kept in self.model.batches.items():
            view = self.runner.run(self.store.view(id_))
            assert view is not None
            parts = [each for slice_ in kept.slices for each in slice_.parts]
            assert (view.state, view.paused, view.ended_ms) == (kept.state, kept.paused, kept.ended_ms)
            assert view.succeeded == sum(each.succeeded for each in parts)
            assert view.failed == sum(each.failed for each in parts)
            assert view.unknown == sum(each.unknown for each in parts)
            assert view.completed <= view.total
            found = self.runner.run(self.store.parts(id_, after=0, limit=1000))
            assert sorted(map(_said, found)) == sorted(map(_said, parts))

    @invariant()
    def what_is_gone_is_gone(self) -> None:
        found = {
            view.id
            for owner in "ab"
            for view in self.runner.run(self.store.browse(owner, limit=1000, after=None, state=None))
        }
        assert found == set(self.model.batches)


def _said(each: Part) -> tuple[bytes, list[int]]:
    return each.sealed, list(each.indexes)


def _indexes(lease: Lease, picks: set[int]) -> list[int]:
    return [lease.first + pick for pick in sorted(picks) if pick < lease.count]


class SharedLife(OnServer, Life):
    """Redis or Valkey with a clock that stands still. Its sweep looks at what is due in its index; here at all."""

    def opened(self) -> tuple[Store, Clock]:
        self.empty()
        return RedisLedger(self.url, went_back=_sound_the_alarm, timeout_s=60.0), self.clock_of_server

    def others_lost(self, each: Slice) -> bool:
        return False  # all leases are one worker's

    def look_at_all(self) -> None:
        self.model.rescue(self.clock.ms)
        self.model.expire(self.clock.ms)
        for id_ in self.model.batches:
            self.runner.run(self._look_at(id_))

    async def _look_at(self, id_: str) -> None:
        ledger = cast(RedisLedger, self.store)
        answer = await ledger._store.batch(id_, "tend")
        await ledger._found_lost(answer[2])
        await ledger._store.note(id_, redis_records.hint(answer[1]))


def _sound_the_alarm(batch_id: str) -> None:
    raise AssertionError(f"{batch_id} was said to have gone back in time")


EXAMPLES = int(os.environ.get("LEDGER_EXAMPLES", "0"))
"""How often each store is tried; 0 for as often as a run of all tests has time for."""


def test_sqlite_does_what_the_model_does() -> None:
    run(Life, EXAMPLES or 50)


@pytest.mark.parametrize("store", STORES)
def test_a_shared_store_does_what_the_model_does(store: str) -> None:
    run_on(store, SharedLife, EXAMPLES or 5)
