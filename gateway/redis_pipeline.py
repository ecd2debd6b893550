"""Calls to a Redis that share one connection: those that come while others are under way go out together.

A round is one write for all of its calls, and one answer for each, in their order. What breaks or exceeds its time ends
the connection and every call of that round; whoever made one may repeat it, and the next round connects anew. What
nobody waits for any more is not sent, and what a server has not got in time does not reach it later: whoever made the
call has told its caller that it failed.
"""

import asyncio
import socket
import struct
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, cast

from hiredis import Reader, pack_command
from redis.asyncio import ConnectionPool
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import ConnectionError as LostError
from redis.exceptions import InvalidResponse, ReadOnlyError, ResponseError

from gateway.redis_client import FAILURES

_Answer = asyncio.Future[Any]

_AT_ONCE = struct.pack("ii", 1, 0)  # SO_LINGER: what the kernel has not sent yet is thrown away (socket(7))


class Pipeline:
    """Answers commands over one connection of `pool`. `timeout_s` bounds a round, and connecting before it."""

    def __init__(self, pool: ConnectionPool, timeout_s: float) -> None:
        self._pool = pool
        self._timeout_s = timeout_s
        self._connection: AbstractConnection | None = None
        self._line: _Line | None = None
        self._opening: asyncio.Task[None] | None = None
        self._waiting: list[tuple[bytes, _Answer]] = []

    async def call(self, *command: bytes | str | int, until_s: float | None = None) -> Any:
        """The server's answer. Raises one of `FAILURES`, or what the server refuses with; `TimeoutError` where the
        loop's clock shows `until_s` before that."""
        loop = asyncio.get_running_loop()
        answer = loop.create_future()
        self._waiting.append((pack_command(command), answer))  # type: ignore[arg-type]  # it says tuples of one
        if len(self._waiting) == 1:
            loop.call_soon(self._next)  # with all that this turn of the loop asks
        if until_s is None:
            return await answer
        timer = loop.call_at(until_s, _tell, answer, TimeoutError())  # asyncio.timeout_at costs six times as much
        try:
            return await answer
        finally:
            timer.cancel()

    async def close(self) -> None:
        """To be called once nobody waits for an answer."""
        if self._opening is not None:
            self._opening.cancel()
            await asyncio.wait([self._opening])
        await self._leave()

    def _next(self) -> None:
        """Begin a round with all that waits, unless one is under way."""
        if not self._waiting or self._opening is not None:
            return
        if self._line is None or self._line.is_lost:
            self._opening = asyncio.get_running_loop().create_task(self._open())
        elif not self._line.is_busy:
            together, self._waiting = [call for call in self._waiting if not call[1].done()], []
            if together:
                self._line.send(together)

    async def _open(self) -> None:
        try:
            async with asyncio.timeout(self._timeout_s):
                await self._leave()
                self._connection = await self._pool.get_connection()  # type: ignore[no-untyped-call]
                self._line = _Line(self._connection, self._timeout_s, self._next)
        except Exception as error:  # a defect as well: they would wait for ever, and so would all after them
            together, self._waiting = self._waiting, []
            for _, answer in together:
                _tell(answer, error)
        finally:
            self._opening = None
        self._next()

    async def _leave(self) -> None:
        """The pool gives another connection, and asks sentinels anew where there are some."""
        line, connection, self._line, self._connection = self._line, self._connection, None, None
        if line is not None:
            line.lose(LostError("closed"))  # a farewell under TLS would last as long as the server likes
        if connection is not None:
            try:
                await connection.disconnect()
            finally:
                await self._pool.release(connection)


class _Line(asyncio.Protocol):
    """Reads the answers of one round after the other from a connection, in place of redis-py's reader, which takes four
    times as long. `ended` is called when a round is over."""

    def __init__(self, connection: AbstractConnection, timeout_s: float, ended: Callable[[], None]) -> None:
        self._timeout_s = timeout_s
        self._ended = ended
        errors = connection._parser.parse_error  # its classes of errors
        self._reader = Reader(protocolError=InvalidResponse, replyError=errors)
        self._answers: deque[_Answer] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._due_s = 0.0
        self._loop = asyncio.get_running_loop()
        self.is_lost = False
        writer = cast(asyncio.StreamWriter, connection._writer)  # there is no public way to it
        self._transport = writer.transport
        self._replaced = self._transport.get_protocol()
        self._transport.set_protocol(self)

    @property
    def is_busy(self) -> bool:
        return bool(self._answers)

    def send(self, together: Sequence[tuple[bytes, _Answer]]) -> None:
        self._answers.extend(answer for _, answer in together)
        self._due_s = self._loop.time() + self._timeout_s
        if self._timer is None:
            self._look()
        self._transport.writelines([command for command, _ in together])

    def data_received(self, data: bytes) -> None:
        self._reader.feed(data)
        try:
            self._read()
        except FAILURES as error:
            self.lose(error)

    def _read(self) -> None:
        """Raises what ends the connection."""
        answers = self._answers
        while answers:
            said = self._reader.gets()
            if said is False:  # the rest is to come; no answer is a boolean (RESP2)
                return
            if isinstance(said, ReadOnlyError) or (isinstance(said, Exception) and not isinstance(said, ResponseError)):
                raise said  # a server that is loading, or no primary any more: another may have its name by now
            _tell(answers.popleft(), said)
        if self._reader.has_data():
            raise InvalidResponse("an answer that nobody has asked for")
        self._ended()

    def connection_lost(self, exc: Exception | None) -> None:
        self._replaced.connection_lost(exc)  # redis-py may wait for that
        self.lose(exc or LostError("the server has closed the connection"))

    def lose(self, error: Exception) -> None:
        """Nothing that was asked on this connection is answered any more."""
        if not self.is_lost:
            self.is_lost = True
            connected = self._transport.get_extra_info("socket")  # None, or closed, where the server was first
            if connected is not None:
                with suppress(OSError, ValueError):  # uvloop says of a closed one the second
                    connected.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)
            self._transport.abort()
            if self._timer is not None:
                self._timer.cancel()
            while self._answers:
                _tell(self._answers.popleft(), error)
            self._ended()

    def _look(self) -> None:
        """Whether the round is late. One timer looks after many rounds: to set and to cancel one takes a sixth of a
        round."""
        self._timer = None
        if self._answers and self._loop.time() >= self._due_s:
            self.lose(TimeoutError())
        elif self._answers:
            self._timer = self._loop.call_at(self._due_s, self._look)


def _tell(answer: _Answer, said: object) -> None:
    if answer.done():
        return  # nobody waits for it any more
    if isinstance(said, Exception):
        answer.set_exception(said)
    else:
        answer.set_result(said)
