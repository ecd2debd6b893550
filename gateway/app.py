"""The composition root: every object is built here once, in the order in which a request meets it."""

import asyncio
import resource
import signal
import ssl
from collections.abc import Mapping
from urllib.parse import unquote, urlsplit

import structlog

from gateway import config as settings
from gateway.admin.pages import AdminPages, AdminSettings
from gateway.admission import Admission, Limit
from gateway.batch.routes import Route, Routes
from gateway.batch.validation import Rules
from gateway.config import Config, Loaded
from gateway.dialects.port import EnvelopeLimits
from gateway.executor import Executor, Upstream
from gateway.limiter.bucket import Bucket
from gateway.limiter.memory import MemoryLimiter
from gateway.server.access import Access
from gateway.server.batches import Batches, BatchSettings
from gateway.server.connection import CallerServer, Handler
from gateway.server.edge import Edge
from gateway.server.forwarding import Forwarding, ForwardingSettings
from gateway.telemetry.logs import configure
from gateway.telemetry.metrics import Metrics
from gateway.upstream.headers import refusal_in_operation
from gateway.upstream.pool import Address, Pool, PoolLimits
from gateway.version import VERSION

_LAG_EVERY_S = 0.5
_BACKLOG = 1024


class App:
    """One gateway. `start` opens both listeners, `drain` closes them without losing a request."""

    def __init__(self, loaded: Loaded) -> None:
        config = loaded.config
        self._loaded = loaded
        self._config = config
        self._loop = asyncio.get_running_loop()
        self._logger = configure(config.log.level, config.log.format)
        self._metrics = Metrics(VERSION)
        access = Access(self._metrics, self._logger if config.log.access else None)
        # A request meets the edge, and a batch then meets admission, the executor and an upstream ...
        self._upstreams = _upstreams(config, self._loop)
        limiter = MemoryLimiter(lambda: int(self._loop.time() * 1_000_000))
        admission = Admission(_routes(config), _limits(config), limiter, strict=config.batch.strict_routes)
        executor = Executor(self._upstreams, self._loop, access.stray)
        batches = Batches(_batch_settings(config), admission, executor, access)
        # ... and for everything else the same admission, and the same upstream as a stream.
        forwarding = Forwarding(
            ForwardingSettings(_identity_names(config), counts=bool(config.limits)), admission, self._upstreams, access
        )
        self._edge = Edge(config.batch.path, batches, forwarding, self._logger)
        self._pages = AdminPages(self._admin_settings())
        self._servers: list[tuple[asyncio.Server, CallerServer]] = []
        self._drained: asyncio.Task[bool] | None = None
        self._watch()

    @property
    def logger(self) -> "structlog.typing.FilteringBoundLogger":
        return self._logger

    async def start(self) -> tuple[str, str]:
        """Open both listeners; the traffic and admin addresses as URLs. Raises OSError where a port is taken."""
        listen, admin = self._config.listen, self._config.admin
        traffic = await self._listen(self._edge, listen.host, listen.port)
        return traffic, await self._listen(self._pages, admin.host, admin.port)

    async def drain(self, *, delay_s: float | None = None) -> bool:
        """Go away without losing a request (EXPERIENCE 6); True when everything ended in time. May be called twice."""
        if self._drained is None:
            wait_s = self._config.drain.delay if delay_s is None else delay_s
            self._drained = self._loop.create_task(self._drain(wait_s))
        return await asyncio.shield(self._drained)

    async def close(self) -> None:
        """Close listeners, connections and pools at once."""
        for server, connections in self._servers:
            server.close()
            await connections.shutdown(timeout=0.1)
        for upstream in self._upstreams.values():
            await upstream.pool.close()

    async def _drain(self, delay_s: float) -> bool:
        self._edge.draining = True
        self._logger.info("draining", delay_s=delay_s, timeout_s=self._config.drain.timeout)
        await asyncio.sleep(delay_s)  # endpoints lag behind readiness, so requests still come
        self._servers[0][0].close()
        self._servers[0][1].pre_shutdown()
        try:
            async with asyncio.timeout(self._config.drain.timeout):
                await self._edge.idle.wait()
        except TimeoutError:
            self._logger.warning("drain timed out", active=self._edge.active)
            return False
        return True

    async def _listen(self, handler: Handler, host: str, port: int) -> str:
        listen = self._config.listen
        connections = CallerServer(
            handler,
            render=self._edge.refuse,
            head_timeout_s=listen.header_timeout,
            keepalive_timeout=listen.idle_timeout,
            max_line_size=listen.line_max,
            max_field_size=listen.field_max,
            max_headers=listen.fields_max,
            access_log=None,
            auto_decompress=False,
        )
        server = await self._loop.create_server(connections, host, port, backlog=_BACKLOG)
        self._servers.append((server, connections))
        bound = server.sockets[0].getsockname()
        shown = f"[{bound[0]}]" if ":" in bound[0] else bound[0]
        return f"http://{shown}:{bound[1]}"

    def _admin_settings(self) -> AdminSettings:
        token = self._config.admin.token
        return AdminSettings(
            registry=self._metrics.registry,
            ready={"listening": lambda: bool(self._servers), "not draining": lambda: not self._edge.draining},
            config=lambda: settings.effective(self._loaded),
            info=self._info,
            drain=self._drain_for_hook,
            token=None if token is None else token.reveal(),
        )

    async def _drain_for_hook(self) -> None:
        await self.drain()

    def _info(self) -> Mapping[str, object]:
        return {
            "version": VERSION,
            "state": "draining" if self._edge.draining else "serving",
            "active": self._edge.active,
            "configDigest": self._loaded.digest,
            "dialects": ["native"],
            "ledger": "none",
            "upstreams": {name: repr(upstream.pool) for name, upstream in self._upstreams.items()},
        }

    def _watch(self) -> None:
        """Gauges that are read when they are asked for, and the loop's lag."""
        pools = [upstream.pool for upstream in self._upstreams.values()]
        limit = sum(upstream.connections for upstream in self._config.all_upstreams.values())
        gauge = self._metrics.gauge
        gauge("upstream_requests_in_flight", "Requests on their way now.", lambda: sum(p.in_flight for p in pools))
        gauge("upstream_requests_waiting", "Requests waiting for a connection.", lambda: sum(p.waiting for p in pools))
        gauge("upstream_concurrency_limit", "Connections at most, over all upstreams.", lambda: limit)
        gauge("draining", "1 while draining.", lambda: float(self._edge.draining))
        self._measure_lag(self._loop.time())

    def _measure_lag(self, due_s: float) -> None:
        now_s = self._loop.time()
        self._metrics.loop_lag_seconds.observe((), max(0.0, now_s - due_s))
        self._loop.call_at(now_s + _LAG_EVERY_S, self._measure_lag, now_s + _LAG_EVERY_S)


