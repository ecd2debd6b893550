"""Calls to a Redis that share one connection: those that come while others are under way go out together.

A round is one write and one read for each of its calls, in their order. What breaks or exceeds its time ends the
connection and every call of that round; whoever made one may repeat it, and the next round connects anew.
"""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from hiredis import pack_command
from redis.asyncio import ConnectionPool
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import ResponseError

from gateway.redis_client import FAILURES

_Call = tuple[bytes, "asyncio.Future[Any]"]


class Pipeline:
    """Answers commands over one connection of `pool`. `timeout_s` bounds a round, connecting included."""

    def __init__(self, pool: ConnectionPool, timeout_s: float) -> None:
        self._pool = pool
        self._timeout_s = timeout_s
        self._connection: AbstractConnection | None = None
        self._waiting: list[_Call] = []
        self._rounds: asyncio.Task[None] | None = None

    async def call(self, *command: bytes | str | int) -> Any:
        """The server's answer. Raises one of `FAILURES`, or what the server refuses with."""
        loop = asyncio.get_running_loop()
        answer = loop.create_future()
        self._waiting.append((pack_command(command), answer))  # type: ignore[arg-type]  # it says tuples of one
        if self._rounds is None:
            self._rounds = loop.create_task(self._run())
        return await answer

    async def close(self) -> None:
        """To be called once nobody waits for an answer."""
        if self._rounds is not None:
            self._rounds.cancel()
            await asyncio.wait([self._rounds])

    async def _run(self) -> None:
        try:
            while self._waiting:
                together, self._waiting = self._waiting, []
                await self._round(together)
        finally:
            self._rounds = None

    async def _round(self, together: Sequence[_Call]) -> None:
        try:
            async with asyncio.timeout(self._timeout_s):
                if self._connection is None:
                    self._connection = await self._pool.get_connection()  # type: ignore[no-untyped-call]
                packed = [command for command, _ in together]
                await self._connection.send_packed_command(packed, check_health=False)
                for _, answer in together:
                    await _answer(self._connection, answer)
        except FAILURES as error:
            await self._leave()
            for _, answer in together:
                if not answer.done():
                    answer.set_exception(error)

    async def _leave(self) -> None:
        """Nothing that was asked on this connection is answered any more. The pool gives another, and asks sentinels
        anew where there are some."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(*FAILURES):
                await connection.disconnect(nowait=True)
            await self._pool.release(connection)


async def _answer(connection: AbstractConnection, answer: "asyncio.Future[Any]") -> None:
    """The next answer to whoever waits for it; the server's own error is one as well."""
    try:
        said = await connection.read_response()
    except ResponseError as refusal:
        if not answer.done():
            answer.set_exception(refusal)
        return
    if not answer.done():
        answer.set_result(said)
