"""Putting a batch on record: sealed, cut into slices, durable before anybody is told that it was accepted."""

import math
import secrets
from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from aiohttp.web import BaseRequest

from gateway.admission import Caller
from gateway.batch.model import Batch, Operation, Outcome, summarize
from gateway.dialects.on_record import Order
from gateway.dialects.port import EnvelopeError
from gateway.errors import GatewayError
from gateway.ledger.names import Names
from gateway.ledger.port import Begun, Ledger, NewBatch, Part, View
from gateway.ledger.seal import BatchKey, Sealer
from gateway.ledger.segments import (
    CONTEXT,
    FAILS_FROM,
    MEMO,
    WHY,
    Context,
    Recorded,
    context_to_bytes,
    of_operations,
    of_outcomes,
    operations_to_bytes,
    outcomes_to_bytes,
)
from gateway.replay.envelopes import made_s
from gateway.server.aside import Aside
from gateway.server.clock import Clock

_TRACE_SEED_BYTES = 24  # of RequestWriter
_AT_ONCE_MAX, _AT_ONCE_BYTES_MAX = 1000, 1 << 20  # more is sealed aside: the loop has others to serve


@dataclass(frozen=True, slots=True)
class SubmissionSettings:
    """How long a batch lives from acceptance, how long its results are kept from its end, both in seconds."""

    expiry_s: float
    retention_s: float
    unfinished_max: int
    slice_size: int


class Submission:
    """Accepts batches into one ledger. Of one with operations on their way `leased` tells who sees to their end."""

    def __init__(
        self,
        settings: SubmissionSettings,
        ledger: Ledger,
        sealer: Sealer,
        names: Names,
        clock: Clock,
        leased: Callable[[Sequence[int]], Begun],
        aside: Aside,
    ) -> None:
        self._settings = settings
        self._ledger = ledger
        self._sealer = sealer
        self._names = names
        self._clock = clock
        self._leased = leased
        self._aside = aside

    def begins_after_s(self, batch: Batch, lives_s: float = math.inf) -> float:
        """Seconds from now until the batch may begin. Raises 422 where its time would be up before."""
        begins_after_s = max(0.0, batch.schedule.delay_s, batch.schedule.not_before_s - self._clock.now_s())
        expiry_s = min(lives_s, self._settings.expiry_s)
        if begins_after_s >= expiry_s:
            raise _begins_too_late(expiry_s)
        return begins_after_s

    async def accept(
        self,
        order: Order,
        request: BaseRequest,
        caller: Caller,
        *,
        dialect: str,
        retry_of: str | None = None,
        finished: Sequence[Outcome] = (),
        begun: Sequence[int] = (),
        fence: bytes = b"",
        paid: bool = False,
    ) -> View:
        """The order's batch, once it is durable; one that is refused never begins. `finished` are outcomes that it has
        already, `begun` operations that are on their way; under one `fence` it is the same batch however often it is
        accepted. `paid`: the tokens of its operations were taken. Raises 429 `too-many-batches`, 503
        `ledger-unavailable`, and 422 where its time would be up before it may begin."""
        settings, batch = self._settings, order.batch or Batch(())
        owner = self._names.owner_of(caller.identity)
        batch_id = self.id_under(fence, owner) if fence else self._names.new_id(owner, self._clock.now_s())
        key, wrapped = self._sealer.new_key(batch_id)
        size = _slice_size(batch, settings.slice_size)
        lives_s = min(order.lives_s, settings.expiry_s)
        return await self._ledger.accept(
            NewBatch(
                id=batch_id,
                owner=owner,
                dialect=dialect,
                total=max(1, len(batch.operations)),
                slice_size=size,
                slices=[key.seal(order.why, WHY)] if order.why else await self._sealed(batch.operations, size, key),
                context=self._sealer.seal_apart(
                    batch_id, context_to_bytes(_context(batch, caller, paid=paid)), CONTEXT
                ),
                key=wrapped,
                lives_ms=int(lives_s * 1000),
                kept_ms=int(settings.retention_s * 1000),
                unfinished_max=settings.unfinished_max,
                begins_after_ms=int((lives_s if order.why else self.begins_after_s(batch, lives_s)) * 1000),
                priority=batch.schedule.priority,
                retry_of=retry_of,
                label=_label(order, batch, key),
                parts=_parts(finished, batch.operations, size, key),
                begun=self._leased(begun) if begun else None,
            )
        )

    def id_under(self, fence: bytes, owner: str) -> str:
        """What the owner's batch under an envelope's key is called."""
        return self._names.id_of(owner, fence, made_s(fence))

    async def _sealed(self, operations: Sequence[Operation], size: int, key: BatchKey) -> list[bytes]:
        if len(operations) < _AT_ONCE_MAX and sum(len(each.body) for each in operations) < _AT_ONCE_BYTES_MAX:
            return _slices(operations, size, key)
        return await self._aside.do(partial(_slices, operations, size, key))


