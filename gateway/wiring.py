"""The configuration's values in the shape that each object wants: nothing else ever sees `Config`."""

import asyncio
import hashlib
import resource
import ssl
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import unquote, urlsplit

from gateway.admission import Admission, Limit
from gateway.batch.retry import REJECTIONS, TOO_EARLY
from gateway.batch.routes import Route, Routes
from gateway.batch.validation import Rules
from gateway.config import Asynchronous, Config, ConfigError, Listen, Problem, Section, Tls, contents_of
from gateway.config import Upstream as UpstreamSettings
from gateway.config.redis_url import shown as shown_url
from gateway.dialects.on_record import OnRecordDialect
from gateway.dialects.port import EnvelopeLimits, InPlaceDialect
from gateway.dialects.registry import IN_PLACE, ON_RECORD, made
from gateway.executor import Executor
from gateway.limiter.bucket import Bucket
from gateway.replay.replay import Replay
from gateway.server.batches import BatchSettings
from gateway.server.callers import Callers
from gateway.server.in_place import RunSettings
from gateway.server.origin import Origins
from gateway.server.patience import Patience
from gateway.telemetry.metrics import Metrics
from gateway.upstream.address import Address, PoolLimits
from gateway.upstream.headers import CREDENTIALS, refusals_in_operation
from gateway.upstream.pool import Pool
from gateway.upstream.upstream import Upstream

if TYPE_CHECKING:
    from gateway.server.submission import SubmissionSettings
    from gateway.worker.means import Means
    from gateway.worker.worker import Pace

_STATE = "batch-gateway"
_LEDGER_FILE = "ledger.db"


def connections_max(listen: Listen) -> int:
    """Most connections of callers at once: as configured, or half of what the process may open."""
    return listen.connections_max or resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 2


def upstream(settings: UpstreamSettings, pool: Pool) -> Upstream:
    return Upstream(pool, settings.timeout, settings.answer_max, settings.retries)


def patience(listen: Listen) -> Patience:
    return Patience(listen.header_timeout, listen.rate_min, listen.rate_grace, listen.stream_idle_timeout)


def pool(settings: UpstreamSettings, loop: asyncio.AbstractEventLoop, metrics: Metrics) -> Pool:
    """Repeats that the budget does not pay for, and answers that are cut off, are counted."""
    return Pool(
        _address(settings),
        _pool_limits(settings),
        loop,
        lambda: metrics.retries_refused.add(()),
        lambda: metrics.shed.add(("unread_answer",)),
    )


def pool_identity(settings: UpstreamSettings) -> object:
    """Equal where one pool can serve both: same address, limits and TLS, the content of its files included."""
    tls = settings.tls
    files = contents_of(Path(name) for name in (tls.ca_file, tls.client_cert, tls.client_key) if name is not None)
    return settings.url, tls, files, _pool_limits(settings)


