"""Where buckets are counted: in this process, or in a Redis that replicas share, with what happens while it is away."""

from asyncio import AbstractEventLoop
from collections.abc import Awaitable, Callable
from typing import NamedTuple

import structlog

from gateway.config import Limiter as LimiterSettings
from gateway.limiter.fallback import FallbackLimiter
from gateway.limiter.memory import MemoryLimiter
from gateway.limiter.port import Limiter
from gateway.telemetry.metrics import Metrics

_CONNECTIONS_MAX = 32  # a take lasts well below a millisecond there


class Counting(NamedTuple):
    """The limiter, and what gives its connections back."""

    limiter: Limiter
    close: Callable[[], Awaitable[None]]


async def _nothing_to_close() -> None:
    return


def counting(
    settings: LimiterSettings,
    loop: AbstractEventLoop,
    metrics: Metrics,
    logger: Callable[[], structlog.typing.FilteringBoundLogger],
) -> Counting:
    """As `settings` say. A Redis that is away is met by the first request that is counted."""
    local = MemoryLimiter(lambda: int(loop.time() * 1_000_000))
    if settings.url is None:
        return Counting(local, _nothing_to_close)
    from gateway.limiter.redis import RedisLimiter  # redis-py: only for who has one
    from gateway.redis_client import connect

    client = connect(settings.url, timeout_s=settings.timeout, connections_max=_CONNECTIONS_MAX)
    shared = RedisLimiter(client, settings.timeout)
    is_up = True

    def noticed(up: bool) -> None:
        nonlocal is_up
        is_up = up
        if up:
            logger().info("limits are counted in Redis again")
        else:
            logger().warning("limits: Redis does not answer", until_it_does=settings.fail)

    metrics.gauge("limiter_up", "1 while the shared store of buckets answers.", lambda: float(is_up))
    return Counting(FallbackLimiter(shared, settings.fail, local, loop.time, noticed), shared.close)
