"""Runs the ledger's Lua scripts on Redis or Valkey, each call with a deadline and sent exactly once.

A script is a constant text, known to the server by its digest; only a server that answers NOSCRIPT, which has executed
nothing, is sent the text. Whatever else goes wrong is `LedgerUnavailableError`: the scripts are made so that the same
call again has no further effect.
"""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Sequence
from importlib.resources import files
from typing import Any

from redis.asyncio import RedisCluster
from redis.exceptions import NoScriptError

from gateway.ledger.port import LedgerUnavailableError
from gateway.redis_client import FAILURES, Client, close
from gateway.redis_pipeline import Pipeline


class Script:
    """The text of a transition behind what all of its kind begin with, and its digest."""

    def __init__(self, prelude: str, name: str) -> None:
        folder = files("gateway.ledger") / "lua"
        texts = [(folder / f"{part}.lua").read_text(encoding="utf-8") for part in (prelude, name)]
        self.text = "\n".join(texts)
        self.sha = hashlib.sha1(self.text.encode(), usedforsecurity=False).hexdigest()  # as EVALSHA wants it


OF_BATCH = ("accept", "command", "forget", "intend", "lease", "mend", "parts", "record", "renew", "tend")
OF_INDEX = ("browse", "due", "forget", "health", "hurry", "lost", "note", "pick", "reserve", "waits")


class Scripts:
    """`timeout_s` bounds every call, its connecting included. What one server is asked at the same time goes out
    together."""

    def __init__(self, client: Client, timeout_s: float) -> None:
        self._client = client
        self._pipeline = None if isinstance(client, RedisCluster) else Pipeline(client.connection_pool, timeout_s)
        self._call = client.execute_command if self._pipeline is None else self._pipeline.call
        self._timeout_s = timeout_s
        self._scripts = {name: Script("batch", name) for name in OF_BATCH}
        self._scripts |= {f"index_{name}": Script("index", f"index_{name}") for name in OF_INDEX}

    async def run(self, name: str, keys: Sequence[str], arguments: Sequence[bytes | str | int]) -> Any:
        """The script's answer. Raises what redis-py raises: to be called within `within_deadline`."""
        script = self._scripts[name]
        try:
            return await self._call("EVALSHA", script.sha, len(keys), *keys, *arguments)
        except NoScriptError:
            return await self._call("EVAL", script.text, len(keys), *keys, *arguments)

    async def read(self, commands: Sequence[Sequence[str | int]]) -> list[Any]:
        """The answers of commands that change nothing. To be called within `within_deadline`."""
        return await asyncio.gather(*(self._call(*command) for command in commands))

    async def close(self) -> None:
        """The client with it."""
        if self._pipeline is not None:
            await self._pipeline.close()
        await close(self._client)

    async def within_deadline(self, call: Callable[[], Awaitable[Any]]) -> Any:
        """What `call` answers. Raises `LedgerUnavailableError`, after `timeout_s` at the latest."""
        try:
            async with asyncio.timeout(self._timeout_s):
                return await call()
        except TimeoutError:
            raise LedgerUnavailableError(f"Redis did not answer within {self._timeout_s:g} s") from None
        except FAILURES as error:
            raise LedgerUnavailableError(f"Redis: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    """The first words of an error, without what a server may have echoed of a command."""
    return str(error).partition("\n")[0][:160] or type(error).__name__
