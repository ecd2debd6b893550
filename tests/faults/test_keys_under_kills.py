"""Many submit the same at once, over three gateways on one Redis that are killed meanwhile: one effect a key (X6).

Each key is submitted by many at once, at whichever gateway, again and again until it has an answer. A while after all
gateways are there one is killed, with what it holds, and started again. `KEYS_UNDER_KILLS=200x100x2` is the full size:
keys, submissions of each, seconds between kills.
"""

import asyncio
import json
import os
import random
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from tests.contract.stores import running
from tests.integration.cli.process import Process
from tests.integration.server.api import Api, Talk, answer
from tests.integration.server.wire import Answer, post_batch

_KEYS, _SUBMISSIONS, _KILL_EVERY_S = map(float, os.environ.get("KEYS_UNDER_KILLS", "100x8x0.5").split("x"))
_OF_BATCH = 10  # keys of one envelope
_BATCHES_AT_ONCE = 1
_GATEWAYS = 3
_LATENCY_S = 0.25
_CONCURRENCY = 2  # of one batch, so that it takes a while
_AGAIN_S = 0.5
_HOLD_S = 12.0  # for so long a key stays with a gateway that is gone: the deadline of a batch and ten seconds


class Upstream:
    """Counts what had an effect, before it answers."""

    def __init__(self) -> None:
        self.effects: Counter[str] = Counter()

    async def __call__(self, talk: Talk) -> None:
        await talk.request.read()
        key = talk.request.header("Idempotency-Key") or ""
        self.effects[key] += 1
        effect = self.effects.total()
        is_time = asyncio.Event()
        asyncio.get_running_loop().call_later(_LATENCY_S, is_time.set)
        await is_time.wait()
        await talk.send(answer(201, b'{"key": "%b", "effect": %d}' % (key.encode(), effect)))


class Fleet:
    """Gateways at ports that stay theirs."""

    def __init__(self, folder: Path, upstream: str, store: str, ports: Sequence[int]) -> None:
        self._folder = folder
        self._given = ("--admin", "127.0.0.1:0", "--upstream", upstream, "--ledger", "none")
        self._environ = {
            "BATCH_GATEWAY__REPLAY__STORE": store,
            "BATCH_GATEWAY__ASYNC__KEY__VALUE": "0123456789abcdef",
            "BATCH_GATEWAY__BATCH__SYNC_TIMEOUT": f"{_HOLD_S - 10:g}s",
            "BATCH_GATEWAY__BATCH__CONCURRENCY": str(_CONCURRENCY),
            "BATCH_GATEWAY__LOG__ACCESS": "false",
        }
        self.ports = ports
        self.processes = [self._start(number) for number in range(len(ports))]
        self.kills = 0

    def _start(self, number: int) -> Process:
        folder = self._folder / str(number)
        folder.mkdir(exist_ok=True)
        listen = ("--listen", f"127.0.0.1:{self.ports[number]}")
        return Process.command(folder, "serve", *listen, *self._given, environ=self._environ)

    def restart(self, number: int) -> None:
        self.processes[number].kill()
        self.processes[number] = self._start(number)
        self.kills += 1

    def end(self) -> None:
        for process in self.processes:
            process.kill()

    async def ready(self) -> None:
        await asyncio.gather(*(asyncio.to_thread(process.ports) for process in self.processes))


class Seen:
    """What submitters were told of each key."""

    def __init__(self) -> None:
        self.results: defaultdict[str, set[str]] = defaultdict(set)
        self.unknown: set[str] = set()
        self.replayed = self.busy = self.cut_off = 0

    def note(self, said: Answer) -> bool:
        """Whether every key of the answer has come to its end."""
        ends = True
        for each in said.json()["results"] if said.status == 207 else ():
            slug = str(each.get("error", {}).get("type", "")).rpartition("/")[2]
            self.replayed += each.get("replayed") is True
            if each["status"] == 201:
                self.results[each["id"]].add(json.dumps(each["result"]))
            elif slug == "outcome-unknown":
                self.unknown.add(each["id"])
            else:
                assert slug in ("idempotency-in-progress", "ledger-unavailable", "batch-deadline"), each
                self.busy += 1
                ends = False
        return ends and said.status == 207


async def submit(seen: Seen, ports: Sequence[int], keys: Sequence[str]) -> None:
    """Until each of the keys has an answer."""
    batch = [{"id": key, "method": "POST", "path": "/", "body": {"of": key}, "idempotencyKey": key} for key in keys]
    async with asyncio.timeout(4 * _HOLD_S + 60):
        while True:
            try:
                if seen.note(await post_batch(random.choice(ports), batch)):
                    return
            except (OSError, asyncio.IncompleteReadError, TimeoutError):
                seen.cut_off += 1
            await asyncio.sleep(_AGAIN_S * random.random())


async def kill(fleet: Fleet) -> None:
    """One after the other, each a while after all of them were there."""
    loop = asyncio.get_running_loop()
    for number in range(10_000):
        is_time = asyncio.Event()
        loop.call_later(_KILL_EVERY_S, is_time.set)
        await is_time.wait()
        await asyncio.to_thread(fleet.restart, number % _GATEWAYS)
        await fleet.ready()


@pytest.fixture
def store() -> Iterator[str]:
    with tempfile.TemporaryDirectory() as folder, running("redis", Path(folder)) as (_, url):
        yield url


async def test_of_many_submissions_at_gateways_that_are_killed_each_key_has_one_effect(
    store: str, tmp_path: Path, unused_tcp_port_factory: Callable[[], int]
) -> None:
    upstream, seen = Upstream(), Seen()
    keys = [f"k-{number}" for number in range(int(_KEYS))]
    batches = [keys[first : first + _OF_BATCH] for first in range(0, len(keys), _OF_BATCH)]
    room = asyncio.Semaphore(_BATCHES_AT_ONCE)
    async with Api(upstream) as api:
        ports = [unused_tcp_port_factory() for _ in range(_GATEWAYS)]
        fleet = Fleet(tmp_path, api.url, store, ports)
        await fleet.ready()

        async def all_of(batch: Sequence[str]) -> None:
            async with room:
                await asyncio.gather(*(submit(seen, ports, batch) for _ in range(int(_SUBMISSIONS))))

        began_s = time.monotonic()
        killing = asyncio.create_task(kill(fleet))
        try:
            await asyncio.gather(*map(all_of, batches))
        finally:
            killing.cancel()
            await asyncio.wait([killing])
            fleet.end()
        took_s = time.monotonic() - began_s

    print(
        f"{len(keys)} keys x {_SUBMISSIONS:g}: {took_s:.0f} s, {fleet.kills} kills, {seen.cut_off} cut off,"
        f" {seen.busy} busy, {seen.replayed} replayed, {len(seen.unknown)} unknown"
    )
    assert fleet.kills >= 1
    assert {key: count for key, count in upstream.effects.items() if count != 1} == {}
    assert {key: found for key, found in seen.results.items() if len(found) != 1} == {}
    assert seen.results.keys() | seen.unknown == set(keys)
    assert seen.results.keys().isdisjoint(seen.unknown)
    assert len(seen.unknown) <= fleet.kills * _BATCHES_AT_ONCE * _OF_BATCH, "at most what the killed one held"
    assert upstream.effects.keys() >= seen.results.keys()
    assert seen.replayed >= len(seen.results)
