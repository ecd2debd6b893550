"""The ledger of a process and its worker: opened once at the start, and kept whatever configurations come."""

import asyncio
import os
from collections.abc import Callable, Coroutine, Mapping
from contextlib import suppress
from pathlib import Path
from secrets import token_hex
from tempfile import gettempdir
from typing import NamedTuple

import structlog

from gateway import wiring
from gateway.batch.states import STATES
from gateway.config import Config
from gateway.errors import GatewayError
from gateway.ledger.clock import steady_clock
from gateway.ledger.files import Files
from gateway.ledger.metered import Metered, MeteredQueue
from gateway.ledger.names import Names
from gateway.ledger.port import Ledger, OnEnd, Queue
from gateway.ledger.seal import KEY_BYTES, Sealer
from gateway.ledger.sqlite.store import open_store
from gateway.ledger.state_folder import StateFolderError, master_key
from gateway.server.aside import Aside
from gateway.server.asynchronous import Asynchronous
from gateway.server.callers import Callers
from gateway.server.clock import Clock
from gateway.server.custody import Custody
from gateway.server.events import Events
from gateway.server.records import Records
from gateway.server.submission import Submission
from gateway.telemetry.metrics import Metrics
from gateway.wiring import LedgerClosedError, LedgerPlace
from gateway.worker.handover import Handover
from gateway.worker.means import Means
from gateway.worker.worker import Store, Worker

Logger = structlog.typing.FilteringBoundLogger

_LOOK_S = 2.0  # how old the ledger's gauges may be
_WATCHERS_MAX = 1000
_POLL_AGE_S = 0.1  # many pollers of one batch are one question to the ledger
_SWEEP_S = 600.0  # files whose time is up are shown to nobody before they are removed


class Opened(NamedTuple):
    """Both faces of a ledger, the key that its payloads are sealed under (32 bytes), its clock, where it is, and
    callers' files beside it."""

    ledger: Ledger
    queue: Queue
    master: bytes
    clock: Clock
    name: str
    files: Files | None = None


class Keeping:
    """An open ledger and what works on it. `name` says where it is."""

    def __init__(self, opened: Opened, config: Config, metrics: Metrics, logger: Callable[[], Logger]) -> None:
        self.name = opened.name
        self.files = opened.files
        self._queue = MeteredQueue(opened.queue, metrics.ledger_seconds)
        self._ledger = Metered(opened.ledger, metrics.ledger_seconds)
        self._sealer, self._names, self._clock = Sealer(opened.master), Names(opened.master), opened.clock
        self._config = config
        self._metrics = metrics
        self._logger = logger
        self._health: Mapping[str, float] = {}
        self._worker: Worker | None = None
        self._looking: asyncio.Task[None] | None = None
        self._process = token_hex(4)
        pace = wiring.pace(config)
        self._handover = Handover(
            self._process,
            self._queue,
            self._sealer,
            logger,
            lasts_s=pace.lease_s,
            every_s=pace.renew_every_s,
        )
        self._show()

    def calls(self, config: Config, callers: Callers, aside: Aside) -> Asynchronous:
        """The calls about batches on record, under one configuration."""
        base, settings = config.batch.path, config.async_
        records = Records(self._ledger, self._sealer, self._names, self._clock, retention_s=settings.retention)
        submission = Submission(
            wiring.submission_settings(settings),
            self._ledger,
            self._sealer,
            self._names,
            self._clock,
            self._handover.leased,
            aside,
        )
        custody = Custody(
            self._ledger,
            records,
            submission,
            self._names,
            self._clock,
            callers.known,
            0.0 if settings.is_shared else _POLL_AGE_S,
            self._handover.take,
        )
        return Asynchronous(custody, Events(records, self._clock, base, watchers_max=_WATCHERS_MAX), base=base)

    def look(self) -> None:
        """Begin to keep the ledger's gauges true."""
        self._looking = asyncio.get_running_loop().create_task(self._look())

    def work(self, means: Callable[[], Means], logger: Callable[[], Logger]) -> None:
        """Begin to work off what is on record. `means` is asked for every slice: a reload changes it."""
        self._worker = Worker(
            self._process,
            Store(self._ledger, self._queue, self._sealer),
            wiring.pace(self._config),
            means,
            self._metrics,
            logger(),
        )
        self._worker.start()

    @property
    def trouble(self) -> str:
        """Why the ledger did not answer the last call."""
        return self._ledger.trouble

    async def hand_back(self, timeout_s: float) -> bool:
        """Stop the worker at an operation boundary; True when everything on its way ended in time."""
        worker, self._worker = self._worker, None
        ends = [self._handover.finish(timeout_s)]
        if worker is not None:
            ends.append(worker.stop(timeout_s))
        return all(await asyncio.gather(*ends))

    async def close(self) -> None:
        """Stop at once, and close the ledger."""
        await self.hand_back(0.0)
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.wait([self._looking])
        await self._ledger.close()
        if self.files is not None:
            await asyncio.to_thread(self.files.close)

    async def _look(self) -> None:
        """Keep the gauges true, and callers' files within their time; until cancelled."""
        swept_s = -_SWEEP_S
        while True:
            if self.files is not None and self._clock.monotonic_s() - swept_s >= _SWEEP_S:
                swept_s = self._clock.monotonic_s()
                sweep, retention_s = self.files.sweep, self._config.async_.retention
                await self._seen_to(asyncio.to_thread(sweep, self._clock.now_s(), retention_s))
            await self._seen_to(self._look_once())
            await asyncio.sleep(_LOOK_S)

    async def _look_once(self) -> None:
        with suppress(GatewayError):  # `ledger_up` tells; the last counts stay
            self._health = await self._ledger.health()

    async def _seen_to(self, step: Coroutine[None, None, None]) -> None:
        """What went wrong is told, and tried again in its time."""
        try:
            await step
        except Exception:
            self._logger().exception("defect", listener="ledger")

    def _show(self) -> None:
        gauge = self._metrics.gauge
        gauge("ledger_up", "1 while the ledger answers.", lambda: float(self._ledger.is_up))
        self._metrics.states(
            "batches", "Batches in the ledger.",
            lambda: {state: self._health.get(f"batches_{state}", 0.0) for state in STATES},
        )  # fmt: skip
        gauge(
            "oldest_waiting_batch_timestamp_seconds", "When the longest waiting batch was accepted; 0 when none waits.",
            lambda: self._health.get("oldest_waiting_ms", 0.0) / 1000,
        )  # fmt: skip
        for kind, help_ in (("stored", "What the ledger holds."), ("capacity", "What it may hold; 0 where unknown.")):
            gauge(f"ledger_{kind}_bytes", help_, lambda name=f"{kind}_bytes": self._health.get(name, 0.0))  # type: ignore[misc]


