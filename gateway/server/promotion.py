"""A batch whose time in place is up goes on record (PROMISES 2.3, rule 6): what has an outcome keeps it, what is on its
way ends as it may, the rest runs in the background."""

from collections.abc import AsyncGenerator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from aiohttp.web import BaseRequest

from gateway.batch.model import Outcome
from gateway.dialects.on_record import Order
from gateway.errors import GatewayError
from gateway.plan import Plan, Underway
from gateway.server.access import Access, Served
from gateway.server.answer import Answer
from gateway.server.deadline import left_of, runs_again
from gateway.upstream.headers import RawFields

if TYPE_CHECKING:
    from gateway.server.asynchronous import Asynchronous


class Late(NamedTuple):
    """How far a plan came. `outcomes[i]` is None where operation i is on its way; it will be among `groups`."""

    plan: Plan
    outcomes: Sequence[Outcome | None]
    groups: AsyncGenerator[Sequence[Outcome]]


async def promote(
    there: "Asynchronous",
    access: Access,
    request: BaseRequest,
    late: Late,
    served: Served,
    fence: bytes,
    fields: RawFields,
) -> Answer | None:
    """202 with `fields`. None where nothing is left to run, or where the ledger cannot take it."""
    plan, outcomes, groups = late
    left = left_of(plan, outcomes)
    begun = [index for index, outcome in enumerate(outcomes) if outcome is None]
    if not left and not begun:
        return None
    finished = tuple(each for each in outcomes if each is not None and each.index not in left)
    try:
        view = await there.custody.accept(
            Order(plan.batch),
            request,
            served.caller,
            dialect=served.dialect,
            finished=finished,
            begun=begun,
            fence=fence,
            paid=True,
        )
    except GatewayError:
        return None  # some of it ran: the answer that tells what became of each is worth more than a 503
    served.batch_id = view.id
    access.promoted(plan, finished, served)
    if begun:
        ids = [operation.id for operation in plan.batch.operations]
        counted = _counted(groups, plan, access, served.dialect)
        there.custody.hand_over(view, Underway(begun, ids, counted, runs_again))
    return there.accepted(request, view, fields)


async def _counted(
    groups: AsyncGenerator[Sequence[Outcome]], plan: Plan, access: Access, dialect: str
) -> AsyncGenerator[Sequence[Outcome]]:
    """What was on its way, as it ends."""
    async for finished in groups:
        access.ended_late(plan, [each for each in finished if not runs_again(each)], dialect)
        yield finished
