"""PROMISES P3: bodies of any size pass with constant memory, and the first byte at once.

`EDGE_LARGE_MIB` sets how much goes each way: 256 in every run, 1024 before a release.
"""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from statistics import median

import pytest

from tests.fakes.until import PATIENCE_S, pass_by, until_so
from tests.integration.cli.process import Process
from tests.integration.server.api import Api, Talk
from tests.integration.server.wire import Wire, ask, request

MEBIBYTE = 1 << 20
LARGE_MIB = int(os.environ.get("EDGE_LARGE_MIB", "256"))
GROWTH_MIB_MAX = 32
FIRST_BYTE_S_MAX = 0.05
PIECE = os.urandom(MEBIBYTE)


@contextmanager
def served(folder: Path, of: str, option: str = "--upstream") -> Iterator[tuple[int, int]]:
    """A gateway as a process of its own: its traffic port and its process id."""
    process = Process.command(folder, "serve", option, of, "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0")
    try:
        yield process.ports()[0], process.process.pid
    finally:
        process.kill()


class Memory:
    """Resident memory of a process, looked at more than ten times a second."""

    def __init__(self, pid: int) -> None:
        self._pages = Path(f"/proc/{pid}/statm")
        self.seen_mib: list[float] = []

    @property
    def now_mib(self) -> float:
        return int(self._pages.read_text().split()[1]) * os.sysconf("SC_PAGESIZE") / MEBIBYTE

    @asynccontextmanager
    async def watched(self) -> AsyncIterator[None]:
        watching = asyncio.create_task(self._watch())
        try:
            yield
        finally:
            watching.cancel()

    async def _watch(self) -> None:
        while True:
            self.seen_mib.append(self.now_mib)
            await pass_by(0.05)


@pytest.mark.parametrize("framing", ["length", "chunks"])
async def test_much_up_and_much_down_pass_in_flat_memory(tmp_path: Path, framing: str) -> None:
    counted = 0

    async def upload(talk: Talk) -> None:
        nonlocal counted
        if framing == "length":
            left = int(talk.request.header("Content-Length") or 0)
            while left:
                piece = await talk.reader.read(min(left, MEBIBYTE))
                left, counted = left - len(piece), counted + len(piece)
        else:
            while piece := await talk.request.chunk():
                counted += len(piece)
        talk.request._is_read = True
        await talk.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nup")

    async def download(talk: Talk) -> None:
        said = b"Content-Length: %d" % (LARGE_MIB * MEBIBYTE) if framing == "length" else b"Transfer-Encoding: chunked"
        await talk.send(b"HTTP/1.1 200 OK\r\n%b\r\n\r\n" % said)
        for _ in range(LARGE_MIB):
            await talk.send(PIECE if framing == "length" else b"%x\r\n%b\r\n" % (len(PIECE), PIECE))
        await talk.send(b"" if framing == "length" else b"0\r\n\r\n")

    async with Api() as api:
        api.on("/up", upload)
        api.on("/down", download)
        with served(tmp_path, api.url) as (port, pid):
            await ask(port, request("GET", "/warm"))
            memory = Memory(pid)
            before_mib = memory.now_mib
            async with memory.watched():
                await _up(port, framing)
                downloaded = await _down(port, framing)

    grown_mib = max(memory.seen_mib) - before_mib
    print(f"{LARGE_MIB} MiB each way by {framing}: {before_mib:.1f} MiB resident, at most {grown_mib:.1f} MiB more")
    assert (counted, downloaded) == (LARGE_MIB * MEBIBYTE, LARGE_MIB * MEBIBYTE)
    assert grown_mib <= GROWTH_MIB_MAX


async def _up(port: int, framing: str) -> None:
    async with await Wire.open(port) as wire:
        said = (
            ("Content-Length", str(LARGE_MIB * MEBIBYTE)) if framing == "length" else ("Transfer-Encoding", "chunked")
        )
        await wire.send(request("POST", "/up", [said]))
        for _ in range(LARGE_MIB):
            await wire.send(PIECE if framing == "length" else b"%x\r\n%b\r\n" % (len(PIECE), PIECE))
        await wire.send(b"" if framing == "length" else b"0\r\n\r\n")
        assert (await wire.answer()).body == b"up"


