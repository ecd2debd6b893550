"""What a limiter promises, held by every store of buckets: memory, Redis 7.0 and Valkey 9."""

import asyncio
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from gateway.limiter.bucket import Bucket, Charge, Denied, Granted, OnExhausted, is_exact
from gateway.limiter.memory import MemoryLimiter
from gateway.limiter.port import Limiter, LimiterUnavailableError
from gateway.limiter.redis import RedisLimiter
from tests.contract.stores import STORES, running

SLOW = Bucket("slow", 1, 3_600_000_000, 10)
WAIT_MAX_US = 30_000_000


@pytest.fixture(params=["memory", *STORES], scope="module")
def store(request: pytest.FixtureRequest) -> Iterator[str]:
    if request.param == "memory":
        yield "memory"
        return
    with tempfile.TemporaryDirectory() as folder, running(request.param, Path(folder)) as (_, url):
        yield url


@pytest.fixture
async def limiter(store: str) -> AsyncIterator[Limiter]:
    if store == "memory":
        yield MemoryLimiter(lambda: int(asyncio.get_running_loop().time() * 1_000_000))
        return
    client = client_of(store)
    await client.flushall()
    yield RedisLimiter(client, 2.0)
    await client.aclose()


@asynccontextmanager
async def lossy(behind: str, path: Path) -> AsyncIterator[list[str]]:
    """A relay that hands the first script on and hangs up before its answer."""
    seen: list[str] = []

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        back_reader, back_writer = await asyncio.open_unix_connection(behind)
        while data := await reader.read(65536):
            back_writer.write(data)
            answer = await back_reader.read(65536)
            if b"EVALSHA" in data and b"NOSCRIPT" not in answer and not seen:
                seen.append("lost")
                break
            writer.write(answer)
        writer.close()
        back_writer.close()

    async with await asyncio.start_unix_server(relay, path):
        yield seen


def client_of(url: str) -> Redis:
    return Redis.from_url(url, retry=Retry(NoBackoff(), 0), socket_timeout=2.0)


async def test_a_bucket_starts_full_and_empties(limiter: Limiter) -> None:
    first = await limiter.take([Charge(SLOW, "a", [4, 4])], wait_max_us=0)
    second = await limiter.take([Charge(SLOW, "a", [3])], wait_max_us=0)
    (reading,) = await limiter.look([(SLOW, "a")])

    assert isinstance(first, Granted)
    assert (first.admitted, first.tokens, first.readings[0].remaining) == (2, [8], 2)
    assert isinstance(second, Denied)
    assert 3_590_000_000 < second.retry_after_us <= 3_600_000_000
    assert reading.remaining == 2


async def test_keys_have_buckets_of_their_own(limiter: Limiter) -> None:
    await limiter.take([Charge(SLOW, "a", [10])], wait_max_us=0)

    assert isinstance(await limiter.take([Charge(SLOW, "b", [10])], wait_max_us=0), Granted)


async def test_all_buckets_pay_or_none(limiter: Limiter) -> None:
    other = SLOW._replace(name="other", burst=1)

    denied = await limiter.take([Charge(SLOW, "a", [5]), Charge(other, "a", [5])], wait_max_us=0)

    assert isinstance(denied, Denied)
    assert denied.bucket == other
    assert [r.remaining for r in await limiter.look([(SLOW, "a"), (other, "a")])] == [10, 1]


@pytest.mark.parametrize("mode", ["reject", "partial", "wait"])
async def test_paying_takes_what_a_take_would_or_nothing(limiter: Limiter, mode: OnExhausted) -> None:
    bucket, other = SLOW._replace(on_exhausted=mode), SLOW._replace(name="other", burst=6)
    for cost, left in ((4, (6, 2)), (4, None), (2, (4, 0)), (1, None)):
        charges = [Charge(bucket, "a", [cost]), Charge(other, "a", [cost])]
        before = await limiter.look([(bucket, "a"), (other, "a")])
        paid = limiter.pay(charges)

        assert paid is None or tuple(reading.remaining for reading in paid) == left
        if paid is None:
            assert await limiter.look([(bucket, "a"), (other, "a")]) == before
        if paid is None and left is not None:  # the buckets are elsewhere
            await limiter.take(charges, wait_max_us=0)


@pytest.mark.parametrize("mode", ["reject", "partial", "wait"])
async def test_asking_takes_nothing_and_tells_what_a_take_then_does(limiter: Limiter, mode: OnExhausted) -> None:
    bucket = SLOW._replace(on_exhausted=mode)
    for costs in ([4, 4], [1, 2, 3], [2], [1]):
        asked = [await limiter.ask([Charge(bucket, "a", costs)], wait_max_us=WAIT_MAX_US) for _ in range(2)]
        taken = await limiter.take([Charge(bucket, "a", costs)], wait_max_us=WAIT_MAX_US)

        for each in asked:
            assert _rounded(each) == _rounded(taken)


