"""Batches on record, read for their callers: found by their owner only, and opened part by part."""

import asyncio
from base64 import b64decode
from bisect import bisect_left
from collections.abc import AsyncIterator, Sequence, Set
from itertools import zip_longest
from operator import attrgetter
from typing import NamedTuple

import msgspec

from gateway.batch.model import Failure, Operation
from gateway.batch.states import FINAL
from gateway.errors import PROBLEMS, GatewayError
from gateway.ledger.names import Names, is_id
from gateway.ledger.port import Ledger, Part, View
from gateway.ledger.seal import BatchKey, PayloadCorruptError, Sealer
from gateway.ledger.segments import (
    MEMO,
    WHY,
    Recorded,
    of_operations,
    of_outcomes,
    operations_from_bytes,
    outcomes_from_bytes,
)
from gateway.server.clock import Clock

_HELD_MAX = 4096  # views kept for pollers; the oldest go first
_READ_OPERATIONS, _READ_BYTES = 200, 1 << 20  # of one read of the ledger: what a download holds, or else one slice
_AT_ONCE_BYTES = 65_536  # more is opened in a thread: the loop has others to serve
_INDEX = attrgetter("index")


class _Held(NamedTuple):
    view: View
    at_s: float


class Records:
    """Reads one ledger. `retention_s` is how long results are kept."""

    def __init__(self, ledger: Ledger, sealer: Sealer, names: Names, clock: Clock, *, retention_s: float) -> None:
        self._ledger = ledger
        self._sealer = sealer
        self._names = names
        self._clock = clock
        self._retention_s = retention_s
        self._held: dict[str, _Held] = {}
        self._asking: dict[str, asyncio.Task[View | None]] = {}

    async def find(self, batch_id: str, owner: str, *, age_max_s: float = 0.0) -> View:
        """The owner's batch, as it stood at most `age_max_s` ago. Raises 404 where the owner has none of that id, and
        410 where it was forgotten."""
        view = await self._view(batch_id, age_max_s) if is_id(batch_id) else None
        if view is None:
            made_s = self._names.made_s(batch_id, owner)
            if made_s is not None and self._clock.now_s() - made_s >= self._retention_s:
                raise GatewayError("results-expired")
        if view is None or view.owner != owner:
            raise GatewayError("batch-not-found")
        if view.kept_until_ms is not None and view.kept_until_ms <= self._clock.now_s() * 1000:
            raise GatewayError("results-expired")
        return view

    def keep(self, view: View) -> None:
        """What a command has just answered: pollers see it at once, and nothing that was asked before it."""
        self._asking.pop(view.id, None)
        self._hold(view)

    def _hold(self, view: View) -> None:
        self._held.pop(view.id, None)
        while len(self._held) >= _HELD_MAX:
            del self._held[next(iter(self._held))]
        self._held[view.id] = _Held(view, self._clock.monotonic_s())

    def drop(self, batch_id: str) -> None:
        """The batch was deleted."""
        self._asking.pop(batch_id, None)
        self._held.pop(batch_id, None)

    async def outcomes(self, view: View, *, first: int, most: int) -> AsyncIterator[Sequence[Recorded]]:
        """The outcomes of operations `first` to `first + most - 1`, in order, some of one slice at a time. Of a batch
        that has ended every operation has one: what never ran is in the state's own words."""
        key = self._key(view)
        last = min(view.total, first + most) - 1
        waiting: dict[int, list[Part]] = {}
        read_to, at_once = first // view.slice_size - 1, 1
        for slice_ in range(first // view.slice_size, last // view.slice_size + 1):
            if slice_ > read_to:
                parts = await self._ledger.parts(view.id, after=slice_, limit=at_once)
                read_to = max((part.slice for part in parts), default=last)
                at_once = _next_read(parts)
                for part in parts:
                    waiting.setdefault(part.slice, []).append(part)
            async for recorded in self._of_slice(view, key, slice_, waiting.pop(slice_, [])):
                yield recorded[bisect_left(recorded, first, key=_INDEX) : bisect_left(recorded, last + 1, key=_INDEX)]

    async def _of_slice(
        self, view: View, key: BatchKey, slice_: int, parts: Sequence[Part]
    ) -> AsyncIterator[Sequence[Recorded]]:
        """In order, a part at a time, which is all that is open at once; whole where operations have no outcome."""
        start = slice_ * view.slice_size
        indexes = range(start, min(view.total, start + view.slice_size))
        unknown = {index for part in parts if not part.sealed for index in part.indexes}
        parts = [part for part in parts if part.sealed]
        is_whole = sum(len(part.indexes) for part in parts) == len(indexes)
        if view.state in FINAL and not is_whole:
            known = [each for part in parts for each in _recorded(key, part)]
            yield await self._completed(view, slice_, indexes, known, unknown)
            return
        parts = sorted(parts, key=lambda part: part.indexes[0])
        left: list[Recorded] = []
        for part, following in zip_longest(parts, parts[1:]):
            left += await _opened_part(key, part)
            left.sort(key=_INDEX)
            end = indexes.stop if following is None else following.indexes[0]
            ready = bisect_left(left, end, key=_INDEX)
            yield left[:ready]
            del left[:ready]

    async def operations(self, view: View, slice_: int) -> list[Operation] | None:
        """The operations of a slice; None where they are erased or damaged."""
        sealed = await self._ledger.operations(view.id, slice_)
        if sealed is None:
            return None
        try:
            return operations_from_bytes(self._key(view).open(sealed, of_operations(slice_)))
        except (PayloadCorruptError, msgspec.DecodeError):
            return None

    def memo(self, view: View) -> bytes:
        """What the batch's dialect wanted to know again."""
        said = view.label.get(MEMO)
        return b"" if said is None else self._opened(view, b64decode(said), MEMO)

    async def why(self, view: View) -> bytes:
        """Why the batch is refused, in its dialect's words; nothing for one that is not."""
        sealed = await self._ledger.operations(view.id, 0) if WHY in view.label else None
        return b"" if sealed is None else self._opened(view, sealed, WHY)

    def _opened(self, view: View, sealed: bytes, purpose: str) -> bytes:
        try:
            return self._key(view).open(sealed, purpose)
        except PayloadCorruptError:
            raise GatewayError("payload-corrupt", "the record of the batch is damaged") from None

    async def _completed(
        self, view: View, slice_: int, indexes: range, recorded: Sequence[Recorded], unknown: Set[int]
    ) -> Sequence[Recorded]:
        """The slice's outcomes, and the state's words for every operation that has none and is not `unknown`."""
        operations = await self.operations(view, slice_)
        known = {each.index: each for each in recorded}
        ids = [str(index) for index in indexes] if operations is None else [operation.id for operation in operations]
        slug = {"cancelled": "cancelled", "expired": "expired"}.get(view.state, "payload-corrupt")
        return [
            known.get(index) or (_unknown(id_, index) if index in unknown else _never_ran(id_, index, slug))
            for index, id_ in zip(indexes, ids, strict=False)
        ]

    def _key(self, view: View) -> BatchKey:
        try:
            return self._sealer.key(view.id, view.key)
        except PayloadCorruptError:
            raise GatewayError("payload-corrupt", "the batch was sealed under another key") from None

    async def _view(self, batch_id: str, age_max_s: float) -> View | None:
        """One question to the ledger at a time for a batch, however many ask."""
        held = self._held.get(batch_id)
        if held is not None and self._clock.monotonic_s() - held.at_s < age_max_s:
            return held.view
        asking = self._asking.get(batch_id) if age_max_s else None
        if asking is None:
            asking = asyncio.ensure_future(self._ask(batch_id))
            self._asking[batch_id] = asking
            asking.add_done_callback(lambda done: self._asked(batch_id, done))
        return await asyncio.shield(asking)

    async def _ask(self, batch_id: str) -> View | None:
        view = await self._ledger.view(batch_id)
        if self._asking.get(batch_id) is asyncio.current_task():  # else it may be older than what was told since
            if view is None:
                self.drop(batch_id)
            else:
                self._hold(view)
        return view

    def _asked(self, batch_id: str, done: "asyncio.Task[View | None]") -> None:
        if self._asking.get(batch_id) is done:
            del self._asking[batch_id]
        if not done.cancelled():
            done.exception()  # everybody who asked may be gone


def _next_read(parts: Sequence[Part]) -> int:
    """How many operations to read after these: as many as weigh `_READ_BYTES`."""
    operations, size = sum(len(part.indexes) for part in parts), sum(len(part.sealed) for part in parts)
    return max(1, min(_READ_OPERATIONS, operations * _READ_BYTES // max(1, size)))


async def _opened_part(key: BatchKey, part: Part) -> Sequence[Recorded]:
    if len(part.sealed) < _AT_ONCE_BYTES:
        return _recorded(key, part)
    return await asyncio.to_thread(_recorded, key, part)


def _recorded(key: BatchKey, part: Part) -> Sequence[Recorded]:
    """A part's outcomes. One that does not open keeps their places."""
    try:
        return outcomes_from_bytes(key.open(part.sealed, of_outcomes(part.slice)))
    except (PayloadCorruptError, msgspec.DecodeError):
        return [_never_ran(str(index), index, "payload-corrupt") for index in part.indexes]


def _unknown(id_: str, index: int) -> Recorded:
    detail = "the worker was lost after it had announced this operation, and the batch ended before another had it"
    failure = Failure("outcome-unknown", detail, members={"attempt": 1})
    return Recorded(id_, index, PROBLEMS[failure.slug].status, failure=failure, attempts=1)


def _never_ran(id_: str, index: int, slug: str) -> Recorded:
    problem = PROBLEMS[slug]
    return Recorded(id_, index, problem.status, failure=Failure(slug, problem.cure))
