"""A ledger with one or more workers on it, and what a test asks of them."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import structlog

from gateway.admission import Admission, Limit
from gateway.batch.model import Operation, Outcome
from gateway.batch.routes import Route, Routes
from gateway.batch.states import FINAL
from gateway.batch.validation import Rules
from gateway.executor import Executor
from gateway.ledger.port import View
from gateway.ledger.seal import Sealer
from gateway.ledger.segments import Recorded
from gateway.ledger.sqlite.store import SqliteStore, open_store
from gateway.limiter.memory import MemoryLimiter
from gateway.replay.replay import Replay
from gateway.telemetry.metrics import Metrics
from gateway.upstream.address import Address, PoolLimits
from gateway.upstream.pool import Pool
from gateway.upstream.upstream import Upstream
from gateway.worker.means import Means
from gateway.worker.worker import Pace, Store, Worker
from tests.fakes.ledgered import outcomes_of, submit, view_of
from tests.fakes.until import until

SEALER = Sealer(bytes(32))
_OFTEN_S = 0.05
QUICK = Pace(
    renew_every_s=_OFTEN_S, sweep_every_s=_OFTEN_S, poll_s=_OFTEN_S, record_every_s=_OFTEN_S, quiet_s=0.1, turn_s=60
)

RULES = Rules(own_paths=(), body_bytes_max=1 << 20, fields_rule=lambda _: ())


class Clock:
    """Milliseconds since 1970, and what a test adds."""

    ahead_ms = 0

    def __call__(self) -> int:
        return int(time.time() * 1000) + self.ahead_ms


@dataclass
class Desk:
    """`worker()` makes workers; each has connections of its own, as a process has. `ends`: what the store told."""

    store: SqliteStore
    address: Address
    clock: Clock
    ends: list[tuple[str, float]]
    pools: list[Pool] = field(default_factory=list)
    workers: list[Worker] = field(default_factory=list)
    strays: list[Outcome] = field(default_factory=list)
    metrics: Metrics = field(default_factory=lambda: Metrics("test"))

    def worker(
        self,
        pace: Pace = QUICK,
        *,
        routes: Sequence[Route] | None = None,
        limits: Sequence[Limit] = (),
        address: Address | None = None,
        store: Store | None = None,
        timeout_s: float = 5.0,
        replay: Replay | None = None,
        limits_of_pool: PoolLimits | None = None,
    ) -> Worker:
        """Started."""
        loop = asyncio.get_running_loop()
        pool = Pool(address or self.address, limits_of_pool or PoolLimits(), loop)
        self.pools.append(pool)
        executor = Executor({"default": Upstream(pool, timeout_s, 1 << 20, 2)}, loop, self.strays.extend)
        admission = Admission(Routes(routes), limits, MemoryLimiter(lambda: int(loop.time() * 1_000_000)))
        means = Means(admission, executor, b"1.1 test", b"up.test", 1 << 30, RULES, replay, timeout_s)
        both = store or Store(self.store, self.store, SEALER)
        worker = Worker(f"worker-{len(self.workers)}", both, pace, lambda: means, self.metrics, structlog.get_logger())
        self.workers.append(worker)
        worker.start()
        return worker

    async def submit(
        self,
        operations: Sequence[Operation],
        *,
        slice_size: int = 10,
        owner: str = "owner",
        identity: str = "caller",
        on_failure: str = "continue",
        lives_ms: int = 86_400_000,
        spoil: str = "",
    ) -> str:
        return await submit(
            self.store,
            SEALER,
            operations,
            slice_size=slice_size,
            owner=owner,
            identity=identity,
            on_failure=on_failure,
            lives_ms=lives_ms,
            spoil=spoil,
        )

    async def view(self, batch_id: str) -> View:
        return await view_of(self.store, batch_id)

    async def outcomes(self, batch_id: str) -> dict[int, Recorded]:
        return await outcomes_of(self.store, SEALER, batch_id)

    async def until(self, batch_id: str, seen: Callable[[View], bool]) -> View:
        return await until(lambda: self.view(batch_id), right=seen)

    async def ended(self, batch_id: str) -> View:
        return await self.until(batch_id, lambda view: view.state in FINAL)


@contextlib.asynccontextmanager
async def desk(address: Address, file: Path | None = None) -> AsyncIterator[Desk]:
    clock = Clock()
    ends: list[tuple[str, float]] = []
    store = await open_store(file, now_ms=clock, on_end=lambda *told: ends.append(told))
    made = Desk(store, address, clock, ends)
    try:
        yield made
    finally:
        for worker in made.workers:
            await worker.stop(0.1)
        for pool in made.pools:
            await pool.close()
        await store.close()


def operations(count: int, method: str = "POST") -> list[Operation]:
    return [Operation(f"op{number}", method, f"/{number}") for number in range(count)]


def slugs(outcomes: dict[int, Recorded]) -> dict[int, str | None]:
    return {index: outcome.failure.slug if outcome.failure else None for index, outcome in sorted(outcomes.items())}
