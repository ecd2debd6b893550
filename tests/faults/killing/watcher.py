"""A reader of server-sent events: whenever its stream breaks it comes back and says what it has seen last."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from itertools import pairwise
from typing import NamedTuple

_AGAIN_S = 0.02
_BROKEN = (OSError, EOFError, ValueError)


class Event(NamedTuple):
    """`stream` is the connection that it came by, counted from 1."""

    stream: int
    id: str
    kind: str
    completed: int


class Watcher:
    """Follows one batch on the gateway at `port`."""

    def __init__(self, port: int, batch_id: str) -> None:
        self._port = port
        self._target = f"/batch/{batch_id}/events"
        self._streams = 0
        self.events: list[Event] = []

    @property
    def has_ended(self) -> bool:
        return bool(self.events) and self.events[-1].kind == "ended"

    async def follow(self) -> None:
        """Until the batch has ended."""
        while not self.has_ended:
            try:
                await self.read()
            except _BROKEN:
                await asyncio.sleep(_AGAIN_S)

    async def read(self) -> int:
        """One stream from its head to where it breaks; its status. Raises `OSError`, `EOFError` or `ValueError`."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        try:
            seen = f"Last-Event-ID: {self.events[-1].id}\r\n" if self.events else ""
            writer.write(f"GET {self._target} HTTP/1.1\r\nHost: t\r\n{seen}\r\n".encode())
            status = int((await reader.readuntil(b"\r\n\r\n")).split(b" ", 2)[1])
            if status == 200:
                self._streams += 1
                async for event in self._events(reader):
                    self.events.append(event)
            return status
        finally:
            writer.transport.abort()

    async def _events(self, reader: asyncio.StreamReader) -> AsyncIterator[Event]:
        rest = b""
        while size := int(await reader.readline(), 16):
            *blocks, rest = (rest + (await reader.readexactly(size + 2))[:-2]).split(b"\n\n")
            for block in blocks:
                fields = dict(line.split(": ", 1) for line in block.decode().splitlines())
                if "event" in fields:
                    completed = json.loads(fields["data"])["completed"]
                    yield Event(self._streams, fields["id"], fields["event"], completed)


def contradictions(events: Sequence[Event]) -> list[str]:
    """What a reader must never be told: the same thing twice, less than before, or anything after the end."""
    found = [f"told again: {after}" for before, after in pairwise(events) if after.id == before.id]
    found += [
        f"backwards: {before} {after}" for before, after in pairwise(events) if after.completed < before.completed
    ]
    return found + [f"not the end: {event}" for event in events[:-1] if event.kind != "progress"]
