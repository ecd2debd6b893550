"""A batch that is answered in place, whatever dialect it came in: its body read, its operations admitted and run."""

import asyncio
import math
import secrets
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager, nullcontext
from dataclasses import dataclass
from operator import attrgetter
from time import perf_counter
from typing import Any, TypeVar

from aiohttp.web import BaseRequest
from msgspec.structs import replace

from gateway.admission import Admission, Admitted
from gateway.batch.coalescing import twins_of
from gateway.batch.model import Batch, Outcome, Summary
from gateway.batch.validation import VIOLATIONS_MAX, Rules
from gateway.dialects.port import Writer
from gateway.dialects.slices import Sliced, at_once
from gateway.errors import GatewayError
from gateway.executor import Executor
from gateway.limiter.bucket import Reading
from gateway.limiter.http import rate_limit_headers
from gateway.plan import Plan
from gateway.replay.replay import Replay
from gateway.server.access import Access, Served
from gateway.server.aside import Aside
from gateway.server.callers import Callers
from gateway.server.edge import request_id_of
from gateway.server.envelope import body_of
from gateway.server.in_flight import InFlight
from gateway.server.origin import Origins
from gateway.server.steps import in_task
from gateway.server.terms import terms_of
from gateway.upstream.request import Inherited, RequestWriter

Fields = list[tuple[bytes, bytes]]
T = TypeVar("T")

_ID_BYTES, _SEED_BYTES = 16, 24  # the latter for a RequestWriter
_AT_ONCE_BYTES = 256 * 1024  # takes 2 to 5 ms; 10 MiB would take 100
_BODY_OF = attrgetter("body")

ALWAYS: Fields = [(b"Cache-Control", b"no-store"), (b"X-Content-Type-Options", b"nosniff")]


@dataclass(frozen=True, slots=True)
class RunSettings:
    """Times in seconds, sizes in bytes. `counts_here`: limits are counted in this process."""

    body_bytes_max: int
    concurrency: int
    in_flight_max: int
    in_flight_of_caller_max: int
    coalesces: bool
    sync_timeout_s: float
    answers_bytes_max: int
    callers: Callers
    via: bytes
    origins: Origins
    default_host: bytes
    counts_here: bool