def _pool_limits(settings: UpstreamSettings) -> PoolLimits:
    return PoolLimits(
        connections_max=settings.connections,
        batched_max=settings.connections - settings.connections * (100 - settings.batch_percent) // 100,
        streams_max=max(1, settings.connections * settings.streams_percent // 100),
        lone_waiting_max=settings.requests_waiting_max,
        batched_waiting_max=settings.waiting_max,
        pipelining_max=settings.pipelining,
        connect_timeout_s=settings.connect_timeout,
        idle_timeout_s=settings.idle_timeout,
        retries_percent=settings.retry_percent,
        retries_per_s=settings.retries_per_second,
        breaks=settings.breaker,
        adapts=settings.adaptive_concurrency,
    )


def _address(upstream: UpstreamSettings) -> Address:
    parts = urlsplit(upstream.url)
    if parts.scheme == "http+unix":
        return Address(path=unquote(parts.path))
    host = parts.hostname or ""
    if parts.scheme == "http":
        return Address(host, parts.port or 80)
    return Address(host, parts.port or 443, None, _tls(upstream.tls), upstream.tls.server_name or host)


def _tls(tls: Tls) -> ssl.SSLContext:
    """Verified always: certificate, name, TLS 1.2 or newer (PROMISES S17). Raises ConfigError for unusable files."""
    try:
        context = ssl.create_default_context(cafile=tls.ca_file)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if tls.client_cert is not None:
            context.load_cert_chain(tls.client_cert, tls.client_key)
    except OSError as error:  # ssl.SSLError is one
        reason = error.reason if isinstance(error, ssl.SSLError) and error.reason else error.strerror
        problem = Problem("", None, None, "upstream.tls", f"a file cannot be used: {reason}", "unusable-file")
        raise ConfigError([problem]) from None
    return context


def routes(config: Config) -> Routes:
    if config.routes is None:
        return Routes(None)
    return Routes(
        [
            Route(
                template=route.path,
                methods=frozenset(route.methods),
                cost=route.cost,
                idempotent=route.idempotent,
                rejections=REJECTIONS if route.retryable_rejection else TOO_EARLY,
                batchable=route.batch,
                timeout_s=route.timeout,
                upstream=route.upstream or "default",
            )
            for route in config.routes
        ]
    )


def limits(config: Config) -> list[Limit]:
    return [
        Limit(
            Bucket(limit.name, limit.rate.tokens, limit.rate.per_us, limit.burst, limit.on_exhausted),
            limit.key,
            None if limit.routes is None else frozenset(limit.routes),
        )
        for limit in config.limits
    ]


def identity_names(config: Config) -> frozenset[bytes]:
    """Fields that say who a caller is."""
    token = [] if config.identity.jwt is None else [config.identity.jwt.header]
    return frozenset(name.lower().encode() for name in [*config.identity.headers, *token])


def run_settings(config: Config, via: bytes, origins: Origins, callers: Callers) -> RunSettings:
    batch = config.batch
    return RunSettings(
        body_bytes_max=batch.body_max,
        concurrency=batch.concurrency,
        in_flight_max=batch.in_flight_max,
        in_flight_of_caller_max=batch.in_flight_of_caller_max,
        coalesces=batch.coalesce,
        sync_timeout_s=batch.sync_timeout,
        answers_bytes_max=batch.answer_max,
        callers=callers,
        via=via,
        origins=origins,
        default_host=str(_address(config.all_upstreams["default"])).encode(),
        counts_here=config.limiter.url is None,
    )


def batch_settings(config: Config, run: RunSettings, *, has_ledger: bool) -> BatchSettings:
    """Without a ledger no envelope may hold more than what is answered in place."""
    batch = config.batch
    operations_max = batch.operations_max if has_ledger else min(batch.operations_max, batch.sync_operations_max)
    return BatchSettings(
        base=batch.path,
        sync_operations_max=batch.sync_operations_max,
        envelope=EnvelopeLimits(operations_max, batch.depth_max, batch.nodes_max),
        rules=rules(config, may_bring_credentials=batch.operation_credentials),
        run=run,
    )


def dialects_in_place(config: Config, rules: Rules) -> Sequence[InPlaceDialect]:
    """The vendors' dialects that are spoken and answered in place."""
    return made(IN_PLACE, spoken(config), rules=rules)


def dialects_on_record(config: Config, rules: Rules) -> Sequence[OnRecordDialect]:
    """The vendors' dialects that are spoken and answered later."""
    limits = {"depth_max": config.batch.depth_max, "nodes_max": config.batch.nodes_max}
    return made(ON_RECORD, spoken(config), rules=rules, **limits)


def spoken(config: Config) -> Mapping[str, Section]:
    """The vendors' dialects that are configured, by name."""
    return {name: section for name, section in config.dialects if section is not None}


def rules(config: Config, *, may_bring_credentials: bool) -> Rules:
    """What operations are judged by."""
    credentials = frozenset[bytes]() if may_bring_credentials else CREDENTIALS | identity_names(config)
    mounted = [getattr(section, "path", None) for section in spoken(config).values()]
    if config.dialects.openai is not None:
        mounted += [f"{config.dialects.openai.base}/{kind}" for kind in ("files", "batches")]
    return Rules(
        own_paths=tuple(dict.fromkeys([config.batch.path, *filter(None, mounted)])),
        body_bytes_max=config.batch.operation_body_max,
        fields_rule=lambda fields: refusals_in_operation(fields, credentials=credentials),
    )


class LedgerClosedError(OSError):
    """A ledger cannot be opened: what is wrong with it, and the cure."""


class LedgerPlace(NamedTuple):
    """Where a ledger is: in Redis at `url`; else the first of `files` whose folder can be made; else in memory.

    `is_required`: the operator named it, so that without it the gateway must not start.
    """

    files: tuple[Path, ...]
    is_required: bool
    url: str | None = None


def ledger_place(settings: Asynchronous, environ: Mapping[str, str]) -> LedgerPlace | None:
    """None: no ledger, and every batch is answered in place."""
    if settings.is_shared:
        return LedgerPlace((), True, settings.ledger)
    kind, _, place = settings.ledger.partition(":")
    if kind == "none":
        return None
    if place == ":memory:":
        return LedgerPlace((), True)
    if place:
        return LedgerPlace((Path(place),), True)
    if settings.state_folder is not None:
        return LedgerPlace((Path(settings.state_folder) / _LEDGER_FILE,), True)
    state_home = environ.get("XDG_STATE_HOME", "")
    folders = [Path(state_home) / _STATE] if state_home.startswith("/") else []  # others are to be ignored (XDG 0.8)
    folders.append(Path("/var/lib") / _STATE)
    if environ.get("HOME", "").startswith("/"):
        folders.append(Path(environ["HOME"]) / ".local/state" / _STATE)
    return LedgerPlace(tuple(folder / _LEDGER_FILE for folder in folders), False)


def master_secret(settings: Asynchronous) -> bytes | None:
    """The key under which records are sealed; None where the state folder holds it."""
    return None if settings.key is None else hashlib.sha256(settings.key.reveal().encode()).digest()


def shown_ledger(settings: Asynchronous) -> str:
    """The URL of a shared ledger, without its password."""
    return shown_url(settings.ledger)


def submission_settings(settings: Asynchronous) -> "SubmissionSettings":
    from gateway.server.submission import SubmissionSettings  # with it comes the ledger, which not everybody has

    return SubmissionSettings(settings.expiry, settings.retention, settings.unfinished_max, settings.slice)


def pace(config: Config) -> "Pace":
    from gateway.worker.worker import Pace  # as above

    settings = config.async_
    return Pace(
        slices=settings.slices,
        concurrency=config.batch.concurrency,
        in_flight_max=settings.concurrency,
        tries_max=settings.retry.attempts,
        lease_s=settings.lease,
        renew_every_s=min(1.0, settings.lease / 5),
        poll_s=settings.poll,
    )


def means(config: Config, admission: Admission, executor: Executor, via: bytes, replay: Replay | None) -> "Means":
    from gateway.worker.means import Means  # as above

    default_host = str(_address(config.all_upstreams["default"])).encode()
    timeouts_s = [upstream.timeout for upstream in config.all_upstreams.values()]
    timeouts_s += [route.timeout for route in config.routes or () if route.timeout is not None]
    return Means(
        admission,
        executor,
        via,
        default_host,
        config.batch.answer_max,
        rules(config, may_bring_credentials=config.batch.operation_credentials),
        replay,
        max(timeouts_s),
    )
