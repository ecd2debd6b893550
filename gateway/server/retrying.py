"""Which operations of a batch that has ended a retry runs again."""

from gateway.batch.model import Operation, Outcome
from gateway.ledger.port import View
from gateway.server.records import Records

# They may have run: sent again only by whoever says so.
_DOUBTFUL = frozenset({"outcome-unknown", "quarantined"})


async def operations_to_retry(records: Records, view: View, *, include_unknown: bool) -> list[Operation]:
    """Those that failed, were cancelled or expired, in order; those that may have run only with `include_unknown`."""
    chosen: list[Operation] = []
    async for outcomes in records.outcomes(view, first=0, most=view.total):
        indexes = {each.index for each in outcomes if _is_wanted(each.outcome, include_unknown=include_unknown)}
        if not indexes:
            continue
        slice_ = min(indexes) // view.slice_size
        operations = await records.operations(view, slice_) or []
        start = slice_ * view.slice_size
        chosen += [operation for place, operation in enumerate(operations, start) if place in indexes]
    return chosen


def _is_wanted(outcome: Outcome, *, include_unknown: bool) -> bool:
    if outcome.succeeded:
        return False
    return include_unknown or outcome.failure is None or outcome.failure.slug not in _DOUBTFUL
