"""What an operation with references becomes once the outcomes that it names are there, judged anew. Pure.

Before it runs, such an operation is routed and charged by what surrounds its references; a path that is one reference
as a whole costs what the costliest route costs. What it becomes must be a path, a key, fields and a route that would
have been allowed from the start, and may cost no more than was charged.
"""

from collections.abc import Callable, Sequence, Set

from gateway.batch.findings import Lookup, UnresolvedError
from gateway.batch.idempotency import CURE, is_key
from gateway.batch.model import Batch, Failure, Operation
from gateway.batch.references import MARK, may_refer, opaque, references_of, resolved
from gateway.batch.routes import EVERY_ROUTE, Route
from gateway.batch.validation import Rules, wrong_body, wrong_target

_AROUND_BODY_BYTES = 1 << 15  # of a path and fields

Decide = Callable[[str, str], Route | Failure]


def route_ahead(operation: Operation, decide: Decide, cost_max: int) -> Route | Failure:
    """The route to charge for, before the references are resolved."""
    if operation.target.startswith(MARK):
        return Route(EVERY_ROUTE.template, cost=cost_max)
    return decide(operation.method, opaque(operation.target))


class Resolution:
    """Resolves a batch's operations. `routes` are those that were charged for; `limited` are the templates of routes
    with limits of their own, which a path that was charged as another's may not become.
    """

    def __init__(
        self,
        batch: Batch,
        routes: Sequence[Route | Failure],
        rules: Rules,
        decide: Decide,
        limited: Set[str] = frozenset(),
    ) -> None:
        self._limited = limited
        self._operations = batch.operations
        self._routes = routes
        self._rules = rules
        self._decide = decide
        self._known = {operation.id: index for index, operation in enumerate(batch.operations)}
        named = [
            self._known[reference.id]
            for operation in batch.operations
            if may_refer(operation)
            for reference in references_of(operation, self._known)
        ]
        self.wanted = frozenset(named)
        """The operations whose outcomes others refer to."""

    def place_of(self, id_: str) -> int:
        return self._known[id_]

    def of(self, index: int, lookup: Lookup) -> tuple[Operation, Route] | Failure:
        """The operation as it is to be sent, with its route; or why it cannot be."""
        operation, ahead = self._operations[index], self._routes[index]
        if isinstance(ahead, Failure):
            return ahead
        if not may_refer(operation):
            return operation, ahead
        try:
            filled = resolved(operation, self._known, lookup, self._rules.body_bytes_max + _AROUND_BODY_BYTES)
        except UnresolvedError as error:
            return Failure("reference-unresolved", str(error))
        judged = (
            wrong_target(filled.target, self._rules.own_paths),
            *self._rules.fields_rule(filled.fields),
            wrong_body(filled, self._rules.body_bytes_max),
            ("idempotency-key-invalid", CURE) if operation.key and not is_key(filled.key) else None,
        )
        for wrong in filter(None, judged):
            return Failure("reference-unresolved", f"what was found does not fit: {wrong[1]}")
        if filled.target == operation.target:
            return filled, ahead
        route = self._decide(filled.method, filled.target)
        if isinstance(route, Route) and route != ahead and (route.cost > ahead.cost or route.template in self._limited):
            return Failure("route-not-allowed", "the path that was found has another limit or cost than was charged")
        return route if isinstance(route, Failure) else (filled, route)
