"""Buckets shared by all replicas, in Redis or Valkey: one script a take, the server's clock, no take counted twice.

The script (take.lua) refills, decides and writes; it answers the levels before the take, from which `bucket.plan` makes
the very same decision again, with its readings and delays. All buckets live in one slot, so that a cluster serves them.
"""

import asyncio
import hashlib
from collections.abc import Sequence
from importlib.resources import files
from itertools import groupby
from secrets import token_hex
from typing import Any, cast

from redis.asyncio import RedisCluster
from redis.exceptions import NoScriptError

from gateway.limiter.bucket import Bucket, Charge, Denied, Granted, Level, Reading, in_lowest_terms, plan, read
from gateway.limiter.port import LimiterUnavailableError
from gateway.redis_client import FAILURES, Client, close
from gateway.redis_pipeline import Pipeline

_SLOT = "{batch-gateway:limits}"
_MODES = {"reject": "0", "partial": "1", "wait": "2"}
_REMEMBERED_MS = "10000"
_LOOK = "0"
_TRIES = 2  # the second finds the first one's answer, if that was only lost
SCRIPT = files("gateway.limiter").joinpath("take.lua").read_text("utf-8")


class RedisLimiter:
    """A `Limiter` for any number of processes. `timeout_s` bounds each call, its second try included."""

    def __init__(self, client: Client, timeout_s: float) -> None:
        self._client = client
        self._pipeline = None if isinstance(client, RedisCluster) else Pipeline(client.connection_pool, timeout_s)
        self._timeout_s = timeout_s
        self._digest = hashlib.sha1(SCRIPT.encode(), usedforsecurity=False).hexdigest()

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
        if self._pipeline is not None:
            await self._pipeline.close()
        await close(self._client)

    async def _levels(self, charges: Sequence[Charge], wait_max_us: int, remembered_ms: str) -> Sequence[Level]:
        """The levels that the script found, refilled, before it took anything."""
        keys, arguments = asked(charges, wait_max_us, remembered_ms)
        try:
            async with asyncio.timeout(self._timeout_s):
                return answered(charges, await self._evaluated(keys, arguments))
        except FAILURES as error:
            raise LimiterUnavailableError from error

    async def _evaluated(self, keys: Sequence[str], arguments: Sequence[str]) -> Sequence[Any]:
        for last in (False, True):
            try:
                return await self._once(keys, arguments)
            except FAILURES:
                if last:
                    raise
        raise AssertionError("unreachable")

    async def _once(self, keys: Sequence[str], arguments: Sequence[str]) -> Sequence[Any]:
        call = self._client.execute_command if self._pipeline is None else self._pipeline.call
        try:
            return cast("Sequence[Any]", await call("EVALSHA", self._digest, len(keys), *keys, *arguments))
        except NoScriptError:
            return cast("Sequence[Any]", await call("EVAL", SCRIPT, len(keys), *keys, *arguments))


def _key(charge: Charge) -> str:
    who = hashlib.blake2b(charge.key.encode("utf-8", "surrogateescape"), digest_size=16).hexdigest()
    return f"{_SLOT}:{charge.bucket.name}:{who}"


def asked(
    charges: Sequence[Charge], wait_max_us: int, remembered_ms: str, now: str = ""
) -> tuple[list[str], list[str]]:
    """KEYS and ARGV of the script."""
    keys, arguments = [f"{_SLOT}:take:{token_hex(12)}"], [now, remembered_ms]
    for charge in charges:
        bucket, shared = charge.bucket, in_lowest_terms(charge.bucket)
        costs = charge.costs
        if costs and costs.count(costs[0]) == len(costs):  # nearly always
            runs = [(len(costs), costs[0])]
        else:
            runs = [(len(list(equal)), cost) for cost, equal in groupby(costs)]
        numbers = [bucket.tokens // shared, bucket.per_us // shared, bucket.burst]
        keys.append(_key(charge))
        arguments += [*map(str, numbers), _MODES[bucket.on_exhausted], str(wait_max_us), str(sum(charge.costs))]
        arguments += [str(len(runs)), *(str(number) for run in runs for number in run)]
    return keys, arguments


def answered(charges: Sequence[Charge], answer: Sequence[Any]) -> list[Level]:
    """The levels before the take, of the script's answer."""
    now, *found = map(int, answer)
    levels = []
    for charge, whole, rest in zip(charges, found[::2], found[1::2], strict=True):
        shared = in_lowest_terms(charge.bucket)
        levels.append(Level((whole * (charge.bucket.per_us // shared) + rest) * shared, now))
    return levels
