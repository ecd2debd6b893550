"""The largest batches that are permitted, in place and on record, leave the loop to others (PROMISES P6).

How long a turn of the loop takes is counted in CPU of its thread, so that others on this machine do not matter, and
held against what it takes to read one such envelope.
"""

import asyncio
import time

import pytest

from gateway.batch.validation import Rules
from gateway.dialects import native
from gateway.dialects.port import EnvelopeLimits
from tests.integration.server.api import Api, answer
from tests.integration.server.gateways import gateway
from tests.integration.server.wire import post_batch

ENVELOPE_BYTES = 10 << 20


def envelope(operations: int) -> bytes:
    """As large as may be, but for a few bytes."""
    around = '{"method":"POST","path":"/heavy","body":"%s"}'
    body = "x" * ((ENVELOPE_BYTES - 64) // operations - len(around))
    return f"[{','.join([around % body] * operations)}]".encode()


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


@pytest.mark.parametrize(("operations", "status"), [(100, 207), (1000, 202)], ids=["in place", "on record"])
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
    assert longest_s <= alone_s / 2
