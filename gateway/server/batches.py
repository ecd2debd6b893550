"""What stands under the batch prefix: POST /batch itself, the pages of problems, and the caller's limits."""

import asyncio
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import msgspec
from aiohttp.web import BaseRequest

from gateway.admission import Admission, Admitted, Caller, identity_of, rate_limit_headers
from gateway.batch.model import Batch, Outcome, Summary, summarize
from gateway.batch.validation import Rules
from gateway.dialects import native
from gateway.dialects.multistatus import XmlWriter
from gateway.dialects.port import EnvelopeLimits, Writer
from gateway.errors import GatewayError, quoted
from gateway.executor import Executor, Plan
from gateway.server import problem
from gateway.server.access import Access, Served
from gateway.server.answer import Answer, date_field, head, send
from gateway.server.edge import request_id_of
from gateway.server.envelope import body_of, check_head, form_of
from gateway.server.origin import Origins
from gateway.upstream.request import RequestWriter

Fields = list[tuple[bytes, bytes]]

_JSON, _LINES, _XML = native.JsonWriter(), native.LinesWriter(), XmlWriter()
_WRITERS: dict[str, Writer] = {
    "application/json": _JSON,
    "application/xml": _XML,
    "text/xml": _XML,
}
_ALWAYS: Fields = [(b"Cache-Control", b"no-store"), (b"X-Content-Type-Options", b"nosniff")]
# What may have run when the batch's time was up, or surely did not.
_OUT_OF_TIME = frozenset({"batch-deadline", "outcome-unknown", "upstream-timeout"})


@dataclass(frozen=True, slots=True)
class BatchSettings:
    """Times in seconds, sizes in bytes; `base` is the batch prefix."""

    base: str
    body_bytes_max: int
    concurrency: int
    sync_timeout_s: float
    answers_bytes_max: int
    envelope: EnvelopeLimits
    rules: Rules
    identity_names: frozenset[bytes]
    via: bytes
    origins: Origins
    default_host: bytes


