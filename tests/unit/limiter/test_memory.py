"""Buckets in memory: one per name and key, on a clock that the test moves."""

import asyncio

from gateway.limiter.bucket import Bucket, Charge, Denied, Granted
from gateway.limiter.memory import MemoryLimiter

_BUCKET = Bucket("b", 10, 1_000_000, 10)


class _Clock:
    now_us = 0

    def __call__(self) -> int:
        return self.now_us


def _charge(tokens: int, key: str = "k", bucket: Bucket = _BUCKET) -> list[Charge]:
    return [Charge(bucket, key, [tokens])]


async def test_a_bucket_that_was_never_charged_is_full() -> None:
    (reading,) = await MemoryLimiter(_Clock()).look([(_BUCKET, "k")])

    assert (reading.remaining, reading.full_in_s) == (10, 0)


async def test_looking_takes_nothing() -> None:
    limiter = MemoryLimiter(_Clock())
    await limiter.take(_charge(4), wait_max_us=0)

    readings = [(await limiter.look([(_BUCKET, "k")]))[0].remaining for _ in range(3)]

    assert readings == [6, 6, 6]


async def test_keys_and_names_have_buckets_of_their_own() -> None:
    limiter = MemoryLimiter(_Clock())
    await limiter.take(_charge(10), wait_max_us=0)

    other_key = await limiter.take(_charge(10, "other"), wait_max_us=0)
    other_name = await limiter.take(_charge(10, bucket=_BUCKET._replace(name="c")), wait_max_us=0)

    assert isinstance(other_key, Granted)
    assert isinstance(other_name, Granted)


async def test_tokens_flow_back_with_the_clock() -> None:
    clock = _Clock()
    limiter = MemoryLimiter(clock)
    await limiter.take(_charge(10), wait_max_us=0)
    denied = await limiter.take(_charge(5), wait_max_us=0)
    assert isinstance(denied, Denied)

    clock.now_us += denied.retry_after_us

    assert isinstance(await limiter.take(_charge(5), wait_max_us=0), Granted)


async def test_a_denied_batch_takes_from_no_bucket() -> None:
    limiter = MemoryLimiter(_Clock())
    other = _BUCKET._replace(name="c", burst=3)

    denied = await limiter.take([*_charge(5), *_charge(4, bucket=other)], wait_max_us=0)

    assert isinstance(denied, Denied)
    assert [each.remaining for each in await limiter.look([(_BUCKET, "k"), (other, "k")])] == [10, 3]


async def test_concurrent_batches_share_what_there_is() -> None:
    limiter = MemoryLimiter(_Clock())

    decisions = await asyncio.gather(*(limiter.take(_charge(3), wait_max_us=0) for _ in range(20)))

    assert sum(isinstance(decision, Granted) for decision in decisions) == 3


async def test_a_flood_of_keys_forgets_those_charged_longest_ago() -> None:
    clock = _Clock()
    limiter = MemoryLimiter(clock, levels_max=4)
    for key in "abcde":
        clock.now_us += 1
        await limiter.take(_charge(10, key), wait_max_us=0)

    remaining = [each.remaining for each in await limiter.look([(_BUCKET, key) for key in "abcde"])]

    assert remaining == [10, 10, 0, 0, 0]


async def test_a_bucket_that_is_defined_anew_keeps_its_level_in_both_directions() -> None:
    wider = _BUCKET._replace(per_us=60_000_000, burst=1000)
    limiter = MemoryLimiter(_Clock())
    await limiter.take(_charge(4), wait_max_us=0)

    await limiter.take(_charge(1, bucket=wider), wait_max_us=0)
    await limiter.take(_charge(1), wait_max_us=0)

    assert [(await limiter.look([(bucket, "k")]))[0].remaining for bucket in (_BUCKET, wider)] == [4, 4]
