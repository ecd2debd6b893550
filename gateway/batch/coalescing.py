"""Identical safe operations of one batch, of which one is sent and answers for all (`batch.coalesce`). Pure."""

from collections.abc import Mapping, Sequence

from gateway.batch.model import SAFE_METHODS, Failure, Operation
from gateway.batch.ordering import Graph
from gateway.batch.routes import Route


def twins_of(
    operations: Sequence[Operation], routes: Sequence[Route | Failure], graph: Graph | None
) -> Mapping[int, int]:
    """For each operation that need not be sent, the first one before it that asks the very same.

    Both have the same method, target, fields, timeout and parents, no body and no idempotency key, and both may run.
    """
    firsts: dict[object, int] = {}
    twins = {}
    for index, operation in enumerate(operations):
        may_share = operation.method in SAFE_METHODS and not operation.has_body and not operation.key
        if not may_share or isinstance(routes[index], Failure):
            continue
        parents = () if graph is None else frozenset(graph.parents[index])
        asked = (operation.method, operation.target, operation.fields, operation.timeout_s, parents)
        first = firsts.setdefault(asked, index)
        if first != index:
            twins[index] = first
    return twins