class InPlace:
    """The steps from an envelope's bytes to its outcomes, for those who read and write a dialect. Without `replay` no
    operation may have an idempotency key."""

    def __init__(
        self,
        settings: RunSettings,
        admission: Admission,
        executor: Executor,
        access: Access,
        aside: Aside,
        replay: Replay | None = None,
    ) -> None:
        self._settings = settings
        self._replay = replay
        self._admission = admission
        self._executor = executor
        self._access = access
        self._in_flight = InFlight(settings.in_flight_max, settings.in_flight_of_caller_max)
        self._aside = aside

    @contextmanager
    def on_record(self, request: BaseRequest, dialect: str) -> Iterator[Served]:
        """One envelope while it is served; a refusal and a caller who has gone are counted and logged."""
        callers, terms = self._settings.callers, terms_of(request, self)
        caller = terms.caller or callers.of(request)
        random = secrets.token_bytes(_ID_BYTES + _SEED_BYTES)
        served = Served(random[:_ID_BYTES].hex(), random[_ID_BYTES:], dialect, caller, terms)
        try:
            callers.check(caller)
            if callers.is_ready:  # who a token names may be another one the next time
                terms.caller = caller
            yield served
        except GatewayError as error:
            error.request_id = request_id_of(request, served.batch_id)  # what the log line says, the answer says
            self._access.denied(error)
            self._access.refused(served, error.problem.slug, error.status)
            raise
        except asyncio.CancelledError:
            self._access.aborted(served)
            raise
        finally:
            if served.runs:
                self._in_flight.leave(served.caller.identity)

    async def limits_of(self, request: BaseRequest) -> Fields:
        """What every answer of ours tells the caller of its buckets; nothing while their store is away."""
        try:
            await self._may_wait()
            return limit_fields(await self._admission.readings(self._settings.callers.of(request)))
        except GatewayError:
            return []

    async def body(self, request: BaseRequest, served: Served, body_bytes_max: int | None = None) -> bytes:
        """The whole body. Raises 413 at the limit: that of every envelope, unless another is given."""
        began_s = perf_counter()
        data = await body_of(request, body_bytes_max or self._settings.body_bytes_max)
        served.waited_s += perf_counter() - began_s
        served.bytes_in = len(data)
        return data

    async def apart(self, size: int, work: Callable[[], T]) -> T:
        """What `work` makes of `size` bytes; of many aside, for the loop has others to serve."""
        return work() if size < _AT_ONCE_BYTES else await self._aside.do(work)

    async def sliced(self, size: int, work: Sliced[T]) -> T:
        """As `apart`, for what can be done in slices."""
        return at_once(work) if size < _AT_ONCE_BYTES else await self._aside.slice_up(work)

    async def written(
        self, writer: Writer, ids: Sequence[str], outcomes: Sequence[Outcome], summary: Summary, base: str
    ) -> bytes:
        """The whole answer; in slices where it is large."""
        if weight_of(outcomes) < _AT_ONCE_BYTES:
            return writer.whole(ids, outcomes, summary, base)
        return await self._aside.slice_up(writer.written(ids, outcomes, summary, base))

    async def admitted(self, batch: Batch, served: Served) -> Admitted:
        """Room to run, then routes and tokens for all operations in one step.

        Raises 503 where too many batches run, which costs nothing; 429, 413, or 422 for strict routes.
        """
        self._in_flight.enter(served.caller.identity)
        served.runs = True
        await self._may_wait()
        admitted = await self._admission.admit(
            batch.operations,
            served.caller,
            batched=True,
            wait_max_us=int(self._settings.sync_timeout_s * 1_000_000),
            pointer=batch.pointer,
            ordered=batch.graph is not None,
        )
        self._access.taken(admitted.readings, admitted.tokens)
        return admitted

    async def _may_wait(self) -> None:
        """For buckets that are elsewhere."""
        if not self._settings.counts_here:
            await in_task()

    def plan(
        self,
        request: BaseRequest,
        batch: Batch,
        admitted: Admitted,
        served: Served,
        rules: Rules,
        wait_s: int | None = None,
        *,
        may_be_kept: bool = False,
    ) -> Plan:
        """`rules` judge what references bring; after `wait_s` nothing starts, and what was sent has its time.
        `may_be_kept`: there is a ledger for what is on its way when the time is up, so that it needs no deadline."""
        settings, terms = self._settings, served.terms
        if terms.inherited is None:
            said = settings.origins.vouched(request, settings.via)
            terms.inherited = Inherited(served.caller.fields, said, settings.default_host)
        writer = RequestWriter(terms.inherited, served.batch_id, served.seed)
        now_s = asyncio.get_running_loop().time()
        deadline_s, twins = now_s + settings.sync_timeout_s, self.twins(batch, admitted)
        starts_until_s = math.inf if wait_s is None else now_s + wait_s
        if may_be_kept and not (batch.has_keys or twins or batch.on_failure == "halt"):
            starts_until_s, deadline_s = min(starts_until_s, deadline_s), math.inf
        return Plan(
            batch,
            admitted.routes,
            writer.write,
            settings.concurrency,
            deadline_s,
            settings.answers_bytes_max,
            admitted.delays_us,
            resolution=self._admission.resolution(batch, admitted.routes, rules),
            starts_until_s=starts_until_s,
            twins=twins,
        )

    def twins(self, batch: Batch, admitted: Admitted) -> Mapping[int, int]:
        """Operations that are not sent because another one asks the same, where the configuration wants that."""
        return twins_of(batch.operations, admitted.routes, batch.graph) if self._settings.coalesces else {}

    def check_keys(self, batch: Batch) -> None:
        """Raises 422 where operations have idempotency keys, and nobody keeps them."""
        if self._replay is None and batch.has_keys:
            raise _keys_are_off(batch)

    def keyed(self, plan: Plan, served: Served) -> AbstractAsyncContextManager[Plan]:
        """The plan with the idempotency keys of its operations claimed; to be run within the block."""
        if self._replay is not None and plan.batch.has_keys:
            return self._claimed(self._replay, plan, served)
        self.check_keys(plan.batch)
        return nullcontext(plan)

    @asynccontextmanager
    async def _claimed(self, replay: Replay, plan: Plan, served: Served) -> AsyncIterator[Plan]:
        await in_task()
        lasts_s = self._settings.sync_timeout_s
        keyed = await replay.claim_batch(plan.batch, plan.routes, served.caller.identity, lasts_s)
        try:
            yield replace(plan, keyed=keyed, earlier=keyed.earlier)
            await keyed.finish()
        finally:
            keyed.leave()

    def run(self, plan: Plan, *, is_told_whole: bool = False) -> AsyncGenerator[Sequence[Outcome]]:
        """Outcomes as they come, grouped by turn of the loop, or all at once; none of those that the plan has."""
        if plan.keyed is not None:
            plan.keyed.begin(is_told_whole=is_told_whole)
        return self._executor.run(plan, group=len(plan.routes) if is_told_whole and plan.keyed is None else 1)

    async def outcomes(self, plan: Plan, served: Served) -> Sequence[Outcome]:
        """All outcomes, in the order of the operations."""
        outcomes = begun(plan)
        await self.gather(self.run(plan, is_told_whole=True), outcomes, served)
        return outcomes

    async def gather(self, groups: AsyncIterator[Sequence[Outcome]], outcomes: list[Any], served: Served) -> bool:
        """Put outcomes in their places as they come; False where the time is up (see `Plan`) before all are there."""
        began_s = perf_counter()
        try:
            async for finished in groups:
                if not finished:
                    return False
                for outcome in finished:
                    outcomes[outcome.index] = outcome
            return True
        except asyncio.CancelledError:
            self._access.stray(outcomes)  # those that nobody has fetched tell of themselves
            raise
        finally:
            served.waited_s += perf_counter() - began_s


