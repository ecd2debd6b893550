"""Buckets shared by all replicas, in Redis or Valkey: one script a take, the server's clock, no take counted twice.

The script (take.lua) refills, decides and writes; it answers the levels before the take, from which `bucket.plan` makes
the very same decision again, with its readings and delays. All buckets live in one slot, so that a cluster serves them.
"""

import hashlib
import os
from collections.abc import Sequence
from functools import lru_cache
from importlib.resources import files
from itertools import groupby
from typing import Any

from gateway.limiter.bucket import Bucket, Charge, Denied, Granted, Level, Reading, alike, in_lowest_terms, plan, read
from gateway.limiter.port import LimiterUnavailableError
from gateway.redis_client import FAILURES, Client
from gateway.redis_scripts import Script, Scripts

_SLOT = "{batch-gateway:limits}"
_MODES = {"reject": "0", "partial": "1", "wait": "2"}
_REMEMBERED_MS = 10_000  # a second try finds the first one's answer, if that was only lost
_LOOK = 0
SCRIPT = files("gateway.limiter").joinpath("take.lua").read_text("utf-8")


class RedisLimiter:
    """A `Limiter` for any number of processes. `timeout_s` bounds each call, its second try included."""

    def __init__(self, client: Client, timeout_s: float) -> None:
        self._scripts = Scripts(client, timeout_s, once=False)
        self._take = Script(SCRIPT)

    async def take(self, charges: Sequence[Charge], *, wait_max_us: int) -> Granted | Denied:
        levels = await self._levels(charges, wait_max_us, _REMEMBERED_MS)
        return plan(charges, levels, wait_max_us)[0]

    def pay(self, charges: Sequence[Charge]) -> Sequence[Reading] | None:
        return None  # they are elsewhere

    async def ask(self, charges: Sequence[Charge], *, wait_max_us: int) -> Granted | Denied:
        levels = await self._levels(charges, wait_max_us, _LOOK)
        return plan(charges, levels, wait_max_us)[0]

    async def look(self, keys: Sequence[tuple[Bucket, str]]) -> Sequence[Reading]:
        if not keys:
            return ()
        levels = await self._levels([Charge(bucket, key, ()) for bucket, key in keys], 0, _LOOK)
        return [read(bucket, level) for (bucket, _), level in zip(keys, levels, strict=True)]

    async def close(self) -> None:
        await self._scripts.close()

    async def _levels(self, charges: Sequence[Charge], wait_max_us: int, remembered_ms: int) -> Sequence[Level]:
        """The levels that the script found, refilled, before it took anything."""
        keys, numbers = asked(charges, wait_max_us, remembered_ms)
        try:
            return answered(charges, await self._scripts.run(self._take, len(keys), *keys, numbers))
        except FAILURES as error:
            raise LimiterUnavailableError from error


@lru_cache(4096)
def _key(name: str, key: str) -> str:
    who = hashlib.blake2b(key.encode("utf-8", "surrogateescape"), digest_size=16).hexdigest()
    return f"{_SLOT}:{name}:{who}"


@lru_cache(256)
def _definition(bucket: Bucket) -> str:
    shared = in_lowest_terms(bucket)
    return f"{bucket.tokens // shared} {bucket.per_us // shared} {bucket.burst} {_MODES[bucket.on_exhausted]}"


def asked(charges: Sequence[Charge], wait_max_us: int, remembered_ms: int, now: str = "-") -> tuple[list[str], str]:
    """KEYS of the script, and its ARGV, in one: each argument costs more than all of the numbers do."""
    keys, numbers = [f"{_SLOT}:take:{os.urandom(12).hex()}"], f"{now} {remembered_ms} {wait_max_us}"
    for charge in charges:
        keys.append(_key(charge.bucket.name, charge.key))
        numbers += f" {_definition(charge.bucket)} {_costs(charge.costs)}"
    return keys, numbers


def _costs(costs: Sequence[int]) -> str:
    """What all cost together, how many runs of equal costs follow, and those: how many, of which cost."""
    if alike(costs):
        return f"{len(costs) * costs[0]} 1 {len(costs)} {costs[0]}"
    runs = [f"{len(list(equal))} {cost}" for cost, equal in groupby(costs)]
    return " ".join([str(sum(costs)), str(len(runs)), *runs])


def answered(charges: Sequence[Charge], answer: Sequence[Any]) -> list[Level]:
    """The levels before the take, of the script's answer."""
    now_us, levels, at = int(answer[0]), [], 1
    for charge in charges:
        bucket = charge.bucket
        units = int(answer[at]) * bucket.per_us + int(answer[at + 1]) * in_lowest_terms(bucket)
        levels.append(Level(units, now_us))
        at += 2
    return levels
