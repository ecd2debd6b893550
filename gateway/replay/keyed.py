"""The keys of one batch: which of its operations are answered at once, and what the others leave on record."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from gateway.batch.model import Batch, Failure, Operation, Outcome
from gateway.batch.retry import is_repeatable
from gateway.batch.routes import Route
from gateway.errors import PROBLEMS
from gateway.replay.law import end_of
from gateway.replay.port import Claim, End, Found, Settlement, Verdict, fence_of

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

_TOGETHER, _TOGETHER_S = 50, 0.1  # what is put on record in one step, of a batch that is answered whole

Seal = Callable[[bytes, bytes, Outcome], bytes]
Settle = Callable[[Sequence[Settlement]], "asyncio.Future[None]"]


class Asked(NamedTuple):
    """An operation with a key, at `place` of those that run together; `fence` and `repeatable` as in `Claim`."""

    place: int
    operation: Operation
    fence: bytes
    repeatable: bool


def refused(index: int, failure: Failure) -> Outcome:
    return Outcome(index, PROBLEMS[failure.slug].status, failure=failure)


def answered(
    asked: Sequence[Asked],
    claims: Sequence[Claim],
    found: Sequence[Found],
    opened: Callable[[Claim, bytes, int], Outcome],
) -> dict[int, Outcome]:
    """The outcomes of those that are not to be sent."""
    earlier = {}
    for each, claim, (verdict, kept) in zip(asked, claims, found, strict=True):
        if verdict is Verdict.KEPT:
            earlier[each.place] = opened(claim, kept, each.place)
        elif verdict is not Verdict.HELD:
            earlier[each.place] = refused(each.place, _FAILURES[verdict])
    return earlier


def asked_of(batch: Batch, routes: Sequence[Route | Failure], group: bytes) -> list[Asked]:
    """The operations of a batch in place that have a key and may run. Each is a holder of its own, so that a key that
    stands twice is held once."""
    return [
        Asked(
            index,
            operation,
            fence_of(group, index),
            is_repeatable(operation.method, route_idempotent=route.idempotent),
        )
        for index, (operation, route) in enumerate(zip(batch.operations, routes, strict=True))
        if operation.key and isinstance(route, Route)
    ]


class Keyed:
    """`earlier` has the outcomes of operations that are not sent. The others are told to `settle`, `stray` or `unsent`.

    `settle_soon` takes settlements, and sees to it that they reach the store; its future never fails.
    """

    def __init__(self, earlier: Mapping[int, Outcome], held: Mapping[int, Claim], seal: Seal, settle_soon: Settle):
        self.earlier = earlier
        self._held = dict(held)
        self._seal = seal
        self._settle_soon = settle_soon
        self._is_begun = self._is_told_whole = False
        self._waiting: list[Settlement] = []
        self._timer: asyncio.TimerHandle | None = None
        self._telling: set[asyncio.Future[None]] = set()

    def begin(self, *, is_told_whole: bool) -> None:
        """From now on what becomes of every operation is told. `is_told_whole`: nobody hears of it before `finish`."""
        self._is_begun, self._is_told_whole = True, is_told_whole

    async def settle(self, outcomes: Sequence[Outcome]) -> None:
        """Put them on record, at once or with others; whoever hears of them afterwards may ask for them again."""
        self._waiting += [self._settlement(outcome) for outcome in outcomes if outcome.index in self._held]
        if len(self._waiting) >= _TOGETHER or not self._is_told_whole:
            await self.finish()
        elif self._waiting and self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_TOGETHER_S, self._tell)

    async def finish(self) -> None:
        """All that was settled is on record."""
        self._tell()
        if self._telling:
            await asyncio.wait(self._telling)

    def stray(self, then: Callable[[Outcome], None], outcome: Outcome) -> None:
        """An outcome that nobody waits for any more; `then` hears of it where it was sent."""
        if outcome.index in self._held:
            self._settle_soon([self._settlement(outcome)])
        if outcome.attempts:
            then(outcome)

    def unsent(self, indexes: Sequence[int]) -> None:
        """These will never be sent."""
        claims = [self._held.pop(index) for index in indexes if index in self._held]
        if claims:
            self._settle_soon([Settlement(claim.name, claim.fence, End.FORGET) for claim in claims])

    def leave(self) -> None:
        """Nobody waits for it any more; where it was not begun, nothing will be sent."""
        self._tell()
        if not self._is_begun:
            self.unsent(list(self._held))

    def _tell(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._waiting:
            telling = self._settle_soon(self._waiting)
            self._waiting = []
            self._telling.add(telling)
            telling.add_done_callback(self._telling.discard)

    def _settlement(self, outcome: Outcome) -> Settlement:
        claim = self._held.pop(outcome.index)
        end = end_of(outcome, repeatable=claim.repeatable)
        kept = self._seal(claim.name, claim.fence, outcome) if end is End.KEEP else b""
        return Settlement(claim.name, claim.fence, end, kept)
