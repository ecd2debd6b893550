"""Buckets that replicas share in Redis or Valkey (PROMISES S1): counted together, and what holds while it is away.

SHARED_LIMITS_S says for how many seconds the crowd asks.
"""

import asyncio
import os
import random
import re
import signal
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import count
from pathlib import Path

import pytest

from tests.contract.stores import STORES
from tests.fakes.ports import free_port
from tests.fakes.until import pass_by, until
from tests.integration.cli.process import Process
from tests.integration.ledger.servers import Server, server
from tests.integration.server.api import Api
from tests.integration.server.gateways import Gateway, gateway
from tests.integration.server.wire import Answer, get, post

_CROWD_S = float(os.environ.get("SHARED_LIMITS_S", "4"))
_CLIENTS = 50
_RATE, _BURST = 300, 1000
_SMALL = (1, 1, 2, 5)
_SIZES = (*_SMALL, 10, 30, 100, 300, 1000)
_FIRST = 900  # so much is taken at the start that the bucket is never full again
_LARGE = {"batch__sync_operations_max": 1000}


@pytest.fixture(params=STORES)
def store(request: pytest.FixtureRequest) -> Iterator[Server]:
    with server(request.param) as found:
        yield found


def settings(url: str, limit: str, fail: str = "closed", timeout: str = "8s") -> str:
    return (
        f"limiter: {{url: '{url}', fail: {fail}, timeout: {timeout}}}\nlimits: [{{name: all, key: global, {limit}}}]\n"
    )


def envelope(size: int, path: str = "/x") -> bytes:
    return b"[%b]" % b",".join([b'{"method": "GET", "path": "%b"}' % path.encode()] * size)


@asynccontextmanager
async def losing_answers(port: int, chance: random.Random) -> AsyncIterator[tuple[int, list[bytes]]]:
    """A relay that hands takes on, and every third time hangs up instead of handing the answers back; once for each."""
    lost: list[bytes] = []

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        back_reader, back_writer = await asyncio.open_connection("127.0.0.1", port)
        drops = False

        async def back() -> None:
            while (answer := await back_reader.read(1 << 20)) and not drops:
                writer.write(answer)
            writer.close()

        try:
            async with asyncio.TaskGroup() as group:
                backwards = group.create_task(back())
                while not backwards.done() and (asked := await reader.read(1 << 20)):
                    takes = re.findall(rb":take:(\w+)", asked)
                    if takes and not {*takes} & {*lost} and chance.random() < 0.3:
                        lost.extend(takes)
                        drops = True
                    back_writer.write(asked)
                back_writer.close()
        except* OSError:  # whoever gives a connection up resets it
            back_writer.close()
            writer.close()

    async with await asyncio.start_server(relay, "127.0.0.1", 0) as listener:
        yield listener.sockets[0].getsockname()[1], lost


class Crowd:
    """Clients that ask and ask again. Every operation says of which request it is, and the API remembers that."""

    def __init__(self, api: Api, seed: int) -> None:
        self._api = api
        self._chance = random.Random(seed)
        self._unanswered: dict[str, int] = {}
        self.admitted = 0  # operations of batches that were answered

    async def asks(self, ports: Sequence[int], until_s: float) -> None:
        """All clients, one after the other at one of `ports`. Those of the last one send small batches: it is killed,
        and what nobody can know of its last moment must stay small."""
        clients = [self._client(number, ports, number % len(ports), until_s) for number in range(_CLIENTS)]
        await asyncio.gather(*clients)

    async def _client(self, number: int, ports: Sequence[int], place: int, until_s: float) -> None:
        for turn in count():
            if time.monotonic() > until_s:
                return
            size = self._chance.choice(_SMALL if place == len(ports) - 1 else _SIZES)
            await self._ask(ports[place], f"/{number}-{turn}", size)
            if f"/{number}-{turn}" in self._unanswered:
                place = 0  # its gateway is gone
            await pass_by(0.03)

    async def _ask(self, port: int, path: str, size: int) -> None:
        try:
            answered = await post(port, "/batch", envelope(size, path))
        except (OSError, asyncio.IncompleteReadError):
            self._unanswered[path] = size
            return
        assert answered.status in (207, 429, 413), answered
        self.admitted += size if answered.status == 207 else 0

    def killed(self) -> tuple[int, int]:
        """Operations of batches that the kill cut off: charged for sure, since one was sent; and of the others."""
        sent = {target for target in self._api.targets if target in self._unanswered}
        charged = sum(size for path, size in self._unanswered.items() if path in sent)
        return charged, sum(self._unanswered.values()) - charged


