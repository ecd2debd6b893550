"""Buckets that replicas share in Redis or Valkey (PROMISES S1): counted together, and what holds while it is away.

SHARED_LIMITS_S says for how many seconds the crowd asks.
"""

import asyncio
import os
import random
import re
import signal
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path

import pytest

from tests.contract.stores import STORES
from tests.integration.ledger.servers import Server, free_port
from tests.integration.server.api import Api
from tests.integration.server.gateways import Gateway, gateway
from tests.integration.server.wire import Answer, get, post, until

_CROWD_S = float(os.environ.get("SHARED_LIMITS_S", "4"))
_CLIENTS = 50
_RATE, _BURST = 300, 600
_SIZES = (1, 1, 2, 5, 10, 30, 100)


@pytest.fixture(params=STORES)
def store(request: pytest.FixtureRequest) -> Iterator[Server]:
    with tempfile.TemporaryDirectory() as folder:
        server = Server(request.param, Path(folder)).start()
        yield server
        server.kill()


def settings(url: str, limit: str, fail: str = "closed", timeout: str = "8s") -> str:
    return (
        f"limiter: {{url: '{url}', fail: {fail}, timeout: {timeout}}}\nlimits: [{{name: all, key: global, {limit}}}]\n"
    )


def envelope(size: int) -> bytes:
    return b"[%b]" % b",".join([b'{"method": "GET", "path": "/x"}'] * size)


@asynccontextmanager
async def losing_answers(port: int, chance: random.Random) -> AsyncIterator[tuple[int, list[bytes]]]:
    """A relay that hands takes on, and of every tenth hangs up instead of handing the answer back; once for each."""
    lost: list[bytes] = []

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        back_reader, back_writer = await asyncio.open_connection("127.0.0.1", port)
        drops = False

        async def back() -> None:
            while (answer := await back_reader.read(1 << 20)) and not drops:
                writer.write(answer)
            writer.close()

        with suppress(OSError):
            async with asyncio.TaskGroup() as group:
                backwards = group.create_task(back())
                while not backwards.done() and (asked := await reader.read(1 << 20)):
                    named = re.search(rb":take:(\w+)", asked)
                    if named and named[1] not in lost and chance.random() < 0.1:
                        lost.append(named[1])
                        drops = True
                    back_writer.write(asked)
                back_writer.close()

    async with await asyncio.start_server(relay, "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()[1], lost


async def crowd(ports: list[int], seed: int) -> int:
    """Clients that ask and ask again for a while: how many operations were admitted."""
    chance, until_s = random.Random(seed), time.monotonic() + _CROWD_S
    admitted = 0

    async def client(number: int) -> None:
        nonlocal admitted
        while time.monotonic() < until_s:
            size = chance.choice(_SIZES)
            answered = await post(ports[number % len(ports)], "/batch", envelope(size))
            assert answered.status in (207, 429), answered
            admitted += size if answered.status == 207 else 0
            await asyncio.sleep(0.03)

    await asyncio.gather(*map(client, range(_CLIENTS)))
    return admitted


async def test_three_gateways_admit_what_one_bucket_holds_although_answers_are_lost(
    store: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    limit = f"rate: {_RATE}/s, burst: {_BURST}"
    async with AsyncExitStack() as stack:
        api = await stack.enter_async_context(Api())
        relay, lost = await stack.enter_async_context(losing_answers(store.port, random.Random(7)))
        urls = (store.url, store.url, f"redis://127.0.0.1:{relay}/0")
        replicas = [await stack.enter_async_context(gateway(api.url, settings(url, limit))) for url in urls]
        began_s = time.monotonic()
        await post(replicas[0].port, "/batch", envelope(100))
        counted_s = time.monotonic()  # the bucket was full until about here, and is to be full never again
        for _ in range(3):
            await post(replicas[0].port, "/batch", envelope(100))

        admitted = 400 + await crowd([replica.port for replica in replicas], seed=1)

        least = _BURST + _RATE * (time.monotonic() - counted_s)
        (left,) = (await get(replicas[0].port, "/batch/limits")).json()["limits"]
        most = _BURST + _RATE * (time.monotonic() - began_s)

    with capsys.disabled():
        print(f"\n{admitted} admitted, {left['remaining']} left of {least:.0f} to {most:.0f}; {len(lost)} answers lost")
    assert len(lost) >= 5
    assert len(api.received) == admitted  # what was admitted was sent, and nothing else
    assert 0.99 * least <= admitted + left["remaining"] <= most  # nothing was charged twice, or not at all


async def _metric(running: Gateway) -> str:
    page = (await get(running.admin_port, "/metrics")).body.decode()
    return next(line for line in page.splitlines() if line.startswith("batch_gateway_limiter_up"))


async def _asked(port: int, times: int, size: int) -> list[Answer]:
    return [await post(port, "/batch", envelope(size)) for _ in range(times)]


@pytest.mark.parametrize(
    ("fail", "statuses", "lone"),
    [("local", [207, 207, 429], 429), ("open", [207, 207, 207], 200), ("closed", [503, 503, 503], 503)],
)
async def test_while_redis_is_away_the_configured_fallback_holds_and_its_return_is_noticed(
    store: Server, fail: str, statuses: list[int], lone: int
) -> None:
    async with Api() as api, gateway(api.url, settings(store.url, "rate: 1/h, burst: 10", fail)) as running:
        shared = [answer.status for answer in await _asked(running.port, 2, 10)]
        store.kill()
        alone = await _asked(running.port, 3, 5)
        forwarded = await get(running.port, "/x")
        ready = await get(running.admin_port, "/readyz")
        away = await _metric(running)
        store.start()

        async def is_back() -> bool:
            await post(running.port, "/batch", envelope(10))
            return (await _metric(running)).endswith(" 1.0")

        await until(is_back, within_s=5.0)
        refused = await post(running.port, "/batch", envelope(10))

    assert shared == [207, 429]
    assert [answer.status for answer in alone] == statuses
    assert forwarded.status == lone
    assert (ready.status, away) == (200, "batch_gateway_limiter_up 0.0")
    assert refused.status == 429  # its append-only file has kept the takes
    if fail == "closed":
        assert (alone[0].slug, alone[0].header("Retry-After")) == ("limiter-unavailable", "1")


async def test_a_redis_that_stands_still_delays_one_request_a_second_by_the_timeout() -> None:
    with tempfile.TemporaryDirectory() as folder:
        store = Server("valkey", Path(folder)).start()
        try:
            limit = settings(store.url, "rate: 1000/s, burst: 1000", "local", "250ms")
            async with Api() as api, gateway(api.url, limit) as running:
                await get(running.port, "/x")
                store.signal(signal.SIGSTOP)
                took_s = []
                for _ in range(10):
                    began_s = time.monotonic()
                    assert (await get(running.port, "/x")).status == 200
                    took_s.append(time.monotonic() - began_s)
        finally:
            store.kill()

    assert 0.2 < took_s[0] < 1.0
    assert sorted(took_s)[-2] < 0.2  # the others wait for nothing


async def test_a_gateway_starts_without_its_redis() -> None:
    url = f"redis://127.0.0.1:{free_port()}"
    async with Api() as api, gateway(api.url, settings(url, "rate: 1/h, burst: 10", "local")) as running:
        answers = await _asked(running.port, 2, 10)

    assert [answer.status for answer in answers] == [207, 429]
