"""The arithmetic of a token bucket in whole numbers, and the plan for a batch over several buckets. Pure.

A level is counted in *units*: one token is `per_us` units, and `tokens` units flow back each microsecond, so that
`rate: 100/s` (tokens=100, per_us=1_000_000) never rounds. A level below zero is a debt that `wait` has taken on.
"""

from collections.abc import Sequence
from itertools import accumulate
from math import gcd
from typing import Literal, NamedTuple

from msgspec import Struct

OnExhausted = Literal["reject", "partial", "wait"]


class Bucket(NamedTuple):
    """One limit: `tokens` flow back per `per_us`, at most `burst` are held."""

    name: str
    tokens: int
    per_us: int
    burst: int
    on_exhausted: OnExhausted = "reject"

    @property
    def full_units(self) -> int:
        return self.burst * self.per_us


class Level(Struct, frozen=True, gc=False):
    """How many units a bucket held at `at_us`."""

    units: int
    at_us: int


class Charge(Struct, frozen=True, gc=False):
    """What a batch wants of one bucket: `costs` in tokens, one for each operation, in order; `key` is whose bucket."""

    bucket: Bucket
    key: str
    costs: Sequence[int]


class Reading(Struct, frozen=True, gc=False):
    """What a bucket holds after a decision: whole tokens, and the seconds until it is full again, rounded up."""

    bucket: Bucket
    remaining: int
    full_in_s: int


class Granted(Struct, frozen=True, gc=False):
    """The first `admitted` operations may run; the i-th of them not before `delays_us[i]` where that is given.

    `tokens[j]` is what the j-th charge took.
    """

    admitted: int
    delays_us: Sequence[int]
    readings: Sequence[Reading]
    tokens: Sequence[int]


class Denied(Struct, frozen=True, gc=False):
    """Nothing was taken. After `retry_after_us` the same charge fits, if nobody else comes."""

    bucket: Bucket
    cost: int
    retry_after_us: int
    readings: Sequence[Reading]


EXACT_MAX = 2**53
"""Whole numbers up to here are exact in IEEE 754 doubles, which is what Redis's Lua counts with."""


