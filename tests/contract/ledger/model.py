"""What a store does, as plain dictionaries: the port's words in their shortest form, with no thought for speed."""

from dataclasses import dataclass, field

from gateway.batch.states import FINAL, Event, State, advance
from gateway.ledger.port import FIRST_EPOCH, Command, Lease, NewBatch, Part


@dataclass
class Slice:
    first: int
    count: int
    held: bool = False
    done: bool = False
    ready_ms: int = 0
    epoch: int = 0
    losses: int = 0
    lost_at: int = 0  # the look that found it, 0 for none
    tries: int = 0
    intended: set[int] = field(default_factory=set)
    parts: list[Part] = field(default_factory=list)

    @property
    def outcomes(self) -> set[int]:
        return {index for part in self.parts for index in part.indexes}


@dataclass
class Kept:
    """A batch on record."""

    new: NewBatch
    accepted_ms: int
    slices: list[Slice]
    state: State = "accepted"
    paused: bool = False
    ended_ms: int | None = None

    @property
    def expires_ms(self) -> int:
        return self.accepted_ms + self.new.lives_ms

    def runs(self, now_ms: int) -> bool:
        return advance(self.state, "lease") is not None and not self.paused and now_ms < self.expires_ms

    def happen(self, event: Event, now_ms: int) -> None:
        after = advance(self.state, event)
        if after is not None:
            self.state = after
            if after in FINAL:
                self.ended_ms, self.paused = now_ms, False
                self.leave_unknown()

    def leave_unknown(self) -> None:
        for number, each in enumerate(self.slices):
            doubtful = sorted(each.intended - each.outcomes)
            if doubtful and not each.held:
                each.parts.append(Part(number, doubtful, b"", 0, len(doubtful), len(doubtful)))

    def settle(self, now_ms: int) -> None:
        if self.state in FINAL:
            self.leave_unknown()
        elif any(each.held for each in self.slices):
            return
        elif self.state == "cancelling" or all(each.done for each in self.slices):
            self.happen("settle", now_ms)


class RefusedError(Exception):
    """The store is to refuse the call."""


class Model:
    """A store with a clock that the test moves."""

    def __init__(self) -> None:
        self.batches: dict[str, Kept] = {}
        self.looks = 0  # that found a worker lost

    def accept(self, new: NewBatch, now_ms: int) -> None:
        if new.id in self.batches:
            return
        unfinished = [kept for kept in self.batches.values() if kept.new.owner == new.owner and kept.ended_ms is None]
        if len(unfinished) >= new.unfinished_max:
            raise RefusedError
        size = new.slice_size
        slices = [Slice(first, min(size, new.total - first)) for first in range(0, new.total, size)]
        self.batches[new.id] = kept = Kept(new, now_ms, slices)
        if new.begun is not None:
            kept.happen("lease", now_ms)
            for index in new.begun.indexes:
                each = slices[index // size]
                each.held, each.ready_ms, each.epoch = True, now_ms + new.begun.lasts_ms, FIRST_EPOCH
                each.intended.add(index)

    def free(self, now_ms: int) -> set[tuple[str, int]]:
        """What may be leased now."""
        return {
            (id_, number)
            for id_, kept in self.batches.items()
            if kept.runs(now_ms) and now_ms >= kept.accepted_ms + kept.new.begins_after_ms
            for number, each in enumerate(kept.slices)
            if not each.held and not each.done and each.ready_ms <= now_ms
        }

    def lease(self, id_: str, number: int, epoch: int, until_ms: int, now_ms: int) -> Slice:
        """Under an epoch of the store's choice, which is higher than any before."""
        each = self.batches[id_].slices[number]
        assert epoch > each.epoch
        self.batches[id_].happen("lease", now_ms)
        each.held, each.ready_ms, each.epoch = True, until_ms, epoch
        return each

    def _held(self, lease: Lease) -> Slice | None:
        kept = self.batches.get(lease.batch)
        each = None if kept is None else kept.slices[lease.slice]
        return each if each is not None and each.held and each.epoch == lease.epoch else None

    def renew(self, lease: Lease, until_ms: int, now_ms: int) -> bool:
        each = self._held(lease)
        if each is None:
            return False
        each.ready_ms = until_ms
        return self.batches[lease.batch].runs(now_ms)

    def intend(self, lease: Lease, indexes: set[int]) -> None:
        each = self._held(lease)
        if each is None or self.batches[lease.batch].state in FINAL:
            raise RefusedError
        each.intended |= indexes

    def record(
        self, lease: Lease, part: Part | None, ends: bool, again_after_ms: int, retracts: set[int], now_ms: int
    ) -> None:
        kept = self.batches.get(lease.batch)
        if kept is None:
            raise RefusedError
        each = kept.slices[lease.slice]
        closed = each.done or (kept.state in FINAL and not each.held)
        if part is not None and part not in each.parts:
            if each.outcomes & set(part.indexes) or each.epoch != lease.epoch or closed:
                raise RefusedError
            each.parts.append(part)
        elif each.epoch != lease.epoch:
            if part is None:
                raise RefusedError
            return
        if closed:
            return
        each.intended -= retracts
        if not ends:
            return
        if len(each.outcomes) == each.count:
            each.done, each.held = True, False
        elif each.held:
            each.held, each.ready_ms = False, now_ms + again_after_ms
        kept.settle(now_ms)

    def command(self, id_: str, command: Command, now_ms: int) -> None:
        kept = self.batches.get(id_)
        if kept is None:
            return
        match command:
            case "cancel":
                kept.happen("cancel", now_ms)
                kept.settle(now_ms)
            case "break":
                kept.happen("break", now_ms)
            case "delete" if kept.state in FINAL:
                del self.batches[id_]
            case "pause" | "resume" if advance(kept.state, "lease") is not None:
                kept.paused = command == "pause"

    def rescue(self, now_ms: int) -> None:
        found = False
        for kept in self.batches.values():
            expired = [each for each in kept.slices if each.held and each.ready_ms <= now_ms]
            found = found or bool(expired)
            for each in expired:
                each.held, each.ready_ms, each.losses, each.lost_at = False, 0, each.losses + 1, self.looks + 1
            if expired:
                kept.settle(now_ms)
        self.looks += found

    def expire(self, now_ms: int) -> None:
        for kept in self.batches.values():
            if kept.ended_ms is None and kept.expires_ms <= now_ms and not any(each.held for each in kept.slices):
                kept.happen("expire", now_ms)

    def sweep(self, now_ms: int) -> None:
        self.rescue(now_ms)
        self.expire(now_ms)
        for id_, kept in list(self.batches.items()):
            if kept.ended_ms is not None and kept.ended_ms + kept.new.kept_ms <= now_ms:
                del self.batches[id_]
