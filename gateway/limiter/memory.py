"""Buckets of one replica, in memory: right at once, forgotten at the end of the process."""

from collections.abc import Callable, Sequence

from gateway.limiter.bucket import (
    Bucket,
    Charge,
    Denied,
    Granted,
    Level,
    Reading,
    full,
    less,
    plan,
    read,
    redefined,
    refilled,
    total,
)

LEVELS_MAX = 100_000  # about 20 MiB; callers choose keys, so there must be an end


class MemoryLimiter:
    """A `Limiter` for one process. `now_us` is a monotonic clock.

    Each level is kept with the bucket that it was last counted for, since a reload may define the bucket anew.
    """

    def __init__(self, now_us: Callable[[], int], levels_max: int = LEVELS_MAX) -> None:
        self._now_us = now_us
        self._levels_max = levels_max
        self._levels: dict[tuple[str, str], tuple[Bucket, Level]] = {}

    async def take(self, charges: Sequence[Charge], *, wait_max_us: int) -> Granted | Denied:
        decision, after = self._planned(charges, wait_max_us)
        for charge, level in zip(charges, after, strict=True):
            self._levels[charge.bucket.name, charge.key] = (charge.bucket, level)
        if len(self._levels) > self._levels_max:
            self._forget()
        return decision

    def pay(self, charges: Sequence[Charge]) -> Sequence[Reading] | None:
        now_us, paid = self._now_us(), []
        for charge in charges:
            bucket, key = charge.bucket, charge.key
            level = less(bucket, self._level(bucket, key, now_us), total(charge.costs))
            if level is None:
                return None
            paid.append(((bucket.name, key), (bucket, level)))
        self._levels.update(paid)
        if len(self._levels) > self._levels_max:
            self._forget()
        return [read(bucket, level) for _, (bucket, level) in paid]

    async def ask(self, charges: Sequence[Charge], *, wait_max_us: int) -> Granted | Denied:
        return self._planned(charges, wait_max_us)[0]

    async def look(self, keys: Sequence[tuple[Bucket, str]]) -> Sequence[Reading]:
        now_us = self._now_us()
        return [read(bucket, self._level(bucket, key, now_us)) for bucket, key in keys]

    def _planned(self, charges: Sequence[Charge], wait_max_us: int) -> tuple[Granted | Denied, list[Level]]:
        now_us = self._now_us()
        before = [self._level(charge.bucket, charge.key, now_us) for charge in charges]
        return plan(charges, before, wait_max_us)

    def _level(self, bucket: Bucket, key: str, now_us: int) -> Level:
        found = self._levels.get((bucket.name, key))
        if found is None:
            return full(bucket, now_us)
        counted_for, level = found
        if counted_for is bucket:
            return refilled(bucket, level, now_us)
        return redefined(counted_for, bucket, level, now_us)

    def _forget(self) -> None:
        """Drop the half that was charged longest ago: nearly always full again by now."""
        oldest = sorted(self._levels, key=lambda key: self._levels[key][1].at_us)
        for key in oldest[: len(oldest) // 2]:
            del self._levels[key]
