"""Redis away in nine ways under a gateway that has work: it goes on by itself, and nothing else notices (PROMISES D9).

KILL_LOOP=full: each way for one second, for five and for thirty.
"""

import asyncio
import os
import shutil
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import redis

from tests.fakes.until import until
from tests.integration.asynchronous.calls import ASYNC, ended, envelope, submit
from tests.integration.ledger.relay import Relay
from tests.integration.ledger.servers import ALWAYS, Server
from tests.integration.server.api import Api, Talk, answer
from tests.integration.server.gateways import Gateway, gateway
from tests.integration.server.wire import get, post

_BACK_WITHIN_S = 10.0
_KEY = "async: {key: {value: 0123456789abcdef}, lease: 3s, poll: 200ms}"
_FILLER = 1000  # commands that a server has to load

Outage = Callable[[Server, Relay, float], Awaitable[None]]


async def _killed(server: Server, _: Relay, lasts_s: float) -> None:
    server.kill()
    await asyncio.sleep(lasts_s)
    server.start(*ALWAYS)


async def _stopped(server: Server, _: Relay, lasts_s: float) -> None:
    server.signal(signal.SIGSTOP)
    await asyncio.sleep(lasts_s)
    server.signal(signal.SIGCONT)


async def _dropped(_: Server, relay: Relay, lasts_s: float) -> None:
    relay.swallows = True
    await asyncio.sleep(lasts_s)
    relay.swallows = False


async def _reset(_: Server, relay: Relay, lasts_s: float) -> None:
    await relay.close()
    await asyncio.sleep(lasts_s)
    await relay.open()


async def _clients_killed(server: Server, _: Relay, lasts_s: float) -> None:
    until_s = time.monotonic() + lasts_s
    while time.monotonic() < until_s:
        server.ask("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        await asyncio.sleep(0.01)


async def _asleep(server: Server, _: Relay, lasts_s: float) -> None:
    with redis.Redis.from_url(server.url, socket_timeout=2 * lasts_s) as client:
        await asyncio.to_thread(client.execute_command, "DEBUG", "SLEEP", lasts_s)


async def _loading(server: Server, _: Relay, lasts_s: float) -> None:
    for number in range(_FILLER):
        server.ask("SET", f"filler{number}", "x", "PX", 60_000)
    server.kill()
    delay_us = int(lasts_s * 1_000_000 / _FILLER)
    server.start(
        *ALWAYS, "--key-load-delay", str(delay_us), "--loading-process-events-interval-bytes", "1024", awaited=False
    )
    began_s = time.monotonic()

    async def has_loaded() -> bool:
        try:
            return await asyncio.to_thread(server.ask, "PING") is True
        except Exception:
            return False

    await until(has_loaded)
    assert time.monotonic() - began_s > lasts_s / 2


async def _read_only(server: Server, _: Relay, lasts_s: float) -> None:
    server.ask("REPLICAOF", "127.0.0.1", 1)
    await asyncio.sleep(lasts_s)
    server.ask("REPLICAOF", "NO", "ONE")


async def _emptied(server: Server, _: Relay, lasts_s: float) -> None:
    server.kill()
    shutil.rmtree(server.folder / "appendonlydir")
    await asyncio.sleep(lasts_s)
    server.start(*ALWAYS)


_OUTAGES: dict[str, Outage] = {
    "killed": _killed,
    "stopped": _stopped,
    "dropped": _dropped,
    "reset": _reset,
    "clients killed": _clients_killed,
    "asleep": _asleep,
    "loading": _loading,
    "read only": _read_only,
    "emptied": _emptied,
}
_LONG = ["stopped", "dropped", "emptied"]
_RUNS = [*((kind, 1.0) for kind in _OUTAGES), *((kind, 5.0) for kind in _LONG)]
if os.environ.get("KILL_LOOP") == "full":
    _RUNS = [(kind, lasts_s) for lasts_s in (1.0, 5.0, 30.0) for kind in _OUTAGES]


async def _slowly(talk: Talk) -> None:
    await talk.request.read()
    await asyncio.sleep(0.02)
    await talk.send(answer(200, b"{}"))


@asynccontextmanager
async def working(folder: Path) -> AsyncIterator[tuple[Gateway, Api, Server, Relay]]:
    """A gateway behind a relay to its Redis."""
    server = Server("redis", folder / "store").start(*ALWAYS, "--enable-debug-command", "yes")
    relay = await Relay(server.port).open()
    try:
        async with (
            Api(_slowly) as api,
            gateway(api.url, _KEY, async__ledger=f"redis://127.0.0.1:{relay.port}/0") as running,
        ):
            yield running, api, server, relay
    finally:
        await relay.close()
        server.kill()


async def untouched(running: Gateway, over: asyncio.Event) -> list[tuple[int, int, int]]:
    """What forwarded requests, batches in place and the probe are answered until it is `over`."""
    seen = []
    while not over.is_set():
        forwarded = await get(running.port, "/now")
        in_place = await post(running.port, "/batch", b'[{"method": "GET", "path": "/now"}]')
        alive = await get(running.admin_port, "/livez")
        seen.append((forwarded.status, in_place.status, alive.status))
        await asyncio.sleep(0.05)
    return seen


@pytest.mark.parametrize(("kind", "lasts_s"), _RUNS, ids=[f"{kind} {lasts_s:g} s" for kind, lasts_s in _RUNS])
async def test_work_goes_on_by_itself_after_an_outage_of_redis_that_nothing_else_notices(
    kind: str, lasts_s: float, tmp_path: Path
) -> None:
    async with working(tmp_path) as (running, api, server, relay):
        batch_id = await submit(running.port, envelope(600, "POST"))
        await api.until(20)
        over = asyncio.Event()
        watching = asyncio.create_task(untouched(running, over))
        await _OUTAGES[kind](server, relay, lasts_s)
        back_s = time.monotonic()

        async def accepts() -> bool:
            return (await post(running.port, "/batch", envelope(1, path="/after"), ASYNC)).status == 202

        async def has_run() -> bool:
            return "/after/0" in api.targets

        await until(accepts)
        await until(has_run)
        took_s = time.monotonic() - back_s
        end = None if kind == "emptied" else await ended(running.port, batch_id)
        over.set()
        seen = await watching

    posts = [received.target for received in api.received if received.method == "POST"]
    assert took_s < _BACK_WITHIN_S
    assert set(seen) == {(200, 207, 200)}
    assert len(seen) > 3
    assert len(posts) == len(set(posts))
    assert end is None or (end["status"], end["completed"], end["total"]) == ("completed", 600, 600)
