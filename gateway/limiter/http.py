"""What buckets decided, in HTTP's words: 429, 413, and the fields by which every answer tells what is left. Pure."""

from collections.abc import Sequence
from functools import lru_cache

from gateway.errors import GatewayError
from gateway.limiter.bucket import Bucket, Denied, Reading


def rate_limited(denied: Denied) -> GatewayError:
    """429 with how long to wait, rounded up so that waiting it is enough."""
    retry_after_s = -(-denied.retry_after_us // 1_000_000)
    return GatewayError(
        "rate-limited",
        f"the limit {denied.bucket.name} has no {denied.cost} tokens now; wait {retry_after_s} s",
        headers={"Retry-After": str(retry_after_s), **rate_limit_headers(denied.readings)},
        members={"limit": denied.bucket.name, "cost": denied.cost, "retryAfter": retry_after_s},
    )


def never_fits(bucket: Bucket, cost: int) -> GatewayError:
    """413 for what the bucket cannot hold."""
    return GatewayError(
        "cost-exceeds-capacity",
        f"the batch costs {cost} tokens and the limit {bucket.name} holds {bucket.burst}; split the batch, or where a "
        "ledger is configured send it with Prefer: respond-async",
        members={"max": bucket.burst, "cost": cost, "limit": bucket.name},
    )


def rate_limit_headers(readings: Sequence[Reading]) -> dict[str, str]:
    """`RateLimit-Policy` and `RateLimit` (draft-ietf-httpapi-ratelimit-headers-10): `q` quota, `w` its window in
    seconds, `r` what remains, `t` seconds until the bucket is full."""
    if not readings:
        return {}
    policies = [_policy(reading.bucket) for reading in readings]
    levels = [f'"{each.bucket.name}";r={each.remaining};t={each.full_in_s}' for each in readings]
    return {"RateLimit-Policy": ", ".join(policies), "RateLimit": ", ".join(levels)}


def rate_limit_lines(readings: Sequence[Reading]) -> bytes:
    """The same as field lines."""
    return "".join([f"{name}: {value}\r\n" for name, value in rate_limit_headers(readings).items()]).encode()


@lru_cache(256)
def _policy(bucket: Bucket) -> str:
    return f'"{bucket.name}";q={bucket.burst};w={_window_s(bucket)}'


def retry_after_s(cost: int, readings: Sequence[Reading]) -> int:
    """Seconds until every bucket holds `cost` tokens, if nobody else comes."""
    waits_s = [
        -(-(cost - reading.remaining) * reading.bucket.per_us // (reading.bucket.tokens * 1_000_000))
        for reading in readings
        if cost > reading.remaining
    ]
    return max(waits_s, default=1)


def _window_s(bucket: Bucket) -> int:
    return max(1, -(-bucket.full_units // (bucket.tokens * 1_000_000)))