def _rounded(decision: Granted | Denied) -> object:
    """The decision without the microseconds that pass between two calls."""
    if isinstance(decision, Denied):
        return decision.bucket, decision.cost, [reading.remaining for reading in decision.readings]
    return decision.admitted, decision.tokens, [reading.remaining for reading in decision.readings]


async def test_partial_takes_what_there_is(limiter: Limiter) -> None:
    partial = SLOW._replace(on_exhausted="partial")

    granted = await limiter.take([Charge(partial, "a", [3, 3, 3, 3, 1])], wait_max_us=0)

    assert isinstance(granted, Granted)
    assert (granted.admitted, granted.tokens) == (3, [9])


async def test_waiting_goes_into_debt_and_no_further_than_it_may(limiter: Limiter) -> None:
    waits = Bucket("waits", 10, 1_000_000, 10, "wait")

    granted = await limiter.take([Charge(waits, "a", [1] * 15)], wait_max_us=1_000_000)
    denied = await limiter.take([Charge(waits, "a", [1] * 15)], wait_max_us=1_000_000)

    assert isinstance(granted, Granted)
    assert granted.delays_us[9] == 0
    assert granted.delays_us[14] == pytest.approx(500_000, abs=50_000)
    assert isinstance(denied, Denied)


async def test_a_crowd_is_granted_exactly_what_there_is(limiter: Limiter) -> None:
    crowd = SLOW._replace(burst=100)

    taken = await asyncio.gather(*(limiter.take([Charge(crowd, "a", [3])], wait_max_us=0) for _ in range(60)))

    assert sum(isinstance(each, Granted) for each in taken) == 33


async def test_tokens_come_back_at_their_rate(limiter: Limiter) -> None:
    quick = Bucket("quick", 1000, 1_000_000, 100)
    loop = asyncio.get_running_loop()
    began_s = asked_s = loop.time()
    taken, stood_still_s = 0, 0.0  # on a busy machine, for so long that the bucket ran over
    while asked_s - began_s < 0.5:
        taken += isinstance(await limiter.take([Charge(quick, "a", [20])], wait_max_us=0), Granted)
        before_s, asked_s = asked_s, loop.time()
        stood_still_s += max(0.0, asked_s - before_s - 0.05)
    passed_s = asked_s - began_s

    assert 0.9 * (100 + 1000 * (passed_s - stood_still_s)) - 20 <= 20 * taken <= 100 + 1000 * passed_s + 1


@pytest.mark.parametrize("kind", STORES)
async def test_a_store_that_is_gone_is_unavailable_and_back_when_it_is(kind: str, tmp_path: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        with running(kind, Path(folder)) as (_, url):
            limiter = RedisLimiter(client_of(url), 0.5)
            await limiter.take([Charge(SLOW, "a", [1])], wait_max_us=0)
        with pytest.raises(LimiterUnavailableError):
            await limiter.take([Charge(SLOW, "a", [1])], wait_max_us=0)
        with running(kind, Path(folder)):
            granted = await limiter.take([Charge(SLOW, "a", [1])], wait_max_us=0)
        await limiter.close()

    assert granted.readings[0].remaining == 8  # the append-only file has kept the first take


async def test_a_lost_answer_is_asked_for_again_and_charged_once(tmp_path: Path) -> None:
    with tempfile.TemporaryDirectory() as folder, running("valkey", Path(folder)) as (_, url):
        warm = RedisLimiter(client_of(url), 2.0)
        await warm.take([Charge(SLOW, "b", [1])], wait_max_us=0)  # the server knows the script from here on
        await warm.close()
        async with lossy(url.removeprefix("unix://"), tmp_path / "lossy") as asked:
            limiter = RedisLimiter(client_of(f"unix://{tmp_path / 'lossy'}"), 2.0)
            granted = await limiter.take([Charge(SLOW, "a", [4])], wait_max_us=0)
            await limiter.close()

    assert isinstance(granted, Granted)
    assert granted.readings[0].remaining == 6
    assert asked.count("lost") >= 1


def test_what_the_server_cannot_count_exactly_is_known() -> None:
    assert is_exact(Bucket("b", 1_000_000_000, 1_000_000, 1_000_000_000))
    assert is_exact(Bucket("b", 100, 3_600_000_000, 100))
    assert not is_exact(Bucket("b", 999_999_937, 3_600_000_000, 1))