async def open_ledger(place: LedgerPlace, config: Config, metrics: Metrics, logger: Callable[[], Logger]) -> Keeping:
    """Open the ledger at `place`. Raises `LedgerClosedError`; a Redis that is away is no reason: it may come."""

    def on_end(dialect: str, age_s: float) -> None:
        metrics.batch_age_seconds.observe((dialect,), age_s)

    if place.url is None:
        return Keeping(await _embedded(place, config, on_end), config, metrics, logger)

    def went_back(batch_id: str) -> None:
        metrics.ledger_losses.add(())
        cure = "look whether the server failed over or lost its append-only file"
        logger().error("the ledger has lost acknowledged changes", batch_id=batch_id, cure=cure)

    return Keeping(_shared(place.url, config, went_back, on_end), config, metrics, logger)


def _shared(url: str, config: Config, went_back: Callable[[str], None], on_end: OnEnd) -> Opened:
    from gateway.ledger.redis import RedisLedger  # redis-py: only for who has one

    secret = wiring.master_secret(config.async_)
    if secret is None:
        raise LedgerClosedError("a ledger in Redis needs async.key, the same for all replicas")
    try:
        durable = config.async_.require_durable
        ledger = RedisLedger(url, went_back=went_back, require_durable=durable, on_end=on_end)
    except ValueError as error:
        raise LedgerClosedError(str(error)) from None
    now_ms = steady_clock()
    return Opened(ledger, ledger, secret, Clock(lambda: now_ms() / 1000), wiring.shown_ledger(config.async_))


async def _embedded(place: LedgerPlace, config: Config, on_end: OnEnd) -> Opened:
    now_ms = steady_clock()
    file = first_that_can_be_made(place.files)
    secret = wiring.master_secret(config.async_)
    try:
        if secret is None:
            secret = os.urandom(KEY_BYTES) if file is None else await asyncio.to_thread(master_key, file)
        store = await open_store(file, now_ms=now_ms, on_end=on_end)
        files = await asyncio.to_thread(_files, file, secret, config.async_.files_room)
    except (StateFolderError, OSError) as error:
        raise LedgerClosedError(str(error)) from None
    return Opened(store, store, secret, Clock(lambda: now_ms() / 1000), f"sqlite:{file or ':memory:'}", files)


def _files(ledger: Path | None, master: bytes, bytes_max: int) -> Files:
    """Callers' files beside the ledger; beside one in memory, for as long as it is there."""
    if ledger is None:
        folder = Path(gettempdir(), f"batch-gateway-{token_hex(8)}")
        return Files(folder, Sealer(master), bytes_max=bytes_max, lasts=False)
    return Files(ledger.with_name(f"{ledger.name}.files"), Sealer(master), bytes_max=bytes_max)


def first_that_can_be_made(files: tuple[Path, ...]) -> Path | None:
    """The first file whose folder exists or can be made, and can be written to; None for a ledger in memory."""
    for file in files[:-1]:
        try:
            file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError:
            continue
        if os.access(file.parent, os.W_OK | os.X_OK):
            return file
    return files[-1] if files else None
