"""Restarts under load, behind a front that follows readiness as a Service does: no request fails.

RESTART_CYCLES is how many restarts there are; 50 take about a minute.
"""

import asyncio
import json
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.fakes.until import pass_by, until
from tests.integration.cli.process import Process
from tests.integration.server.api import Api
from tests.integration.server.wire import Wire, get, request

CYCLES = int(os.environ.get("RESTART_CYCLES", "3"))
CLIENTS = 16
PER_SECOND_MIN = 100
OPERATIONS = [{"method": "GET", "path": "/x"}, {"method": "POST", "path": "/x", "body": {}}] * 3
BATCH = request("POST", "/batch", [("Content-Type", "application/json")], json.dumps(OPERATIONS).encode())
LONE = (request("GET", "/lone"), request("POST", "/lone", [("Content-Type", "application/json")], b"{}"))


class Front:
    """Hands each new connection to the oldest gateway that is ready. Asks for readiness all the time."""

    def __init__(self) -> None:
        self.port = 0
        self.ready: list[tuple[int, int]] = []  # traffic and admin port
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> "Front":
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0, backlog=256)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def add(self, ports: tuple[int, int]) -> None:
        self.ready.append(ports)
        self._tasks.add(asyncio.create_task(self._follow(ports)))

    async def _follow(self, ports: tuple[int, int]) -> None:
        async def is_away() -> bool:
            with suppress(OSError, asyncio.IncompleteReadError):
                return (await get(ports[1], "/readyz")).status == 503
            return True

        await until(is_away)
        self.ready.remove(ports)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            there, back = await asyncio.open_connection("127.0.0.1", self.ready[0][0])
            await asyncio.gather(_carry(reader, back), _carry(there, writer))
        finally:
            self._tasks.discard(task)
            writer.close()


async def _carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(ConnectionError):
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
    writer.close()


class Client:
    """Sends batches and lone requests one after the other, and reconnects when it is told to."""

    def __init__(self, front: Front) -> None:
        self._front = front
        self.answered = 0
        self.failed: list[object] = []

    async def run(self, over: asyncio.Event) -> None:
        while not over.is_set():
            async with await Wire.open(self._front.port) as wire:
                try:
                    await self._use(wire, over)
                except (OSError, EOFError, TimeoutError) as error:
                    self.failed.append(error)

    async def _use(self, wire: Wire, over: asyncio.Event) -> None:
        while not over.is_set():
            data = (BATCH, *LONE)[self.answered % 3]
            await wire.send(data)
            answer = await wire.answer()
            self.answered += 1
            results = answer.json()["results"] if answer.status == 207 else []
            if answer.status not in (200, 207) or any(result["status"] != 200 for result in results):
                self.failed.append((answer.status, answer.body))
            if answer.header("Connection") == "close":
                return
            await pass_by(0.01)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[[str], Process]]:
    started: list[Process] = []

    def run(upstream: str) -> Process:
        folder = tmp_path / str(len(started))
        folder.mkdir()
        environ = {"BATCH_GATEWAY__DRAIN__DELAY": "200ms", "BATCH_GATEWAY__LOG__ACCESS": "false"}
        arguments = ("serve", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--upstream", upstream)
        started.append(Process.command(folder, *arguments, environ=environ))
        return started[-1]

    yield run
    for process in started:
        process.kill()


async def test_no_request_fails_while_gateways_are_replaced(api: Api, start: Callable[[str], Process]) -> None:
    over, codes, loop = asyncio.Event(), [], asyncio.get_running_loop()

    async with Front() as front:
        current = start(api.url)
        front.add(await asyncio.to_thread(current.ports))
        clients = [Client(front) for _ in range(CLIENTS)]
        running = [asyncio.create_task(client.run(over)) for client in clients]
        began_s = loop.time()
        for _ in range(CYCLES):
            successor = start(api.url)
            front.add(await asyncio.to_thread(successor.ports))
            current.signal(signal.SIGTERM)  # the load stays with it, until it says that it is not ready
            codes.append(await asyncio.to_thread(current.ended))
            current = successor
        took_s = loop.time() - began_s
        over.set()
        await asyncio.gather(*running)

    answered = sum(client.answered for client in clients)
    print(f"{CYCLES} restarts in {took_s:.1f} s, {answered} requests, {answered / took_s:.0f} a second")
    assert [failure for client in clients for failure in client.failed] == []
    assert set(codes) == {0}
    assert answered / took_s >= PER_SECOND_MIN
