"""Scripts that a Redis or Valkey runs in one step, for who may say the same twice: what is lost is said once more.

A script is a constant text, known to the server by its digest. What one server is asked at the same time goes out
together. A call that is cancelled is not sent any more, or was before whatever is asked afterwards.
"""

import asyncio
import hashlib
from typing import Any

from redis.asyncio import RedisCluster

from gateway.redis_client import FAILURES, Client, close
from gateway.redis_pipeline import Pipeline


class Script:
    """A text, and its digest as EVALSHA wants it."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.digest = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()


class Scripts:
    """Over one client, which it closes. `timeout_s` bounds each call, its second try included."""

    def __init__(self, client: Client, timeout_s: float) -> None:
        self._client = client
        self._timeout_s = timeout_s
        self._pipeline = None if isinstance(client, RedisCluster) else Pipeline(client.connection_pool, timeout_s)
        self._call = self._in_cluster if self._pipeline is None else self._pipeline.call

    async def run(self, script: Script, keys_count: int, *arguments: bytes | str | int) -> Any:
        """The script's answer; `arguments` begin with its keys. Raises one of `FAILURES`."""
        until_s = asyncio.get_running_loop().time() + self._timeout_s
        try:
            return await self._call("EVALSHA", script.digest, keys_count, *arguments, until_s=until_s)
        except FAILURES:  # it was lost, or the server does not know the text
            return await self._call("EVAL", script.text, keys_count, *arguments, until_s=until_s)

    async def close(self) -> None:
        if self._pipeline is not None:
            await self._pipeline.close()
        await close(self._client)

    async def _in_cluster(self, *command: bytes | str | int, until_s: float) -> Any:
        """Who is cancelled waits for its end: another connection might take what is asked next there first."""
        asking = asyncio.ensure_future(self._asked(command, until_s))
        try:
            return await asyncio.shield(asking)
        except asyncio.CancelledError:
            await asyncio.wait([asking])
            raise

    async def _asked(self, command: tuple[bytes | str | int, ...], until_s: float) -> Any:
        async with asyncio.timeout_at(until_s):
            return await self._client.execute_command(*command)
