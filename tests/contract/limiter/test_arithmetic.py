"""The script's arithmetic is the pure bucket's: the same takes at the same times end in the same levels."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.limiter.bucket import Bucket, Charge, Granted, Level, OnExhausted, full, plan, refilled
from gateway.limiter.redis import SCRIPT, answered, asked
from tests.contract.stores import STORES, running

RATES = st.sampled_from([1, 3, 7, 100, 999, 1_000_000])
PERS = st.sampled_from([1_000_000, 60_000_000, 3_600_000_000])
MODES: st.SearchStrategy[OnExhausted] = st.sampled_from(["reject", "partial", "wait"])
BUCKETS = st.lists(st.tuples(RATES, PERS, st.integers(1, 50), MODES), min_size=1, max_size=3)
TAKES = st.lists(
    st.tuples(
        st.integers(-1000, 90_000_000), st.lists(st.integers(0, 5), min_size=1, max_size=8), st.integers(0, 10**7)
    ),
    min_size=1,
    max_size=8,
)


@pytest.fixture(scope="module", params=STORES)
def server(request: pytest.FixtureRequest) -> "Iterator[redis.Redis]":
    with tempfile.TemporaryDirectory() as folder, running(request.param, Path(folder)) as (_, url):
        client = redis.Redis.from_url(url)
        yield client
        client.close()


@settings(max_examples=150)
@given(rates=BUCKETS, takes=TAKES)
def test_the_script_and_the_pure_bucket_agree(
    server: "redis.Redis", rates: list[tuple[int, int, int, OnExhausted]], takes: list[tuple[int, list[int], int]]
) -> None:
    server.flushall()
    buckets = [Bucket(f"b{place}", *rate) for place, rate in enumerate(rates)]
    now = 1_790_000_000_000_000
    levels: list[Level] | None = None  # before the first take they are full at any time
    for passed, costs, wait_max_us in takes:
        now += passed
        charges = [Charge(bucket, "k", costs) for bucket in buckets]
        fresh = [full(bucket, now) for bucket in buckets]
        refreshed = [refilled(bucket, level, now) for bucket, level in zip(buckets, levels or fresh, strict=True)]

        keys, numbers = asked(charges, wait_max_us, 1000, str(now))
        found = answered(charges, server.eval(SCRIPT, len(keys), *keys, numbers))
        for key in keys[1:]:
            server.persist(key)  # else it ends by the server's own clock, a second after it would be full

        assert [level.units for level in found] == [level.units for level in refreshed]
        decision, after = plan(charges, refreshed, wait_max_us)
        assert plan(charges, found, wait_max_us)[0] == decision
        levels = after if isinstance(decision, Granted) else levels  # what is denied is not written


def test_a_bucket_is_forgotten_once_it_is_full_and_not_before(server: "redis.Redis") -> None:
    server.flushall()
    charges = [Charge(Bucket("b", 1, 1_000_000, 100), "k", [40])]
    keys, numbers = asked(charges, 0, 1000)

    server.eval(SCRIPT, len(keys), *keys, numbers)

    assert 39_000 <= server.pttl(keys[1]) <= 41_100
