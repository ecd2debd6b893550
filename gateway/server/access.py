"""The access line and the numbers of one request: what it was, how it ended, and what the gateway itself cost."""

from collections.abc import Callable, Sequence
from operator import attrgetter
from time import perf_counter

import structlog
from msgspec.structs import replace

from gateway.admission import Caller
from gateway.batch.model import METHODS, Batch, Outcome, Summary, kind_of
from gateway.batch.routes import EVERY_ROUTE, Route
from gateway.errors import GatewayError
from gateway.limiter.bucket import Reading
from gateway.plan import Plan
from gateway.server.terms import Terms
from gateway.telemetry.metrics import Metrics

Log = Callable[..., None]


class Served:
    """One envelope while it is served: who, when, how much. `runs`: it is one of the batches in flight."""

    __slots__ = (
        "batch_id",
        "began_s",
        "bytes_in",
        "bytes_out",
        "caller",
        "dialect",
        "runs",
        "seed",
        "terms",
        "waited_s",
    )

    def __init__(self, batch_id: str, seed: bytes, dialect: str, caller: Caller, terms: Terms) -> None:
        self.batch_id = batch_id
        self.seed = seed  # of its operations' traces
        self.dialect = dialect
        self.caller = caller
        self.terms = terms
        self.runs = False
        self.began_s = perf_counter()
        self.waited_s = 0.0  # in which the gateway only waited
        self.bytes_in = self.bytes_out = 0


