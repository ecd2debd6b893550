"""A gateway that dies in the middle of a batch, and another that takes its place on the same port and ledger."""

import asyncio
from pathlib import Path

from tests.fakes.ports import free_port
from tests.integration.cli.process import Process


class Dying:
    """One gateway at a time, each a process."""

    def __init__(self, folder: Path, upstream: str, settings: str) -> None:
        self.port = free_port()
        self._folder = folder
        self._arguments = [
            *("serve", "--config", str(folder / "gateway.yaml"), "--upstream", upstream),
            *("--listen", f"127.0.0.1:{self.port}", "--admin", "127.0.0.1:0", "--ledger", f"sqlite:{folder}/ledger.db"),
        ]
        (folder / "gateway.yaml").write_text(f"version: 1\n{settings}\n")
        self._process: Process | None = None

    async def start(self) -> None:
        self._process = await asyncio.to_thread(Process.command, self._folder, *self._arguments)
        await asyncio.to_thread(self._process.ports)

    @property
    def most_bytes(self) -> int:
        """What it has held in memory at most."""
        assert self._process is not None
        status = Path(f"/proc/{self._process.process.pid}/status").read_text()
        return int(status.partition("VmHWM:")[2].split()[0]) * 1024

    async def kill(self) -> None:
        """SIGKILL; what it had in memory is gone."""
        if self._process is not None:
            await asyncio.to_thread(self._process.kill)
