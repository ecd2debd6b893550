"""Builds that are broken on purpose, each in one way that a kill must bring to light. In a test's process only."""

import asyncio
import os
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any

import msgspec

from gateway.batch.agenda import Agenda
from gateway.batch.model import Operation, Outcome
from gateway.ledger.port import Lease, Ledger
from gateway.ledger.seal import BatchKey
from gateway.ledger.segments import Recorded
from gateway.ledger.sqlite import life
from gateway.ledger.sqlite.store import SqliteStore
from gateway.upstream.request import RequestWriter
from gateway.worker import ordered, running, worker
from gateway.worker.decision import Beginning, begin, unknown
from gateway.worker.means import Surroundings
from gateway.worker.opened import Opened
from gateway.worker.ordered import Earlier, Ordered
from gateway.worker.recorder import Ending, Recorder
from gateway.worker.running import Running

POISON = "6"  # an operation's id, of a GET
_acknowledges_early = False


def make(name: str) -> None:
    """Break this process in the way `name`; not at all for the empty name."""
    if name:
        _BUILDS[name]()


async def accepting(accept: Coroutine[Any, Any, object], tell: Callable[[], None]) -> None:
    """Put a batch on record, and tell so."""
    if _acknowledges_early:
        tell()
        await asyncio.sleep(1.0)  # longer than a short run lets anybody live
    await accept
    if not _acknowledges_early:
        tell()


def _replace(owner: object, name: str, by: object) -> None:
    getattr(owner, name)  # what is not there breaks nothing
    setattr(owner, name, by)


def _intent_forgotten() -> None:
    async def intend(store: SqliteStore, lease: Lease, indexes: Sequence[int]) -> None:
        await asyncio.sleep(0)

    _replace(SqliteStore, "intend", intend)


def _intent_late() -> None:
    real, late = SqliteStore.intend, set[asyncio.Task[None]]()

    async def intend(store: SqliteStore, lease: Lease, indexes: Sequence[int]) -> None:
        async def afterwards() -> None:
            await asyncio.sleep(0.1)
            await real(store, lease, indexes)

        task = asyncio.create_task(afterwards())
        late.add(task)
        task.add_done_callback(late.discard)

    _replace(SqliteStore, "intend", intend)


def _intents_retracted() -> None:
    real = SqliteStore.intend

    async def intend(store: SqliteStore, lease: Lease, indexes: Sequence[int]) -> None:
        await real(store, lease, indexes)
        await store.record(lease, None, ends=False, retracts=indexes)

    _replace(SqliteStore, "intend", intend)


def _begin_with(
    change: Callable[[frozenset[int], frozenset[int]], tuple[frozenset[int], frozenset[int]]],
) -> Callable[[], None]:
    def broken_begin(
        count: int, done: frozenset[int], in_doubt: frozenset[int], losses: int, repeatable: Sequence[bool]
    ) -> Beginning:
        done, in_doubt = change(done, in_doubt)
        return begin(count, done, in_doubt, losses, repeatable)

    return lambda: _replace(running, "begin", broken_begin)


def _everything_unknown() -> None:
    def begins(
        count: int, done: frozenset[int], in_doubt: frozenset[int], losses: int, repeatable: Sequence[bool]
    ) -> Beginning:
        beginning = begin(count, done, in_doubt, losses, repeatable)
        if not losses:
            return beginning
        doubted = [position for position in beginning.run if not repeatable[position]]
        run = [position for position in beginning.run if repeatable[position]]
        return Beginning(run, [*beginning.settled, *((position, unknown()) for position in doubted)])

    _replace(running, "begin", begins)


def _everybody_suspected() -> None:
    """Each kill is blamed on what ran, at once."""
    _replace(running, "is_suspected", lambda losses, *, others_lost: True)
    _replace(Surroundings, "until_quiet_s", lambda self, lost_ago_s: 0.0)


def _order_ignored() -> None:
    async def earlier_of(*_: object) -> None:
        await asyncio.sleep(0)

    _replace(worker, "earlier_of", earlier_of)


def _order_forgotten() -> None:
    """What has outcomes of earlier lives is run like any other."""
    real = ordered.earlier_of

    async def earlier_of(opened: Opened, batch_id: str, ledger: Ledger, key: BatchKey) -> Earlier | None:
        earlier = await real(opened, batch_id, ledger, key)
        return None if earlier is None or earlier.outcomes else earlier

    _replace(worker, "earlier_of", earlier_of)


