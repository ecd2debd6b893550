"""The largest batches that are permitted, in place and on record, leave the loop to others (PROMISES P6).

How long a turn of the loop takes is counted in CPU of its thread, so that others on this machine do not matter, and
held against what it takes to read one such envelope. So is what the gateway does while a forwarded request is on its
way beside ten of them: p99 is about that of one (three where others have the processors too), and was ten and more.
Twice of what it is beside none, which is a millisecond or two, is not reached: four turns of the loop pass, and to
decode an envelope takes 10 ms of one.
"""

import asyncio
import json
import sys
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from gateway.batch.validation import Rules
from gateway.dialects import native
from gateway.dialects.port import EnvelopeLimits
from tests.integration.cli.process import ROOT
from tests.integration.edge.test_large import served
from tests.integration.server.api import Api, answer
from tests.integration.server.gateways import gateway
from tests.integration.server.wire import post_batch

ENVELOPE_BYTES = 10 << 20
TOGETHER = 10

LARGEST = pytest.mark.parametrize(("operations", "status"), [(100, 207), (1000, 202)], ids=["in place", "on record"])


@dataclass
class Probing:
    """Forwarded requests to `url`, from a process of their own, and what became of them: what the gateway did
    meanwhile, in seconds of CPU, and how many failed."""

    process: Process
    url: str
    took_s: list[float] = field(default_factory=list)
    failed: int = 0

    @asynccontextmanager
    async def beside(self, port: int, pid: int) -> AsyncIterator[None]:
        """They are sent as long as the block lasts."""
        assert self.process.stdin is not None
        self.process.stdin.write(b"%d %d\n" % (port, pid))
        yield
        said, _ = await self.process.communicate(b"")  # which tells it to stop
        told = json.loads(said)
        self.took_s, self.failed = told["took_s"], told["failed"]


def envelope(operations: int) -> bytes:
    """As large as may be, but for a few bytes."""
    around = '{"method":"POST","path":"/heavy","body":"%s"}'
    body = "x" * ((ENVELOPE_BYTES - 64) // operations - len(around))
    return f"[{','.join([around % body] * operations)}]".encode()


ASKING = b"[" + b",".join([b'{"method":"GET","path":"/heavy"}'] * 100) + b"]"


async def turns_s(over: asyncio.Event) -> list[float]:
    """What each turn of the loop took of its thread's CPU."""
    turns = []
    while not over.is_set():
        began_s = time.thread_time()
        await asyncio.sleep(0)
        turns.append(time.thread_time() - began_s)
    return turns


def parse_s(data: bytes) -> float:
    began_s = time.thread_time()
    native.parse(data, EnvelopeLimits(), Rules(("/batch",), 1 << 20, lambda _: ()))
    return time.thread_time() - began_s


@asynccontextmanager
async def probing() -> AsyncIterator[Probing]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.integration.edge.probing", stdin=PIPE, stdout=PIPE, cwd=ROOT
    )
    assert process.stdout is not None
    try:
        yield Probing(process, (await process.stdout.readline()).decode().strip())
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


@LARGEST
async def test_no_turn_of_the_loop_takes_as_long_as_an_envelope(api: Api, operations: int, status: int) -> None:
    data = envelope(operations)
    api.on("/heavy", answer())
    async with gateway(api.url, async__ledger="sqlite::memory:") as running:
        await post_batch(running.port, [{"method": "GET", "path": "/x"}], ("Prefer", "respond-async"))  # imports
        over = asyncio.Event()
        counting = asyncio.create_task(turns_s(over))
        answered = await post_batch(running.port, data)
        over.set()
        longest_s = max(await counting)

    alone_s = min(parse_s(data) for _ in range(3))
    print(f"longest turn {longest_s * 1000:.0f} ms, an envelope {alone_s * 1000:.0f} ms of CPU")
    assert answered.status == status
    assert longest_s <= alone_s / 3


@pytest.mark.parametrize(
    ("data", "answer_bytes", "status"),
    [(envelope(100), 0, 207), (envelope(1000), 0, 202), (ASKING, ENVELOPE_BYTES // 100, 207)],
    ids=["in place", "on record", "with answers as large"],
)
async def test_beside_ten_of_them_a_forwarded_request_waits_for_few_at_most(
    api: Api, tmp_path: Path, data: bytes, answer_bytes: int, status: int
) -> None:
    api.on("/heavy", answer(200, b'"%b"' % (b"x" * answer_bytes)))
    async with probing() as probes:
        upstreams = {"default": {"url": api.url}, "probes": {"url": probes.url}}
        config = tmp_path / "gateway.yaml"
        config.write_text(json.dumps({"upstreams": upstreams, "routes": [{"path": "/x", "upstream": "probes"}]}))
        with served(tmp_path, str(config), "--config") as (port, pid):
            await post_batch(port, [{"method": "GET", "path": "/x"}], ("Prefer", "respond-async"))  # imports
            async with probes.beside(port, pid):
                answered = await asyncio.gather(*[post_batch(port, data) for _ in range(TOGETHER)])

    alone_s = min(parse_s(envelope(100)) for _ in range(3))
    p99_s = sorted(probes.took_s)[int(len(probes.took_s) * 0.99)]
    print(f"p99 {p99_s * 1000:.0f} ms of the gateway's CPU, an envelope {alone_s * 1000:.0f} ms")
    assert [each.status for each in answered] == [status] * TOGETHER
    assert probes.failed == 0
    assert p99_s <= 4 * alone_s
