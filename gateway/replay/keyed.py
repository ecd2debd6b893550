"""The keys of one batch: which of its operations are answered at once, and what the others leave on record."""

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from msgspec.structs import replace

from gateway.batch.model import Batch, Failure, Operation, Outcome
from gateway.batch.retry import is_repeatable
from gateway.batch.routes import Route
from gateway.errors import PROBLEMS
from gateway.replay.law import end_of
from gateway.replay.port import HELD, REPEATABLE, Claims, End, Found, Settlements, Verdict

IN_PROGRESS = Failure(
    "idempotency-in-progress",
    "an operation under this key is on its way; come back for its outcome; not sent",
    retryable=True,
    members={"retryAfter": 1},
)
_REUSED = Failure("idempotency-key-reused", "this key stands for another request; use a key of its own; not sent")
_LOST = Failure(
    "outcome-unknown",
    "the gateway that sent it under this key is gone, and nobody knows what became of it; look at the upstream",
)
_FULL = Failure(
    "rate-limited",
    "this caller has as many keys on record as it may; wait until older ones end; not sent",
    retryable=True,
    members={"retryAfter": 60},
)
_FAILURES = {Verdict.BUSY: IN_PROGRESS, Verdict.REUSED: _REUSED, Verdict.LOST: _LOST, Verdict.FULL: _FULL}

_TOGETHER, _TOGETHER_S = 100, 0.1  # what is put on record in one step, of a batch that is answered whole
_SEALED_BYTES = 65_536  # of bodies, at most, and one: who wants one outcome reads and opens all that are sealed with it

Seal = Callable[[Claims, Sequence[int], Sequence[Outcome]], bytes]
Settle = Callable[[Settlements], "asyncio.Future[None]"]


class Asked(NamedTuple):
    """Operations with a key, in columns; `places` among those that run together, and of their holders in `group`.

    `flags` as in `Claims`.
    """

    places: Sequence[int]
    operations: Sequence[Operation]
    flags: bytes
    group: bytes
    holders: Sequence[int]
    epoch: int = 0


def refused(index: int, failure: Failure) -> Outcome:
    return Outcome(index, PROBLEMS[failure.slug].status, failure=failure)


def asked_of(batch: Batch, routes: Sequence[Route | Failure], group: bytes) -> Asked:
    """The operations of a batch in place that have a key and may run. Each is a holder of its own, so that a key that
    stands twice is held once."""
    places, operations, flags = [], [], bytearray()
    for index, (operation, route) in enumerate(zip(batch.operations, routes, strict=True)):
        if operation.key and isinstance(route, Route):
            places.append(index)
            operations.append(operation)
            flags.append(is_repeatable(operation.method, route_idempotent=route.idempotent))  # REPEATABLE is 1
    return Asked(places, operations, bytes(flags), group, places)


def answered(
    places: Sequence[int],
    claims: Claims,
    found: Sequence[Found],
    opened: Callable[[Claims, Sequence[Found]], Iterable[tuple[int, Outcome]]],
) -> dict[int, Outcome]:
    """The outcomes of those that are not to be sent."""
    if found.count(HELD) == len(found):
        return {}
    earlier = {places[row]: replace(outcome, index=places[row]) for row, outcome in opened(claims, found)}
    for place, each in zip(places, found, strict=True):
        if each.verdict in _FAILURES:
            earlier[place] = refused(place, _FAILURES[each.verdict])
    return earlier


class Keyed:
    """`earlier` has the outcomes of operations that are not sent. The others are told to `settle`, `stray` or `unsent`.

    `places` are those of the claims. `settle_soon` takes settlements, and sees to it that they reach the store; its
    future never fails.
    """

    def __init__(
        self, earlier: Mapping[int, Outcome], places: Sequence[int], claims: Claims, seal: Seal, settle_soon: Settle
    ) -> None:
        self.earlier = earlier
        self._claims = claims
        self._held = dict(zip(places, range(len(places)), strict=True))
        for place in earlier:
            self._held.pop(place, None)
        self._seal = seal
        self._settle_soon = settle_soon
        self._is_begun = self._is_told_whole = False
        self._waiting: list[Outcome] = []
        self._timer: asyncio.TimerHandle | None = None
        self._telling: set[asyncio.Future[None]] = set()

    def begin(self, *, is_told_whole: bool) -> None:
        """From now on what becomes of every operation is told. `is_told_whole`: nobody hears of it before `finish`."""
        self._is_begun, self._is_told_whole = True, is_told_whole

    async def settle(self, outcomes: Sequence[Outcome]) -> None:
        """Put them on record, at once or with others; whoever hears of them afterwards may ask for them again."""
        self._waiting += outcomes
        if len(self._waiting) >= _TOGETHER or not self._is_told_whole:
            await self.finish()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_TOGETHER_S, self._tell)

    async def finish(self) -> None:
        """All that was settled is on record."""
        self._tell()
        if self._telling:
            await asyncio.wait(self._telling)

    def stray(self, outcomes: Sequence[Outcome]) -> None:
        """Nobody waits for these any more."""
        for together in _pieces(outcomes):
            self._end(together)

    def unsent(self, indexes: Sequence[int]) -> None:
        """These will never be sent."""
        rows = [self._held.pop(index) for index in indexes if index in self._held]
        if rows:
            self._settle_soon(self._claims.forgotten(rows))

    def leave(self) -> None:
        """Nobody waits for it any more; where it was not begun, nothing will be sent."""
        self._tell()
        if not self._is_begun:
            self.unsent(list(self._held))

    def _tell(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        waiting, self._waiting = self._waiting, []
        for together in _pieces(waiting):
            telling = self._end(together)
            if telling is not None:
                self._telling.add(telling)
                telling.add_done_callback(self._telling.discard)

    def _end(self, outcomes: Sequence[Outcome]) -> "asyncio.Future[None] | None":
        """Tell what these mean for the keys that they hold; None where they hold none."""
        claims, held, keep = self._claims, self._held, End.KEEP
        flags = claims.flags
        rows, ends, keeping, kept = [], bytearray(), [], []
        for outcome in outcomes:
            row = held.pop(outcome.index, None)
            if row is not None:
                end = end_of(outcome, repeatable=flags[row] & REPEATABLE > 0)
                rows.append(row)
                ends.append(end)
                if end is keep:
                    keeping.append(row)
                    kept.append(outcome)
        if not rows:
            return None
        return self._settle_soon(claims.ended(rows, bytes(ends), self._seal(claims, keeping, kept) if kept else b""))


def _pieces(outcomes: Sequence[Outcome]) -> Iterator[Sequence[Outcome]]:
    """Those that may be sealed together."""
    begun = size = 0
    for at, outcome in enumerate(outcomes):
        size += len(outcome.body)
        if size > _SEALED_BYTES and at > begun:
            yield outcomes[begun:at]
            begun, size = at, len(outcome.body)
    yield outcomes[begun:]
