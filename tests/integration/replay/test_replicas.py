"""Keys among replicas and across the end of a process: one effect a key (PROMISES X6)."""

import asyncio
import json
import tempfile
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import redis
from msgspec.structs import replace

from gateway.replay.port import REPEATABLE, Claims, End, Times, Verdict
from gateway.replay.redis import RedisKeys
from gateway.replay.sqlite import open_keys
from tests.contract.stores import running
from tests.fakes.until import pass_by, until_so
from tests.integration.ledger.servers import Server
from tests.integration.ledger.topologies import WITHIN_S, cluster, is_whole
from tests.integration.server.api import Api, Talk, answer
from tests.integration.server.gateways import gateway
from tests.integration.server.wire import post_batch

_KEYS, _SENDERS = 10, 20


async def test_of_many_identical_batches_at_three_gateways_on_one_redis_each_key_has_one_effect() -> None:
    effects: Counter[str] = Counter()

    async def create(talk: Talk) -> None:
        await talk.request.read()
        effects[talk.request.header("Idempotency-Key") or ""] += 1
        await talk.send(answer(201, json.dumps({"effect": effects.total()}).encode()))

    batch = [{"id": f"k-{n}", "method": "POST", "path": "/", "idempotencyKey": f"k-{n}"} for n in range(_KEYS)]
    async with AsyncExitStack() as stack:
        api = await stack.enter_async_context(Api(create))
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        _, url = stack.enter_context(running("redis", Path(folder)))
        shared = {"replay.store": url, "async.key.value": "one secret of all replicas"}
        replicas = [await stack.enter_async_context(gateway(api.url, **shared)) for _ in range(3)]

        said = await asyncio.gather(*(post_batch(replicas[n % 3].port, batch) for n in range(_SENDERS)))
        after = [(await post_batch(replica.port, batch)).json()["results"] for replica in replicas]

    assert effects == {f"k-{n}": 1 for n in range(_KEYS)}
    for results in after:
        assert all(each["replayed"] and each["status"] == 201 for each in results)
        assert results == after[0]
    final = {each["id"]: each["result"] for each in after[0]}
    for each in (each for one in said for each in one.json()["results"]):
        assert each["status"] == 409 or each["result"] == final[each["id"]]


async def test_what_a_process_held_when_it_ended_is_lost_at_the_next_start_unless_repeatable(tmp_path: Path) -> None:
    times = Times(3_600_000, 3_600_000)
    held = Claims(b"before..", 0, [1, 2], [b"post", b"get"], [b"d", b"d"], bytes([0, REPEATABLE]))
    before = await open_keys(tmp_path / "replay.db", lambda: 1_800_000_000_000)
    await before.claim(b"o", held, times, 10)
    await before.close()

    after = await open_keys(tmp_path / "replay.db", lambda: 1_800_000_001_000)
    found = await after.claim(b"o", replace(held, group=b"after..."), times, 10)
    await after.close()

    assert [each.verdict for each in found] == [Verdict.LOST, Verdict.HELD]


@asynccontextmanager
async def in_a_cluster() -> AsyncIterator[tuple[RedisKeys, list[Server]]]:
    """Keys, and the nodes that they are on."""
    with cluster("redis") as nodes:
        await until_so(lambda: is_whole(nodes), WITHIN_S)
        keys = RedisKeys(f"redis+cluster://127.0.0.1:{nodes[0].port}", timeout_s=5)
        try:
            yield keys, nodes
        finally:
            await keys.close()


async def test_keys_of_many_callers_live_on_every_node_of_a_cluster() -> None:
    times = Times(60_000, 60_000)
    async with in_a_cluster() as (keys, nodes):
        for number in range(12):
            owner = b"%024d" % number
            names = [b"%024d" % name for name in range(20)]
            claims = Claims(b"%08d" % number, 0, range(20), names, [b"d" * 24] * 20, bytes(20))
            held = await keys.claim(owner, claims, times, 100)
            kept = b"kept by all twenty of %d" % number
            took = await keys.settle(owner, claims.ended(range(20), bytes([End.KEEP]) * 20, kept), times.keeps_ms)
            again = await keys.claim(owner, replace(claims, group=b"another."), times, 100)

            assert {found.verdict for found in held} == {Verdict.HELD}
            assert all(took)
            assert again == [(Verdict.KEPT, claims.fence(row), kept) for row in range(20)]
        sizes = [int(str(node.ask("DBSIZE"))) for node in nodes]

    assert all(sizes)
    assert sum(sizes) == 12 * 3  # the keys, when to look for ended ones, and what they keep


async def test_who_keeps_coming_leaves_nothing_of_ended_keys_on_the_server() -> None:
    with tempfile.TemporaryDirectory() as folder, running("redis", Path(folder)) as (_, url):
        keys = RedisKeys(url)
        for number in range(3):
            names = [b"%012d%012d" % (number, name) for name in range(130)]
            claims = Claims(b"%08d" % number, 0, range(130), names, [b"d" * 24] * 130, bytes(130))
            await keys.claim(b"o", claims, Times(5, 5), 1000)
            await keys.settle(b"o", claims.ended([0], bytes([End.KEEP]), b"x" * 40), 5)
        await pass_by(0.05)
        last = Claims(b"last....", 0, [0], [b"n" * 24], [b"d" * 24], bytes(1))
        for _ in range(3):
            await keys.claim(b"o", last, Times(60_000, 60_000), 1000)
        await keys.close()
        with redis.Redis.from_url(url) as client:
            owner = f"{{bg:keys:{b'o'.hex()}}}"
            left = {client.hlen(f"{owner}:all"), client.zcard(f"{owner}:ends")}
            names = client.keys("*")

    assert left == {1}
    assert len(names) == 2


async def test_who_goes_away_while_it_asks_a_cluster_comes_before_whatever_is_asked_next() -> None:
    times = Times(60_000, 60_000)
    async with in_a_cluster() as (keys, _nodes):
        for turns in range(12):
            claims = Claims(b"%08d" % turns, 0, [0], [b"%024d" % turns], [b"d" * 24], bytes(1))
            asking = asyncio.ensure_future(keys.claim(b"owner", claims, times, 100))
            for _ in range(turns):
                await asyncio.sleep(0)
            asking.cancel()
            await asyncio.wait([asking])
            await keys.settle(b"owner", claims.forgotten([0]), times.keeps_ms)

            (found,) = await keys.claim(b"owner", replace(claims, group=b"another."), times, 100)

            assert found.verdict is Verdict.HELD
