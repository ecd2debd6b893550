"""Order within a batch on record: such a batch is one slice, and runs in waves of operations whose parents succeeded.

A wave ends before the next begins, so that tokens, intents and checkpoints are those of any other round. After a crash
the outcomes on record stand for the operations that had them.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from gateway.batch.agenda import Agenda
from gateway.batch.model import Batch, Failure, Operation, Outcome
from gateway.batch.ordering import Graph
from gateway.batch.resolution import Decide, Resolution
from gateway.batch.routes import EVERY_ROUTE, Route
from gateway.batch.validation import Rules, order_of
from gateway.ledger.port import Ledger
from gateway.ledger.seal import BatchKey
from gateway.ledger.segments import of_outcomes, outcomes_from_bytes
from gateway.worker.opened import Opened

_ALL = 1 << 31
# Tokens are taken once the path is known, so nothing was charged ahead that could be too little.
_ANY_COST = Route(EVERY_ROUTE.template, cost=_ALL)


class Earlier(NamedTuple):
    """What makes a slice an ordered one: its graph, and the outcomes of earlier leases by index."""

    graph: Graph
    outcomes: Mapping[int, Outcome]


async def earlier_of(opened: Opened, batch_id: str, ledger: Ledger, key: BatchKey) -> Earlier | None:
    """None where nobody waits. Raises `PayloadCorruptError` where a part on record does not open."""
    context, graph = opened.context, None
    if context.may_be_ordered:
        graph, _ = order_of(opened.operations, fails_from=context.fails_from, refers=context.refers)
    if graph is None:
        return None
    outcomes: dict[int, Outcome] = {}
    for part in await ledger.parts(batch_id, after=0, limit=_ALL):
        if not part.sealed:  # it has ended meanwhile
            continue
        for recorded in outcomes_from_bytes(key.open(part.sealed, of_outcomes(part.slice))):
            outcomes[recorded.index] = recorded.outcome
    return Earlier(graph, outcomes)


class Ordered:
    """What may run of an ordered slice. `settled` got their outcome when the lease began."""

    def __init__(
        self,
        operations: Sequence[Operation],
        earlier: Earlier,
        settled: Mapping[int, Outcome],
        rules: Rules,
        decide: Decide,
    ) -> None:
        self._resolution = None
        if earlier.graph.refers:
            batch = Batch(operations, graph=earlier.graph)
            self._resolution = Resolution(batch, [_ANY_COST] * len(operations), rules, decide)
        self._agenda = Agenda(operations, earlier.graph, self._resolution, {**earlier.outcomes, **settled})
        self._decide = decide
        self._operations = operations
        self.lost = self._agenda.lost
        """What can never run because of those outcomes."""

    def wave(self, most: int | None) -> list[int]:
        """The next positions that may run, at most so many; they are not handed out again."""
        ready = self._agenda.ready
        taken = [ready.popleft() for _ in range(len(ready) if most is None else min(most, len(ready)))]
        for position in taken:
            self._agenda.begun(position)
        return taken

    def resolved(self, position: int) -> tuple[Operation, Route] | Failure:
        """The operation as it is to be sent, with its route."""
        operation = self._operations[position]
        if self._resolution is not None:
            settled = self._agenda.settled(position, self._resolution)
            if isinstance(settled, Failure) or settled[1] is not _ANY_COST:
                return settled
            operation = settled[0]
        route = self._decide(operation.method, operation.target)
        return route if isinstance(route, Failure) else (operation, route)

    def finished(self, outcome: Outcome) -> Sequence[Outcome]:
        """Take notice of an outcome; those of the operations that can never run because of it."""
        return self._agenda.finished(outcome)
