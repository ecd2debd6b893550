"""What buckets decided, in HTTP's words."""

import pytest

from gateway.limiter.bucket import Bucket, Denied, Reading
from gateway.limiter.http import rate_limit_headers, rate_limited


def _bucket(burst: int = 10, name: str = "b", tokens: int = 1) -> Bucket:
    return Bucket(name, tokens, 1_000_000, burst)


@pytest.mark.parametrize(("retry_after_us", "told"), [(1, "1"), (1_000_000, "1"), (1_000_001, "2")])
def test_the_told_wait_is_rounded_up(retry_after_us: int, told: str) -> None:
    assert rate_limited(Denied(_bucket(), 1, retry_after_us, [])).headers["Retry-After"] == told


def test_rate_limit_headers_follow_the_draft() -> None:
    readings = [Reading(_bucket(10, name="a", tokens=4), 7, 1), Reading(_bucket(1, name="b", tokens=5), 0, 1)]

    assert rate_limit_headers(readings) == {
        "RateLimit-Policy": '"a";q=10;w=3, "b";q=1;w=1',
        "RateLimit": '"a";r=7;t=1, "b";r=0;t=1',
    }
    assert rate_limit_headers([]) == {}
