"""Vendors' batches that are answered later: their calls, done by the custody that does the native ones.

A batch is shown to its owner, in the words of the vendor in which it came; the native calls know it as well.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from functools import partial

from aiohttp.web import BaseRequest

from gateway.dialects.on_record import Ask, OnRecordDialect, Order, Verb
from gateway.dialects.port import Call
from gateway.errors import DrainingError, GatewayError
from gateway.ledger.port import View
from gateway.server import results
from gateway.server.access import Served
from gateway.server.answer import Answer
from gateway.server.custody import Custody
from gateway.server.envelope import check_framing
from gateway.server.vendor_files import VendorFiles
from gateway.server.vendor_record import ResultLines, answered, fields_of, record_of
from gateway.server.vendors import Way, call_of, refused

IsLast = Callable[[], bool]


class VendorBatches:
    """One dialect over one custody. Without `files` its batches are not made of files."""

    def __init__(self, dialect: OnRecordDialect, way: Way, custody: Custody, files: VendorFiles | None = None) -> None:
        self._dialect = dialect
        self._custody = custody
        self._origins = way.settings.origins
        self._in_place, self._admission, self._access, self._once = way.in_place, way.admission, way.access, way.once
        self._files = files
        self._making = asyncio.Lock()  # one batch at a time: all its operations are in memory
        self._calls: Mapping[Verb, Callable[[BaseRequest, Ask, IsLast], Awaitable[Answer]]] = {
            "create": self._create,
            "list": self._list,
            "view": self._view,
            "results": self._results,
            "cancel": self._cancel,
            "delete": self._delete,
            **({} if files is None else files.calls),
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
        dialect = self._dialect
        with self._in_place.on_record(request, dialect.name) as served:
            if is_last():
                raise DrainingError
            check_framing(request, dialect.body_bytes_max)
            body = await self._in_place.body(request, served, dialect.body_bytes_max)
            make = partial(self._make, request, body, served)
            view = await self._once.view(request, body, served, self._custody, make)
        return await self._shown(request, view)

    async def _make(self, request: BaseRequest, body: bytes, served: Served, fence: bytes) -> View:
        """The batch that the body asks for, once it is durable."""
        async with self._making:
            order = await self._order(request, body)
            view = await self._custody.accept(order, request, served.caller, dialect=self._dialect.name, fence=fence)
        served.batch_id = view.id
        self._access.accepted(served, 0 if order.why else view.total)
        return view

    async def _order(self, request: BaseRequest, body: bytes) -> Order:
        """What the body asks for, its operations checked. Read in a thread: it may be long, and others wait."""
        call = call_of(request, self._origins)._replace(body=body)
        order = await asyncio.to_thread(self._dialect.parse, call)
        if order.file_id is not None and self._files is not None:
            order = await self._files.filled(request, order)
        if order.batch is not None:
            await asyncio.to_thread(self._admission.check, order.batch.operations, order.batch.pointer)
        return order

    async def _list(self, request: BaseRequest, ask: Ask, _: IsLast) -> Answer:
        window = ask.window
        if window.before is None:
            views, next_ = await self._custody.page(request, self._is_ours, window.after, window.limit)
            has_more = next_ is not None
        else:
            views, has_more = await self._custody.page_before(request, self._is_ours, window.before, window.limit)
        records = [await record_of(view, self._custody) for view in views]
        origin = self._origins.origin_of(request)
        return answered(self._dialect, request, self._dialect.listed(records, origin, has_more=has_more))

    async def _view(self, request: BaseRequest, ask: Ask, _: IsLast) -> Answer:
        return await self._shown(request, await self._find(request, ask, age_max_s=self._custody.poll_age_s))

    async def _results(self, request: BaseRequest, ask: Ask, is_last: IsLast) -> Answer:
        view = await self._find(request, ask)
        results.check_ended(view)
        page, form = results.Page(0, view.total), ResultLines(self._dialect, view.id, ask.part)
        fields = fields_of(self._dialect, request)
        return await results.stream(request, view, self._custody.records, form, page, fields, keep_alive=not is_last())

    async def _cancel(self, request: BaseRequest, ask: Ask, _: IsLast) -> Answer:
        view = await self._find(request, ask)
        if view.state != "cancelled":  # a client that lost the answer asks again
            view = await self._custody.command(request, view.id, "cancel")
        return await self._shown(request, view)

    async def _delete(self, request: BaseRequest, ask: Ask, _: IsLast) -> Answer:
        view = await self._find(request, ask)
        await self._custody.delete(request, view.id)
        return answered(self._dialect, request, self._dialect.deleted(ask))

    async def _find(self, request: BaseRequest, ask: Ask, *, age_max_s: float = 0.0) -> View:
        return await self._custody.find(request, ask.id, dialect=self._dialect.name, age_max_s=age_max_s)

    def _is_ours(self, view: View) -> bool:
        return view.dialect == self._dialect.name

    async def _shown(self, request: BaseRequest, view: View) -> Answer:
        record = await record_of(view, self._custody)
        return answered(self._dialect, request, self._dialect.shown(record, self._origins.origin_of(request)))
