"""Idempotency keys shared by replicas, in Redis or Valkey: one script a transition, the server's clock.

All keys of an owner live in one slot, so that a cluster serves them; each ends by itself. A call whose answer is lost
is made once more: the fences make the second one find what the first one did. What a call says of many keys goes as a
few arguments, fields of known lengths: to hand them over one by one costs more than all the rest.
"""

import asyncio
import hashlib
import struct
from collections.abc import Coroutine, Sequence
from importlib.resources import files
from typing import Any

from redis.asyncio import RedisCluster
from redis.exceptions import NoScriptError, RedisError

from gateway.ledger.port import LedgerUnavailableError
from gateway.ledger.redis_durability import Durability, Info, infos_of
from gateway.redis_client import FAILURES, Client, close, connect
from gateway.redis_pipeline import Pipeline
from gateway.replay.port import EPOCH_BYTES, FENCE_BYTES, HELD, Claims, Found, Settlements, Times, Verdict

_TRIES = 2
_CONNECTIONS_MAX = 32  # of a cluster, for each node; else two are enough
_PLAIN = {ord(str(verdict.value)): HELD if verdict is Verdict.HELD else Found(verdict) for verdict in Verdict}
_TOLD = struct.Struct(f">{FENCE_BYTES}sI")
_TOOK = ord("1")


class _Script:
    def __init__(self, name: str) -> None:
        self.text = files("gateway.replay").joinpath("lua", f"{name}.lua").read_text("utf-8")
        self.digest = hashlib.sha1(self.text.encode(), usedforsecurity=False).hexdigest()  # as EVALSHA wants it


class RedisKeys:
    """`Keys` for any number of processes. `timeout_s` bounds each call, its second try included.

    A server that cannot keep what it acknowledges is of no use: what it forgot would run again.
    """

    def __init__(self, url: str, *, timeout_s: float = 2.0, require_durable: bool = True) -> None:
        self._client: Client = connect(url, timeout_s=timeout_s, connections_max=_CONNECTIONS_MAX)
        shared = None if isinstance(self._client, RedisCluster) else Pipeline(self._client.connection_pool, timeout_s)
        self._pipeline = shared
        self._timeout_s = timeout_s
        self._durability = Durability(self._infos, require_durable=require_durable)
        self._claim, self._settle = _Script("claim"), _Script("settle")

    async def claim(self, owner: bytes, claims: Claims, times: Times, keys_max: int) -> Sequence[Found]:
        verdicts, told, *kept = await self._run(
            self._claim, owner, times.holds_ms, times.keeps_ms, keys_max, *_holders(claims),
            b"".join(claims.names), b"".join(claims.digests), claims.flags,
        )  # fmt: skip
        found = [_PLAIN[said] for said in verdicts]
        if told:
            rows = [row for row, each in enumerate(found) if each.verdict in (Verdict.KEPT, Verdict.LOST)]
            for row, (fence, which) in zip(rows, _TOLD.iter_unpack(told), strict=True):
                verdict = found[row].verdict
                found[row] = Found(verdict, fence, kept[which] if verdict is Verdict.KEPT else b"")
        return found

    async def settle(self, owner: bytes, settlements: Settlements, keeps_ms: int) -> Sequence[bool]:
        said = await self._run(
            self._settle, owner, keeps_ms, *_holders(settlements),
            b"".join(settlements.names), settlements.ends, settlements.kept,
        )  # fmt: skip
        return [each == _TOOK for each in said]

    async def sweep(self) -> int:
        await self._durability.ensure()
        return 0  # every key of the server has an end of its own

    async def close(self) -> None:
        if self._pipeline is not None:
            await self._pipeline.close()
        await close(self._client)

    async def _run(self, script: _Script, owner: bytes, *arguments: bytes | int) -> Any:
        await self._durability.ensure()
        try:
            return await self._within_deadline(self._evaluated(script, f"{{bg:keys:{owner.hex()}}}", arguments))
        except LedgerUnavailableError:
            self._durability.doubt()
            raise

    async def _infos(self) -> Sequence[Info]:
        infos: Sequence[Info] = await self._within_deadline(infos_of(self._client))
        return infos

    async def _within_deadline(self, asking: Coroutine[None, None, Any]) -> Any:
        try:
            async with asyncio.timeout(self._timeout_s):
                return await asking
        except FAILURES as error:
            raise LedgerUnavailableError(f"the store of idempotency keys: {type(error).__name__}") from error

    async def _evaluated(self, script: _Script, key: str, arguments: Sequence[bytes | int]) -> Any:
        call = self._client.execute_command if self._pipeline is None else self._pipeline.call
        for left in reversed(range(_TRIES)):
            try:
                return await call("EVALSHA", script.digest, 1, key, *arguments)
            except NoScriptError:
                return await call("EVAL", script.text, 1, key, *arguments)
            except FAILURES:
                if not left:
                    raise
        raise RedisError("unreachable")


def _holders(of: Claims | Settlements) -> tuple[bytes, bytes, bytes]:
    """Group, epoch and places."""
    return of.group, of.epoch.to_bytes(EPOCH_BYTES, "big"), struct.pack(f">{len(of.places)}I", *of.places)
