"""Closed-loop load by wrk, and the CPU time that the subject spent on each operation meanwhile."""

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from tests.bench.once import prove
from tests.bench.processes import NotMeasuredError, require, run
from tests.bench.subjects import Stage
from tests.bench.workloads import Workload

SCRIPT, KEYED = (Path(__file__).with_name(name) for name in ("closed_loop.lua", "keyed_loop.lua"))
CONNECTIONS = 8
WARMING_S = 1
GRACE_S = 30.0


@dataclass(frozen=True, slots=True)
class Sample:
    """One round: the figure that is compared, and what stands beside it."""

    value: float
    per_s: float | None = None
    p50_ms: float | None = None
    p99_ms: float | None = None


Measure = Callable[[Stage, str], Sample]


def cpu_by_operation(workload: Workload) -> Measure:
    """CPU µs by operation under load; operations, not requests, are what `per_s` counts."""

    def measure(stage: Stage, subject: str) -> Sample:
        require("wrk")
        if (subject, workload.body) not in stage.proved:
            prove(stage.running(subject).url, workload)
            wrk(stage, subject, workload, WARMING_S)
            stage.proved.add((subject, workload.body))
        return load(stage, subject, workload)

    return measure


def cpu_added(workload: Workload, without: str, plain: Workload) -> Measure:
    """CPU µs by operation above those of `plain` on the subject `without`, which is measured right before and right
    after."""
    with_it, each = cpu_by_operation(workload), cpu_by_operation(plain)

    def measure(stage: Stage, subject: str) -> Sample:
        before, figure, after = each(stage, without), with_it(stage, subject), each(stage, without)
        return replace(figure, value=figure.value - (before.value + after.value) / 2)

    return measure


def load(stage: Stage, subject: str, workload: Workload) -> Sample:
    """One round of wrk against the subject."""
    running = stage.running(subject)
    cpu_s, answered = running.cpu_s(), stage.answered()
    figures = wrk(stage, subject, workload, stage.seconds)
    cpu_s, answered = running.cpu_s() - cpu_s, stage.answered() - answered
    done = figures["requests"] * workload.operations
    begun = done + CONNECTIONS * workload.operations
    if figures["errors"]:
        raise NotMeasuredError(f"{figures['errors']} errors in {figures['requests']} requests")
    if not done or answered < done:  # too slow for the time, or answered by somebody else
        raise NotMeasuredError(f"{done} operations answered, {answered} seen by the upstream")
    return Sample(
        value=cpu_s * 1e6 / min(answered, begun),  # wrk leaves some batches unfinished, which cost CPU too
        per_s=done / figures["duration_us"] * 1e6,
        p50_ms=figures["p50_us"] / 1000,
        p99_ms=figures["p99_us"] / 1000,
    )


def wrk(stage: Stage, subject: str, workload: Workload, seconds: int) -> dict[str, int]:
    """Run wrk and read the line of figures that its script prints last."""
    body = stage.folder / "body.json"
    body.write_bytes(workload.body)
    script = str(KEYED if workload.is_keyed else SCRIPT)
    arguments = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s", "--timeout", "10s", "--latency", "-s", script]
    url = stage.running(subject).url + workload.path
    printed = run([*arguments, url, "--", *([str(body)] if workload.body else [])], seconds + GRACE_S)
    figures: dict[str, int] = json.loads(printed.splitlines()[-1])
    return figures
