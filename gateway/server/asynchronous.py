"""The calls about batches on record (CONTRACT 2, "asynchronous"): status, results, events, cancel, retry, delete, list.

A batch is shown to its owner only. To everybody else it is a 404, the same for a foreign, a deleted and an invented id
in all but the request id.
"""

from collections.abc import Awaitable, Callable, Mapping
from secrets import token_hex
from typing import Any, Literal

import msgspec
from aiohttp.web import BaseRequest

from gateway.admission import Caller
from gateway.batch.model import Batch, Outcome
from gateway.batch.states import FINAL
from gateway.batch.validation import order_of
from gateway.errors import GatewayError, quoted
from gateway.ledger.names import Names, is_id
from gateway.ledger.port import Command, Ledger, View
from gateway.server.answer import Answer
from gateway.server.batch_status import WIRE_STATES, accepted, status, wire_state
from gateway.server.clock import Clock
from gateway.server.edge import request_id_of
from gateway.server.events import Events
from gateway.server.records import Records
from gateway.server.results import number, send_results
from gateway.server.retrying import operations_to_retry
from gateway.server.submission import Submission
from gateway.upstream.headers import RawFields

POLL_AGE_S = 0.1  # many pollers of one batch are one question to the ledger
_PAGE, _PAGE_MAX = 20, 100
_BROWSE, _BROWSED_MAX = 100, 2000  # views looked through for one page of a list with a status

IsDraining = Callable[[], bool]
_FINAL_ANSWER = {"x-should-retry": "false"}


