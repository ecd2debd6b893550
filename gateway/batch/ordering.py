"""Order between operations: who waits for whom, what may run now, and what a failure takes with it (CONTRACT 4). Pure.

Everything is linear in the operations and the edges between them: no batch, however it is tangled, costs more.
"""

from collections import deque
from collections.abc import Mapping, Sequence
from typing import NamedTuple

_CYCLE_SHOWN_MAX = 8


class Graph(NamedTuple):
    """`parents[i]` must have succeeded before operation i is sent; `children` are the same edges seen from above.

    An answer of `fails_from` or above is no success. `refers`: operations may take values from those they wait for.
    """

    parents: Sequence[Sequence[int]]
    children: Sequence[Sequence[int]]
    fails_from: int = 400
    refers: bool = True


class Tangle(NamedTuple):
    """A wrong edge: the operation at `position` names `parent`, and why it cannot."""

    position: int
    parent: str
    detail: str


def graph_of(ids: Sequence[str], parents: Sequence[Sequence[str]]) -> tuple[Graph, list[Tangle]]:
    """The graph of operations that name their parents by id, and every edge that cannot be.

    Unknown names and self references are left out of the graph; of a cycle one edge is told, with the whole circle.
    """
    places: Mapping[str, int] = {id_: index for index, id_ in enumerate(ids)}
    above: list[list[int]] = [[] for _ in ids]
    tangles = []
    for index, names in enumerate(parents):
        for name in dict.fromkeys(names):
            parent = places.get(name)
            if parent is None:
                tangles.append(Tangle(index, name, "names no operation of this batch"))
            elif parent == index:
                tangles.append(Tangle(index, name, "an operation cannot wait for itself"))
            else:
                above[index].append(parent)
    below: list[list[int]] = [[] for _ in ids]
    for index, found in enumerate(above):
        for parent in found:
            below[parent].append(index)
    graph = Graph(above, below)
    return graph, [*tangles, *_cycles(graph, ids)]


def _cycles(graph: Graph, ids: Sequence[str]) -> list[Tangle]:
    """One tangle for each circle that walking up from the operations that can never run comes upon."""
    order = Order(graph)
    while order.ready:
        order.finished(order.ready.popleft(), succeeded=True)
    stuck = {index for index, waits in enumerate(order.waits) if waits}
    tangles = []
    seen: set[int] = set()
    for start in sorted(stuck):
        path: dict[int, None] = {}
        index = start
        while index not in seen and index not in path:
            path[index] = None
            index = next(parent for parent in graph.parents[index] if parent in stuck)
        if index in path:
            walked = list(path)
            circle = walked[walked.index(index) :]
            tangles.append(Tangle(circle[0], ids[graph.parents[circle[0]][0]], _told(circle, ids)))
        seen |= path.keys()
    return tangles


def _told(circle: Sequence[int], ids: Sequence[str]) -> str:
    shown = [ids[index][:32] for index in circle[:_CYCLE_SHOWN_MAX]]
    dots = ["..."] if len(circle) > _CYCLE_SHOWN_MAX else []
    return f"a cycle: {' waits for '.join([*shown, *dots, shown[0]])}; break it at one place"


class Order:
    """How far a graph has been run. `ready` may be sent now, in the order in which they became so."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self.waits = [len(parents) for parents in graph.parents]
        """For how many parents each operation still waits; -1 once a parent has failed, 0 once it has ended itself."""
        self.ready = deque(index for index, waits in enumerate(self.waits) if not waits)

    def finished(self, index: int, *, succeeded: bool) -> list[tuple[int, int]]:
        """Take notice of an end. What can never run now, each with the parent that it lost, parents first."""
        self.waits[index] = 0  # what a key or a record answers may end before its parents do: they mean nothing to it
        if succeeded:
            for child in self._graph.children[index]:
                if self.waits[child] > 0:
                    self.waits[child] -= 1
                    if not self.waits[child]:
                        self.ready.append(child)
            return []
        lost: list[tuple[int, int]] = []
        fallen = deque([index])
        while fallen:
            parent = fallen.popleft()
            for child in self._graph.children[parent]:
                if self.waits[child] > 0:
                    self.waits[child] = -1
                    lost.append((child, parent))
                    fallen.append(child)
        return lost
