"""What is left of a batch to send, in which order, and what a finished operation means for the others. Pure.

A batch in which nobody waits is sent in the order of its operations. With a graph an operation is ready once its
parents have succeeded; where one has failed it ends unsent, as 424 `dependency-failed`, and so do those behind it.
A twin is never ready: it is begun with the operation that asks the same, and ends with its outcome.
"""

from collections import deque
from collections.abc import Mapping, Sequence

import msgspec

from gateway.batch.model import Failure, Operation, Outcome
from gateway.batch.ordering import Graph, Order
from gateway.batch.resolution import Resolution
from gateway.batch.routes import Route


class Agenda:
    """The operations in `ready` may be sent now; whoever pops one tells it to `begun` where `is_ordered`.

    `resolution` resolves references, where there are any. `earlier` are outcomes of a former run of the same batch:
    these operations are not sent again; what can never run because of them is in `lost`. `twins`: see `coalescing`.
    """

    def __init__(
        self,
        operations: Sequence[Operation],
        graph: Graph | None,
        resolution: Resolution | None,
        earlier: Mapping[int, Outcome],
        twins: Mapping[int, int] = {},
    ) -> None:
        self._operations = operations
        self._resolution = resolution
        self._order = None if graph is None else Order(graph)
        self._fails_from = 400 if graph is None else graph.fails_from
        self._twins = twins
        self._copies: dict[int, list[int]] = {}
        self._with_it: dict[int, list[int]] = {}  # copies of what was begun
        for copy, first in twins.items():
            self._copies.setdefault(first, []).append(copy)
        self.is_ordered = graph is not None or bool(twins)
        self._unsent: set[int] = set(range(len(operations))) - earlier.keys() if self.is_ordered else set()
        self._kept: dict[int, Outcome] = {}
        self._parent_lost: dict[int, int] = {}
        self._is_over = False
        self.ready = deque(range(len(operations))) if self._order is None else self._order.ready
        self.lost = [each for outcome in earlier.values() for each in self.finished(outcome)]
        if earlier or twins:
            again = [index for index in self.ready if index not in earlier and index not in twins]
            self.ready.clear()
            self.ready.extend(again)

    def begun(self, index: int) -> None:
        self._unsent.discard(index)
        if index in self._copies:
            self._with_it[index] = copies = self._copies.pop(index)
            self._unsent.difference_update(copies)

    def shares(self, index: int) -> int:
        """How many operations the outcome of this one is for."""
        return 1 + len(self._with_it.get(index, ()))

    def settled(self, index: int, resolution: Resolution) -> tuple[Operation, Route] | Failure:
        """The operation as it is to be sent, now that its parents have succeeded."""
        return resolution.of(index, lambda id_: self._kept[resolution.place_of(id_)])

    def finished(self, outcome: Outcome) -> Sequence[Outcome]:
        """Take notice of an outcome. The outcomes of its twins, and of those that can never run now, parents first."""
        ended = self._ended(outcome)
        if outcome.index not in self._with_it:
            return ended
        ended = [*ended]
        for copy in self._with_it.pop(outcome.index):
            shared = msgspec.structs.replace(outcome, index=copy, attempts=0, upstream_s=0.0)
            ended += [shared, *self._ended(shared)]
        return ended

    def _ended(self, outcome: Outcome) -> Sequence[Outcome]:
        if self._order is None:
            return ()
        if self._resolution is not None and outcome.index in self._resolution.wanted:
            self._kept[outcome.index] = outcome
        succeeded = outcome.succeeded and outcome.status < self._fails_from
        known = len(self.ready)
        lost = []
        for child, parent in self._order.finished(outcome.index, succeeded=succeeded):
            self._parent_lost[child] = parent
            if child in self._unsent:
                self._unsent.discard(child)
                lost.append(self._never_run(child))
        if self._is_over:
            self.ready.clear()
        elif self._twins:
            came = [self.ready.pop() for _ in range(len(self.ready) - known)]
            self.ready.extend([index for index in reversed(came) if index not in self._twins])
        return lost

    def rest(self) -> Sequence[int]:
        """Everything that was not begun, in order. It is not ready any more, whatever else ends."""
        self._is_over = True
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
