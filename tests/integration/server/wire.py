"""A raw HTTP/1.1 client: it sends the bytes it is given and shows all that comes back."""

import asyncio
import json
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Any, NamedTuple, Self

from tests.fakes.until import PATIENCE_S

Fields = Sequence[tuple[str, str]]


class Answer(NamedTuple):
    """One answer as it stood on the wire; `interims` came before it."""

    status: int
    reason: str
    fields: Fields
    body: bytes = b""
    interims: Sequence["Answer"] = ()
    trailers: Fields = ()

    def header(self, name: str) -> str | None:
        """The field's value, several joined by a comma; None without it."""
        found = self.headers(name)
        return ", ".join(found) if found else None

    def headers(self, name: str) -> list[str]:
        return [value for own, value in self.fields if own.lower() == name.lower()]

    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def slug(self) -> str:
        """The last part of a problem's type."""
        return str(self.json()["type"]).rpartition("/")[2]


class Wire:
    """One connection to a gateway."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    async def open(cls, port: int) -> Self:
        return cls(*await asyncio.open_connection("127.0.0.1", port, limit=1 << 24))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.writer.close()
        with suppress(OSError):
            await self.writer.wait_closed()

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        with suppress(OSError):  # the other side may have refused already: its answer tells
            await self.writer.drain()

    async def answer(self, method: str = "GET") -> Answer:
        """The next answer, its interim ones included."""
        async with asyncio.timeout(PATIENCE_S):
            interims: list[Answer] = []
            while True:
                head = await self.head()
                if head.status >= 200 or head.status == 101:
                    break
                interims.append(head)
            body, trailers = await self._body(head, method)
            return head._replace(body=body, trailers=trailers, interims=interims)

    async def head(self) -> Answer:
        """The next status line and its fields."""
        lines = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        version, status, reason = lines[0].split(" ", 2)
        assert version == "HTTP/1.1"
        return Answer(int(status), reason, _fields(lines[1:-2]))

    async def is_closed(self) -> bool:
        """Whether the other side closes with nothing further to say."""
        async with asyncio.timeout(PATIENCE_S):
            try:
                return await self.reader.read(1) == b""
            except ConnectionError:
                return True

    async def chunk(self) -> bytes:
        """The next chunk of a chunked body; empty at the end."""
        size = int(await self.reader.readuntil(b"\r\n"), 16)
        return (await self.reader.readexactly(size + 2))[:-2] if size else b""

    async def _body(self, head: Answer, method: str) -> tuple[bytes, Fields]:
        if method == "HEAD" or head.status in (101, 204, 304):
            return b"", ()
        if head.header("Transfer-Encoding"):
            return await self._chunked()
        length = head.header("Content-Length")
        return (await self.reader.read() if length is None else await self.reader.readexactly(int(length))), ()

    async def _chunked(self) -> tuple[bytes, Fields]:
        chunks = []
        while chunk := await self.chunk():
            chunks.append(chunk)
        lines = []
        while (line := await self.reader.readuntil(b"\r\n")) != b"\r\n":
            lines.append(line.decode("latin-1")[:-2])
        return b"".join(chunks), _fields(lines)


def request(
    method: str, target: str, fields: Iterable[tuple[str, str]] = (), body: bytes = b"", *, host: str = "api.test"
) -> bytes:
    """A well-formed request: Host first, then `fields` as given, Content-Length where there is a body."""
    lines = [f"{method} {target} HTTP/1.1", f"Host: {host}", *(f"{name}: {value}" for name, value in fields)]
    if body:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


async def ask(port: int, data: bytes, method: str = "GET") -> Answer:
    """Send `data` on a connection of its own; the answer to it."""
    async with await Wire.open(port) as wire:
        await wire.send(data)
        return await wire.answer(method)


async def get(port: int, target: str, *fields: tuple[str, str]) -> Answer:
    return await ask(port, request("GET", target, fields))


async def post(port: int, target: str, body: bytes, *fields: tuple[str, str]) -> Answer:
    """POST; JSON unless `fields` say otherwise."""
    typed = any(name.lower() == "content-type" for name, _ in fields)
    return await ask(
        port, request("POST", target, [*fields, *([] if typed else [("Content-Type", "application/json")])], body)
    )


async def post_batch(port: int, envelope: object, *fields: tuple[str, str]) -> Answer:
    """POST /batch with a document, or with the bytes of one."""
    body = envelope if isinstance(envelope, bytes) else json.dumps(envelope).encode()
    return await post(port, "/batch", body, *fields)


def without_replica(fields: Fields) -> list[tuple[str, str]]:
    """`fields` with Via as every replica says it: each adds a comment of its own, by which it knows a loop."""
    return [(name, value.partition(" (")[0] if name == "Via" else value) for name, value in fields]


def _fields(lines: Sequence[str]) -> Fields:
    return [(name, value.strip(" \t")) for name, _, value in (line.partition(":") for line in lines)]
