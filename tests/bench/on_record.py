"""Asynchronous batches: what an operation costs from the envelope to the outcome read back, on record in between."""

import json
import time
from collections.abc import Callable
from http.client import HTTPConnection, HTTPException

from redis import Redis, RedisError

from tests.bench.closed_loop import Measure, Sample
from tests.bench.once import TIMEOUT_S
from tests.bench.processes import NotMeasuredError, run
from tests.bench.subjects import REDIS, Stage, port_of
from tests.bench.workloads import ITEM, ITEM_JSON, gets

OPERATIONS = 10_000
END_S = 120.0
LOOK_S = 0.05
COMPLETED = "bull:bench:completed"
_HEADERS = {"Content-Type": "application/json", "Prefer": "respond-async"}


def batch_on_record(stage: Stage, subject: str) -> Sample:
    """CPU µs by operation of a gateway that accepts a batch, runs it and gives its outcomes back."""
    running = stage.running(subject)
    spent_s, began_s = running.cpu_s(), time.monotonic()
    connection = HTTPConnection(running.url.removeprefix("http://"), timeout=TIMEOUT_S)
    try:
        _follow(connection)
    except (OSError, HTTPException, KeyError, ValueError) as error:
        raise NotMeasuredError(f"no outcomes: {error!r}") from error
    finally:
        connection.close()
    return _sample(running.cpu_s() - spent_s, began_s)


def jobs_on_record(stage: Stage, subject: str) -> Sample:
    """CPU µs by job of a worker that runs what another process puts into its queue; nobody reads its outcomes."""
    running, port = stage.running(subject), port_of(stage.running(REDIS))
    with Redis(port=port, decode_responses=True) as client:
        spent_s, began_s = running.cpu_s(), time.monotonic()
        run(["node", str(running.folder / "worker.js"), str(port), "enqueue", str(OPERATIONS)], END_S)
        try:
            _until(lambda: client.zcard(COMPLETED) == OPERATIONS)
            taken = _sample(running.cpu_s() - spent_s, began_s)
            (newest,) = client.zrange(COMPLETED, -1, -1)
            outcome = json.loads(str(client.hget(f"bull:bench:{newest}", "returnvalue")))
            client.flushdb()
        except RedisError as error:
            raise NotMeasuredError(f"no outcomes: {error!r}") from error
    if outcome != {"status": 200, "body": ITEM_JSON}:
        raise NotMeasuredError(f"wrong outcome of a job: {outcome}")
    return taken


def and_redis(measure: Measure) -> Measure:
    """The same with the CPU time of redis-server."""

    def both(stage: Stage, subject: str) -> Sample:
        stage.running(subject)
        server = stage.running(REDIS)
        spent_s = server.cpu_s()
        taken = measure(stage, subject)
        return Sample(taken.value + (server.cpu_s() - spent_s) * 1e6 / OPERATIONS, taken.per_s)

    return both


def _follow(connection: HTTPConnection) -> None:
    """One batch from its envelope to its outcomes, each of which is looked at."""
    body = gets(OPERATIONS).body
    accepted = json.loads(_answer(connection, "POST", "/batch", body))
    _until(lambda: json.loads(_answer(connection, "GET", accepted["statusUrl"]))["status"] != "processing")
    lines = _answer(connection, "GET", accepted["resultsUrl"]).splitlines()
    if len(lines) != OPERATIONS or not all(map(_is_right, range(OPERATIONS), lines)):
        raise NotMeasuredError(f"{len(lines)} outcomes, not all of them right")


def _answer(connection: HTTPConnection, method: str, path: str, body: bytes | None = None) -> bytes:
    connection.request(method, path, body, _HEADERS if body else {})
    return connection.getresponse().read()


def _is_right(place: int, line: bytes) -> bool:
    outcome = json.loads(line)
    return (outcome["id"], outcome["status"], outcome["result"]) == (f"op{place}", 200, ITEM)


def _until(done: Callable[[], bool]) -> None:
    until_s = time.monotonic() + END_S
    while not done():
        if time.monotonic() > until_s:
            raise NotMeasuredError(f"not done after {END_S:.0f} s")
        time.sleep(LOOK_S)


def _sample(spent_s: float, began_s: float) -> Sample:
    return Sample(spent_s * 1e6 / OPERATIONS, OPERATIONS / (time.monotonic() - began_s))