def _slice_size(batch: Batch, usual: int) -> int:
    """A batch that halts, or whose operations wait for each other, is one slice: they know of each other's outcomes."""
    return len(batch.operations) if batch.on_failure == "halt" or batch.graph is not None else usual


def _label(order: Order, batch: Batch, key: BatchKey) -> Mapping[str, str]:
    """What a retry has to know when the context is erased, and what the dialect wants to know again."""
    label = {"onFailure": "halt"} if batch.on_failure == "halt" else {}
    if batch.graph is not None and not batch.graph.refers:
        label[FAILS_FROM] = str(batch.graph.fails_from)
    if order.memo:
        label[MEMO] = b64encode(key.seal(order.memo, MEMO)).decode()
    if order.why:
        label[WHY] = ""
    return label


def _context(batch: Batch, caller: Caller, *, paid: bool) -> Context:
    graph = batch.graph
    return Context(
        [(bytes(name), bytes(value)) for name, value in caller.fields],
        caller.identity,
        caller.ip,
        on_failure=batch.on_failure,
        trace_seed=secrets.token_bytes(_TRACE_SEED_BYTES),
        may_be_ordered=graph is not None,
        fails_from=400 if graph is None else graph.fails_from,
        refers=graph is None or graph.refers,
        paid=paid,
    )


def _slices(operations: Sequence[Operation], size: int, key: BatchKey) -> list[bytes]:
    starts = range(0, len(operations), size)
    return [
        key.seal(operations_to_bytes(operations[start : start + size]), of_operations(slice_))
        for slice_, start in enumerate(starts)
    ]


def _parts(finished: Sequence[Outcome], operations: Sequence[Operation], size: int, key: BatchKey) -> list[Part]:
    by_slice: dict[int, list[Outcome]] = {}
    for outcome in finished:
        by_slice.setdefault(outcome.index // size, []).append(outcome)
    return [_part(slice_, by_slice[slice_], operations, key) for slice_ in sorted(by_slice)]


def _part(slice_: int, outcomes: Sequence[Outcome], operations: Sequence[Operation], key: BatchKey) -> Part:
    recorded = [Recorded.of(operations[outcome.index].id, outcome.index, outcome) for outcome in outcomes]
    summary = summarize(outcomes)
    return Part(
        slice_,
        [outcome.index for outcome in outcomes],
        key.seal(outcomes_to_bytes(recorded), of_outcomes(slice_)),
        summary.succeeded,
        summary.failed,
        summary.unknown,
    )


def _begins_too_late(expiry_s: float) -> GatewayError:
    detail = f"the batch expires {expiry_s:g} s after it was accepted; let it begin sooner"
    errors = [{"pointer": "/notBefore", "code": "not-before", "detail": detail}]
    return EnvelopeError(
        "validation-failed", "1 found; nothing was sent and nothing charged", members={"errors": errors}
    )
