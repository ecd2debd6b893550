"""Whether Redis can keep what it acknowledges: asked at the start and every few seconds (PROMISES 1.2, D10).

A server that may evict, that writes no file, whose file could not be written, that is still loading, or that is only a
replica promises nothing: the ledger, and the store of idempotency keys, then say so, with the cure, and accept nothing.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from redis.asyncio import RedisCluster

from gateway.ledger.port import LedgerUnavailableError
from gateway.redis_client import Client

Info = Mapping[str, Any]

_FRESH_S = 2.0  # an answer is believed for so long
_STEP_S = 2.0  # a slow answer looks like a smaller one
_REFUSED_S = 0.5  # and a refusal: calls fail at once meanwhile


def objection(info: Info, *, require_durable: bool) -> str | None:
    """Why a server of this INFO cannot keep what it is given; None where it can."""
    if info.get("role", "master") != "master":
        return "Redis is a read-only replica; name the primary"
    if int(info.get("loading", 0)):
        return "Redis is loading its data; it comes back by itself"
    if int(info.get("maxmemory", 0)) and info.get("maxmemory_policy") != "noeviction":
        return f"Redis may evict what it keeps ({info.get('maxmemory_policy')}); set maxmemory-policy noeviction"
    if require_durable and not int(info.get("aof_enabled", 0)):
        return "Redis keeps nothing over a restart; set appendonly yes"
    if int(info.get("aof_enabled", 0)) and info.get("aof_last_write_status", "ok") != "ok":
        return "Redis cannot write its append-only file; look at its disk"
    return None


async def infos_of(client: Client, timeout_s: float) -> Sequence[Info]:
    """INFO of every primary: server, memory, persistence, replication. Raises one of `FAILURES`."""
    sections = ("server", "memory", "persistence", "replication")
    async with asyncio.timeout(timeout_s):
        if not isinstance(client, RedisCluster):
            return [await client.info(*sections)]
        by_node = await client.info(*sections, target_nodes=RedisCluster.PRIMARIES)
    return [by_node] if "run_id" in by_node else list(by_node.values())


class Durability:
    """Asks `infos` for every primary's INFO. `came_back` is called where a server is not the process it was before,
    `stepped_back` where the servers' clock shows less than it has to by ours, which nobody sets."""

    def __init__(
        self,
        infos: Callable[[], Awaitable[Sequence[Info]]],
        came_back: Callable[[], Awaitable[None]] | None = None,
        stepped_back: Callable[[], Awaitable[None]] | None = None,
        *,
        require_durable: bool,
    ) -> None:
        self._infos = infos
        self._came_back = came_back
        self._stepped_back = stepped_back
        self._require_durable = require_durable
        self._lock = asyncio.Lock()
        self._until_s = 0.0
        self._refusal: LedgerUnavailableError | None = None
        self._runs: frozenset[str] = frozenset()
        self._ahead_s: float | None = None  # of our clock
        self.infos: Sequence[Info] = ()

    async def ensure(self) -> None:
        """Raises `LedgerUnavailableError` where the store cannot keep what it acknowledges."""
        if time.monotonic() >= self._until_s:
            async with self._lock:
                if time.monotonic() >= self._until_s:
                    await self._ask()
        if self._refusal is not None:
            raise LedgerUnavailableError(str(self._refusal.detail))

    def doubt(self) -> None:
        """Something went wrong: ask again before the next call."""
        if self._refusal is None:
            self._until_s = 0.0

    async def _ask(self) -> None:
        try:
            self.infos = await self._infos()
            await self._compare()
            self._refusal = self._judge()
        except LedgerUnavailableError as error:
            self._refusal = error
        self._until_s = time.monotonic() + (_FRESH_S if self._refusal is None else _REFUSED_S)

    def _judge(self) -> LedgerUnavailableError | None:
        for info in self.infos:
            reason = objection(info, require_durable=self._require_durable)
            if reason is not None:
                return LedgerUnavailableError(reason)
        return None

    async def _compare(self) -> None:
        runs = frozenset(str(info["run_id"]) for info in self.infos if "run_id" in info)
        if self._runs and runs - self._runs and self._came_back is not None:
            await self._came_back()
        self._runs = runs  # only now: what was cut short is done again
        told_us = [int(info["server_time_usec"]) for info in self.infos if "server_time_usec" in info]
        before_s, ahead_s = self._ahead_s, max(told_us, default=0) / 1e6 - time.monotonic()
        if before_s is not None and ahead_s < before_s - _STEP_S and self._stepped_back is not None:
            await self._stepped_back()
        self._ahead_s = ahead_s
