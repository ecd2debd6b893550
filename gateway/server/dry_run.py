"""`POST /batch?dryRun=true`: what would become of a batch, as a document; nothing is sent, charged or claimed. Pure.

The waves are those of the executor's own agenda, as if all that is sent succeeded; routes, costs and what the buckets
would say come from admission.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from gateway.admission import Rehearsal
from gateway.batch.agenda import Agenda
from gateway.batch.model import Batch, Failure, Outcome
from gateway.batch.routes import Route
from gateway.errors import PROBLEMS, GatewayError
from gateway.plan import refused


def is_dry(query: Iterable[tuple[str, str]]) -> bool:
    """Whether `dryRun` asks for the plan alone. Raises 422 for a value that says neither, and for a name that is nearly
    this one: whoever wrote that wants nothing sent."""
    asked = [(name, value) for name, value in query if name.replace("_", "").replace("-", "").lower() == "dryrun"]
    names, wanted = {name for name, _ in asked}, {value for _, value in asked}
    if names - {"dryRun"} or wanted - {"true", "false"} or len(wanted) > 1:
        errors = [{"pointer": "", "code": "dry-run", "detail": "write ?dryRun=true, or leave it out"}]
        raise GatewayError("validation-failed", "dryRun is true or false; nothing was sent", members={"errors": errors})
    return wanted == {"true"}


def plan_page(
    batch: Batch, rehearsal: Rehearsal, twins: Mapping[int, int], *, status: int, concurrency: int, base: str
) -> bytes:
    """The plan. `status` is what the batch would be answered with, were it not refused; `twins` would not be sent."""
    routes, refusal = rehearsal.admitted.routes, rehearsal.refusal
    delays_us = rehearsal.admitted.delays_us
    waves, lost = _waves(batch, routes)
    document: dict[str, Any] = {
        "dryRun": True,
        "status": status if refusal is None else refusal.status,
        **({} if refusal is None else {"problem": _problem(refusal, base)}),
        "total": len(routes),
        "concurrency": concurrency,
        "waves": max(waves.values(), default=-1) + 1,
        "cost": sum(route.cost for route in routes if isinstance(route, Route)),
        **({"waitSeconds": max(delays_us) / 1_000_000} if delays_us else {}),
        "limits": [
            {
                "name": reading.bucket.name,
                "cost": rehearsal.costs.get(reading.bucket.name, 0),
                "remaining": reading.remaining,
                "burst": reading.bucket.burst,
                "onExhausted": reading.bucket.on_exhausted,
            }
            for reading in rehearsal.readings
        ],
        "operations": [
            _entry(batch, index, route, lost.get(index), base)
            | ({"wave": waves[index]} if index in waves else {})
            | ({"sameAs": batch.operations[twins[index]].id} if index in twins else {})
            | ({"waitSeconds": delays_us[index] / 1_000_000} if delays_us and index in waves else {})
            for index, route in enumerate(routes)
        ],
    }
    return msgspec.json.encode(document)


def _waves(batch: Batch, routes: Sequence[Route | Failure]) -> tuple[Mapping[int, int], Mapping[int, Outcome]]:
    """The wave in which each operation is sent, from 0 on, and the outcomes of those that are not."""
    agenda = Agenda(batch.operations, batch.graph, None, {})
    waves: dict[int, int] = {}
    lost: dict[int, Outcome] = {}
    wave = 0
    while agenda.ready:
        together = [*agenda.ready]
        agenda.ready.clear()
        for index in together:
            agenda.begun(index)
            route = routes[index]
            if isinstance(route, Failure):
                lost[index] = refused(index, route)
            else:
                waves[index] = wave
            lost |= {each.index: each for each in agenda.finished(lost.get(index, Outcome(index, 200)))}
        wave += 1
    return waves, lost


def _entry(batch: Batch, index: int, route: Route | Failure, lost: Outcome | None, base: str) -> dict[str, Any]:
    operations = batch.operations
    parents = () if batch.graph is None else batch.graph.parents[index]
    entry: dict[str, Any] = {"id": operations[index].id}
    if isinstance(route, Route):
        entry |= {"route": route.template, "upstream": route.upstream, "cost": route.cost}
    if parents:
        entry["dependsOn"] = [operations[parent].id for parent in parents]
    if lost is not None and lost.failure is not None:
        failure = lost.failure
        entry["error"] = {
            "type": f"{base}/problems/{failure.slug}",
            "title": PROBLEMS[failure.slug].title,
            "status": lost.status,
            "detail": failure.detail,
            **failure.members,
        }
    return entry


def _problem(refusal: GatewayError, base: str) -> dict[str, Any]:
    retry_after_s = refusal.headers.get("Retry-After")
    return {
        "type": f"{base}/problems/{refusal.problem.slug}",
        "title": refusal.problem.title,
        "status": refusal.status,
        "detail": refusal.detail,
        **({} if retry_after_s is None else {"retryAfter": int(retry_after_s)}),
        **refusal.members,
    }
