"""Vendors' batches that are answered in place, unless their callers prefer a later answer: those on record, and their
monitors. Such a batch is in the custody that holds the native ones.
"""

from collections.abc import Awaitable, Callable, Sequence
from functools import partial

from aiohttp.web import BaseRequest

from gateway.batch.states import FINAL
from gateway.dialects.on_record import Order
from gateway.dialects.port import Call, InPlaceDialect, LaterDialect, Page, Pieces, Read
from gateway.errors import DrainingError, GatewayError
from gateway.ledger.port import View
from gateway.ledger.segments import Recorded
from gateway.server import results
from gateway.server.access import Served
from gateway.server.answer import Answer
from gateway.server.custody import Custody
from gateway.server.edge import request_id_of
from gateway.server.in_place import ALWAYS, Fields
from gateway.server.vendors import Way, call_of, refused

IsLast = Callable[[], bool]

_ID_FIELD = b"X-Request-Id"


class Monitors:
    """One dialect over one custody; `speech` is what it has to say of such batches."""

    def __init__(self, dialect: InPlaceDialect, speech: LaterDialect, way: Way, custody: Custody) -> None:
        self._dialect = dialect
        self._speech = speech
        self._custody = custody
        self._origins = way.settings.origins
        self._admission, self._access, self._once = way.admission, way.access, way.once
        self._calls: dict[str, Callable[[BaseRequest, Call, str, IsLast], Awaitable[Answer]]] = {
            "GET": self._look,
            "HEAD": self._look,
            "DELETE": self._delete,
        }

    def may_read(self, call: Call) -> bool:
        return self._speech.asked(call) is not None

    async def __call__(self, request: BaseRequest, path: str, is_last: IsLast) -> Answer:
        call = call_of(request, self._origins)
        does = self._calls.get(request.method)
        if does is None:
            raise GatewayError("method-not-allowed", headers={"Allow": ", ".join(self._calls)})
        return await does(request, call, self._speech.asked(call) or "", is_last)

    def refuse(self, error: GatewayError, request_id: str) -> Answer:
        return refused(self._dialect.refusal(error, request_id), error, (_ID_FIELD, request_id.encode()))

    async def accepted(self, request: BaseRequest, read: Read, data: bytes, served: Served, is_last: IsLast) -> Answer:
        """The answer to the batch that was read from `data`, once it is durable."""
        if is_last():
            raise DrainingError
        view = await self._once.view(request, data, served, self._custody, partial(self._make, request, read, served))
        call, origin = call_of(request, self._origins), self._origins.origin_of(request)
        return _answered(request, self._speech.accepted(call, read, view.id, origin))

    async def _make(self, request: BaseRequest, read: Read, served: Served, fence: bytes) -> View:
        batch = read.batch
        self._admission.check(batch.operations, batch.pointer)
        order = Order(batch, memo=self._speech.memo(read))
        view = await self._custody.accept(order, request, served.caller, dialect=self._dialect.name, fence=fence)
        served.batch_id = view.id
        self._access.accepted(served, view.total)
        return view

    async def _look(self, request: BaseRequest, call: Call, batch_id: str, is_last: IsLast) -> Answer:
        view = await self._find(request, batch_id, age_max_s=self._custody.poll_age_s)
        if view.state not in FINAL:
            return _answered(request, self._speech.pending(call, self._origins.origin_of(request)))
        records, page = self._custody.records, results.Page(0, view.total)
        pieces = self._speech.answer(records.memo(view), ", ".join(request.headers.getall("Accept", ())))
        fields = [*pieces.fields, *_fields(request)]
        return await results.stream(request, view, records, _Whole(pieces), page, fields, keep_alive=not is_last())

    async def _delete(self, request: BaseRequest, _: Call, batch_id: str, __: IsLast) -> Answer:
        """204, and the monitor is gone. A batch that runs is cancelled; one that has ended is removed."""
        view = await self._find(request, batch_id)
        if view.state in FINAL:
            await self._custody.delete(request, batch_id)
        else:
            await self._custody.command(request, batch_id, "cancel")
        return Answer(204, _fields(request))

    async def _find(self, request: BaseRequest, batch_id: str, *, age_max_s: float = 0.0) -> View:
        """The caller's own. A batch that was cancelled has no monitor any more."""
        view = await self._custody.find(request, batch_id, dialect=self._dialect.name, age_max_s=age_max_s)
        if view.state in ("cancelling", "cancelled"):
            raise GatewayError("batch-not-found")
        return view


class _Whole:
    """All outcomes as one answer of the dialect's."""

    def __init__(self, pieces: Pieces) -> None:
        self.content_type = pieces.content_type
        self._pieces = pieces

    def first(self) -> bytes:
        return self._pieces.first()

    def pieces(self, recorded: Sequence[Recorded]) -> bytes:
        return b"".join([self._pieces.piece(each.id, each.outcome) for each in recorded])

    def last(self, next_: int | None) -> bytes:
        return self._pieces.last()


def _answered(request: BaseRequest, page: Page) -> Answer:
    return Answer(page.status, [*page.fields, *_fields(request)], page.body)


def _fields(request: BaseRequest) -> Fields:
    return [*ALWAYS, (_ID_FIELD, request_id_of(request).encode())]
