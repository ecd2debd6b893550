"""The composition root: what lives as long as the process is built here; `lifecycle.generation` builds the rest."""

import asyncio
import errno
import gc
import os
import signal
from collections.abc import Callable, Mapping
from dataclasses import replace
from secrets import token_hex

import structlog

from gateway import wiring
from gateway.admin.pages import AdminPages, AdminSettings
from gateway.config import Loaded
from gateway.lifecycle import report
from gateway.lifecycle.counting import counting
from gateway.lifecycle.drain import Drain, Listening, Timings
from gateway.lifecycle.generation import Generation, Generations, Lasting
from gateway.lifecycle.keyring import keyring_of
from gateway.lifecycle.reload import Applied, Reloader
from gateway.server.connection import Handler, RelayOf
from gateway.server.edge import Edge
from gateway.server.heads import HeadLimits
from gateway.server.listening import CallerServer
from gateway.server.patience import hold_little
from gateway.telemetry.metrics import Metrics
from gateway.upstream.breaker import State
from gateway.version import VERSION

_LAG_EVERY_S = 0.5
_BACKLOG = 1024


class App:
    """One gateway. `start` opens both listeners, `drain` closes them without losing a request.

    `load` reads the configuration anew; without it, a reload finds what is in force already.
    """

    def __init__(self, loaded: Loaded, load: Callable[[], Loaded] | None = None) -> None:
        config = loaded.config
        self._loop = loop = asyncio.get_running_loop()
        self._listen_settings, self._admin_settings = config.listen, config.admin  # until the process ends
        self._metrics = Metrics(VERSION)
        via = f"1.1 batch-gateway ({token_hex(4)})".encode()
        self._counting = counting(config.limiter, loop, self._metrics, lambda: self.logger)
        self._keyring = keyring_of(config, self._metrics, lambda: self.logger)
        replay = None if self._keyring is None else self._keyring.replay
        self._lasting = Lasting(loop, self._metrics, self._counting.limiter, via, replay=replay)
        self._generations = Generations(Generation(loaded, self._lasting))
        self._edge = Edge(self._generations.current.rooms, via=via)
        self._reloader = Reloader(
            load or (lambda: self._loaded), self._apply, lambda: self._loaded, lambda: self.logger
        )
        self._reloading: asyncio.Task[None] | None = None
        self._pages = AdminPages(self._page_settings())
        self._ledger = "none"
        self._servers: list[Listening] = []
        self._traffic: Listening | None = None
        self._drain = Drain(
            self._edge, self._drain_timings, self._generations.drain, lambda: self.logger, self._hand_back
        )
        self._watch()

    @property
    def logger(self) -> "structlog.typing.FilteringBoundLogger":
        """Of the configuration in force."""
        return self._generations.current.logger

    async def start(self) -> tuple[str, str]:
        """Open the ledger and both listeners; the addresses of traffic and admin as URLs.

        Raises OSError where a port is taken, or where a ledger that the configuration names cannot be opened.
        """
        await self._open_ledger(works=self._loaded.config.async_.worker)
        listen = self._listen_settings
        traffic = await self._listen(self._edge, listen.host, listen.port, self._edge.relay)
        self._traffic = self._servers[-1]
        return traffic, await self._administer()

    async def start_worker(self) -> str:
        """Open the ledger and the admin listener alone, and work; the address of admin. Raises as `start` does."""
        await self._open_ledger(works=True)
        return await self._administer()

    def reload(self) -> None:
        """Read the configuration anew, soon."""
        self._reloader.ask()

    async def drain(self, *, delay_s: float | None = None) -> bool:
        """Go away without losing a request (EXPERIENCE 6); True when everything ended in time. May be called twice."""
        return await self._drain.run(self._traffic, delay_s=delay_s)

    async def close(self) -> None:
        """Close listeners, connections and pools at once."""
        if self._reloading is not None:
            self._reloading.cancel()
            await asyncio.wait([self._reloading])
        for server, connections in self._servers:
            server.close()
            await connections.shutdown(timeout=0.1)
        if self._lasting.keeping is not None:
            await self._lasting.keeping.close()
        await self._generations.close()
        await self._counting.close()
        if self._lasting.replay is not None:
            await self._lasting.replay.close()

    async def _open_ledger(self, *, works: bool) -> None:
        """From here on batches may be asynchronous; without a ledger the gateway serves all others.

        `works`: whether this process runs them, too.
        """
        if self._keyring is not None:
            self._keyring.start()
        place = wiring.ledger_place(self._loaded.config.async_, os.environ)
        if place is None:
            return
        from gateway.lifecycle.keeping import open_ledger  # SQLite: only for who has a ledger

        try:
            keeping = await open_ledger(place, self._loaded.config, self._metrics, lambda: self.logger)
        except wiring.LedgerClosedError as error:
            if place.is_required:
                raise
            self._ledger = f"off: {error}"
            self.logger.warning(
                "asynchronous batches are off", reason=str(error), cure="name a folder: async.state_folder"
            )
            return
        self._ledger = keeping.name
        self._lasting = replace(self._lasting, keeping=keeping)
        self._apply(self._loaded)
        keeping.look()
        if works:
            keeping.work(lambda: self._generations.current.means, lambda: self.logger)

    async def _administer(self) -> str:
        """Open the admin listener, and from here on take changes of the configuration; its address."""
        address = await self._listen(self._pages, self._admin_settings.host, self._admin_settings.port)
        self._reloading = self._loop.create_task(self._reloader.run())
        return address

    async def _listen(self, handler: Handler, host: str, port: int, relay_of: RelayOf | None = None) -> str:
        listen = self._listen_settings
        connections = CallerServer(
            handler,
            render=self._edge.refuse,
            patience=wiring.patience(listen),
            keepalive_timeout=listen.idle_timeout,
            limits=HeadLimits(listen.line_max, listen.field_max, listen.fields_max, listen.head_max),
            connections_max=wiring.connections_max(listen),
            relay_of=relay_of,
        )
        server = await self._loop.create_server(connections, host, port, backlog=_BACKLOG)
        for listening in server.sockets:
            hold_little(listening)
        self._servers.append((server, connections))
        bound = server.sockets[0].getsockname()
        shown = f"[{bound[0]}]" if ":" in bound[0] else bound[0]
        return f"http://{shown}:{bound[1]}"

    @property
    def _loaded(self) -> Loaded:
        return self._generations.current.loaded

    def _apply(self, loaded: Loaded) -> None:
        self._generations.replace(Generation(loaded, self._lasting, self._generations.current), self._edge)

    def _drain_timings(self) -> Timings:
        drain = self._loaded.config.drain
        return Timings(drain.delay, drain.stream_grace, drain.timeout)

    def _page_settings(self) -> AdminSettings:
        reloader = self._reloader
        return AdminSettings(
            registry=self._metrics.registry,
            ready={"listening": lambda: bool(self._servers), "not draining": lambda: not self._edge.draining},
            aside=lambda: report.troubles({"ledger": self._lasting.keeping, "idempotency keys": self._keyring}),
            wrong=lambda: report.wrong(reloader.last),
            config=lambda: report.config_page(self._loaded, reloader.last),
            info=self._info,
            drain=self._drain_page,
            reload=self._reload_page,
            report=lambda defect: self.logger.error("defect", listener="admin", exc_info=defect),
            base=lambda: self._loaded.config.batch.path,
            token=self._admin_token,
        )

    def _admin_token(self) -> str | None:
        token = self._loaded.config.admin.token
        return None if token is None else token.reveal()

    async def _hand_back(self, timeout_s: float) -> bool:
        keeping = self._lasting.keeping
        return keeping is None or await keeping.hand_back(timeout_s)

    async def _drain_page(self) -> tuple[bool, str]:
        in_time = await self.drain()
        return in_time, "drained\n" if in_time else "not drained in time\n"

    async def _reload_page(self) -> tuple[bool, str]:
        return report.answer(await self._reloader.reload("page"))

    def _info(self) -> Mapping[str, object]:
        current = self._generations.current
        return {
            "version": VERSION,
            "state": "draining" if self._edge.draining else "serving" if self._traffic else "working",
            "active": self._edge.active,
            "configDigest": current.loaded.digest,
            "reload": report.facts(self._reloader.last),
            "dialects": ["native", *wiring.spoken(current.loaded.config)],
            "ledger": self._ledger,
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
        gauge(
            "upstream_concurrency_limit", "Operations of batches at once at most, over all upstreams.",
            lambda: sum(pool.turns.limit for pool in generations.current.pools.values()),
        )  # fmt: skip
        self._metrics.states("upstream_circuit_state", "Upstreams whose breaker is in this state.", self._circuits)
        gauge("draining", "1 while draining.", lambda: float(self._edge.draining))
        gauge(
            "config_last_reload_successful", "1 if the configuration that was read last is in force.",
            lambda: float(isinstance(self._reloader.last.told, Applied)),
        )  # fmt: skip
        gauge(
            "config_last_reload_success_timestamp_seconds", "When a configuration was last taken.",
            lambda: self._reloader.last.success_at_s,
        )  # fmt: skip
        self._measure_lag(self._loop.time())

    def _circuits(self) -> Mapping[str, float]:
        states = [pool.turns.state for pool in self._generations.current.pools.values()]
        return {state.value: states.count(state) for state in State}

    def _measure_lag(self, due_s: float) -> None:
        now_s = self._loop.time()
        self._metrics.loop_lag_seconds.observe((), max(0.0, now_s - due_s))
        self._loop.call_at(now_s + _LAG_EVERY_S, self._measure_lag, now_s + _LAG_EVERY_S)


async def serve(loaded: Loaded, load: Callable[[], Loaded], *, works_alone: bool = False) -> int:
    """Serve until SIGTERM or SIGINT; the exit code. Prints the ready line once the listeners are open.

    `load` reads the configuration anew, for a reload. Raises ConfigError where TLS files cannot be used. `works_alone`:
    run asynchronous batches of a ledger, and listen for admin only.
    """
    app = App(loaded, load)
    try:
        if works_alone:
            ready = f"ready admin={await app.start_worker()}"
        else:
            traffic, admin = await app.start()
            ready = f"ready traffic={traffic} admin={admin}"
    except wiring.LedgerClosedError as error:
        app.logger.error("cannot open the ledger", reason=str(error), cure="mend it, or choose another: async.ledger")
        return 1
    except OSError as error:
        cause = (
            "another process has the port" if error.errno == errno.EADDRINUSE else "no place for this user to listen"
        )
        app.logger.error("cannot listen", reason=str(error), cure=f"{cause}; set host and port of listen or admin")
        return 1
    begin_to_collect()
    signals: asyncio.Queue[signal.Signals] = asyncio.Queue()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, signals.put_nowait, number)
    loop.add_signal_handler(signal.SIGHUP, app.reload)
    print(ready, flush=True)  # noqa: T201 the contract's line
    first = await signals.get()
    draining = loop.create_task(app.drain(delay_s=0.0 if first is signal.SIGINT else None))
    again = loop.create_task(signals.get())
    await asyncio.wait({draining, again}, return_when=asyncio.FIRST_COMPLETED)
    in_time = draining.done() and draining.result()
    again.cancel()
    await app.close()
    return 0 if in_time else 1


def begin_to_collect() -> None:
    """What start-up made stays for ever: keep it out of every collection. Serving makes hardly any cycles."""
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)
    gc.enable()
