"""A batch that was admitted, with all that running it takes."""

import asyncio
import math
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from gateway.batch.model import Batch, Failure, Operation, Outcome
from gateway.batch.resolution import Resolution
from gateway.batch.routes import Route
from gateway.errors import PROBLEMS

if TYPE_CHECKING:
    from gateway.replay.keyed import Keyed
    from gateway.upstream.exchange import Exchange

HALTED = Failure("halted", "an earlier operation failed and onFailure is halt; not sent")
OUT_OF_TIME = Failure("batch-deadline", "the batch ran out of time before this operation was sent", retryable=True)

Write = Callable[[Operation, int], bytes]
Stray = Callable[[Sequence[Outcome]], None]
"""Told what nobody has fetched of a batch, once, when nothing of it is on its way any more."""


class Gate(NamedTuple):
    """What the operations of an asynchronous batch pass before they start.

    `refusal()` tells why nothing may start any more, None while it may; it is asked before every group of starts, and
    again when `stopped` is done. Operation i with `holds[i]` starts once `intend`, called for all that are about to
    start in one turn of the loop, is done with None; a `Failure` refuses them. Neither future ever fails.
    """

    refusal: Callable[[], Failure | None]
    holds: Sequence[bool]
    intend: Callable[[Sequence[int]], asyncio.Future[Failure | None]]
    stopped: asyncio.Future[None]


class Underway(NamedTuple):
    """Operations `indexes`, in ascending order, of a batch that went on record while they were on their way; `ids` are
    those of all. Their outcomes come in `groups`; where one `runs_again`, that is for a later lease."""

    indexes: Sequence[int]
    ids: Sequence[str]
    groups: AsyncIterator[Sequence[Outcome]]
    runs_again: Callable[[Outcome], bool]


class Plan(msgspec.Struct, frozen=True):
    """A batch that was admitted. `routes[i]` is a `Failure` where operation i may not run; `delays_us` may be empty.

    `write` makes an operation's request; `deadline_s` is a time of the loop's clock. `gate` None: nothing is awaited.
    `resolution` is there where operations may refer to others. Operations with an outcome in `earlier` are not sent.
    Nothing starts after `starts_until_s`, of the same clock; what was sent by then has until the deadline. Where that
    is infinite, an empty group of outcomes tells that the time is up, behind those of all that was not sent.
    `keyed` is there where some have idempotency keys. Operations in `twins` end with the one that they name.
    """

    batch: Batch
    routes: Sequence[Route | Failure]
    write: Write
    concurrency: int
    deadline_s: float
    answers_bytes_max: int
    delays_us: Sequence[int] = ()
    gate: Gate | None = None
    resolution: Resolution | None = None
    earlier: Mapping[int, Outcome] = {}
    starts_until_s: float = math.inf
    keyed: "Keyed | None" = None
    twins: Mapping[int, int] = {}

    @property
    def has_one_credential(self) -> bool:
        """One caller, one credential, one upstream: what it refused once it would refuse again (PROMISES S20)."""
        upstreams = {route.upstream for route in self.routes if isinstance(route, Route)}
        own = (name for operation in self.batch.operations for name, _ in operation.fields)
        return (
            self.batch.one_credential
            and len(upstreams) == 1
            and not any(name.lower() in ("authorization", "cookie") for name in own)
        )


def refused(index: int, failure: Failure) -> Outcome:
    """The outcome of an operation that the gateway does not send."""
    return Outcome(index, PROBLEMS[failure.slug].status, failure=failure)


def failed(exchange: "Exchange", plan: Plan, now_s: float) -> Outcome:
    """The outcome of an operation that ended without an answer, or with one that is too much for its batch."""
    status, failure = exchange.status, exchange.failure
    if failure is None:
        detail = "the answers of this batch are above the cap; the operation ran"
        failure = Failure("response-budget-exceeded", detail, members={"upstreamStatus": status})
        status = 507
    elif failure.slug == "overloaded" and now_s >= plan.deadline_s:
        failure, status = OUT_OF_TIME, 408
    seconds = now_s - exchange.sent_s if exchange.sent_s else 0.0
    return Outcome(exchange.index, status, {}, b"", failure, seconds, exchange.attempt)
