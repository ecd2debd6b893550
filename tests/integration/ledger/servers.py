"""Servers that a test may stop, start again and reach by TCP; batches to put into them; waiting for what comes."""

import random
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import TypeVar

import redis

from gateway.ledger.port import LedgerUnavailableError, NewBatch, Part
from gateway.ledger.redis import RedisLedger
from tests.contract.stores import start
from tests.fakes.until import PATIENCE_S, until, wait_until

T = TypeVar("T")
DAY_MS = 86_400_000
ALWAYS = ("--appendfsync", "always")
"""Of a server that is killed and has to have kept all that it acknowledged. `everysec` promises less: while an fsync is
under way, what is acknowledged waits for up to 2 s to be written at all (PROMISES 1.2)."""


def lasting_port() -> int:
    """A free port that nobody is given while its owner is away: from below those that the kernel chooses from."""
    while True:
        port = random.randrange(20_000, 32_000)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


class Server:
    """One server on a port of loopback, in `folder`; options given to `start` count for that start. `prefix` is a
    program that runs it."""

    def __init__(self, store: str, folder: Path, port: int = 0, *, prefix: tuple[str, ...] = ()) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.port = port or lasting_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self.name = store
        self.folder = folder
        self._prefix = prefix
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, *options: str, awaited: bool = True) -> "Server":
        place = ("--port", str(self.port), "--bind", "127.0.0.1", "--appendfsync", "everysec")
        self._process = start(self.name, self.folder, *place, *options, prefix=self._prefix)
        if awaited:
            self._await()
        return self

    def signal(self, number: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(number)

    def kill(self) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)
            self._process.kill()
            self._process.wait(10)
            self._process = None

    def ask(self, *command: str | int | float) -> object:
        """A command's answer, over a connection of the test's own."""
        with redis.Redis.from_url(self.url, socket_timeout=5, decode_responses=True) as client:
            return client.execute_command(*command)

    def _await(self) -> None:
        def said() -> object:
            try:
                return self.ask("PING")
            except redis.RedisError:
                return None

        try:
            wait_until(said, PATIENCE_S)
        except TimeoutError as late:
            late.add_note((self.folder / "log").read_text()[-2000:])
            raise


@contextmanager
def server(store: str, *options: str, prefix: tuple[str, ...] = ()) -> Iterator[Server]:
    with tempfile.TemporaryDirectory() as folder:
        running = Server(store, Path(folder), prefix=prefix)
        try:
            yield running.start(*options)
        finally:
            running.kill()


@asynccontextmanager
async def ledger_at(url: str, lost: list[str] | None = None, timeout_s: float = 2.0) -> AsyncIterator[RedisLedger]:
    found = RedisLedger(url, went_back=(lost if lost is not None else []).append, timeout_s=timeout_s)
    try:
        yield found
    finally:
        await found.close()


def batch(id_: str = "b1", *, owner: str = "ada", slices: int = 2, size: int = 2, lives_ms: int = DAY_MS) -> NewBatch:
    sealed = [b"operations %d\n\0" % i for i in range(slices)]
    return NewBatch(id_, owner, "native", slices * size, size, sealed, b"context", b"key", lives_ms, DAY_MS, 100)


def part(slice_: int, indexes: Sequence[int], sealed: bytes = b"outcomes\n\0\xff") -> Part:
    return Part(slice_, indexes, sealed, len(indexes), 0)


async def until_it_works(call: Callable[[], Awaitable[T]], within_s: float = 10.0) -> tuple[T, float]:
    """What `call` answers as soon as the ledger is available again, and after how many seconds."""
    began_s = time.monotonic()

    async def tried() -> T | LedgerUnavailableError:
        try:
            return await call()
        except LedgerUnavailableError as error:
            return error

    found = await until(tried, within_s, right=lambda found: not isinstance(found, LedgerUnavailableError))
    assert not isinstance(found, LedgerUnavailableError)
    return found, time.monotonic() - began_s
