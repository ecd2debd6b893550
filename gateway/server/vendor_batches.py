"""Vendors' batches that are answered later: their calls, done by the custody that does the native ones.

A batch is shown to its owner, in the words of the vendor in which it came; the native calls know it as well.
"""

from collections.abc import Awaitable, Callable, Mapping

from aiohttp.web import BaseRequest

from gateway.admission import Admission
from gateway.batch.states import FINAL
from gateway.dialects.port import Ask, Call, LaterDialect, Page, Record, Verb
from gateway.errors import GatewayError
from gateway.ledger.port import View
from gateway.ledger.segments import Recorded
from gateway.server import results
from gateway.server.access import Access
from gateway.server.answer import Answer
from gateway.server.custody import Custody
from gateway.server.edge import request_id_of
from gateway.server.envelope import check_framing
from gateway.server.in_place import ALWAYS, InPlace
from gateway.server.origin import Origins
from gateway.server.vendors import call_of, refused

IsLast = Callable[[], bool]


class VendorBatches:
    """One dialect over one custody."""

    def __init__(
        self,
        dialect: LaterDialect,
        custody: Custody,
        in_place: InPlace,
        admission: Admission,
        access: Access,
        origins: Origins,
    ) -> None:
        self._dialect = dialect
        self._custody = custody
        self._in_place = in_place
        self._admission = admission
        self._access = access
        self._origins = origins
        self._calls: Mapping[Verb, Callable[[BaseRequest, Ask, IsLast], Awaitable[Answer]]] = {
            "create": self._create,
            "list": self._list,
            "view": self._view,
            "results": self._results,
            "cancel": self._cancel,
            "delete": self._delete,
        }

    def may_read(self, call: Call) -> bool:
        return self._dialect.reads(call)

    async def __call__(self, request: BaseRequest, path: str, is_last: IsLast) -> Answer:
        ask = self._dialect.ask(call_of(request, self._origins))
        return await self._calls[ask.verb](request, ask, is_last)

    def refuse(self, error: GatewayError, request_id: str) -> Answer:
        """The error in the vendor's shape, and under its name for the id of a request."""
        page = self._dialect.refusal(error, request_id)
        return refused(page, error, (self._dialect.request_id_field, request_id.encode()))

    async def _create(self, request: BaseRequest, _: Ask, is_last: IsLast) -> Answer:
        with self._in_place.on_record(request, self._dialect.name) as served:
            if is_last():
                raise GatewayError("draining", headers={"Retry-After": "5"})
            check_framing(request, self._dialect.body_bytes_max)
            body = await self._in_place.body(request, served, self._dialect.body_bytes_max)
            view = await self._custody.sent_before(request, body, dialect=self._dialect.name)
            if view is None:
                batch = self._dialect.parse(call_of(request, self._origins)._replace(body=body))
                self._admission.check(batch.operations, batch.pointer)
                view = await self._custody.accept(batch, request, served.caller, dialect=self._dialect.name, data=body)
                served.batch_id = view.id
                self._access.accepted(served, view.total)
        return self._shown(request, view)

    async def _list(self, request: BaseRequest, ask: Ask, _: IsLast) -> Answer:
        window = ask.window
        if window.before is None:
            views, next_ = await self._custody.page(request, self._is_ours, window.after, window.limit)
            has_more = next_ is not None
        else:
            views, has_more = await self._custody.page_before(request, self._is_ours, window.before, window.limit)
        records = [self._record(view) for view in views]
        origin = self._origins.origin_of(request)
        return self._answer(request, self._dialect.listed(records, origin, has_more=has_more))

    async def _view(self, request: BaseRequest, ask: Ask, _: IsLast) -> Answer:
        return self._shown(request, await self._find(request, ask, age_max_s=self._custody.poll_age_s))

    async def _results(self, request: BaseRequest, ask: Ask, is_last: IsLast) -> Answer:
        view = await self._find(request, ask)
        results.check_ended(view)
        page = results.Page(0, view.total)
        form = _Lines(self._dialect)
        records = self._custody.records
        return await results.stream(request, view, records, form, page, self._fields(request), keep_alive=not is_last())

    async def _cancel(self, request: BaseRequest, ask: Ask, _: IsLast) -> Answer:
        view = await self._find(request, ask)
        if view.state != "cancelled":  # a client that lost the answer asks again
            view = await self._custody.command(request, view.id, "cancel")
        return self._shown(request, view)

    async def _delete(self, request: BaseRequest, ask: Ask, _: IsLast) -> Answer:
        view = await self._find(request, ask)
        await self._custody.delete(request, view.id)
        return self._answer(request, self._dialect.deleted(view.id))

    async def _find(self, request: BaseRequest, ask: Ask, *, age_max_s: float = 0.0) -> View:
        view = await self._custody.find(request, ask.batch_id, age_max_s=age_max_s)
        if not self._is_ours(view):
            raise GatewayError("batch-not-found")
        return view

    def _is_ours(self, view: View) -> bool:
        return view.dialect == self._dialect.name

    def _shown(self, request: BaseRequest, view: View) -> Answer:
        page = self._dialect.shown(self._record(view), self._origins.origin_of(request))
        return self._answer(request, page)

    def _answer(self, request: BaseRequest, page: Page) -> Answer:
        return Answer(page.status, [*page.fields, *self._fields(request)], page.body)

    def _fields(self, request: BaseRequest) -> list[tuple[bytes, bytes]]:
        return [(self._dialect.request_id_field, request_id_of(request).encode()), *ALWAYS]

    def _record(self, view: View) -> Record:
        return Record(
            id=view.id,
            state=view.state,
            total=view.total,
            succeeded=view.succeeded,
            failed=view.failed,
            never_ran=view.total - view.completed if view.state in FINAL else 0,
            accepted_ms=view.accepted_ms,
            expires_ms=view.expires_ms,
            ended_ms=view.ended_ms,
            cancelled_ms=_cancelled_ms(view, int(self._custody.clock.now_s() * 1000)),
        )


def _cancelled_ms(view: View, now_ms: int) -> int | None:
    """The ledger keeps no such time: the latest that it can have been."""
    return {"cancelling": now_ms, "cancelled": view.ended_ms}.get(view.state)


class _Lines:
    """Results in the dialect's lines."""

    def __init__(self, dialect: LaterDialect) -> None:
        self.content_type = dialect.lines_type
        self._line = dialect.line

    def first(self) -> bytes:
        return b""

    def piece(self, recorded: Recorded) -> bytes:
        return self._line(recorded.id, recorded.outcome)

    def last(self, next_: int | None) -> bytes:
        return b""
