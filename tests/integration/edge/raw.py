"""Answers as they stand on the wire, and a caller that reads them; by another grammar than the gateway's."""

import asyncio
from contextlib import suppress
from dataclasses import dataclass, replace

from tests.fakes.until import PATIENCE_S

Field = tuple[bytes, bytes]


@dataclass(frozen=True, slots=True)
class Seen:
    """An answer; `ends`: how its body ended (`length`, `chunks`, `close`, or `none` where it has no body)."""

    version: bytes
    status: int
    reason: bytes
    fields: tuple[Field, ...]
    body: bytes = b""
    trailers: tuple[Field, ...] = ()
    ends: str = "none"
    interims: tuple["Seen", ...] = ()

    def header(self, name: bytes) -> list[bytes]:
        return [value for own, value in self.fields if own.lower() == name]


class Caller:
    """One caller, who opens a connection anew where the last one ended."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def ask(self, data: bytes, method: str) -> Seen:
        """Send the bytes of one request; the answer to it."""
        async with asyncio.timeout(PATIENCE_S):
            if self._reader is None or self._writer is None:
                self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port, limit=1 << 22)
            self._writer.write(data)
            seen = await answer(self._reader, method)
            if ends_connection(seen):
                await self.close()
            return seen

    async def close(self) -> None:
        writer, self._writer, self._reader = self._writer, None, None
        if writer is not None:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()


def ends_connection(seen: Seen) -> bool:
    options = {option.strip().lower() for value in seen.header(b"connection") for option in value.split(b",")}
    return seen.ends == "close" or b"close" in options or (seen.version == b"HTTP/1.0" and b"keep-alive" not in options)


async def answer(reader: asyncio.StreamReader, method: str) -> Seen:
    """The next answer with those that came before it as 1xx."""
    interims: list[Seen] = []
    while (seen := await _head(reader)).status < 200 and seen.status != 101:
        interims.append(seen)
    seen = replace(seen, interims=tuple(interims))
    if method == "HEAD" or seen.status in (101, 204, 304):
        return seen
    if codings := seen.header(b"transfer-encoding"):
        assert [coding.lower() for coding in codings] == [b"chunked"]
        body, trailers = await _chunks(reader)
        return replace(seen, body=body, trailers=trailers, ends="chunks")
    if lengths := seen.header(b"content-length"):
        assert len(lengths) == 1
        return replace(seen, body=await reader.readexactly(int(lengths[0])), ends="length")
    return replace(seen, body=await reader.read(), ends="close")


async def _head(reader: asyncio.StreamReader) -> Seen:
    first, *lines = (await reader.readuntil(b"\r\n\r\n"))[:-4].split(b"\r\n")
    version, _, rest = first.partition(b" ")
    status, _, reason = rest.partition(b" ")
    return Seen(version, int(status), reason, fields_of(lines))


def fields_of(lines: list[bytes]) -> tuple[Field, ...]:
    return tuple((name, value.strip(b" \t")) for name, _, value in (line.partition(b":") for line in lines))


async def _chunks(reader: asyncio.StreamReader) -> tuple[bytes, tuple[Field, ...]]:
    body = b""
    while size := int((await reader.readuntil(b"\r\n"))[:-2].partition(b";")[0], 16):
        body += await reader.readexactly(size)
        assert await reader.readexactly(2) == b"\r\n"
    lines = []
    while (line := await reader.readuntil(b"\r\n")) != b"\r\n":
        lines.append(line[:-2])
    return body, fields_of(lines)
