"""Which route a request takes: path templates compiled to one segment trie; the first match in order wins.

A template is made of literal segments, `{name}` for exactly one segment and a final `**` for any rest. Matching visits
a node of the trie at most once, so no path and no number of routes makes it worse than linear.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from gateway.batch.model import METHODS
from gateway.batch.paths import decoded
from gateway.batch.retry import TOO_EARLY


@dataclass(frozen=True, slots=True)
class Route:
    """How requests of one template are treated. `timeout_s` None: the upstream's own; `cost` in tokens.

    `rejections` are the statuses after which the retry law may send a request again.
    """

    template: str
    methods: frozenset[str] = frozenset(METHODS)
    cost: int = 1
    idempotent: bool = False
    rejections: frozenset[int] = TOO_EARLY
    batchable: bool = True
    timeout_s: float | None = None
    upstream: str = "default"


EVERY_ROUTE = Route("_other")
"""What applies to a request that no configured route matches, and to all of them when none is configured."""


@dataclass(slots=True)
class _Node:
    literals: dict[str, "_Node"] = field(default_factory=dict)
    any_segment: "_Node | None" = None
    ends: list[tuple[int, Route]] = field(default_factory=list)
    rests: list[tuple[int, Route]] = field(default_factory=list)


class Routes:
    """Compiled routes. `None` means that none is configured: everything is allowed."""

    def __init__(self, routes: Sequence[Route] | None) -> None:
        self.configured = routes is not None
        self.cost_max = max([route.cost for route in routes or ()], default=1)
        self._root = _Node()
        self._segments_max = 1
        self._count = len(routes or ())
        for order, route in enumerate(routes or ()):
            self._add(order, route)

    def match(self, method: str, target: str) -> Route | None:
        """The first route in configured order whose template and methods fit, else None."""
        if not self._count:
            return None
        path = target.partition("?")[0] if "?" in target else target
        segments = (path if "%" not in path else decoded(path)).split("/", self._segments_max)
        length = len(segments)
        best, best_order = None, self._count
        branches = [(self._root, 1)]
        while branches:
            node, depth = branches.pop()
            while True:  # down one branch; the other one of a fork waits in `branches`
                for order, route in node.ends if depth == length else node.rests:
                    if order < best_order and method in route.methods:
                        best, best_order = route, order
                if depth == length or not best_order:  # nothing goes before the first route
                    break
                segment = segments[depth]
                depth += 1
                literal = node.literals.get(segment)
                if node.any_segment is not None and segment:
                    if literal is not None:
                        branches.append((node.any_segment, depth))
                    else:
                        literal = node.any_segment
                if literal is None:
                    break
                node = literal
        return best

    def _add(self, order: int, route: Route) -> None:
        segments = route.template.split("/")
        self._segments_max = max(self._segments_max, len(segments))
        node = self._root
        for segment in segments[1:]:
            if segment == "**":
                node.rests.append((order, route))
                return
            node = _child_for(node, segment)
        node.ends.append((order, route))


def _child_for(node: _Node, segment: str) -> _Node:
    if not segment.startswith("{"):
        return node.literals.setdefault(segment, _Node())
    node.any_segment = node.any_segment or _Node()
    return node.any_segment
