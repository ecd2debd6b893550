"""A gateway that dies in the middle of a batch, and another that takes its place on the same port and ledger."""

import asyncio
from pathlib import Path

from tests.integration.cli.process import Process
from tests.integration.ledger.servers import free_port
from tests.integration.server.api import Talk


class Dying:
    """One gateway at a time, each a process."""

    def __init__(self, folder: Path, upstream: str, settings: str) -> None:
        self.port = free_port()
        self._folder = folder
        self._arguments = ("serve", "--upstream", upstream, "--listen", f"127.0.0.1:{self.port}")
        self._arguments += ("--admin", "127.0.0.1:0", "--ledger", f"sqlite:{folder}/ledger.db")
        self._arguments += ("--config", str(folder / "gateway.yaml"))
        (folder / "gateway.yaml").write_text(f"version: 1\n{settings}\n")
        self._process: Process | None = None

    async def start(self) -> None:
        self._process = await asyncio.to_thread(Process.command, self._folder, *self._arguments)
        await asyncio.to_thread(self._process.ports)

    async def kill(self) -> None:
        """SIGKILL; what it had in memory is gone."""
        if self._process is not None:
            await asyncio.to_thread(self._process.kill)


class Stops:
    """An API that answers `first` requests by `answer`, and then nothing until it is told to go on."""

    def __init__(self, first: int, answer: bytes) -> None:
        self.bodies: list[bytes] = []
        self.goes_on = asyncio.Event()
        self._first = first
        self._answer = answer

    async def __call__(self, talk: Talk) -> None:
        self.bodies.append(await talk.request.read())
        if len(self.bodies) > self._first:
            await self.goes_on.wait()
        await talk.send(self._answer)
