"""An upstream that does what a script says, byte for byte, and records what it was sent.

It listens on loopback (TCP, with or without TLS) or on a Unix socket. Nothing in it waits for time: a script holds an
answer back with an `asyncio.Event`, and a test waits with `until` for what it expects the upstream to have seen.
"""

import asyncio
import enum
import socket
import ssl
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from gateway.upstream.address import Address
from tests.fakes.until import PATIENCE_S

_HEAD_BYTES_MAX = 1 << 20


class Then(enum.Enum):
    """What happens to the connection after an answer."""

    KEEP = "the next request is read"
    CLOSE = "FIN"
    RESET = "RST"
    HANG = "open, but nothing is read nor written any more"


@dataclass(frozen=True, slots=True)
class Received:
    """A request as it came. Connections are counted from 1; `time_s` (the loop's clock): the head was there."""

    connection: int
    head: bytes
    time_s: float
    body: bytes = b""

    @property
    def method(self) -> str:
        return self.head.split(b" ", 1)[0].decode()

    @property
    def target(self) -> str:
        return self.head.split(b" ", 2)[1].decode()

    def field(self, name: bytes) -> bytes:
        """The value of the field `name` (lower case), empty when it is not there."""
        lines = (line.partition(b":") for line in self.head.split(b"\r\n")[1:])
        return next((value.strip() for found, _, value in lines if found.lower() == name), b"")


@dataclass(frozen=True, slots=True)
class Answer:
    """Bytes to write, each part in a segment of its own where the network allows, and what comes `then`.

    The first part waits for `after`. `between` is awaited before each further part.
    """

    parts: Sequence[bytes] = ()
    then: Then = Then.KEEP
    after: asyncio.Event | None = None
    between: asyncio.Event | None = None


Script = Callable[[Received], Answer]


def plain(body: bytes = b"", status: bytes = b"200 OK", fields: bytes = b"") -> bytes:
    """A well-formed answer with a Content-Length; `fields` are whole lines."""
    return b"HTTP/1.1 %b\r\n%bContent-Length: %d\r\n\r\n%b" % (status, fields, len(body), body)


def echo(request: Received) -> Answer:
    """Says which request it answers, so that no answer can be taken for another's."""
    body = b"%b %b" % (request.method.encode(), request.target.encode())
    if request.method != "HEAD":
        return Answer([plain(body)])
    return Answer([b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body)])


def in_turn(*answers: Answer | bytes, rest: Script = echo) -> Script:
    """Each request, on whatever connection, gets the next of `answers`; then `rest` answers."""
    left = list(answers)

    def script(request: Received) -> Answer:
        if not left:
            return rest(request)
        answer = left.pop(0)
        return Answer([answer]) if isinstance(answer, bytes) else answer

    return script


