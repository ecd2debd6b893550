"""What is left of a batch to send, in which order, and what a finished operation means for the others. Pure.

A batch in which nobody waits is sent in the order of its operations. With a graph an operation is ready once its
parents have succeeded; where one has failed it ends unsent, as 424 `dependency-failed`, and so do those behind it.
"""

from collections import deque
from collections.abc import Mapping, Sequence

from gateway.batch.model import Failure, Operation, Outcome
from gateway.batch.ordering import Graph, Order
from gateway.batch.resolution import Resolution
from gateway.batch.routes import Route


class Agenda:
    """The operations in `ready` may be sent now; whoever pops one tells it to `begun` where `is_ordered`.

    `resolution` resolves references, where there are any. `earlier` are outcomes of a former run of the same batch:
    these operations are not sent again; what can never run because of them is in `lost`.
    """

    def __init__(
        self,
        operations: Sequence[Operation],
        graph: Graph | None,
        resolution: Resolution | None,
        earlier: Mapping[int, Outcome],
    ) -> None:
        self._operations = operations
        self._resolution = resolution
        self._order = None if graph is None else Order(graph)
        self._fails_from = 400 if graph is None else graph.fails_from
        self._unsent = set(range(len(operations))) - earlier.keys() if graph is not None else set[int]()
        self._kept: dict[int, Outcome] = {}
        self._parent_lost: dict[int, int] = {}
        self.is_ordered = graph is not None
        self.ready = deque(range(len(operations))) if self._order is None else self._order.ready
        self.lost = [each for outcome in earlier.values() for each in self.finished(outcome)]
        if earlier:
            again = [index for index in self.ready if index not in earlier]
            self.ready.clear()
            self.ready.extend(again)

    def begun(self, index: int) -> None:
        self._unsent.discard(index)

    def settled(self, index: int, resolution: Resolution) -> tuple[Operation, Route] | Failure:
        """The operation as it is to be sent, now that its parents have succeeded."""
        return resolution.of(index, lambda id_: self._kept[resolution.place_of(id_)])

    def finished(self, outcome: Outcome) -> Sequence[Outcome]:
        """Take notice of an outcome. The outcomes of those that can never run because of it, parents first."""
        if self._order is None:
            return ()
        if self._resolution is not None and outcome.index in self._resolution.wanted:
            self._kept[outcome.index] = outcome
        succeeded = outcome.succeeded and outcome.status < self._fails_from
        lost = []
        for child, parent in self._order.finished(outcome.index, succeeded=succeeded):
            self._parent_lost[child] = parent
            if child in self._unsent:
                self._unsent.discard(child)
                lost.append(self._never_run(child))
        return lost

    def rest(self) -> Sequence[int]:
        """Everything that was not begun, in order. It is not ready any more."""
        rest = sorted(self._unsent) if self.is_ordered else list(self.ready)
        self._unsent.clear()
        self.ready.clear()
        return rest

    def _never_run(self, index: int) -> Outcome:
        """424, with the way from the operation that failed down to this one's parent."""
        chain: list[str] = []
        parent: int | None = self._parent_lost[index]
        while parent is not None:
            chain.insert(0, self._operations[parent].id)
            parent = self._parent_lost.get(parent)
        detail = f"{chain[-1][:64]} did not succeed, so this was not sent"
        return Outcome(index, 424, failure=Failure("dependency-failed", detail, members={"cause": chain}))
