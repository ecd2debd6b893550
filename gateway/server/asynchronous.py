"""The native calls about batches on record (CONTRACT 2): status, results, events, cancel, retry, delete, list."""

from collections.abc import Awaitable, Callable, Mapping
from secrets import token_hex
from typing import Any, Literal

import msgspec
from aiohttp.web import BaseRequest

from gateway.batch.model import Batch
from gateway.batch.states import FINAL
from gateway.dialects.on_record import Order
from gateway.errors import DrainingError, GatewayError, quoted
from gateway.ledger.port import View
from gateway.server.answer import Answer
from gateway.server.batch_status import WIRE_STATES, accepted, status, wire_state
from gateway.server.custody import Custody
from gateway.server.edge import request_id_of
from gateway.server.events import Events
from gateway.server.results import number, send_results
from gateway.server.retrying import operations_to_retry, order_again
from gateway.upstream.headers import RawFields

_PAGE, _PAGE_MAX = 20, 100

IsDraining = Callable[[], bool]


class Asynchronous:
    """Words the calls about batches on record in the gateway's own dialect."""

    def __init__(self, custody: Custody, events: Events, *, base: str) -> None:
        self.custody = custody
        self._records = custody.records
        self._clock = custody.clock
        self._events = events
        self._base = base
        self._calls: Mapping[str, Mapping[str, Callable[..., Awaitable[Answer]]]] = {
            "": {"GET": self._status, "HEAD": self._status, "DELETE": self._delete},
            "status": {"GET": self._status, "HEAD": self._status},
            "results": {"GET": self._results, "HEAD": self._results},
            "events": {"GET": self._watch},
            "cancel": {"POST": self._cancel},
            "pause": {"POST": self._pause},
            "resume": {"POST": self._resume},
            "retry": {"POST": self._retry},
        }

    async def __call__(self, request: BaseRequest, rest: str, is_draining: IsDraining) -> Answer:
        """Answer a call at `rest`: an id, and behind a slash what is asked of it."""
        batch_id, _, verb = rest.partition("/")
        calls = self._calls.get(verb)
        if calls is None:
            raise GatewayError(
                "not-found", f"nothing stands at {quoted(verb)} of a batch; use {', '.join(filter(None, self._calls))}"
            )
        call = calls.get(request.method)
        if call is None:
            raise GatewayError("method-not-allowed", headers={"Allow": ", ".join(calls)})
        return await call(request, batch_id, is_draining)

    def accepted(self, request: BaseRequest, view: View, more: RawFields = ()) -> Answer:
        """202, and where to go from there."""
        fields = [(b"Location", f"{self._base}/{view.id}".encode()), (b"Retry-After", b"1"), *more]
        return _answer(request, 202, accepted(view, self._base), fields)

    async def browse(self, request: BaseRequest) -> Answer:
        """The caller's own batches, newest first."""
        query = request.query
        limit = min(number(query, "limit", _PAGE, 1), _PAGE_MAX)
        wanted = query.get("status")
        if wanted is not None and wanted not in WIRE_STATES:
            raise GatewayError("bad-cursor", f"{quoted(wanted)} is not a status; use {', '.join(WIRE_STATES)}")
        after = query.get("after")
        found, next_ = await self.custody.page(
            request, lambda view: wanted is None or wire_state(view.state) == wanted, after, limit
        )
        now_ms = int(self._clock.now_s() * 1000)
        document = {
            "batches": [status(view, self._base, now_ms) for view in found],
            "hasMore": next_ is not None,
            "next": next_,
        }
        return _answer(request, 200, document)

    async def _status(self, request: BaseRequest, batch_id: str, _: IsDraining) -> Answer:
        view = await self.custody.find(request, batch_id, age_max_s=self.custody.poll_age_s)
        document = status(view, self._base, int(self._clock.now_s() * 1000))
        return _answer(request, 200, document, () if view.state in FINAL else [(b"Retry-After", b"1")])

    async def _results(self, request: BaseRequest, batch_id: str, is_draining: IsDraining) -> Answer:
        view = await self.custody.find(request, batch_id)
        fields = _fields(request)
        return await send_results(request, view, self._records, fields, self._base, keep_alive=not is_draining())

    async def _watch(self, request: BaseRequest, batch_id: str, is_draining: IsDraining) -> Answer:
        view = await self.custody.find(request, batch_id, age_max_s=self.custody.poll_age_s)
        return await self._events(request, view, _fields(request), is_draining)

    async def _cancel(self, request: BaseRequest, batch_id: str, _: IsDraining) -> Answer:
        return self._commanded(request, await self.custody.command(request, batch_id, "cancel"))

    async def _pause(self, request: BaseRequest, batch_id: str, _: IsDraining) -> Answer:
        return self._commanded(request, await self.custody.command(request, batch_id, "pause"))

    async def _resume(self, request: BaseRequest, batch_id: str, _: IsDraining) -> Answer:
        return self._commanded(request, await self.custody.command(request, batch_id, "resume"))

    def _commanded(self, request: BaseRequest, view: View) -> Answer:
        document = {
            "batchId": view.id,
            "status": wire_state(view.state),
            "paused": view.paused,
            "statusUrl": f"{self._base}/{view.id}/status",
        }
        return _answer(request, 202, document, [(b"Location", f"{self._base}/{view.id}".encode())])

    async def _delete(self, request: BaseRequest, batch_id: str, _: IsDraining) -> Answer:
        await self.custody.delete(request, batch_id)
        return Answer(204, _fields(request))

    async def _retry(self, request: BaseRequest, batch_id: str, is_draining: IsDraining) -> Answer:
        """A new batch of what failed, was cancelled or expired. Its credentials are those of this request."""
        if is_draining():
            raise DrainingError
        caller = self.custody.caller_of(request)
        first = await self.custody.find(request, batch_id)
        if first.state not in FINAL:
            raise GatewayError("batch-running", "wait for the batch to end, or cancel it; then send what is left again")
        include_unknown = request.query.get("includeUnknown", "false") == "true"
        operations = await operations_to_retry(self._records, first, include_unknown=include_unknown)
        if not operations:
            raise GatewayError("batch-terminal", "nothing of the batch is left to retry")
        on_failure: Literal["halt", "continue"] = "halt" if first.label.get("onFailure") == "halt" else "continue"
        batch = Batch(operations, on_failure, graph=order_again(operations, first))
        order = Order(batch, memo=self._records.memo(first))
        view = await self.custody.accept(order, request, caller, dialect=first.dialect, retry_of=first.id)
        return self.accepted(request, view)


def _fields(request: BaseRequest) -> list[tuple[bytes, bytes]]:
    return [
        (b"Cache-Control", b"no-store"),
        (b"X-Content-Type-Options", b"nosniff"),
        (b"X-Request-Id", request_id_of(request, token_hex(16)).encode()),
    ]


def _answer(request: BaseRequest, status_: int, document: Mapping[str, Any], more: RawFields = ()) -> Answer:
    fields = [(b"Content-Type", b"application/json"), *_fields(request), *more]
    return Answer(status_, fields, msgspec.json.encode(document))
