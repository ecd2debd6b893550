"""An upstream that reads requests by the narrowest grammar, and notes as a breach whatever else reaches it."""

import asyncio
import re
from typing import Self

_REQUEST_LINE = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+) ([!-~\x80-\xff]+) HTTP/1\.[01]")
_FIELD = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+): ?([\t -~\x80-\xff]*)")
_CHUNK_LINE = re.compile(rb"([0-9a-fA-F]{1,8})")


class BreachError(Exception):
    """What came is no request, or could be read as another one."""


class Recorder:
    """Answers each request with its target. `targets` are those that came, `breaches` what should not have come."""

    def __init__(self) -> None:
        self.targets: list[bytes] = []
        self.breaches: list[str] = []
        self.port = 0
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0, limit=1 << 20)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for task in list(self._open):
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)

    def taken(self) -> tuple[list[bytes], list[str]]:
        """Targets and breaches since the last call."""
        taken, self.targets, self.breaches = (self.targets, self.breaches), [], []
        return taken

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._open.add(task)
        try:
            while True:
                await self._one(reader, writer)
        except BreachError as breach:
            self.breaches.append(str(breach))
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass  # the proxy closed, or the test is over
        finally:
            self._open.discard(task)
            writer.close()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        first, *lines = (await reader.readuntil(b"\r\n\r\n"))[:-4].split(b"\r\n")
        line = _REQUEST_LINE.fullmatch(first)
        fields = [_FIELD.fullmatch(each) for each in lines]
        if line is None or None in fields:
            raise BreachError(repr((first, lines)))
        self.targets.append(line[2])
        head = [(field[1].lower().replace(b"_", b"-"), field[2].strip(b" \t")) for field in fields if field is not None]
        await _body(reader, head)
        body = b"" if line[1] == b"HEAD" else line[2]
        writer.write(b"HTTP/1.1 200 OK\r\nX-Target: %b\r\nContent-Length: %d\r\n\r\n" % (line[2], len(line[2])) + body)
        await writer.drain()


async def _body(reader: asyncio.StreamReader, head: list[tuple[bytes, bytes]]) -> None:
    framing = [field for field in head if field[0] in (b"content-length", b"transfer-encoding")]
    if not framing:
        return
    if len(framing) > 1:
        raise BreachError(repr(framing))
    name, value = framing[0]
    if name == b"content-length":
        if not value.isdigit():
            raise BreachError(repr(framing))
        await reader.readexactly(int(value))
        return
    if value != b"chunked":
        raise BreachError(repr(framing))
    while size := await _size(reader):
        if not (await reader.readexactly(size + 2)).endswith(b"\r\n"):
            raise BreachError("a chunk that does not end")
    while (line := await reader.readuntil(b"\r\n")) != b"\r\n":
        if _FIELD.fullmatch(line[:-2]) is None:
            raise BreachError(repr(line))


async def _size(reader: asyncio.StreamReader) -> int:
    line = (await reader.readuntil(b"\r\n"))[:-2]
    found = _CHUNK_LINE.fullmatch(line)
    if found is None:
        raise BreachError(repr(line))
    return int(found[1], 16)