class Access:
    """Counts and logs requests. `logger` None: no access lines."""

    def __init__(self, metrics: Metrics, logger: structlog.typing.FilteringBoundLogger | None) -> None:
        self._metrics = metrics
        self._log: Log | None = None if logger is None else logger.info

    def batch(self, plan: Plan, outcomes: Sequence[Outcome], summary: Summary, served: Served, *, status: int) -> None:
        """An executed batch."""
        duration_s = perf_counter() - served.began_s
        overhead_s = max(0.0, duration_s - served.waited_s)
        self._operations(plan, outcomes, served.dialect)
        how = "all_ok" if summary.failed == 0 else "all_failed" if summary.succeeded == 0 else "partial"
        metrics, dialect = self._metrics, served.dialect
        metrics.envelopes.add((dialect, "sync", how))
        metrics.envelope_operations.observe((dialect,), summary.total)
        metrics.envelope_seconds.observe((dialect, "sync"), duration_s)
        metrics.overhead_seconds.observe((dialect,), overhead_s)
        if self._log is not None:
            self._log(
                "batch",
                batch_id=served.batch_id,
                dialect=dialect,
                mode="sync",
                caller=served.caller.identity[:9],
                client_ip=served.caller.ip,
                status=status,
                operations_total=summary.total,
                operations_ok=summary.succeeded,
                operations_failed=summary.failed,
                attempts=sum([outcome.attempts for outcome in outcomes]),
                upstream_s=round(sum([outcome.upstream_s for outcome in outcomes]), 6),
                overhead_s=round(overhead_s, 6),
                duration_s=round(duration_s, 6),
                bytes_in=served.bytes_in,
                bytes_out=served.bytes_out,
            )

    def accepted(self, served: Served, total: int, *, mode: str = "async", status: int = 202) -> None:
        """A batch that was put on record, whose operations are counted where they run; or one that was only planned, or
        answered before."""
        duration_s = perf_counter() - served.began_s
        metrics, dialect = self._metrics, served.dialect
        metrics.envelopes.add((dialect, mode, "accepted"))
        metrics.envelope_operations.observe((dialect,), total)
        metrics.envelope_seconds.observe((dialect, mode), duration_s)
        if self._log is not None:
            self._log(
                "batch",
                batch_id=served.batch_id,
                dialect=dialect,
                mode=mode,
                caller=served.caller.identity[:9],
                client_ip=served.caller.ip,
                status=status,
                operations_total=total,
                duration_s=round(duration_s, 6),
                bytes_in=served.bytes_in,
            )

    def promoted(self, plan: Plan, finished: Sequence[Outcome], served: Served) -> None:
        """A batch that ran out of time and was put on record with what had finished."""
        self.ended_late(plan, finished, served.dialect)
        self.accepted(served, len(plan.batch.operations))

    def ended_late(self, plan: Plan, outcomes: Sequence[Outcome], dialect: str) -> None:
        """Some operations of a batch that is on record by now, which ran in place."""
        operations = [plan.batch.operations[outcome.index] for outcome in outcomes]
        routes = [plan.routes[outcome.index] for outcome in outcomes]
        self._operations(replace(plan, batch=Batch(operations), routes=routes), outcomes, dialect)

    def refused(self, served: Served, slug: str, status: int) -> None:
        """An envelope that was refused as a whole."""
        if slug == "batch-deadline":
            return  # it ran, and `batch` has told so
        reason = self._shed(slug)
        self._metrics.envelopes.add((served.dialect, "sync", "rejected" if reason is None else "shed"))
        if self._log is not None:
            self._log(
                "refused",
                batch_id=served.batch_id,
                dialect=served.dialect,
                caller=served.caller.identity[:9],
                client_ip=served.caller.ip,
                status=status,
                slug=slug,
                duration_s=round(perf_counter() - served.began_s, 6),
                bytes_in=served.bytes_in,
            )

    def aborted(self, served: Served) -> None:
        """The caller went away before the answer."""
        self._metrics.envelopes.add((served.dialect, "sync", "aborted"))
        if self._log is not None:
            self._log("aborted", batch_id=served.batch_id, dialect=served.dialect, client_ip=served.caller.ip)

    def taken(self, readings: Sequence[Reading], tokens: Sequence[int]) -> None:
        """Tokens that buckets granted, in the order of `readings`."""
        for reading, cost in zip(readings, tokens, strict=True):
            self._metrics.tokens_taken.add((reading.bucket.name,), cost)

    def denied(self, refusal: GatewayError) -> None:
        """Tokens that a bucket refused; nothing where the refusal has another reason."""
        match refusal.members:
            case {"limit": str(limit), "cost": int(cost)}:
                self._metrics.tokens_denied.add((limit,), cost)

    def stray(self, outcomes: Sequence[Outcome | None]) -> None:
        """What nobody has fetched of a batch, for its caller had gone; what was sent of it is on record."""
        sent = [outcome for outcome in outcomes if outcome is not None and outcome.attempts]
        for outcome in sent:
            self._metrics.operations.add(("native", EVERY_ROUTE.template, "_other", outcome.kind))
        if sent and self._log is not None:
            ok = sum(outcome.succeeded for outcome in sent)
            self._log("stray", operations_total=len(sent), operations_ok=ok, operations_failed=len(sent) - ok)

    def forwarded(
        self,
        route: Route,
        method: str,
        status: int,
        *,
        began_s: float,
        client_ip: str,
        slug: str | None,
        waited_s: float,
    ) -> None:
        """A request that was no batch."""
        duration_s = perf_counter() - began_s
        known = method if method in _KNOWN_METHODS else "_other"
        if slug is not None:
            self._shed(slug)
        self._metrics.forwarded.add((route.template, known, f"{status // 100}xx"))
        self._metrics.forwarded_seconds.observe((route.template,), duration_s)
        if self._log is not None:
            self._log(
                "forwarded",
                route=route.template,
                method=known,
                status=status,
                client_ip=client_ip,
                duration_s=round(duration_s, 6),
                overhead_s=round(max(0.0, duration_s - waited_s), 6),
                **({"slug": slug} if slug else {}),
            )

    def _shed(self, slug: str) -> str | None:
        """Count what was refused for want of room; the reason, None where the refusal has another."""
        reason = _SHED.get(slug)
        if reason is not None:
            self._metrics.shed.add((reason,))
        return reason

    def _operations(self, plan: Plan, outcomes: Sequence[Outcome], dialect: str) -> None:
        """Equal labels are added up before they are counted."""
        templates = [route.template if isinstance(route, Route) else "_other" for route in plan.routes]
        slugs = [None if outcome.failure is None else outcome.failure.slug for outcome in outcomes]
        methods, statuses = map(_METHOD, plan.batch.operations), map(_STATUS, outcomes)
        equal: dict[tuple[str, str, int, str | None, int], int] = {}
        for labels in zip(templates, methods, statuses, slugs, map(_ATTEMPTS, outcomes), strict=True):
            equal[labels] = equal.get(labels, 0) + 1
        sent_s: dict[str, list[float]] = {template: [] for template in set(templates)}
        for template, outcome in zip(templates, outcomes, strict=True):
            if outcome.attempts:
                sent_s[template].append(outcome.upstream_s)
        metrics = self._metrics
        for (template, method, status, slug, attempts), count in equal.items():
            kind = kind_of(status, slug)
            metrics.operations.add((dialect, template, method, kind), count)
            if attempts:
                metrics.attempts.add((template, "answered" if kind in _ANSWERED else kind), count)
            if attempts > 1:
                metrics.attempts.add((template, "repeated"), count * (attempts - 1))
        for template, seconds in sent_s.items():
            if seconds:
                metrics.operation_seconds.observe_all((template,), seconds)


_METHOD, _STATUS, _ATTEMPTS = attrgetter("method"), attrgetter("status"), attrgetter("attempts")
_ANSWERED = frozenset({"ok", "client_error", "server_error"})
# Refused at once for want of room, and why (EXPERIENCE 9).
_SHED = {
    "overloaded": "overload",
    "draining": "draining",
    "ledger-unavailable": "ledger",
    "too-many-batches": "quota",
}
_KNOWN_METHODS = frozenset(METHODS)
