"""One life of a worker's process: `python -m tests.faults.killing.life FOLDER PORT BATCHES SIZE ORDERED CANCELS`.

Puts the plan's batches on record, one every few milliseconds, and tells in `acknowledged` of each that was accepted;
runs them, or cancels them; tells in `progress` what it sees. Ends by itself, with all in `outcomes`, when all have
ended.
BROKEN=name makes it a broken build, LEASE_S and QUIET_S replace those of PACE.
"""

import asyncio
import json
import os
import sys
from dataclasses import replace
from pathlib import Path

import structlog

from gateway.admission import Admission
from gateway.batch.model import Outcome
from gateway.batch.routes import Routes
from gateway.batch.states import FINAL
from gateway.batch.validation import Rules
from gateway.executor import Executor
from gateway.ledger.clock import steady_clock
from gateway.ledger.port import View
from gateway.ledger.seal import Sealer
from gateway.ledger.sqlite.store import SqliteStore, open_store
from gateway.limiter.memory import MemoryLimiter
from gateway.telemetry.metrics import Metrics
from gateway.upstream.address import Address, PoolLimits
from gateway.upstream.pool import Pool
from gateway.upstream.upstream import Upstream
from gateway.worker.means import Means
from gateway.worker.worker import Pace, Store, Worker
from tests.fakes.ledgered import outcomes_of, submit, view_of
from tests.faults.killing import broken
from tests.faults.killing.checker import Kept
from tests.faults.killing.plan import Plan

SEALER = Sealer(bytes(32))
PACE = Pace(slices=4, concurrency=10, in_flight_max=16, poll_s=0.1, renew_every_s=0.2, record_every_s=0.1)
_SUBMIT_EVERY_S = 0.02
_TIMES = {"LEASE_S": PACE.lease_s, "QUIET_S": PACE.quiet_s}

RULES = Rules(own_paths=(), body_bytes_max=1 << 20, fields_rule=lambda _: ())


async def main() -> None:
    folder, port, plan = Path(sys.argv[1]), int(sys.argv[2]), Plan.of(sys.argv[3:])
    broken.make(os.environ.get("BROKEN", ""))
    store = await open_store(folder / "ledger.db", now_ms=steady_clock())
    for id_ in plan.ids:  # what the life before had on its way, too
        await _cancel_if_due(store, plan, await store.view(id_))
    _worker(store, port).start()
    print("ready", flush=True)
    submitting = asyncio.create_task(_submit(store, folder, plan))
    await _until_all_ended(store, folder, plan, submitting)
    await submitting
    await _tell_outcomes(store, folder, plan)


def _worker(store: SqliteStore, port: int) -> Worker:
    loop = asyncio.get_running_loop()
    pool = Pool(Address("127.0.0.1", port), PoolLimits(), loop)
    executor = Executor({"default": Upstream(pool, 30.0, 1 << 20, 2)}, loop, lambda _: None)
    means = Means(Admission(Routes(None), (), MemoryLimiter(lambda: 0)), executor, b"1.1 t", b"up", 1 << 30, RULES)
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    lease_s, quiet_s = (float(os.environ.get(name, default)) for name, default in _TIMES.items())
    both, pace = Store(store, store, SEALER), replace(PACE, lease_s=lease_s, quiet_s=quiet_s)
    return Worker(f"life-{os.getpid()}", both, pace, lambda: means, Metrics("t"), structlog.get_logger())


async def _submit(store: SqliteStore, folder: Path, plan: Plan) -> None:
    known = set(acknowledged(folder))
    file = os.open(folder / "acknowledged", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    for id_ in plan.ids:
        if id_ in known:
            continue

        def tell(id_: str = id_) -> None:
            os.write(file, f"{id_}\n".encode())
            os.fdatasync(file)

        slice_size = plan.size if plan.is_ordered else 50
        await broken.accepting(submit(store, SEALER, plan.operations(id_), slice_size=slice_size, id_=id_), tell)
        await asyncio.sleep(_SUBMIT_EVERY_S)


async def _until_all_ended(store: SqliteStore, folder: Path, plan: Plan, submitting: asyncio.Task[None]) -> None:
    """Looks at one batch after the other, 50 times a second."""
    unfinished = set(plan.ids)
    with (folder / "progress").open("a", buffering=1) as file:
        while unfinished:
            for id_ in sorted(unfinished):
                await asyncio.sleep(0.02)
                view = await store.view(id_)
                if view is None:
                    if submitting.done():  # it was acknowledged, and it is lost
                        unfinished.discard(id_)
                    continue
                seen = [id_, view.total, view.completed, view.succeeded, view.failed, view.unknown]
                file.write(f"{json.dumps(seen)}\n")
                await _cancel_if_due(store, plan, view)
                if view.state in FINAL:
                    unfinished.discard(id_)


async def _cancel_if_due(store: SqliteStore, plan: Plan, view: View | None) -> None:
    at = None if view is None else plan.cancelled_at(view.id)
    if view is not None and at is not None and view.completed >= at and view.state not in FINAL:
        await store.command(view.id, "cancel")


async def _tell_outcomes(store: SqliteStore, folder: Path, plan: Plan) -> None:
    told = {}
    for id_ in plan.ids:
        if await store.view(id_) is None:
            continue
        found = await outcomes_of(store, SEALER, id_)
        kept = [_kept(index, each.outcome) for index, each in sorted(found.items())]
        state = (await view_of(store, id_)).state
        if state == "cancelled":
            kept += [Kept(index, 409, "cancelled", "") for index in range(plan.size) if index not in found]
        told[id_] = [state, kept]
    part = folder / "outcomes.part"
    part.write_text(json.dumps(told))
    part.rename(folder / "outcomes")


def _kept(index: int, outcome: Outcome) -> Kept:
    body = outcome.body.decode()
    if outcome.failure is None:
        return Kept(index, outcome.status, None, body)
    cause = outcome.failure.members.get("cause", ())
    return Kept(index, outcome.status, outcome.failure.slug, body, cause)  # type: ignore[arg-type]


def acknowledged(folder: Path) -> list[str]:
    file = folder / "acknowledged"
    return file.read_text().splitlines() if file.exists() else []


if __name__ == "__main__":
    asyncio.run(main())
