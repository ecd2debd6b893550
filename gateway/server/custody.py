"""Batches on record in the hands of their callers: what every call about them does, in whichever words it is answered.

A batch is shown to its owner only. To everybody else it is a 404, the same for a foreign, a deleted and an invented id.
"""

from collections import deque
from collections.abc import Callable, Sequence

from aiohttp.web import BaseRequest

from gateway.admission import Caller
from gateway.batch.model import Batch, Outcome
from gateway.batch.states import FINAL
from gateway.dialects.on_record import Order
from gateway.errors import GatewayError, quoted
from gateway.ledger.names import Names, is_id
from gateway.ledger.port import Command, Ledger, View
from gateway.plan import Underway
from gateway.server.clock import Clock
from gateway.server.records import Records
from gateway.server.submission import Submission

_BROWSE, _BROWSED_MAX = 100, 2000  # views looked through for one page of a list
_BROWSED_BACK_MAX = 10_000


class Custody:
    """Accepts, finds, commands, deletes and lists batches for their callers.

    `poll_age_s`: how old what is told to who asks again and again may be; 0 where others tell of the same batches: one
    would take back what another has told (PROMISES D17).
    """

    def __init__(
        self,
        ledger: Ledger,
        records: Records,
        submission: Submission,
        names: Names,
        clock: Clock,
        caller_of: Callable[[BaseRequest], Caller],
        poll_age_s: float,
        hand_over: Callable[[View, Underway], None],
    ) -> None:
        self._ledger = ledger
        self.records = records
        self._submission = submission
        self._names = names
        self.clock = clock
        self.caller_of = caller_of
        self.poll_age_s = poll_age_s
        self.hand_over = hand_over

    def check(self, batch: Batch) -> None:
        """Raise 422 where `accept` would, and put nothing on record."""
        self._submission.begins_after_s(batch)

    async def accept(
        self,
        order: Order,
        request: BaseRequest,
        caller: Caller,
        *,
        dialect: str,
        finished: tuple[Outcome, ...] = (),
        begun: Sequence[int] = (),
        retry_of: str | None = None,
        fence: bytes = b"",
        paid: bool = False,
    ) -> View:
        """The order's batch once it is durable; one that is refused has failed. Under one `fence` it is accepted once,
        and `found`. `paid`: the tokens of its operations were taken. With `begun` it is to be given to `hand_over`."""
        view = await self._submission.accept(
            order,
            request,
            caller,
            dialect=dialect,
            retry_of=retry_of,
            finished=finished,
            begun=begun,
            fence=fence,
            paid=paid,
        )
        if order.why:
            view = await self._ledger.command(view.id, "break") or view
        self.records.keep(view)
        return view

    async def found(self, fence: bytes, caller: Caller) -> View | None:
        """The caller's batch that was accepted under `fence`."""
        owner = self._names.owner_of(caller.identity)
        return await self._ledger.view(self._submission.id_under(fence, owner))

    async def find(
        self, request: BaseRequest, batch_id: str, *, dialect: str | None = None, age_max_s: float = 0.0
    ) -> View:
        """The caller's own batch, one that came in `dialect` where that is given. Raises 404, the same for a foreign, a
        deleted and an invented id, and 410."""
        view = await self.records.find(batch_id, self.owner_of(request), age_max_s=age_max_s)
        if dialect not in (None, view.dialect):
            raise GatewayError("batch-not-found")
        return view

    def new_id(self, owner: str) -> str:
        """For something else of an owner's than a batch."""
        return self._names.new_id(owner, self.clock.now_s())

    async def command(self, request: BaseRequest, batch_id: str, command: Command) -> View:
        """Do it to the caller's batch; the batch afterwards. Raises 409 `batch-terminal` where it has ended before."""
        view = await self.find(request, batch_id)
        if view.state in FINAL:
            raise GatewayError("batch-terminal")
        after = await self._ledger.command(batch_id, command)
        if after is None:
            self.records.drop(batch_id)
            raise GatewayError("batch-not-found")
        self.records.keep(after)
        if after.state in FINAL and (command, after.state) != ("cancel", "cancelled"):
            raise GatewayError("batch-terminal")
        return after

    async def delete(self, request: BaseRequest, batch_id: str) -> None:
        """Remove the caller's batch with all that belongs to it. Raises 409 `batch-running` where it has not ended."""
        view = await self.find(request, batch_id)
        if view.state not in FINAL:
            raise GatewayError("batch-running")
        await self._ledger.command(batch_id, "delete")
        self.records.drop(batch_id)

    async def page(
        self, request: BaseRequest, is_wanted: Callable[[View], bool], after: str | None, limit: int
    ) -> tuple[list[View], str | None]:
        """The caller's own batches behind `after`, newest first, and behind which one the next page begins; None where
        nothing is left. Where few are wanted a page may be short, and still not the last. Raises 400 `bad-cursor`."""
        owner = self._checked(request, after)
        found: list[View] = []
        looked = 0
        while looked < _BROWSED_MAX:
            views = await self._ledger.browse(owner, limit=_BROWSE, after=after, state=None)
            for view in views:
                if is_wanted(view):
                    if len(found) == limit:
                        return found, after
                    found.append(view)
                after = view.id
            looked += len(views)
            if len(views) < _BROWSE:
                return found, None
        return found, after

    async def page_before(
        self, request: BaseRequest, is_wanted: Callable[[View], bool], before: str, limit: int
    ) -> tuple[list[View], bool]:
        """The last page before `before`, newest first, and whether more lie before it. The ledger reads from the newest
        on, so what lies too deep is refused. Raises 400 `bad-cursor`."""
        owner = self._checked(request, before)
        found: deque[View] = deque(maxlen=limit + 1)
        after = None
        for _ in range(_BROWSED_BACK_MAX // _BROWSE):
            views = await self._ledger.browse(owner, limit=_BROWSE, after=after, state=None)
            for view in views:
                if view.id == before:
                    return list(found)[-limit:], len(found) > limit
                if is_wanted(view):
                    found.append(view)
            if len(views) < _BROWSE:
                break
            after = views[-1].id
        raise GatewayError("bad-cursor", f"{quoted(before)} is not among your {_BROWSED_BACK_MAX} newest batches")

    def _checked(self, request: BaseRequest, cursor: str | None) -> str:
        """The owner, whose id the cursor is. Raises 400 `bad-cursor`."""
        owner = self.owner_of(request)
        if cursor is not None and (not is_id(cursor) or self._names.made_s(cursor, owner) is None):
            raise GatewayError("bad-cursor", "the cursor is not one that an earlier answer gave")
        return owner

    def owner_of(self, request: BaseRequest) -> str:
        """Whose batches and files the request is about."""
        return self._names.owner_of(self.caller_of(request).identity)