class Asynchronous:
    """Answers calls about batches on record, and accepts new ones."""

    def __init__(
        self,
        ledger: Ledger,
        records: Records,
        submission: Submission,
        events: Events,
        names: Names,
        clock: Clock,
        *,
        base: str,
        caller_of: Callable[[BaseRequest], Caller],
    ) -> None:
        self._ledger = ledger
        self._records = records
        self._submission = submission
        self._events = events
        self._names = names
        self._clock = clock
        self._base = base
        self._caller_of = caller_of
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
                "not-found", f"nothing stands at {quoted(verb)} of a batch; use {', '.join(self._calls)}"
            )
        call = calls.get(request.method)
        if call is None:
            raise GatewayError("method-not-allowed", headers={"Allow": ", ".join(calls)})
        return await call(request, batch_id, is_draining)

    def check(self, batch: Batch) -> None:
        """Raise 422 where `accept` would, and put nothing on record."""
        self._submission.begins_after_s(batch)

    async def accept(
        self, batch: Batch, request: BaseRequest, caller: Caller, *, dialect: str, finished: tuple[Outcome, ...] = ()
    ) -> View:
        """The batch once it is durable."""
        view = await self._submission.accept(batch, request, caller, dialect=dialect, finished=finished)
        self._records.keep(view)
        return view

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
        owner = self._owner(request)
        if after is not None and (not is_id(after) or self._names.made_s(after, owner) is None):
            raise GatewayError("bad-cursor", "after is not the `next` of an earlier answer")
        found, next_ = await self._page(owner, after, wanted, limit)
        now_ms = int(self._clock.now_s() * 1000)
        document = {
            "batches": [status(view, self._base, now_ms) for view in found],
            "hasMore": next_ is not None,
            "next": next_,
        }
        return _answer(request, 200, document)

    async def _page(
        self, owner: str, after: str | None, wanted: str | None, limit: int
    ) -> tuple[list[View], str | None]:
        """A page, and behind which batch the next one begins; None where nothing is left. `processing` is two states of
        the ledger, so a page with a status may be short, and still not the last."""
        found: list[View] = []
        looked = 0
        while looked < _BROWSED_MAX:
            views = await self._ledger.browse(owner, limit=_BROWSE, after=after, state=None)
            for view in views:
                if wanted is None or wire_state(view.state) == wanted:
                    if len(found) == limit:
                        return found, after
                    found.append(view)
                after = view.id
            looked += len(views)
            if len(views) < _BROWSE:
                return found, None
        return found, after

    async def _status(self, request: BaseRequest, batch_id: str, _: IsDraining) -> Answer:
        view = await self._records.find(batch_id, self._owner(request), age_max_s=POLL_AGE_S)
        document = status(view, self._base, int(self._clock.now_s() * 1000))
        return _answer(request, 200, document, () if view.state in FINAL else [(b"Retry-After", b"1")])

    async def _results(self, request: BaseRequest, batch_id: str, is_draining: IsDraining) -> Answer:
        view = await self._records.find(batch_id, self._owner(request))
        fields = _fields(request)
        return await send_results(request, view, self._records, fields, self._base, keep_alive=not is_draining())

    async def _watch(self, request: BaseRequest, batch_id: str, is_draining: IsDraining) -> Answer:
        view = await self._records.find(batch_id, self._owner(request), age_max_s=POLL_AGE_S)
        return await self._events(request, view, _fields(request), is_draining)

    async def _cancel(self, request: BaseRequest, batch_id: str, _: IsDraining) -> Answer:
        return await self._command(request, batch_id, "cancel", frozenset({"cancelling", "cancelled"}))

    async def _pause(self, request: BaseRequest, batch_id: str, _: IsDraining) -> Answer:
        return await self._command(request, batch_id, "pause", frozenset())

    async def _resume(self, request: BaseRequest, batch_id: str, _: IsDraining) -> Answer:
        return await self._command(request, batch_id, "resume", frozenset())

    async def _command(self, request: BaseRequest, batch_id: str, command: Command, achieved: frozenset[str]) -> Answer:
        """Do it to a batch that has not ended. `achieved` are final states that the command itself may lead to."""
        owner = self._owner(request)
        view = await self._records.find(batch_id, owner)
        if view.state in FINAL:
            raise GatewayError("batch-terminal", headers=_FINAL_ANSWER)
        after = await self._ledger.command(batch_id, command)
        if after is None:
            self._records.drop(batch_id)
            raise GatewayError("batch-not-found")
        self._records.keep(after)
        if after.state in FINAL and after.state not in achieved:
            raise GatewayError("batch-terminal", headers=_FINAL_ANSWER)
        document = {
            "batchId": after.id,
            "status": wire_state(after.state),
            "paused": after.paused,
            "statusUrl": f"{self._base}/{after.id}/status",
        }
        return _answer(request, 202, document, [(b"Location", f"{self._base}/{after.id}".encode())])

    async def _delete(self, request: BaseRequest, batch_id: str, _: IsDraining) -> Answer:
        view = await self._records.find(batch_id, self._owner(request))
        if view.state not in FINAL:
            raise GatewayError("batch-running", headers=_FINAL_ANSWER)
        await self._ledger.command(batch_id, "delete")
        self._records.drop(batch_id)
        return Answer(204, _fields(request))

    async def _retry(self, request: BaseRequest, batch_id: str, is_draining: IsDraining) -> Answer:
        """A new batch of what failed, was cancelled or expired. Its credentials are those of this request."""
        if is_draining():
            raise GatewayError("draining", headers={"Retry-After": "5"})
        caller = self._caller_of(request)
        first = await self._records.find(batch_id, self._names.owner_of(caller.identity))
        if first.state not in FINAL:
            raise GatewayError("batch-running", headers=_FINAL_ANSWER)
        include_unknown = request.query.get("includeUnknown", "false") == "true"
        operations = await operations_to_retry(self._records, first, include_unknown=include_unknown)
        if not operations:
            raise GatewayError("batch-terminal", "nothing of the batch is left to retry", headers=_FINAL_ANSWER)
        on_failure: Literal["halt", "continue"] = "halt" if first.label.get("onFailure") == "halt" else "continue"
        batch = Batch(operations, on_failure, graph=order_of(operations)[0])
        view = await self._submission.accept(batch, request, caller, dialect=first.dialect, retry_of=first.id)
        self._records.keep(view)
        return self.accepted(request, view)

    def _owner(self, request: BaseRequest) -> str:
        return self._names.owner_of(self._caller_of(request).identity)


def _fields(request: BaseRequest) -> list[tuple[bytes, bytes]]:
    return [
        (b"Cache-Control", b"no-store"),
        (b"X-Content-Type-Options", b"nosniff"),
        (b"X-Request-Id", request_id_of(request, token_hex(16)).encode()),
    ]


def _answer(request: BaseRequest, status_: int, document: Mapping[str, Any], more: RawFields = ()) -> Answer:
    fields = [(b"Content-Type", b"application/json"), *_fields(request), *more]
    return Answer(status_, fields, msgspec.json.encode(document))
