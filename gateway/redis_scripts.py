"""Scripts that a Redis or Valkey runs in one step, for who may say the same twice and for who may not.

A script is a constant text, known to the server by its digest. What one server is asked at the same time goes out
together.
"""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from redis.asyncio import RedisCluster
from redis.exceptions import NoScriptError

from gateway.redis_client import FAILURES, Client, close
from gateway.redis_pipeline import Pipeline


class Script:
    """A text, and its digest as EVALSHA wants it."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.digest = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()


class Scripts:
    """Over one client, which it closes. `timeout_s` bounds each call, its second try included.

    A server that answers NOSCRIPT has executed nothing, and is sent the text. Where not `once`, so is one whose answer
    is lost; and a call that is cancelled is not sent any more, or was before whatever is asked afterwards.
    """

    def __init__(self, client: Client, timeout_s: float, *, once: bool) -> None:
        self._client = client
        self._timeout_s = timeout_s
        self._again = (NoScriptError,) if once else FAILURES
        self._pipeline = None if isinstance(client, RedisCluster) else Pipeline(client.connection_pool, timeout_s)
        in_cluster = self._in_cluster if once else self._in_order
        self._call: Callable[..., Awaitable[Any]] = in_cluster if self._pipeline is None else self._pipeline.call

    async def run(self, script: Script, keys_count: int, *arguments: bytes | str | int) -> Any:
        """The script's answer; `arguments` begin with its keys. Raises one of `FAILURES`."""
        until_s = asyncio.get_running_loop().time() + self._timeout_s
        try:
            return await self._call("EVALSHA", script.digest, keys_count, *arguments, until_s=until_s)
        except self._again:
            return await self._call("EVAL", script.text, keys_count, *arguments, until_s=until_s)

    async def read(self, commands: Sequence[Sequence[str | int]]) -> list[Any]:
        """The answers of commands that change nothing. Raises one of `FAILURES`."""
        until_s = asyncio.get_running_loop().time() + self._timeout_s
        return await asyncio.gather(*(self._call(*command, until_s=until_s) for command in commands))

    async def close(self) -> None:
        if self._pipeline is not None:
            await self._pipeline.close()
        await close(self._client)

    async def _in_order(self, *command: bytes | str | int, until_s: float) -> Any:
        """Who is cancelled waits for its end: another connection might take what is asked next there first."""
        asking = asyncio.ensure_future(self._in_cluster(*command, until_s=until_s))
        try:
            return await asyncio.shield(asking)
        except asyncio.CancelledError:
            await asyncio.wait([asking])
            asking.exception()  # nobody's: asyncio would log it
            raise

    async def _in_cluster(self, *command: bytes | str | int, until_s: float) -> Any:
        async with asyncio.timeout_at(until_s):
            return await self._client.execute_command(*command)
