"""Idempotency keys shared by replicas, in Redis or Valkey: one script a transition, the server's clock.

All keys of an owner live in one slot, so that a cluster serves them; each ends by itself. A call whose answer is lost
is made once more: the fences make the second one find what the first one did. What a call says of many keys goes as a
few arguments, fields of known lengths: to hand them over one by one costs more than all the rest.
"""

import struct
from collections.abc import Sequence
from importlib.resources import files
from typing import Any

from gateway.ledger.port import LedgerUnavailableError
from gateway.ledger.redis_durability import Durability, Info, infos_of
from gateway.redis_client import FAILURES, connect
from gateway.redis_scripts import Script, Scripts
from gateway.replay.port import EPOCH_BYTES, FENCE_BYTES, HELD, Claims, Found, Settlements, Times, Verdict

_CONNECTIONS_MAX = 32  # of a cluster, for each node; else two are enough
_PLAIN = {ord(str(verdict.value)): HELD if verdict is Verdict.HELD else Found(verdict) for verdict in Verdict}
_TOLD = struct.Struct(f">{FENCE_BYTES}sI")
_TOOK = ord("1")


class RedisKeys:
    """`Keys` for any number of processes. `timeout_s` bounds each call, its second try included.

    A server that cannot keep what it acknowledges is of no use: what it forgot would run again.
    """

    def __init__(self, url: str, *, timeout_s: float = 2.0, require_durable: bool = True) -> None:
        self._client = connect(url, timeout_s=timeout_s, connections_max=_CONNECTIONS_MAX)
        self._scripts = Scripts(self._client, timeout_s, once=False)
        self._timeout_s = timeout_s
        self._durability = Durability(self._infos, require_durable=require_durable)
        self._claim, self._settle = _script("claim"), _script("settle")

    async def claim(self, owner: bytes, claims: Claims, times: Times, keys_max: int) -> Sequence[Found]:
        verdicts, told, *kept = await self._run(
            self._claim, owner, b"%d %d %d" % (times.holds_ms, times.keeps_ms, keys_max), _holders(claims),
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
            self._settle, owner, keeps_ms, _holders(settlements),
            b"".join(settlements.names), settlements.ends, settlements.kept,
        )  # fmt: skip
        return [each == _TOOK for each in said]

    async def sweep(self) -> int:
        await self._durability.ensure()
        return 0  # every key of the server has an end of its own

    async def close(self) -> None:
        await self._scripts.close()

    async def _run(self, script: Script, owner: bytes, *arguments: bytes | int) -> Any:
        await self._durability.ensure()
        keys = f"{{bg:keys:{owner.hex()}}}:all"
        try:
            return await self._scripts.run(script, 2, keys, f"{{bg:keys:{owner.hex()}}}:ends", *arguments)
        except FAILURES as error:
            self._durability.doubt()
            raise _unavailable(error) from error

    async def _infos(self) -> Sequence[Info]:
        try:
            return await infos_of(self._client, self._timeout_s)
        except FAILURES as error:
            raise _unavailable(error) from error


def _script(name: str) -> Script:
    return Script(files("gateway.replay").joinpath("lua", f"{name}.lua").read_text("utf-8"))


def _unavailable(error: Exception) -> LedgerUnavailableError:
    return LedgerUnavailableError(f"the store of idempotency keys: {type(error).__name__}")


def _holders(of: Claims | Settlements) -> bytes:
    """Group, epoch and places."""
    return of.group + of.epoch.to_bytes(EPOCH_BYTES, "big") + struct.pack(f">{len(of.places)}I", *of.places)
