"""Putting a batch on record: sealed, cut into slices, durable before anybody is told that it was accepted."""

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from aiohttp.web import BaseRequest

from gateway.admission import Caller
from gateway.batch.model import Batch, Operation, Outcome, summarize
from gateway.dialects.port import EnvelopeError
from gateway.errors import GatewayError
from gateway.ledger.names import Names
from gateway.ledger.port import Ledger, NewBatch, Part, View
from gateway.ledger.seal import BatchKey, Sealer
from gateway.ledger.segments import (
    CONTEXT,
    Context,
    Recorded,
    context_to_bytes,
    of_operations,
    of_outcomes,
    operations_to_bytes,
    outcomes_to_bytes,
)
from gateway.replay.envelopes import made_s
from gateway.server.clock import Clock

_TRACE_SEED_BYTES = 24  # of RequestWriter


@dataclass(frozen=True, slots=True)
class SubmissionSettings:
    """How long a batch lives from acceptance, how long its results are kept from its end, both in seconds."""

    expiry_s: float
    retention_s: float
    unfinished_max: int
    slice_size: int


class Submission:
    """Accepts batches into one ledger."""

    def __init__(
        self, settings: SubmissionSettings, ledger: Ledger, sealer: Sealer, names: Names, clock: Clock
    ) -> None:
        self._settings = settings
        self._ledger = ledger
        self._sealer = sealer
        self._names = names
        self._clock = clock

    def begins_after_s(self, batch: Batch) -> float:
        """Seconds from now until the batch may begin. Raises 422 where its time would be up before."""
        begins_after_s = max(0.0, batch.schedule.delay_s, batch.schedule.not_before_s - self._clock.now_s())
        if begins_after_s >= self._settings.expiry_s:
            raise _begins_too_late(self._settings.expiry_s)
        return begins_after_s

    async def accept(
        self,
        batch: Batch,
        request: BaseRequest,
        caller: Caller,
        *,
        dialect: str,
        retry_of: str | None = None,
        finished: Sequence[Outcome] = (),
        label: Mapping[str, str] | None = None,
        fence: bytes = b"",
        paid: bool = False,
    ) -> View:
        """The batch, once it is durable. `finished` are outcomes that it has already; under one `fence` it is the same
        batch however often it is accepted. `paid`: the tokens of its operations were taken. Raises 429
        `too-many-batches`, 503 `ledger-unavailable`, and 422 where its time would be up before it may begin."""
        settings = self._settings
        begins_after_s = self.begins_after_s(batch)
        owner = self._names.owner_of(caller.identity)
        batch_id = self.id_under(fence, owner) if fence else self._names.new_id(owner, self._clock.now_s())
        key, wrapped = self._sealer.new_key(batch_id)
        size = _slice_size(batch, settings.slice_size)
        operations = batch.operations
        return await self._ledger.accept(
            NewBatch(
                id=batch_id,
                owner=owner,
                dialect=dialect,
                total=len(operations),
                slice_size=size,
                slices=_sealed(operations, size, key),
                context=self._sealer.seal_apart(
                    batch_id, context_to_bytes(_context(batch, caller, paid=paid)), CONTEXT
                ),
                key=wrapped,
                lives_ms=int(settings.expiry_s * 1000),
                kept_ms=int(settings.retention_s * 1000),
                unfinished_max=settings.unfinished_max,
                begins_after_ms=int(begins_after_s * 1000),
                priority=batch.schedule.priority,
                retry_of=retry_of,
                label={**_label(batch), **(label or {})},
                parts=_parts(finished, operations, size, key),
            )
        )

    def id_under(self, fence: bytes, owner: str) -> str:
        """What the owner's batch under an envelope's key is called."""
        return self._names.id_of(owner, fence, made_s(fence))


def _slice_size(batch: Batch, usual: int) -> int:
    """A batch that halts, or whose operations wait for each other, is one slice: they know of each other's outcomes."""
    return len(batch.operations) if batch.on_failure == "halt" or batch.graph is not None else usual


def _label(batch: Batch) -> Mapping[str, str]:
    """What a retry has to know when the context is erased."""
    return {"onFailure": "halt"} if batch.on_failure == "halt" else {}


def _context(batch: Batch, caller: Caller, *, paid: bool) -> Context:
    return Context(
        [(bytes(name), bytes(value)) for name, value in caller.fields],
        caller.identity,
        caller.ip,
        on_failure=batch.on_failure,
        trace_seed=secrets.token_bytes(_TRACE_SEED_BYTES),
        may_be_ordered=batch.graph is not None,
        paid=paid,
    )


def _sealed(operations: Sequence[Operation], size: int, key: BatchKey) -> list[bytes]:
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
    recorded = [Recorded.of(operations[outcome.index].id, outcome) for outcome in outcomes]
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