@dataclass
class ScriptedUpstream:
    """An async context manager. `on_accept(n)` may end connection n before anything is read.

    With `answers_early` the script is asked when the head is there, and the body is read after the answer.
    `reads` False leaves bodies unread: the kernel's buffers fill up.
    """

    script: Script = echo
    on_accept: Callable[[int], Then] = lambda _: Then.KEEP
    answers_early: bool = False
    reads: bool = True
    path: Path | None = None
    tls: ssl.SSLContext | None = None
    client_tls: ssl.SSLContext | None = None
    server_name: str = "localhost"
    requests: list[Received] = field(default_factory=list)
    connections: int = 0
    open: int = 0
    open_max: int = 0
    in_flight: int = 0
    in_flight_max: int = 0
    written: int = 0
    _server: asyncio.Server | None = None
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)
    _writers: dict[int, asyncio.StreamWriter] = field(default_factory=dict)
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    async def __aenter__(self) -> Self:
        accept = self._accepted
        if self.path is not None:
            self._server = await asyncio.start_unix_server(accept, self.path, limit=_HEAD_BYTES_MAX)
        else:
            self._server = await asyncio.start_server(
                accept, "127.0.0.1", 0, limit=_HEAD_BYTES_MAX, ssl=self.tls, backlog=1024
            )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()

    @property
    def port(self) -> int:
        assert self._server is not None
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    @property
    def address(self) -> Address:
        if self.path is not None:
            return Address(path=str(self.path))
        if self.client_tls is not None:
            return Address("127.0.0.1", self.port, tls=self.client_tls, server_name=self.server_name)
        return Address("127.0.0.1", self.port)

    def received(self, method: str) -> list[Received]:
        return [request for request in self.requests if request.method == method]

    async def until(self, seen: Callable[[], bool]) -> None:
        """Wait for the upstream to have seen something; fails after ten seconds."""
        async with asyncio.timeout(PATIENCE_S):
            while not seen():
                self._changed.clear()
                await self._changed.wait()

    async def until_requests(self, count: int) -> None:
        await self.until(lambda: len(self.requests) >= count)

    async def write(self, connection: int, data: bytes) -> None:
        """Bytes that no request asked for."""
        self._writers[connection].write(data)
        await self._writers[connection].drain()

    def hang_up(self, connection: int, then: Then = Then.CLOSE) -> None:
        """End a connection from outside the script."""
        writer = self._writers[connection]
        _end(writer, then)

    async def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        self.open += 1
        self.open_max = max(self.open_max, self.open)
        number = self.connections
        self._writers[number] = writer
        self._note()
        then = Then.RESET
        try:
            then = self.on_accept(number)
            while then is Then.KEEP:
                then = await self._one(number, reader, writer)
            if then is Then.HANG:
                await asyncio.get_running_loop().create_future()
        except (asyncio.IncompleteReadError, ConnectionError, ssl.SSLError, asyncio.CancelledError):
            then = Then.RESET  # the other side is gone, or the test is over
        finally:
            self._tasks.discard(task)
            self.open -= 1
            _end(writer, then)
            self._note()

    async def _one(self, number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Then:
        head = await reader.readuntil(b"\r\n\r\n")
        request = Received(number, head, asyncio.get_running_loop().time())
        if not self.answers_early and self.reads:
            request = Received(number, head, request.time_s, await _body(request, reader))
        self.requests.append(request)
        self.in_flight += 1
        self.in_flight_max = max(self.in_flight_max, self.in_flight)
        self._note()
        try:
            then = await self._answer(self.script(request), writer)
        finally:
            self.in_flight -= 1
            self._note()
        if self.answers_early and self.reads and then is Then.KEEP:
            await _body(request, reader)
        return then

    async def _answer(self, answer: Answer, writer: asyncio.StreamWriter) -> Then:
        if answer.after is not None:
            await answer.after.wait()
        for index, part in enumerate(answer.parts):
            if index:
                await turn_of_the_loop()
                if answer.between is not None:
                    await answer.between.wait()
            writer.write(part)
            await writer.drain()
            self.written += len(part)
        return answer.then

    def _note(self) -> None:
        self._changed.set()


async def turn_of_the_loop() -> None:
    """Let the loop go round, so that a client on the same loop reads what was written as a segment of its own."""
    for _ in range(3):
        await asyncio.sleep(0)


async def _body(request: Received, reader: asyncio.StreamReader) -> bytes:
    if request.field(b"transfer-encoding") != b"chunked":
        return await reader.readexactly(int(request.field(b"content-length") or 0))
    body = b""
    while size := int(await reader.readline(), 16):
        body += (await reader.readexactly(size + 2))[:-2]
    await reader.readuntil(b"\r\n")
    return body


def _end(writer: asyncio.StreamWriter, then: Then) -> None:
    sock = writer.get_extra_info("socket")
    if then is Then.RESET:
        if sock is not None and sock.family != socket.AF_UNIX and not writer.transport.is_closing():
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()
    else:
        writer.close()
