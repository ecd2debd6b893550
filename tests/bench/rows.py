"""The rows of the table as values: what is measured, against whom, and the target."""

from dataclasses import dataclass

from tests.bench.closed_loop import Measure, cpu_added, cpu_by_operation
from tests.bench.least_keys import least_added
from tests.bench.on_record import and_redis, batch_on_record, jobs_on_record
from tests.bench.open_loop import added_latency
from tests.bench.single import batch_latency, last_start, late_in_turn, ready_after, resident_idle
from tests.bench.subjects import (
    AIOHTTP,
    BULLMQ,
    ENLARGED,
    FLOOR,
    GATEWAY,
    LEAST,
    LEAST_AIOHTTP,
    LEAST_PIPELINING,
    LEAST_PROXY,
    LUA,
    ON_REDIS,
    ON_SQLITE,
    PIPELINING,
    PROXY,
    REDIS,
    SHARED,
    UNLIMITED,
    UPSTREAM,
)
from tests.bench.workloads import (
    Workload,
    failing,
    gets,
    keyed,
    keyed_each,
    mixed,
    posts,
    transparent,
    transparent_post,
)

CPU = "µs CPU"
LATE_IDEAL_MS = 50.0  # 100 operations of 5 ms, ten at a time
LAST_START_IDEAL_MS = 50.0  # nine lanes are left for 99 of them: eleven waves, the last begins after ten


@dataclass(frozen=True, slots=True)
class Side:
    """A subject and how it is measured."""

    subject: str
    measure: Measure
    title: str = ""  # where the subject's name does not say it

    @property
    def label(self) -> str:
        """Its name in the table; unique in a row."""
        return self.title or self.subject


@dataclass(frozen=True, slots=True)
class Fixed:
    """A bound that nobody has to measure."""

    label: str
    value: float


@dataclass(frozen=True, slots=True)
class Target:
    """The gateway's figure may be at most so many times the peer's; None asks nothing."""

    peer: Side | Fixed
    at_most: float | None


@dataclass(frozen=True, slots=True)
class Row:
    """One piece of work, measured on the gateway and on its peers by turns."""

    name: str
    title: str
    unit: str
    gateway: Side
    targets: tuple[Target, ...]

    @property
    def sides(self) -> list[Side]:
        """Whom to measure, in the order of a round."""
        return [self.gateway, *(target.peer for target in self.targets if isinstance(target.peer, Side))]


def row(
    name: str,
    title: str,
    unit: str,
    measure: Measure,
    *bounds: tuple[str | Fixed, float | None],
    gateway: str = GATEWAY,
) -> Row:
    """A row whose sides all do the same work."""
    peers = ((peer if isinstance(peer, Fixed) else Side(peer, measure), at_most) for peer, at_most in bounds)
    return Row(name, title, unit, Side(gateway, measure), tuple(Target(peer, at_most) for peer, at_most in peers))


def added_by_redis(name: str, title: str, workload: Workload) -> Row:
    """A row of what shared limits, and keys where `workload` has them, add to an operation of a batch of 100 GETs."""
    return Row(
        name,
        title,
        CPU,
        Side(SHARED, cpu_added(workload, UNLIMITED, gets(100))),
        (
            Target(Fixed("limit", 1.5), 1.0),
            Target(Side(REDIS, least_added(workload), "a Python that does nothing else"), None),
        ),
    )


TEN = cpu_by_operation(gets(10))
HUNDRED = cpu_by_operation(gets(100))
THOUSAND = cpu_by_operation(gets(1000))

ROWS = (
    row(
        "gets-100", "batch of 100 small GETs", CPU, HUNDRED, (LUA, 0.75), (AIOHTTP, 0.15), (LEAST, None), (FLOOR, None)
    ),
    row(
        "pipelining",
        "the same, upstream.pipelining 16",
        CPU,
        HUNDRED,
        (LUA, 0.45),
        (LEAST_PIPELINING, None),
        gateway=PIPELINING,
    ),
    row("gets-10", "batch of 10 small GETs", CPU, TEN, (LUA, 1.1), (AIOHTTP, None), (LEAST, None)),
    row("posts-100", "batch of 100 POSTs of 1 KiB", CPU, cpu_by_operation(posts(100, 1024)), (LUA, 0.75)),
    Row(
        "growth",
        "batch of 1000 small GETs",
        CPU,
        Side(ENLARGED, THOUSAND),
        (Target(Side(ENLARGED, HUNDRED, "the gateway itself, batch of 100"), 1.2),),
    ),
    added_by_redis("limits", "limits in Redis, added to each operation of a batch of 100", gets(100)),
    added_by_redis("keyed", "limits in Redis and a key of the batch's own", keyed(100)),
    added_by_redis("keyed-each", "limits in Redis and a key for each operation", keyed_each(100)),
    Row(
        "latency",
        "100 operations of 5 ms, ten at a time",
        "ms",
        Side(GATEWAY, batch_latency),
        (
            Target(Fixed("ideal", LATE_IDEAL_MS), 1.15),
            Target(Side(UPSTREAM, late_in_turn, "the upstream itself, ten in turn"), None),
            Target(Side(AIOHTTP, batch_latency), None),
        ),
    ),
    row(
        "no-delay",
        "last start among 100 of 5 ms, the first taking 200 ms",
        "ms",
        last_start,
        (Fixed("ideal", LAST_START_IDEAL_MS), 1.15),
    ),
    row(
        "transparent",
        "transparent GET",
        CPU,
        cpu_by_operation(transparent()),
        (PROXY, 3.0),
        (AIOHTTP, 0.4),
        (LEAST_PROXY, None),
        (LEAST_AIOHTTP, None),
    ),
    row(
        "transparent-post",
        "transparent POST of 1 KiB",
        CPU,
        cpu_by_operation(transparent_post(1024)),
        (PROXY, 3.0),
        (AIOHTTP, 0.4),
        (LEAST_PROXY, None),
        (LEAST_AIOHTTP, None),
    ),
    row(
        "added-p50",
        "median added to a transparent GET at 500/s, open loop",
        "ms",
        added_latency(),
        (Fixed("limit", 0.5), 1.0),
        (PROXY, None),
        (AIOHTTP, None),
    ),
    Row(
        "async-sqlite",
        "asynchronous batch of 10 000 on SQLite, accepted, run and read back",
        CPU,
        Side(ON_SQLITE, batch_on_record),
        (Target(Side(BULLMQ, jobs_on_record), 0.12),),
    ),
    Row(
        "async-redis",
        "the same on Redis",
        CPU,
        Side(ON_REDIS, batch_on_record),
        (Target(Side(BULLMQ, jobs_on_record), 0.12),),
    ),
    Row(
        "async-redis-server",
        "the same, with what redis-server takes",
        CPU,
        Side(ON_REDIS, and_redis(batch_on_record)),
        (Target(Side(BULLMQ, and_redis(jobs_on_record)), None),),
    ),
    row("memory", "resident, idle", "MiB", resident_idle, (Fixed("limit", 60.0), 1.0)),
    row("start", "exec until ready", "s", ready_after, (Fixed("limit", 0.7), 1.0)),
    row("mixed", "five methods, bodies and answers of 0 to 64 KiB", CPU, cpu_by_operation(mixed(100)), (LUA, None)),
    row("failing", "an upstream that fails every tenth", CPU, cpu_by_operation(failing(100)), (LUA, None)),
)