def _answers_kept_back() -> None:
    """They go on record at a slice's end, and what waits for them does not wait for that."""
    real = Recorder.while_writing

    async def hold_to(self: Running, wave: Sequence[int], earlier: Earlier) -> None:
        await asyncio.sleep(0)

    async def while_writing(self: Recorder, run: Coroutine[None, None, Ending], every_s: float) -> Ending:
        return await real(self, run, 3600.0)

    _replace(Running, "_hold_to", hold_to)
    _replace(Recorder, "while_writing", while_writing)


def _cause_cut_short() -> None:
    """The parent is told for the operation that failed."""
    real = Agenda._never_run

    def never_run(self: Agenda, index: int) -> Outcome:
        outcome = real(self, index)
        assert outcome.failure is not None
        members = {"cause": list(outcome.failure.members["cause"])[-1:]}  # type: ignore[call-overload]
        return msgspec.structs.replace(outcome, failure=msgspec.structs.replace(outcome.failure, members=members))

    _replace(Agenda, "_never_run", never_run)


def _refusal_passed_over() -> None:
    real = Ordered.finished

    def finished(self: Ordered, outcome: Outcome) -> Sequence[Outcome]:
        return real(self, outcome if outcome.failure else msgspec.structs.replace(outcome, status=200))

    _replace(Ordered, "finished", finished)


def _doubt_passed_over() -> None:
    """What waits for an operation that may have run is sent."""
    real = Ordered.__init__

    def init(
        self: Ordered, operations: Sequence[Operation], earlier: Earlier, settled: Mapping[int, Outcome], *rest: Any
    ) -> None:
        known = {**earlier.outcomes, **settled}
        passed = {index: Outcome(index, 200) if outcome.unknown else outcome for index, outcome in known.items()}
        real(self, operations, Earlier(earlier.graph, passed), {}, *rest)

    _replace(Ordered, "__init__", init)


def _success_invented() -> None:
    real = Running._keep

    def keep(self: Running, position: int, outcome: Outcome) -> None:
        real(self, position, Outcome(position, 200) if outcome.unknown else outcome)

    _replace(Running, "_keep", keep)


def _safe_unknown() -> None:
    _replace(running, "SAFE_METHODS", frozenset[str]())
    _replace(running, "_is_repeatable", lambda operation, route: False)


def _outcomes_swapped() -> None:
    real = Recorder._sealed

    def sealed(self: Recorder, outcomes: Sequence[Recorded]) -> bytes:
        if len(outcomes) > 1:
            first, second, *rest = outcomes
            swapped = (first, second.body), (second, first.body)
            outcomes = [*(msgspec.structs.replace(each, body=body) for each, body in swapped), *rest]
        return real(self, outcomes)

    _replace(Recorder, "_sealed", sealed)


def _acknowledged_early() -> None:
    global _acknowledges_early
    _acknowledges_early = True


def _doubt_cancelled() -> None:
    """What a lost worker had announced ends with its batch like what was never sent."""
    _replace(life, "_leave_unknown", lambda db, number: None)


def _poisoned() -> None:
    """Not broken: an operation kills the process that is about to send it."""
    real = RequestWriter.write

    def write(self: RequestWriter, operation: Operation, index: int) -> bytes:
        if operation.id == POISON:
            os.abort()
        return real(self, operation, index)

    _replace(RequestWriter, "write", write)


_BUILDS: dict[str, Callable[[], None]] = {
    "intent forgotten": _intent_forgotten,
    "intent late": _intent_late,
    "intents retracted": _intents_retracted,
    "doubt ignored": _begin_with(lambda done, in_doubt: (done, frozenset())),
    "done ignored": _begin_with(lambda done, in_doubt: (frozenset(), in_doubt)),
    "everything unknown": _everything_unknown,
    "everybody suspected": _everybody_suspected,
    "success invented": _success_invented,
    "safe unknown": _safe_unknown,
    "outcomes swapped": _outcomes_swapped,
    "order ignored": _order_ignored,
    "order forgotten": _order_forgotten,
    "answers kept back": _answers_kept_back,
    "cause cut short": _cause_cut_short,
    "refusal passed over": _refusal_passed_over,
    "doubt passed over": _doubt_passed_over,
    "acknowledged early": _acknowledged_early,
    "doubt cancelled": _doubt_cancelled,
}

NAMES = sorted(_BUILDS)
_BUILDS["poisoned"] = _poisoned