def weight_of(outcomes: Iterable[Outcome]) -> int:
    """Bytes of all bodies."""
    return sum(map(len, map(_BODY_OF, outcomes)))


def begun(plan: Plan) -> list[Any]:
    """A place for the outcome of each operation; those that are known are in theirs."""
    outcomes: list[Any] = [None] * len(plan.batch.operations)
    for index, outcome in plan.earlier.items():
        outcomes[index] = outcome
    return outcomes


def _keys_are_off(batch: Batch) -> GatewayError:
    """422 that names every operation with an idempotency key."""
    detail = "this gateway keeps no idempotency keys; leave it out"
    errors = [
        {"pointer": f"{batch.pointer}/{index}/idempotencyKey", "id": operation.id, "code": "idempotency-off",
         "detail": detail}
        for index, operation in enumerate(batch.operations)
        if operation.key
    ]  # fmt: skip
    return GatewayError("validation-failed", detail, members={"errors": errors[:VIOLATIONS_MAX]})


def answer_fields(request: BaseRequest, readings: Sequence[Reading], served: Served) -> Fields:
    """What the answer to every batch that was not refused carries."""
    request_id = (b"X-Request-Id", request_id_of(request, served.batch_id).encode())
    return [*ALWAYS, request_id, *limit_fields(readings)]


def limit_fields(readings: Sequence[Reading]) -> Fields:
    """`RateLimit-Policy` and `RateLimit`."""
    return [(name.encode(), value.encode()) for name, value in rate_limit_headers(readings).items()]
