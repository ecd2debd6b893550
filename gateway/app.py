"""The composition root: every object is built here once, in the order in which a request meets it."""

import asyncio
import gc
import signal
from collections.abc import Mapping
from secrets import token_hex

import structlog

from gateway import config as settings
from gateway import wiring
from gateway.admin.pages import AdminPages, AdminSettings
from gateway.admission import Admission
from gateway.config import Loaded
from gateway.executor import Executor
from gateway.limiter.memory import MemoryLimiter
from gateway.server.access import Access
from gateway.server.batches import Batches
from gateway.server.connection import CallerServer, Handler
from gateway.server.edge import Edge
from gateway.server.forwarding import Forwarding, ForwardingSettings
from gateway.telemetry.logs import configure
from gateway.telemetry.metrics import Metrics
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
        via = f"1.1 batch-gateway ({token_hex(4)})".encode()  # tells this replica, so that a loop is seen
        # A request meets the edge, and a batch then meets admission, the executor and an upstream ...
        self._upstreams = wiring.upstreams(config, self._loop)
        limiter = MemoryLimiter(lambda: int(self._loop.time() * 1_000_000))
        admission = Admission(wiring.routes(config), wiring.limits(config), limiter, strict=config.batch.strict_routes)
        executor = Executor(self._upstreams, self._loop, access.stray)
        batches = Batches(wiring.batch_settings(config, via), admission, executor, access)
        # ... and for everything else the same admission, and the same upstream as a stream.
        forwarding = Forwarding(
            ForwardingSettings(wiring.identity_names_for_lone(config), counts=bool(config.limits), via=via),
            admission,
            self._upstreams,
            access,
        )
        self._edge = Edge(
            config.batch.path, batches, forwarding, self._logger, head_bytes_max=config.listen.head_max, via=via
        )
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
            connections_max=wiring.connections_max(self._config),
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
            drain=self.drain,
            report=lambda defect: self._logger.error("defect", listener="admin", exc_info=defect),
            base=self._config.batch.path,
            token=None if token is None else token.reveal(),
        )

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
    _spare_the_collector()
    signals: asyncio.Queue[signal.Signals] = asyncio.Queue()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, signals.put_nowait, number)
    loop.add_signal_handler(signal.SIGHUP, app.logger.warning, "reload is not built yet; restart instead")
    print(f"ready traffic={traffic} admin={admin}", flush=True)  # noqa: T201 the contract's line
    first = await signals.get()
    draining = loop.create_task(app.drain(delay_s=0.0 if first is signal.SIGINT else None))
    again = loop.create_task(signals.get())
    await asyncio.wait({draining, again}, return_when=asyncio.FIRST_COMPLETED)
    in_time = draining.done() and draining.result()
    again.cancel()
    await app.close()
    return 0 if in_time else 1


def _spare_the_collector() -> None:
    """What start-up made stays for ever: keep it out of every collection. Serving makes hardly any cycles."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)
