"""Gateways on one ledger before the counting upstream: real processes, killed, stopped and started again."""

import asyncio
import contextlib
import json
import re
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from tests.faults.killing.checker import Receipt
from tests.faults.killing.received import NAME, receipts_in
from tests.integration.cli.process import Process
from tests.integration.ledger.servers import Server, lasting_port
from tests.integration.server.wire import get

Prefix = tuple[str, ...]

IN_FLIGHT_MAX = 40
LEASE_S = 3.0
_SETTINGS = {
    "ASYNC__KEY__VALUE": "0123456789abcdef",
    "ASYNC__LEASE": f"{LEASE_S:g}s",
    "ASYNC__POLL": "200ms",
    "ASYNC__CONCURRENCY": str(IN_FLIGHT_MAX),
    "ASYNC__UNFINISHED_MAX": "1000",
    "LOG__ACCESS": "false",
    "LOG__FORMAT": "json",
}


class Replica:
    """One gateway on a port that it keeps over its lives; `prefix` is what its command begins with."""

    def __init__(
        self, folder: Path, upstream: str, ledger: str, settings: Mapping[str, str], prefix: Prefix = ()
    ) -> None:
        self.port = lasting_port()
        self._folder = folder
        self._given = ("--upstream", upstream, "--ledger", ledger, "--listen", f"127.0.0.1:{self.port}")
        self._environ = {f"BATCH_GATEWAY__{name}": value for name, value in {**_SETTINGS, **settings}.items()}
        self._prefix = prefix
        self._lives: list[Process] = []

    def start(self) -> None:
        folder = self._folder / str(len(self._lives))
        folder.mkdir(parents=True)
        command = [*self._prefix, sys.executable, "-m", "gateway", "serve", *self._given, "--admin", "127.0.0.1:0"]
        self._lives.append(Process(folder, command, self._environ))

    @property
    def process(self) -> Process:
        """Of the present life."""
        return self._lives[-1]

    @property
    def is_ready(self) -> bool:
        return "ready " in self.process.out

    async def until_ready(self) -> None:
        await asyncio.to_thread(self.process.said, "ready ")

    async def works(self) -> bool:
        """Whether something of it is on its way to the upstream now."""
        page = (await get(self.process.ports()[1], "/metrics")).body.decode()
        (in_flight,) = re.findall(r"^batch_gateway_upstream_requests_in_flight (\S+)", page, re.MULTILINE)
        return float(in_flight) > 0

    async def is_idle(self) -> bool:
        return not await self.works()

    @property
    def told(self) -> list[dict[str, object]]:
        """Every line of log of all lives; the last of a life may be cut off."""
        lines = [line for life in self._lives for line in life.err.splitlines()]
        return [json.loads(line) for line in lines if line.startswith("{") and line.endswith("}")]


class Fleet:
    """`replicas` that share the ledger of `server`; the upstream's receipts stand in `folder`."""

    def __init__(self, folder: Path, server: Server, replicas: Sequence[Replica]) -> None:
        self.server = server
        self.replicas = replicas
        self._folder = folder

    @property
    def receipts(self) -> list[Receipt]:
        return receipts_in(self._folder)

    @property
    def losses(self) -> set[str]:
        """The ids of batches of which a gateway said that the ledger had lost acknowledged changes."""
        told = [line for replica in self.replicas for line in replica.told]
        return {str(line["batch_id"]) for line in told if "lost acknowledged" in str(line.get("event"))}


@asynccontextmanager
async def fleet(
    folder: Path,
    server: Server,
    *,
    latency_ms: int,
    ledgers: Sequence[str] = (),
    prefixes: Sequence[Prefix] = ((), ()),
    **settings: str,
) -> AsyncIterator[Fleet]:
    """Two replicas that are ready, on `ledgers` or on the server; `settings` are variables without their prefix, and
    `prefixes` programs that run a replica each."""
    places = ledgers or [server.url] * 2
    async with gateways(folder, places, latency_ms=latency_ms, prefixes=prefixes, **settings) as replicas:
        yield Fleet(folder, server, replicas)


@asynccontextmanager
async def gateways(
    folder: Path, ledgers: Sequence[str], *, latency_ms: int, prefixes: Sequence[Prefix] = ((),), **settings: str
) -> AsyncIterator[Sequence[Replica]]:
    """One on each ledger before one counting upstream, all ready."""
    api = folder / "upstream"
    api.mkdir()
    upstream = Process.module(api, "tests.faults.killing.upstream", str(folder / NAME), str(latency_ms))
    replicas: list[Replica] = []
    try:
        port = upstream.said("\n").strip()
        replicas += [
            Replica(folder / f"replica{n}", f"http://127.0.0.1:{port}", ledger, settings, prefix)
            for n, (ledger, prefix) in enumerate(zip(ledgers, prefixes, strict=True))
        ]
        for replica in replicas:
            replica.start()
        for replica in replicas:
            await replica.until_ready()
        yield replicas
    finally:
        for replica in replicas:
            with contextlib.suppress(IndexError):
                replica.process.kill()
        upstream.kill()
