"""What stands under the batch prefix: POST /batch itself, the pages of problems, and the caller's limits."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from time import perf_counter
from typing import TYPE_CHECKING

from aiohttp.web import BaseRequest

from gateway.admission import Admission
from gateway.batch.model import Batch, Outcome, Summary, summarize
from gateway.batch.validation import Rules
from gateway.dialects import native
from gateway.dialects.multistatus import XmlWriter
from gateway.dialects.on_record import Order
from gateway.dialects.port import EnvelopeLimits, Writer
from gateway.errors import DrainingError, GatewayError, quoted
from gateway.plan import Plan
from gateway.server import problem
from gateway.server.access import Access, Served
from gateway.server.answer import Answer
from gateway.server.chunks import Chunks
from gateway.server.deadline import is_left, ran_out
from gateway.server.dry_run import is_dry, plan_page
from gateway.server.envelope import check_framing
from gateway.server.in_place import ALWAYS, Fields, InPlace, RunSettings, answer_fields, begun
from gateway.server.limits_page import limits_page
from gateway.server.once import Envelope, Once, outlasting
from gateway.server.preferences import goes_on_record
from gateway.server.promotion import Late, promote
from gateway.server.steps import in_task
from gateway.server.terms import wanted_of

if TYPE_CHECKING:  # it brings the ledger with it, which not every gateway has
    from gateway.server.asynchronous import Asynchronous

_FOREVER_US = 2**62  # batches on record wait for tokens as long as they live
_RESPOND_ASYNC = (b"Preference-Applied", b"respond-async")

_JSON, _LINES, _XML = native.JsonWriter(), native.LinesWriter(), XmlWriter()
_WRITERS: dict[str, Writer] = {
    "application/json": _JSON,
    "application/xml": _XML,
    "text/xml": _XML,
}


@dataclass(frozen=True, slots=True)
class BatchSettings:
    """`base` is the batch prefix; `run` is what batches of every dialect share."""

    base: str
    sync_operations_max: int
    envelope: EnvelopeLimits
    rules: Rules
    run: RunSettings


class Batches:
    """Answers what is under the batch prefix. Without `asynchronous` there is no ledger, and no batch is a 202."""

    def __init__(
        self,
        settings: BatchSettings,
        in_place: InPlace,
        admission: Admission,
        access: Access,
        once: Once,
        asynchronous: "Asynchronous | None" = None,
    ) -> None:
        self._settings = settings
        self._in_place = in_place
        self._admission = admission
        self._access = access
        self._once = once
        self._asynchronous = asynchronous

    async def __call__(self, request: BaseRequest, path: str, is_draining: Callable[[], bool]) -> Answer:
        base = self._settings.base
        if path == base and request.method == "POST":
            with self._in_place.on_record(request, "native") as served:
                return await self._batch(request, served, is_draining)
        await in_task()
        if path == base:
            if self._asynchronous is not None and request.method in ("GET", "HEAD"):
                return await self._asynchronous.browse(request)
            raise GatewayError(
                "method-not-allowed", headers={"Allow": "POST" if self._asynchronous is None else "GET, HEAD, POST"}
            )
        if path == f"{base}/limits":
            return await self._limits(request)
        if path.startswith(f"{base}/problems/"):
            slug = path.removeprefix(f"{base}/problems/")
            found = problem.page(slug, accept=request.headers.get("Accept", ""), base=base)
            if found is not None:
                if request.method not in ("GET", "HEAD"):
                    raise GatewayError("method-not-allowed", headers={"Allow": "GET, HEAD"})
                return found
        elif self._asynchronous is not None:
            return await self._asynchronous(request, path.removeprefix(f"{base}/"), is_draining)
        raise GatewayError("not-found", f"nothing stands at {quoted(path)}; batches go to POST {base}")

    async def _batch(self, request: BaseRequest, served: Served, is_draining: Callable[[], bool]) -> Answer:
        """The path of a batch: read, judged, and unless it was answered before admitted, run, answered."""
        settings, in_place = self._settings, self._in_place
        form, preferences = wanted_of(request, served.terms)
        check_framing(request, settings.run.body_bytes_max)
        data = await in_place.body(request, served)
        batch = await in_place.sliced(len(data), native.parsed(data, settings.envelope, settings.rules))
        asynchronous = None
        if goes_on_record(batch, preferences, settings.sync_operations_max):
            asynchronous = self._asynchronous
            if asynchronous is None and batch.schedule.waits:
                raise GatewayError("async-disabled", "notBefore needs a ledger, and this gateway has none")
        if request.query_string and is_dry(request.query.items()):
            await in_task()
            return await self._rehearse(asynchronous, request, batch, served, is_draining())

        envelope = Envelope(batch, data, form, preferences, asynchronous is not None)
        work = partial(self._execute, request, envelope, served, is_draining)
        return await self._once.answer(request, envelope, served, work)

    async def _execute(
        self, request: BaseRequest, envelope: Envelope, served: Served, is_draining: Callable[[], bool], fence: bytes
    ) -> Answer:
        """202 for a batch on record, 207 for one that runs now, or 202 where its time is up."""
        batch, _, form, preferences, _ = envelope
        if envelope.goes_on_record and self._asynchronous is not None:
            return await self._accept(self._asynchronous, request, envelope, served, fence, is_draining())
        settings, in_place = self._settings, self._in_place
        admitted = await in_place.admitted(batch, served)
        there = self._asynchronous
        wait_s = None if there is None else preferences.wait_s
        may_be_kept = there is not None and form != _LINES.media_type and not is_draining()
        plan = in_place.plan(request, batch, admitted, served, settings.rules, wait_s, may_be_kept=may_be_kept)
        applied = [] if wait_s is None else [(b"Preference-Applied", b"wait=%d" % wait_s)]
        fields = [*answer_fields(request, admitted.readings, served), *applied]
        async with in_place.keyed(plan, served) as plan:
            if form == _LINES.media_type:
                await in_task()
                chunks = Chunks(request, keeps=bool(fence))
                return await self._stream(chunks, plan, fields, served, keep_alive=not is_draining())
            outcomes, groups = begun(plan), in_place.run(plan, is_told_whole=True)
            is_whole = await in_place.gather(groups, outcomes, served)
        if there is not None and (not is_whole or ran_out(plan, outcomes, asyncio.get_running_loop().time())):
            await in_task()
            late = Late(plan, outcomes, groups)
            promoted = await outlasting(promote(there, self._access, request, late, served, fence, applied))
            if promoted is not None:
                return promoted
            await in_place.gather(groups, outcomes, served)
        return await self._answer(plan, outcomes, fields, form, served)

    async def _rehearse(
        self,
        asynchronous: "Asynchronous | None",
        request: BaseRequest,
        batch: Batch,
        served: Served,
        is_draining: bool,
    ) -> Answer:
        """200 with what would become of the batch."""
        self._in_place.check_keys(batch)
        if asynchronous is not None:
            if is_draining:
                raise DrainingError
            asynchronous.custody.check(batch)
        rehearsal = await self._admission.rehearse(
            batch,
            served.caller,
            wait_max_us=_FOREVER_US if asynchronous else int(self._settings.run.sync_timeout_s * 1_000_000),
            in_background=asynchronous is not None,
        )
        page = plan_page(
            batch,
            rehearsal,
            self._in_place.twins(batch, rehearsal.admitted) if asynchronous is None else {},
            status=207 if asynchronous is None else 202,
            concurrency=self._settings.run.concurrency,
            base=self._settings.base,
        )
        self._access.accepted(served, len(batch.operations), mode="dry", status=200)
        fields = answer_fields(request, rehearsal.readings, served)
        return Answer(200, [(b"Content-Type", b"application/json"), *fields], page)

    async def _accept(
        self,
        asynchronous: "Asynchronous",
        request: BaseRequest,
        envelope: Envelope,
        served: Served,
        fence: bytes,
        is_draining: bool,
    ) -> Answer:
        """202 once the batch is durable. The worker admits its operations: routes, then tokens as they come."""
        batch, caller = envelope.batch, served.caller
        if is_draining:
            raise DrainingError
        self._in_place.check_keys(batch)
        self._admission.check(batch.operations, batch.pointer, ordered=batch.graph is not None)
        view = await asynchronous.custody.accept(Order(batch), request, caller, dialect=served.dialect, fence=fence)
        served.batch_id = view.id
        self._access.accepted(served, view.total)
        return asynchronous.accepted(request, view, [_RESPOND_ASYNC] if envelope.preferences.respond_async else ())

    async def _answer(
        self, plan: Plan, outcomes: Sequence[Outcome], fields: Fields, form: str, served: Served
    ) -> Answer:
        summary = summarize(outcomes)
        ids = [operation.id for operation in plan.batch.operations]
        base, timeout_s = self._settings.base, self._settings.run.sync_timeout_s
        if ran_out(plan, outcomes, asyncio.get_running_loop().time()) and (
            self._asynchronous is None or any(map(is_left, outcomes))
        ):
            self._access.batch(plan, outcomes, summary, served, status=408)
            raise GatewayError(
                "batch-deadline",
                f"not finished within {timeout_s:g} s; results holds what became of each operation",
                members=native.preview(ids, outcomes, summary, base),
            )
        body = await self._in_place.written(_WRITERS[form], ids, outcomes, summary, base)
        content_type = b"application/json" if form == "application/json" else form.encode() + b'; charset="utf-8"'
        answer = Answer(207, [(b"Content-Type", content_type), *fields, _summary_field(summary)], body)
        served.bytes_out = len(body)
        self._access.batch(plan, outcomes, summary, served, status=207)
        return answer

    async def _stream(self, chunks: Chunks, plan: Plan, fields: Fields, served: Served, *, keep_alive: bool) -> Answer:
        """One line an outcome as it finishes; the head goes out at once, so no later problem can change the status."""
        await chunks.begin(207, [(b"Content-Type", _LINES.media_type.encode()), *fields], keep_alive=keep_alive)
        outcomes = begun(plan)
        if plan.earlier:
            await chunks.piece(self._lines(plan, list(plan.earlier.values())))
        began_s = perf_counter()
        try:
            async for finished in self._in_place.run(plan):
                for outcome in finished:
                    outcomes[outcome.index] = outcome
                await chunks.piece(self._lines(plan, finished))
        except BaseException:  # its caller has gone, in one way or another
            self._access.stray(outcomes)
            raise
        served.waited_s += perf_counter() - began_s
        summary = summarize(outcomes)
        await chunks.piece(_LINES.last(summary))
        answer = await chunks.end(207)
        served.bytes_out = chunks.bytes_out
        self._access.batch(plan, outcomes, summary, served, status=207)
        return answer

    def _lines(self, plan: Plan, outcomes: Sequence[Outcome]) -> bytes:
        base, operations = self._settings.base, plan.batch.operations
        return _LINES.pieces([operations[outcome.index].id for outcome in outcomes], outcomes, base)

    async def _limits(self, request: BaseRequest) -> Answer:
        if request.method not in ("GET", "HEAD"):
            raise GatewayError("method-not-allowed", headers={"Allow": "GET, HEAD"})
        readings = await self._admission.readings(self._settings.run.callers.known(request))
        settings = self._settings
        figures = {
            "operationsMax": settings.envelope.operations_max,
            "envelopeBytesMax": settings.run.body_bytes_max,
            "concurrency": settings.run.concurrency,
        }
        return Answer(200, [*ALWAYS, (b"Content-Type", b"application/json")], limits_page(readings, figures))


def _summary_field(summary: Summary) -> tuple[bytes, bytes]:
    counts = native.shown(summary)
    return b"Batch-Summary", ", ".join([f"{name}={count}" for name, count in counts.items()]).encode()