async def test_three_gateways_admit_what_one_bucket_holds_although_answers_are_lost_and_one_is_killed(
    store: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    limit = f"rate: {_RATE}/s, burst: {_BURST}"
    async with AsyncExitStack() as stack:
        api = await stack.enter_async_context(Api())
        relay, lost = await stack.enter_async_context(losing_answers(store.port, random.Random(7)))
        urls = (store.url, f"redis://127.0.0.1:{relay}/0")
        replicas = [await stack.enter_async_context(gateway(api.url, settings(url, limit), **_LARGE)) for url in urls]
        third = process(tmp_path, api.url, settings(store.url, limit))
        stack.callback(third.kill)
        crowd = Crowd(api, seed=1)
        ports = [*(replica.port for replica in replicas), third.ports()[0]]
        began_s = time.monotonic()
        await post(ports[0], "/batch", envelope(100, "/first"))
        counted_s = time.monotonic()  # the bucket was full until about here, and is to be full never again
        asyncio.get_running_loop().call_later(_CROWD_S / 2, third.kill)
        await post(ports[0], "/batch", envelope(_FIRST - 100, "/first"))
        await crowd.asks(ports, began_s + _CROWD_S)
        least = _BURST + _RATE * (time.monotonic() - counted_s)
        (left,) = (await get(ports[0], "/batch/limits")).json()["limits"]
        most = _BURST + _RATE * (time.monotonic() - began_s)

    charged, in_doubt = crowd.killed()
    answered = _FIRST + crowd.admitted
    known = answered + charged + left["remaining"]
    with capsys.disabled():
        print(
            f"\n{store.name}: {len(api.received)} sent; {answered} answered, {charged} cut off,",
            f"{left['remaining']} left,",
            f"together {known} of {least:.0f} to {most:.0f}; at most {in_doubt} in doubt; {len(lost)} answers lost",
        )
    assert len(lost) >= 5
    assert answered <= len(api.received) <= answered + charged
    assert 0.99 * least - in_doubt <= known <= most  # nothing was charged twice, or not at all


def process(folder: Path, upstream: str, text: str) -> Process:
    """A gateway that can be killed, once it serves."""
    file = folder / "gateway.yaml"
    file.write_text(
        f"upstream: {{url: '{upstream}'}}\nasync: {{ledger: none}}\nlog: {{access: false}}\n"
        "listen: {host: 127.0.0.1, port: 0}\nadmin: {port: 0}\nbatch: {sync_operations_max: 1000}\n" + text
    )
    started = Process.command(folder, "serve", "--config", str(file))
    started.ports()
    return started


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

        await until(is_back)
        refused = await post(running.port, "/batch", envelope(10))

    assert shared == [207, 429]
    assert [answer.status for answer in alone] == statuses
    assert forwarded.status == lone
    assert (ready.status, away) == (200, "batch_gateway_limiter_up 0.0")
    assert refused.status == 429  # its append-only file has kept the takes
    if fail == "closed":
        assert (alone[0].slug, alone[0].header("Retry-After")) == ("limiter-unavailable", "1")


async def test_a_redis_that_stands_still_delays_one_request_a_second_by_the_timeout() -> None:
    with server("valkey") as store:
        limit = settings(store.url, "rate: 1000/s, burst: 1000", "local", "1s")
        async with Api() as api, gateway(api.url, limit) as running:
            await get(running.port, "/x")
            store.signal(signal.SIGSTOP)
            took_s = []
            for _ in range(10):
                began_s = time.monotonic()
                assert (await get(running.port, "/x")).status == 200
                took_s.append(time.monotonic() - began_s)

    assert took_s[0] > 0.9
    assert sorted(took_s)[-2] < 0.9  # the others wait for nothing


async def test_a_gateway_starts_without_its_redis() -> None:
    url = f"redis://127.0.0.1:{free_port()}"
    async with Api() as api, gateway(api.url, settings(url, "rate: 1/h, burst: 10", "local")) as running:
        answers = await _asked(running.port, 2, 10)

    assert [answer.status for answer in answers] == [207, 429]
