"""Figures without load: one batch at a time, resident memory, start."""

import socket
import time
from collections.abc import Callable
from statistics import median

from tests.bench.closed_loop import Sample
from tests.bench.once import TIMEOUT_S, prove, send
from tests.bench.processes import NotMeasuredError
from tests.bench.subjects import Stage
from tests.bench.verdict import percentile
from tests.bench.workloads import LATE_MS, Workload, gets, late, one_slow, outcomes

BATCHES = 10  # a round; each takes 50 to 200 ms
OPERATIONS = 100
WAVES = 10  # at the default concurrency of 10
IDLE_S = 0.5


def batch_latency(stage: Stage, subject: str) -> Sample:
    """The ms from sending a batch of late operations to its whole answer."""
    return several(stage, subject, late(OPERATIONS), lambda elapsed_s, _: elapsed_s)


def late_in_turn(stage: Stage, subject: str) -> Sample:
    """The ms of ten late operations one after the other on one connection: what the ideal 50 ms really take here."""
    host, port = stage.running(subject).url.removeprefix("http://").split(":")
    figures_ms = []
    with socket.create_connection((host, int(port)), TIMEOUT_S) as connection:
        for _ in range(BATCHES):
            started_s = time.monotonic()
            for _ in range(WAVES):
                connection.sendall(f"GET /late/{LATE_MS}/0 HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
                while not connection.recv(4096).endswith(b"}"):
                    pass
            figures_ms.append((time.monotonic() - started_s) * 1000)
    return Sample(median(figures_ms), p50_ms=median(figures_ms), p99_ms=percentile(figures_ms, 99))


def last_start(stage: Stage, subject: str) -> Sample:
    """The ms between the first and the last operation's arrival at the upstream, while the first one is slow."""
    return several(stage, subject, one_slow(OPERATIONS), lambda _, starts_s: max(starts_s) - min(starts_s))


def several(stage: Stage, subject: str, body: bytes, figure_s: Callable[[float, list[float]], float]) -> Sample:
    """A figure of each of several batches, sent one after the other; their median counts."""
    url, workload = stage.running(subject).url, Workload("/batch", body, OPERATIONS, ())
    figures_ms = []
    for _ in range(BATCHES):
        sent_s = time.monotonic()
        status, answer = send(url, workload.path, body)
        elapsed_s = time.monotonic() - sent_s
        figures_ms.append(figure_s(elapsed_s, starts_s(workload, status, answer)) * 1000)
    return Sample(median(figures_ms), p50_ms=median(figures_ms), p99_ms=percentile(figures_ms, 99))


def starts_s(workload: Workload, status: int, answer: bytes) -> list[float]:
    """When each operation reached the upstream, by the upstream's clock."""
    try:
        starts = [body["start"] for code, body in outcomes(workload, status, answer) if code == 200]
    except (ValueError, KeyError, TypeError):
        starts = []
    if len(starts) != workload.operations:
        raise NotMeasuredError(f"wrong answer {status}: {answer[:100]!r}")
    return starts


def resident_idle(stage: Stage, subject: str) -> Sample:
    """The MiB of a new process that has answered one batch and then rested."""
    running = stage.fresh(subject)
    try:
        prove(running.url, gets(OPERATIONS))
        time.sleep(IDLE_S)
        return Sample(running.resident_mib())
    finally:
        running.stop()


def ready_after(stage: Stage, subject: str) -> Sample:
    """The seconds from exec to the line that says it is ready."""
    running = stage.fresh(subject)
    running.stop()
    return Sample(running.ready_s)