async def serve(loaded: Loaded) -> int:
    """Serve until SIGTERM or SIGINT; the exit code. Prints the ready line once both listeners are open."""
    app = App(loaded)
    try:
        traffic, admin = await app.start()
    except OSError as error:
        app.logger.error(
            "cannot listen", reason=str(error), cure="another process has the port; set listen.port or admin.port"
        )
        return 1
    print(f"ready traffic={traffic} admin={admin}", flush=True)  # noqa: T201 the contract's line
    signals: asyncio.Queue[signal.Signals] = asyncio.Queue()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, signals.put_nowait, number)
    first = await signals.get()
    draining = loop.create_task(app.drain(delay_s=0.0 if first is signal.SIGINT else None))
    again = loop.create_task(signals.get())
    await asyncio.wait({draining, again}, return_when=asyncio.FIRST_COMPLETED)
    in_time = draining.done() and draining.result()
    again.cancel()
    await app.close()
    return 0 if in_time else 1


def connections_max(config: Config) -> int:
    """Most connections of callers at once: as configured, or half of what the process may open."""
    return config.listen.connections_max or resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 2


def _upstreams(config: Config, loop: asyncio.AbstractEventLoop) -> Mapping[str, Upstream]:
    return {
        name: Upstream(
            Pool(_address(upstream), _pool_limits(upstream), loop),
            upstream.timeout,
            upstream.answer_max,
            upstream.retries,
        )
        for name, upstream in config.all_upstreams.items()
    }


def _pool_limits(upstream: settings.Upstream) -> PoolLimits:
    return PoolLimits(
        connections_max=upstream.connections,
        pipelining_max=upstream.pipelining,
        connect_timeout_s=upstream.connect_timeout,
        idle_timeout_s=upstream.idle_timeout,
    )


def _address(upstream: settings.Upstream) -> Address:
    parts = urlsplit(upstream.url)
    if parts.scheme == "http+unix":
        return Address(path=unquote(parts.path))
    host = parts.hostname or ""
    if parts.scheme == "http":
        return Address(host, parts.port or 80)
    return Address(host, parts.port or 443, None, _tls(upstream.tls), upstream.tls.server_name or host)


def _tls(tls: settings.Tls) -> ssl.SSLContext:
    """Verified always: certificate, name, TLS 1.2 or newer (PROMISES S17)."""
    context = ssl.create_default_context(cafile=tls.ca_file)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if tls.client_cert is not None:
        context.load_cert_chain(tls.client_cert, tls.client_key)
    return context


def _routes(config: Config) -> Routes:
    if config.routes is None:
        return Routes(None)
    return Routes(
        [
            Route(
                template=route.path,
                methods=frozenset(route.methods),
                cost=route.cost,
                idempotent=route.idempotent,
                batchable=route.batch,
                retryable_rejection=route.retryable_rejection,
                timeout_s=route.timeout,
                upstream=route.upstream or "default",
            )
            for route in config.routes
        ]
    )


def _limits(config: Config) -> list[Limit]:
    return [
        Limit(
            Bucket(limit.name, limit.rate.tokens, limit.rate.per_us, limit.burst, limit.on_exhausted),
            limit.key,
            None if limit.routes is None else frozenset(limit.routes),
        )
        for limit in config.limits
    ]


def _identity_names(config: Config) -> frozenset[bytes]:
    return frozenset(name.lower().encode() for name in config.identity.headers)


def _batch_settings(config: Config) -> BatchSettings:
    batch = config.batch
    credentials = batch.operation_credentials
    return BatchSettings(
        base=batch.path,
        body_bytes_max=batch.body_max,
        sync_operations_max=batch.sync_operations_max,
        concurrency=batch.concurrency,
        sync_timeout_s=batch.sync_timeout,
        answers_bytes_max=batch.answer_max,
        envelope=EnvelopeLimits(batch.operations_max, batch.depth_max, batch.nodes_max),
        rules=Rules(
            own_paths=(batch.path,),
            body_bytes_max=batch.operation_body_max,
            fields_rule=lambda fields: refusal_in_operation(fields, credentials_allowed=credentials),
        ),
        identity_names=_identity_names(config),
    )
