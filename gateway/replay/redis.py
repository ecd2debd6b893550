"""Idempotency keys shared by replicas, in Redis or Valkey: one script a transition, the server's clock.

All keys of an owner live in one slot, so that a cluster serves them; each ends by itself. A call whose answer is lost
is made once more: the fences make the second one find what the first one did.
"""

import asyncio
import hashlib
from collections.abc import Coroutine, Sequence
from importlib.resources import files
from typing import Any

from redis.exceptions import NoScriptError, RedisError

from gateway.ledger.port import LedgerUnavailableError
from gateway.ledger.redis_durability import Durability, Info, infos_of
from gateway.redis_client import Client, close, connect
from gateway.replay.port import Claim, Found, Settlement, Times, Verdict

_TRIES = 2


class _Script:
    def __init__(self, name: str) -> None:
        self.text = files("gateway.replay").joinpath("lua", f"{name}.lua").read_text("utf-8")
        self.digest = hashlib.sha1(self.text.encode(), usedforsecurity=False).hexdigest()  # as EVALSHA wants it


class RedisKeys:
    """`Keys` for any number of processes. `timeout_s` bounds each call, its second try included.

    A server that cannot keep what it acknowledges is of no use: what it forgot would run again.
    """

    def __init__(
        self, url: str, *, timeout_s: float = 2.0, connections_max: int = 32, require_durable: bool = True
    ) -> None:
        self._client: Client = connect(url, timeout_s=timeout_s, connections_max=connections_max)
        self._timeout_s = timeout_s
        self._durability = Durability(self._infos, require_durable=require_durable)
        self._claim, self._settle = _Script("claim"), _Script("settle")

    async def claim(self, owner: bytes, claims: Sequence[Claim], times: Times, keys_max: int) -> Sequence[Found]:
        arguments: list[bytes | int] = [times.holds_ms, times.keeps_ms, keys_max]
        for each in claims:
            arguments += [each.name, each.digest, each.fence, each.repeatable + 2 * each.anew]
        answer = await self._run(self._claim, _keys(owner, [each.name for each in claims]), arguments)
        return [Found(Verdict(verdict), kept) for verdict, kept in zip(answer[::2], answer[1::2], strict=True)]

    async def settle(self, owner: bytes, settlements: Sequence[Settlement], keeps_ms: int) -> Sequence[bool]:
        arguments: list[bytes | int] = [keeps_ms]
        for each in settlements:
            arguments += [each.name, each.fence, int(each.end), each.kept]
        answer = await self._run(self._settle, _keys(owner, [each.name for each in settlements]), arguments)
        return [took == 1 for took in answer]

    async def sweep(self) -> int:
        await self._durability.ensure()
        return 0  # every key of the server has an end of its own

    async def close(self) -> None:
        await close(self._client)

    async def _run(self, script: _Script, keys: Sequence[str], arguments: Sequence[bytes | int]) -> Any:
        await self._durability.ensure()
        try:
            return await self._within_deadline(self._evaluated(script, keys, arguments))
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
        except (RedisError, OSError, TimeoutError) as error:
            raise LedgerUnavailableError(f"the store of idempotency keys: {type(error).__name__}") from error

    async def _evaluated(self, script: _Script, keys: Sequence[str], arguments: Sequence[bytes | int]) -> Any:
        for left in reversed(range(_TRIES)):
            try:
                return await self._client.execute_command("EVALSHA", script.digest, len(keys), *keys, *arguments)
            except NoScriptError:
                return await self._client.execute_command("EVAL", script.text, len(keys), *keys, *arguments)
            except (RedisError, OSError):
                if not left:
                    raise
        raise RedisError("unreachable")


def _keys(owner: bytes, names: Sequence[bytes]) -> list[str]:
    tag = f"{{bg:replay:{owner.hex()}}}"
    return [f"{tag}:keys", *(f"{tag}:{name.hex()}" for name in names)]