def is_exact(bucket: Bucket) -> bool:
    """Whether doubles can count this bucket without rounding."""
    shared = in_lowest_terms(bucket)
    return (bucket.per_us // shared) * (bucket.tokens // shared + 1) < EXACT_MAX and bucket.burst < EXACT_MAX


def in_lowest_terms(bucket: Bucket) -> int:
    """What `tokens` and `per_us` may both be divided by."""
    return gcd(bucket.tokens, bucket.per_us)


def full(bucket: Bucket, now_us: int) -> Level:
    return Level(bucket.full_units, now_us)


def refilled(bucket: Bucket, level: Level, now_us: int) -> Level:
    """`level` at `now_us`; a clock that went back refills nothing."""
    if now_us <= level.at_us:
        return level
    units, full_units = level.units + (now_us - level.at_us) * bucket.tokens, bucket.full_units
    return Level(full_units if units > full_units else units, now_us)


def redefined(before: Bucket, after: Bucket, level: Level, now_us: int) -> Level:
    """`level` of a bucket whose definition changed: the tokens that it held, never a fresh burst."""
    held = refilled(before, level, now_us)
    return Level(min(held.units * after.per_us // before.per_us, after.full_units), held.at_us)


def plan(charges: Sequence[Charge], levels: Sequence[Level], wait_max_us: int) -> tuple[Granted | Denied, list[Level]]:
    """Decide over all buckets at once: `levels` are refilled already, the levels after the decision come back.

    `partial` buckets shorten the batch to the operations that they can pay; then every bucket pays for those, or, where
    one that rejects cannot, none does. A bucket that waits goes into debt for at most `wait_max_us`.
    """
    costs: list[int] = []
    paid: list[Level] = []
    readings: list[Reading] = []
    for charge, level in zip(charges, levels, strict=True):
        bucket, cost = charge.bucket, total(charge.costs)
        left = less(bucket, level, cost)
        if left is None:  # seldom: a bucket has too little for all of it
            return _shortened(charges, levels, wait_max_us)
        costs.append(cost)
        paid.append(left)
        readings.append(read(bucket, left))
    return Granted(len(charges[0].costs), (), readings, costs), paid


def alike(costs: Sequence[int]) -> bool:
    """Whether there are any, and all are the same: nearly always, and found out in a fifth of the time of their sum."""
    return len(costs) > 0 and costs.count(costs[0]) == len(costs)


def total(costs: Sequence[int]) -> int:
    """Their sum."""
    return costs[0] * len(costs) if alike(costs) else sum(costs)


def less(bucket: Bucket, level: Level, cost: int) -> Level | None:
    """`level` without `cost` tokens; None where it holds less."""
    units = level.units - cost * bucket.per_us
    return Level(units, level.at_us) if units >= 0 else None


def _shortened(
    charges: Sequence[Charge], levels: Sequence[Level], wait_max_us: int
) -> tuple[Granted | Denied, list[Level]]:
    """The plan where not every bucket can pay for everything now."""
    count = _payable(charges, levels)
    costs = [sum(charge.costs[:count]) for charge in charges]
    for charge, level, cost in zip(charges, levels, costs, strict=True):
        if _wait_us(charge.bucket, level, cost, wait_max_us) > 0:
            return _denied(charges, levels, wait_max_us), list(levels)
    paid = _paid(charges, levels, costs)
    readings = [read(charge.bucket, level) for charge, level in zip(charges, paid, strict=True)]
    return Granted(count, _delays(charges, levels, paid, count), readings, costs), paid


def _paid(charges: Sequence[Charge], levels: Sequence[Level], costs: Sequence[int]) -> list[Level]:
    return [
        Level(level.units - cost * charge.bucket.per_us, level.at_us)
        for charge, level, cost in zip(charges, levels, costs, strict=True)
    ]


def read(bucket: Bucket, level: Level) -> Reading:
    units, per_us = level.units, bucket.per_us
    missing = bucket.burst * per_us - units
    return Reading(bucket, units // per_us if units > 0 else 0, -(-missing // (bucket.tokens * 1_000_000)))


def _payable(charges: Sequence[Charge], levels: Sequence[Level]) -> int:
    """How many operations, from the first on, all the partial buckets can pay."""
    count = len(charges[0].costs)
    for charge, level in zip(charges, levels, strict=True):
        bucket = charge.bucket
        if bucket.on_exhausted != "partial" or sum(charge.costs) * bucket.per_us <= level.units:
            continue
        affordable = level.units // bucket.per_us
        count = min(count, sum(1 for spent in accumulate(charge.costs) if spent <= affordable))
    return count


def _wait_us(bucket: Bucket, level: Level, cost: int, wait_max_us: int) -> int:
    """How long until the bucket can pay `cost`; at most 0 when it can now."""
    allowed_us = wait_max_us if bucket.on_exhausted == "wait" else 0
    return -((level.units - cost * bucket.per_us) // bucket.tokens) - allowed_us if cost else 0


def _denied(charges: Sequence[Charge], levels: Sequence[Level], wait_max_us: int) -> Denied:
    """Names the bucket that takes longest, so that its wait is enough for all of them.

    Whole costs count, not shortened ones: by then the partial buckets may pay for more operations than now.
    """
    readings = [read(charge.bucket, level) for charge, level in zip(charges, levels, strict=True)]
    waits = [
        Denied(charge.bucket, cost, _wait_us(charge.bucket, level, cost, wait_max_us), readings)
        for charge, level in zip(charges, levels, strict=True)
        if charge.bucket.on_exhausted != "partial" and (cost := sum(charge.costs))
    ]
    return max(waits, key=lambda denied: denied.retry_after_us)


def _delays(charges: Sequence[Charge], before: Sequence[Level], after: Sequence[Level], count: int) -> Sequence[int]:
    """When each operation's tokens have come, in microseconds from now; empty when all are there."""
    if all(level.units >= 0 for level in after):
        return ()
    delays: list[int] = []
    for charge, level, paid in zip(charges, before, after, strict=True):
        if paid.units >= 0:
            continue
        bucket = charge.bucket
        spent = accumulate(charge.costs[:count])
        own = [max(0, -((level.units - tokens * bucket.per_us) // bucket.tokens)) for tokens in spent]
        delays = [max(pair) for pair in zip(delays, own, strict=True)] if delays else own
    return list(accumulate(delays, max))