async def _down(port: int, framing: str) -> int:
    """How many bytes of the body came; all of them must be the right ones."""
    async with await Wire.open(port) as wire:
        await wire.send(request("GET", "/down"))
        await wire.head()
        counted = 0
        while counted < LARGE_MIB * MEBIBYTE:
            piece = await wire.reader.read(MEBIBYTE) if framing == "length" else await wire.chunk()
            at = counted % MEBIBYTE
            assert (PIECE + PIECE)[at : at + len(piece)] == piece
            counted += len(piece)
        return counted


async def test_a_caller_that_does_not_read_holds_back_the_upstream(tmp_path: Path) -> None:
    sent = 0

    async def pour(talk: Talk) -> None:
        nonlocal sent
        await talk.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (LARGE_MIB * MEBIBYTE))
        for _ in range(LARGE_MIB):
            await talk.send(PIECE)
            sent += len(PIECE)

    async with Api() as api:
        api.on("/pour", pour)
        with served(tmp_path, api.url) as (port, pid):
            memory = Memory(pid)
            before_mib = memory.now_mib
            reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=65_536)
            writer.write(request("GET", "/pour"))
            await reader.readuntil(b"\r\n\r\n")
            async with memory.watched():
                await until_so(lambda: len(memory.seen_mib) >= 20)  # a second in which no more can go
            grown_mib, held = max(memory.seen_mib) - before_mib, sent
            writer.close()

    assert held < 64 * MEBIBYTE  # what the kernel's buffers take, and no more
    assert grown_mib <= GROWTH_MIB_MAX


async def test_twenty_slow_uploads_of_four_mebibytes_take_little(tmp_path: Path) -> None:
    body, all_of_them = os.urandom(4 * MEBIBYTE), asyncio.Barrier(20)

    async with Api() as api:
        with served(tmp_path, api.url) as (port, pid):
            memory = Memory(pid)
            await ask(port, request("GET", "/warm"))
            before_mib = memory.now_mib
            async with memory.watched(), asyncio.TaskGroup() as group:
                for _ in range(20):
                    group.create_task(_slowly(port, body, all_of_them))

    print(f"20 uploads at once: at most {max(memory.seen_mib) - before_mib:.1f} MiB more")
    assert [received.body == body for received in api.received if received.method == "POST"] == [True] * 20
    assert max(memory.seen_mib) - before_mib <= GROWTH_MIB_MAX


async def _slowly(port: int, body: bytes, all_of_them: asyncio.Barrier) -> None:
    """Piece by piece, each at the same one as the others."""
    async with await Wire.open(port) as wire:
        await wire.send(request("POST", "/x", [("Content-Length", str(len(body)))]))
        for at in range(0, len(body), 65_536):
            await wire.send(body[at : at + 65_536])
            await all_of_them.wait()
            await pass_by(0.01)
        assert (await wire.answer()).status == 200


async def test_the_first_byte_is_out_as_soon_as_it_is_in(tmp_path: Path) -> None:
    """Both ways, twenty times: half of them well below 50 ms, whatever else the machine does."""
    told: asyncio.Queue[float] = asyncio.Queue()

    async def events(talk: Talk) -> None:
        await talk.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
        while piece := await talk.request.chunk():
            told.put_nowait(time.perf_counter())
            await talk.send(b"%x\r\n%b\r\n" % (len(piece), piece))
        await talk.send(b"0\r\n\r\n")

    ups, downs = [], []
    async with Api(events) as api:
        with served(tmp_path, api.url) as (port, _):
            async with await Wire.open(port) as wire, asyncio.timeout(PATIENCE_S):
                await wire.send(request("POST", "/events", [("Transfer-Encoding", "chunked")]))
                await wire.head()
                for _ in range(20):
                    began_s = time.perf_counter()
                    await wire.send(b"6\r\nd: 1\n\n\r\n")
                    arrived_s = await told.get()
                    assert await wire.chunk() == b"d: 1\n\n"
                    ups.append(arrived_s - began_s)
                    downs.append(time.perf_counter() - arrived_s)
                await wire.send(b"0\r\n\r\n")
                assert await wire.chunk() == b""

    print(f"first byte: up {median(ups) * 1000:.2f} ms, down {median(downs) * 1000:.2f} ms")
    assert max(median(ups), median(downs)) <= FIRST_BYTE_S_MAX
