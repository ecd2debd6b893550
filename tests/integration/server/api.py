"""An API that knows nothing of batches: a raw server that records each request and answers what it is told to."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Self

from tests.fakes.until import PATIENCE_S


class Received:
    """One request as it stood on the wire. `body` and `trailers` are there once they have been read."""

    def __init__(self, head: bytes, reader: asyncio.StreamReader, connection: int) -> None:
        lines = head.decode("latin-1").lstrip("\r\n").split("\r\n")[:-2]  # empty lines may come before
        self.method, self.target, self.version = lines[0].split(" ")
        self.fields = [(name, value.strip(" \t")) for name, _, value in (line.partition(":") for line in lines[1:])]
        self.body = b""
        self.trailers: Sequence[str] = ()
        self.connection = connection
        self._reader = reader
        self._is_read = False

    def header(self, name: str) -> str | None:
        """The field's value, several joined by a comma; None without it."""
        found = [value for own, value in self.fields if own.lower() == name.lower()]
        return ", ".join(found) if found else None

    async def read(self) -> bytes:
        """The whole body."""
        if not self._is_read:
            self._is_read = True
            if self.header("Transfer-Encoding"):
                while piece := await self.chunk():
                    self.body += piece
            elif length := self.header("Content-Length"):
                self.body = await self._reader.readexactly(int(length))
        return self.body

    async def chunk(self) -> bytes:
        """The next chunk of a chunked body; empty at its end, when the trailers have been read too."""
        self._is_read = True
        size = int((await self._reader.readuntil(b"\r\n")).partition(b";")[0], 16)
        if size:
            return (await self._reader.readexactly(size + 2))[:-2]
        lines: list[str] = []
        while (line := await self._reader.readuntil(b"\r\n")) != b"\r\n":
            lines.append(line.decode("latin-1")[:-2])
        self.trailers = lines
        return b""


class Talk:
    """A handler's side of one exchange."""

    def __init__(self, request: Received, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.request = request
        self.reader = reader
        self.writer = writer

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()


Behaviour = Callable[[Talk], Awaitable[None]]


class Api:
    """Answers by path; an unknown path by `otherwise`, or with what was asked, as JSON."""

    def __init__(self, otherwise: Behaviour | None = None) -> None:
        self.received: list[Received] = []
        self.port = 0
        self.connections = 0
        self._behaviours: dict[str, Behaviour] = {}
        self._otherwise = otherwise or _echo
        self._open: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self._news = asyncio.Event()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0, limit=1 << 24, backlog=512)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        tasks = list(self._open)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def open(self) -> int:
        """Connections that are open now."""
        return len(self._open)

    @property
    def targets(self) -> list[str]:
        return [received.target for received in self.received]

    @property
    def last(self) -> Received:
        return self.received[-1]

    def on(self, path: str, behaviour: Behaviour | bytes) -> None:
        """Answer `path`, whatever its query, with these bytes or by this behaviour."""
        self._behaviours[path] = _saying(behaviour) if isinstance(behaviour, bytes) else behaviour

    async def until(self, count: int) -> None:
        """Wait until this many requests have come."""
        async with asyncio.timeout(PATIENCE_S):
            while len(self.received) < count:
                self._news.clear()
                await self._news.wait()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._open.add(task)
        self.connections += 1
        try:
            await self._serve(reader, writer, self.connections)
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass  # the other side has gone, or the test is over
        finally:
            self._open.discard(task)
            writer.close()
            with suppress(OSError, asyncio.CancelledError):
                await writer.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, connection: int) -> None:
        while not writer.is_closing():
            request = Received(await reader.readuntil(b"\r\n\r\n"), reader, connection)
            self.received.append(request)
            self._news.set()
            behaviour = self._behaviours.get(request.target.partition("?")[0], self._otherwise)
            await behaviour(Talk(request, reader, writer))
            await request.read()


def answer(status: int = 200, body: bytes = b"", *fields: tuple[str, str], reason: str = "Said") -> bytes:
    """An answer with Content-Length; JSON unless `fields` say otherwise."""
    typed = any(name.lower() == "content-type" for name, _ in fields) or not body
    lines = [
        f"HTTP/1.1 {status} {reason}",
        *(f"{name}: {value}" for name, value in fields),
        *([] if typed else ["Content-Type: application/json"]),
        *([] if status in (204, 304) else [f"Content-Length: {len(body)}"]),
    ]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


def chunked(*chunks: bytes, fields: Sequence[tuple[str, str]] = (), trailers: Sequence[tuple[str, str]] = ()) -> bytes:
    """A chunked answer."""
    lines = ["HTTP/1.1 200 OK", "Transfer-Encoding: chunked", *(f"{name}: {value}" for name, value in fields)]
    pieces = [b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks]
    last = "".join(["0\r\n", *(f"{name}: {value}\r\n" for name, value in trailers), "\r\n"])
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + b"".join(pieces) + last.encode("latin-1")


async def hang(_: Talk) -> None:
    """Never answers."""
    await asyncio.Event().wait()


def after(release: asyncio.Event, said: bytes) -> Behaviour:
    """Answers once it is released."""

    async def wait(talk: Talk) -> None:
        await release.wait()
        await talk.send(said)

    return wait


def _saying(data: bytes) -> Behaviour:
    async def say(talk: Talk) -> None:
        await talk.request.read()
        await talk.send(data)

    return say


async def _echo(talk: Talk) -> None:
    body = await talk.request.read()
    said = {"method": talk.request.method, "target": talk.request.target, "bytes": len(body)}
    content = b"" if talk.request.method == "HEAD" else json.dumps(said).encode()
    await talk.send(answer(200, content) if content else b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
