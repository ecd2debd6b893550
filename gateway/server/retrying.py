"""Which operations of a batch that has ended a retry runs again."""

from collections.abc import Iterable, Sequence

import msgspec

from gateway.batch.model import Operation, Outcome
from gateway.batch.ordering import Graph
from gateway.batch.references import BadReferenceError, may_refer, references_of
from gateway.batch.validation import VIOLATIONS_MAX, order_of
from gateway.errors import GatewayError
from gateway.ledger.port import View
from gateway.ledger.segments import FAILS_FROM
from gateway.server.records import Records

_NATIVE = "native"  # a vendor's words refer to nothing, whatever they look like

# They may have run: sent again only by whoever says so.
_DOUBTFUL = frozenset({"outcome-unknown", "quarantined"})


async def operations_to_retry(records: Records, view: View, *, include_unknown: bool) -> list[Operation]:
    """Those that failed, were cancelled or expired, in order; those that may have run, and what waits for them, only
    with `include_unknown`."""
    chosen: list[Operation] = []
    doubtful: set[str] = set()
    read, operations = -1, list[Operation]()
    fails_from = _fails_from(view)
    async for outcomes in records.outcomes(view, first=0, most=view.total):
        indexes = {
            each.index for each in outcomes if _is_wanted(each.outcome, fails_from, include_unknown=include_unknown)
        }
        if not include_unknown:
            doubtful.update(each.id for each in outcomes if _is_doubtful(each.outcome))
        if not indexes:
            continue
        slice_ = min(indexes) // view.slice_size
        if slice_ != read:
            read, operations = slice_, await records.operations(view, slice_) or []
        start = slice_ * view.slice_size
        chosen += [operation for place, operation in enumerate(operations, start) if place in indexes]
    return _free_of_others(_without_waiting(chosen, doubtful), refers=view.dialect == _NATIVE)


def _without_waiting(operations: Sequence[Operation], doubtful: Iterable[str]) -> list[Operation]:
    """Without those that wait for one of the `doubtful`, however long the way."""
    children: dict[str, list[str]] = {}
    for operation in operations:
        for parent in operation.depends_on:
            children.setdefault(parent, []).append(operation.id)
    left, waiting = [*doubtful], set[str]()
    while left:
        found = children.pop(left.pop(), ())  # a parent is looked at once
        left += found
        waiting.update(found)
    return [operation for operation in operations if operation.id not in waiting]


def order_again(operations: Sequence[Operation], view: View) -> Graph | None:
    """Who of them waits for whom, as in the batch that they are of."""
    return order_of(operations, fails_from=_fails_from(view), refers=view.dialect == _NATIVE)[0]


def _fails_from(view: View) -> int:
    return int(view.label.get(FAILS_FROM, 400))


def _free_of_others(operations: list[Operation], *, refers: bool) -> list[Operation]:
    """The operations without the parents that have succeeded. Raises 422 where a value of theirs is referred to."""
    ids = {operation.id for operation in operations}
    errors = []
    for index, operation in enumerate(operations if refers else ()):
        try:
            references_of(operation, ids) if may_refer(operation) else ()
        except BadReferenceError as error:
            detail = "it refers to an operation that is not run again; send it in a new batch"
            errors += [
                {
                    "pointer": f"/operations/{index}/{member}",
                    "id": operation.id,
                    "code": "dependency-invalid",
                    "detail": detail,
                }
                for member in error.members
            ]
    if errors:
        raise GatewayError("validation-failed", "nothing was sent", members={"errors": errors[:VIOLATIONS_MAX]})
    return [
        msgspec.structs.replace(each, depends_on=tuple(id_ for id_ in each.depends_on if id_ in ids))
        if each.depends_on
        else each
        for each in operations
    ]


def _is_wanted(outcome: Outcome, fails_from: int, *, include_unknown: bool) -> bool:
    if outcome.succeeded and outcome.status < fails_from:
        return False
    return include_unknown or not _is_doubtful(outcome)


def _is_doubtful(outcome: Outcome) -> bool:
    return outcome.failure is not None and outcome.failure.slug in _DOUBTFUL
