"""What of a slice has its outcome: counted, and on its way to the ledger."""

from collections import Counter
from collections.abc import Sequence

from gateway.batch.model import Failure, Operation, Outcome
from gateway.batch.routes import Route
from gateway.ledger.port import Lease
from gateway.ledger.segments import Recorded
from gateway.telemetry.metrics import Metrics
from gateway.worker.recorder import Recorder


class Settled:
    """Of one lease. `operations` and `routes` are the slice's, and may change until their outcomes come."""

    def __init__(
        self,
        lease: Lease,
        operations: Sequence[Operation],
        routes: Sequence[Route | Failure],
        recorder: Recorder,
        metrics: Metrics,
    ) -> None:
        self.positions: set[int] = set()
        self._lease = lease
        self._operations = operations
        self._routes = routes
        self._recorder = recorder
        self._metrics = metrics

    def add(self, positions: Sequence[int], outcomes: Sequence[Outcome]) -> None:
        """Outcomes of one kind, each with its position in the slice."""
        operations, routes, first = self._operations, self._routes, self._lease.first
        dialect, kind = self._lease.dialect, outcomes[0].kind
        self.positions.update(positions)
        self._recorder.add(
            [
                Recorded.of(operations[position].id, first + position, outcome)
                for position, outcome in zip(positions, outcomes, strict=True)
            ]
        )
        templates = [route.template if isinstance(route := routes[each], Route) else "_other" for each in positions]
        methods = [operations[position].method for position in positions]
        for (template, method), count in Counter(zip(templates, methods, strict=True)).items():
            self._metrics.operations.add((dialect, template, method, kind), count)