class Batches:
    """Answers what is under the batch prefix."""

    def __init__(self, settings: BatchSettings, admission: Admission, executor: Executor, access: Access) -> None:
        self._settings = settings
        self._admission = admission
        self._executor = executor
        self._access = access

    async def __call__(self, request: BaseRequest, path: str, is_last: Callable[[], bool]) -> Answer:
        base = self._settings.base
        if path == base:
            return await self._post(request, is_last)
        if path == f"{base}/limits":
            return await self._limits(request)
        if path.startswith(f"{base}/problems/") and request.method in ("GET", "HEAD"):
            slug = path.removeprefix(f"{base}/problems/")
            found = problem.page(slug, accept=request.headers.get("Accept", ""), base=base)
            if found is not None:
                return found
        raise GatewayError("not-found", f"nothing stands at {quoted(path)}; batches go to POST {base}")

    async def _post(self, request: BaseRequest, is_last: Callable[[], bool]) -> Answer:
        if request.method != "POST":
            raise GatewayError("method-not-allowed", headers={"Allow": "POST"})
        served = Served(secrets.token_hex(16), "native", self._caller(request))
        try:
            return await self._batch(request, served, is_last)
        except GatewayError as error:
            error.request_id = request_id_of(request, served.batch_id)  # what the log line says, the answer says
            self._access.denied(error)
            self._access.refused(served, error.problem.slug, error.status)
            raise
        except asyncio.CancelledError:
            self._access.aborted(served)
            raise

    async def _batch(self, request: BaseRequest, served: Served, is_last: Callable[[], bool]) -> Answer:
        """The path of a batch: read, judged, admitted, run, answered."""
        settings = self._settings
        form = form_of(request.headers.getall("Accept", ()))
        check_head(request, settings.body_bytes_max)
        began_s = perf_counter()
        data = await body_of(request, settings.body_bytes_max)
        served.waited_s += perf_counter() - began_s
        served.bytes_in = len(data)
        batch = native.parse(data, settings.envelope, settings.rules)
        self._check_not_built(request)
        admitted = await self._admission.admit(
            batch.operations,
            served.caller,
            batched=True,
            wait_max_us=int(settings.sync_timeout_s * 1_000_000),
            pointer=batch.pointer,
            ordered=batch.graph is not None,
        )
        self._access.taken(admitted.readings, admitted.tokens)
        plan = self._plan(request, batch, admitted, served)
        fields = self._answer_fields(request, admitted, served)
        if form == _LINES.media_type:
            keep_alive = request.keep_alive and request.version == (1, 1) and not is_last()
            return await self._stream(request, plan, fields, served, keep_alive=keep_alive)
        outcomes = await self._outcomes(plan, served)
        return self._answer(plan, outcomes, fields, form, served)

    def _check_not_built(self, request: BaseRequest) -> None:
        """Refuse what asks for work that is not built."""
        if request.query_string and request.query.get("dryRun", "false") != "false":
            errors = [
                {"pointer": "", "code": "not-built-yet", "detail": "the dry run is not built yet; leave dryRun out"}
            ]
            raise GatewayError("validation-failed", "the dry run is not built yet", members={"errors": errors})

    def _plan(self, request: BaseRequest, batch: Batch, admitted: Admitted, served: Served) -> Plan:
        settings = self._settings
        said = settings.origins.vouched(request, settings.via)
        writer = RequestWriter(
            request.raw_headers, said, served.batch_id, secrets.token_bytes(24), settings.default_host
        )
        return Plan(
            batch,
            admitted.routes,
            writer.write,
            settings.concurrency,
            asyncio.get_running_loop().time() + settings.sync_timeout_s,
            settings.answers_bytes_max,
            admitted.delays_us,
            resolution=self._admission.resolution(batch, admitted.routes, settings.rules),
        )

    async def _outcomes(self, plan: Plan, served: Served) -> Sequence[Outcome]:
        """All outcomes, in the order of the operations."""
        outcomes: list[Any] = [None] * len(plan.batch.operations)
        began_s = perf_counter()
        async for finished in self._executor.run(plan):
            for outcome in finished:
                outcomes[outcome.index] = outcome
        served.waited_s += perf_counter() - began_s
        return outcomes

    def _answer(self, plan: Plan, outcomes: Sequence[Outcome], fields: Fields, form: str, served: Served) -> Answer:
        summary = summarize(outcomes)
        ids = [operation.id for operation in plan.batch.operations]
        base = self._settings.base
        if self._ran_out(plan, outcomes):
            self._access.batch(plan, outcomes, summary, served, status=408)
            raise GatewayError(
                "batch-deadline",
                f"not finished within {self._settings.sync_timeout_s:g} s; results holds what became of each operation",
                headers={"x-should-retry": "false"},
                members=native.preview(ids, outcomes, summary, base),
            )
        body = _WRITERS[form].whole(ids, outcomes, summary, base)
        content_type = b"application/json" if form == "application/json" else form.encode() + b'; charset="utf-8"'
        answer = Answer(207, [(b"Content-Type", content_type), *fields, _summary_field(summary)], body)
        served.bytes_out = len(body)
        self._access.batch(plan, outcomes, summary, served, status=207)
        return answer

    async def _stream(
        self, request: BaseRequest, plan: Plan, fields: Fields, served: Served, *, keep_alive: bool
    ) -> Answer:
        """One line an outcome as it finishes; the head goes out at once, so no later problem can change the status."""
        framing = [(b"Transfer-Encoding", b"chunked")] if request.version == (1, 1) else []
        start = [date_field(), (b"Content-Type", _LINES.media_type.encode()), *fields, *framing]
        write = _Chunks(request, chunked=bool(framing)).write
        await write(head(207, b"Multi-Status", start, request=request, keep_alive=keep_alive), framed=False)
        outcomes: list[Any] = [None] * len(plan.batch.operations)
        began_s = perf_counter()
        async for finished in self._executor.run(plan):
            lines = [_LINES.piece(plan.batch.operations[each.index].id, each, self._settings.base) for each in finished]
            for outcome in finished:
                outcomes[outcome.index] = outcome
            served.bytes_out += await write(b"".join(lines))
        served.waited_s += perf_counter() - began_s
        summary = summarize(outcomes)
        served.bytes_out += await write(_LINES.last(summary))
        if framing:
            await write(b"0\r\n\r\n", framed=False)
        self._access.batch(plan, outcomes, summary, served, status=207)
        return Answer.already_written(207, keep_alive=keep_alive)

    def _answer_fields(self, request: BaseRequest, admitted: Admitted, served: Served) -> Fields:
        limits = rate_limit_headers(admitted.readings)
        request_id = (b"X-Request-Id", request_id_of(request, served.batch_id).encode())
        return [*_ALWAYS, request_id, *((name.encode(), value.encode()) for name, value in limits.items())]

    def _caller(self, request: BaseRequest) -> Caller:
        settings, fields = self._settings, request.raw_headers
        return Caller(identity_of(fields, settings.identity_names), settings.origins.ip_of(request), fields)

    def _ran_out(self, plan: Plan, outcomes: Sequence[Outcome]) -> bool:
        if asyncio.get_running_loop().time() < plan.deadline_s:
            return False
        return any(outcome.failure is not None and outcome.failure.slug in _OUT_OF_TIME for outcome in outcomes)

    async def _limits(self, request: BaseRequest) -> Answer:
        if request.method not in ("GET", "HEAD"):
            raise GatewayError("method-not-allowed", headers={"Allow": "GET, HEAD"})
        readings = await self._admission.readings(self._caller(request))
        limits = [
            {
                "name": reading.bucket.name,
                "tokens": reading.bucket.tokens,
                "perSeconds": reading.bucket.per_us / 1_000_000,
                "burst": reading.bucket.burst,
                "onExhausted": reading.bucket.on_exhausted,
                "remaining": reading.remaining,
                "fullInSeconds": reading.full_in_s,
            }
            for reading in readings
        ]
        body = {
            "limits": limits,
            "operationsMax": self._settings.envelope.operations_max,
            "envelopeBytesMax": self._settings.body_bytes_max,
            "concurrency": self._settings.concurrency,
        }
        return Answer(200, [*_ALWAYS, (b"Content-Type", b"application/json")], msgspec.json.encode(body))


def _summary_field(summary: Summary) -> tuple[bytes, bytes]:
    counts = native.shown(summary)
    return b"Batch-Summary", ", ".join(f"{name}={count}" for name, count in counts.items()).encode()


class _Chunks:
    """Writes pieces of a streamed answer, chunked where the caller speaks HTTP/1.1; waits for a slow reader."""

    def __init__(self, request: BaseRequest, *, chunked: bool) -> None:
        self._request = request
        self._chunked = chunked

    async def write(self, data: bytes, *, framed: bool = True) -> int:
        await send(self._request, b"%x\r\n%b\r\n" % (len(data), data) if framed and self._chunked else data)
        return len(data)
