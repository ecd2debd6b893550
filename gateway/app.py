"""The composition root: what lives as long as the process is built here; `lifecycle.generation` builds the rest."""

import asyncio
import gc
import signal
from collections.abc import Mapping
from secrets import token_hex

import structlog

from gateway import config as settings
from gateway import wiring
from gateway.admin.pages import AdminPages, AdminSettings
from gateway.config import Loaded
from gateway.lifecycle.drain import Drain
from gateway.lifecycle.generation import Generation, Generations, Lasting
from gateway.limiter.memory import MemoryLimiter
from gateway.server.connection import CallerServer, Handler
from gateway.server.edge import Edge
from gateway.server.heads import HeadLimits
from gateway.telemetry.metrics import Metrics
from gateway.version import VERSION

_LAG_EVERY_S = 0.5
_BACKLOG = 1024


class App:
    """One gateway. `start` opens both listeners, `drain` closes them without losing a request."""

    def __init__(self, loaded: Loaded) -> None:
        config = loaded.config
        self._loop = loop = asyncio.get_running_loop()
        self._listen_settings, self._admin_settings = config.listen, config.admin
        self._metrics = Metrics(VERSION)
        via = f"1.1 batch-gateway ({token_hex(4)})".encode()
        limiter = MemoryLimiter(lambda: int(loop.time() * 1_000_000))
        self._lasting = Lasting(loop, self._metrics, limiter, via)
        self._generations = Generations(Generation(loaded, self._lasting))
        self._edge = Edge(self._generations.current.rooms, via=via)
        self._pages = AdminPages(self._page_settings())
        self._servers: list[tuple[asyncio.Server, CallerServer]] = []
        self._drain = Drain(self._edge, self._drain_timings_s, lambda: self.logger)
        self._watch()

    @property
    def logger(self) -> "structlog.typing.FilteringBoundLogger":
        """Of the configuration in force."""
        return self._generations.current.logger

    async def start(self) -> tuple[str, str]:
        """Open both listeners; the traffic and admin addresses as URLs. Raises OSError where a port is taken."""
        listen, admin = self._listen_settings, self._admin_settings
        traffic = await self._listen(self._edge, listen.host, listen.port)
        return traffic, await self._listen(self._pages, admin.host, admin.port)

    async def drain(self, *, delay_s: float | None = None) -> bool:
        """Go away without losing a request (EXPERIENCE 6); True when everything ended in time. May be called twice."""
        return await self._drain.run(*self._servers[0], delay_s=delay_s)

    async def close(self) -> None:
        """Close listeners, connections and pools at once."""
        for server, connections in self._servers:
            server.close()
            await connections.shutdown(timeout=0.1)
        await self._generations.close()

    async def _listen(self, handler: Handler, host: str, port: int) -> str:
        listen = self._listen_settings
        connections = CallerServer(
            handler,
            render=self._edge.refuse,
            patience=wiring.patience(listen),
            keepalive_timeout=listen.idle_timeout,
            limits=HeadLimits(listen.line_max, listen.field_max, listen.fields_max, listen.head_max),
            connections_max=wiring.connections_max(listen),
        )
        server = await self._loop.create_server(connections, host, port, backlog=_BACKLOG)
        self._servers.append((server, connections))
        bound = server.sockets[0].getsockname()
        shown = f"[{bound[0]}]" if ":" in bound[0] else bound[0]
        return f"http://{shown}:{bound[1]}"

    def _drain_timings_s(self) -> tuple[float, float]:
        drain = self._generations.current.loaded.config.drain
        return drain.delay, drain.timeout

    def _page_settings(self) -> AdminSettings:
        token = self._admin_settings.token
        return AdminSettings(
            registry=self._metrics.registry,
            ready={"listening": lambda: bool(self._servers), "not draining": lambda: not self._edge.draining},
            config=lambda: settings.effective(self._generations.current.loaded),
            info=self._info,
            drain=self.drain,
            report=lambda defect: self.logger.error("defect", listener="admin", exc_info=defect),
            base=self._generations.current.rooms.base,
            token=None if token is None else token.reveal(),
        )

    def _info(self) -> Mapping[str, object]:
        current = self._generations.current
        return {
            "version": VERSION,
            "state": "draining" if self._edge.draining else "serving",
            "active": self._edge.active,
            "configDigest": current.loaded.digest,
            "dialects": ["native"],
            "ledger": "none",
            "upstreams": {name: repr(pool) for name, pool in current.pools.items()},
        }

    def _watch(self) -> None:
        """Gauges that are read when they are asked for, and the loop's lag."""
        generations, gauge = self._generations, self._metrics.gauge
        gauge(
            "upstream_requests_in_flight", "Requests on their way now.",
            lambda: sum(pool.in_flight for pool in generations.pools),
        )  # fmt: skip
        gauge(
            "upstream_requests_waiting", "Requests waiting for a connection.",
            lambda: sum(pool.waiting for pool in generations.pools),
        )  # fmt: skip
        gauge("upstream_concurrency_limit", "Connections at most, over all upstreams.", self._connections_limit)
        gauge("draining", "1 while draining.", lambda: float(self._edge.draining))
        self._measure_lag(self._loop.time())

    def _connections_limit(self) -> int:
        upstreams = self._generations.current.loaded.config.all_upstreams
        return sum(upstream.connections for upstream in upstreams.values())

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
