"""The least that Python can do for a batch and still read HTTP: uvloop, llhttp and msgspec, nothing of a gateway.

It reads the envelope, parses every answer, shows its header fields and embeds its body. It validates nothing, counts
nothing, inherits no field, and has no limit, deadline, route, retry, metric or error. With `--pipelining` several
requests share a connection and a write. What the gateway costs above it is what its promises cost.
"""

import argparse
import asyncio
from collections import deque
from typing import Any, ClassVar, cast

import msgspec
import uvloop
from httptools import HttpResponseParser

from tests.bench.peers.serving import serve

CONCURRENCY = 10
BLANK = b"\r\n\r\n"


class Operation(msgspec.Struct):
    """One entry of the envelope."""

    method: str
    path: str
    id: str = ""
    body: msgspec.Raw = msgspec.Raw(b"")


class Envelope(msgspec.Struct):
    """What is posted."""

    operations: list[Operation]


class Result(msgspec.Struct):
    """One entry of the answer."""

    id: str
    status: int
    headers: dict[str, str]
    result: msgspec.Raw


DECODER = msgspec.json.Decoder(Envelope)


class Upstream(asyncio.Protocol):
    """A connection and the batches whose operations are on it, the oldest first."""

    idle: ClassVar[list["Upstream"]] = []
    filling: ClassVar["Upstream | None"] = None
    names: ClassVar[dict[bytes, str]] = {}

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.asked: deque[tuple[Batch, int]] = deque()
        self.gathered: list[bytes] = []
        self.fields: list[tuple[bytes, bytes]] = []
        self.body = b""
        self.parser: Any = HttpResponseParser(self)
        self.idle.append(self)

    @classmethod
    def with_room(cls, pipelining: int) -> "Upstream":
        """A connection that takes one more request."""
        filling = cls.filling
        if filling is None or not 0 < len(filling.asked) < pipelining:
            filling = cls.filling = cls.idle.pop()
        return filling

    def ask(self, batch: "Batch", index: int, request: bytes) -> None:
        self.asked.append((batch, index))
        self.gathered.append(request)
        if len(self.gathered) == 1:
            asyncio.get_running_loop().call_soon(self.flush)

    def flush(self) -> None:
        self.transport.write(b"".join(self.gathered))
        self.gathered.clear()

    def data_received(self, data: bytes) -> None:
        self.parser.feed_data(data)
        if not self.asked:
            self.idle.append(self)

    def on_header(self, name: bytes, value: bytes) -> None:
        self.fields.append((name, value))

    def on_body(self, data: bytes) -> None:
        self.body += data

    def on_message_complete(self) -> None:
        names = self.names
        shown = {names.get(n) or names.setdefault(n, n.decode()): v.decode("latin-1") for n, v in self.fields}
        body, self.body, self.fields = self.body, b"", []
        batch, index = self.asked.popleft()
        batch.answered(index, self.parser.get_status_code(), shown, body)


class Batch(asyncio.Protocol):
    """A caller's connection, one batch at a time."""

    def __init__(self, pipelining: int) -> None:
        self.pipelining = pipelining

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.received = b""

    def data_received(self, data: bytes) -> None:
        self.received += data
        head, blank, body = self.received.partition(BLANK)
        length = next((line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")), b":0")
        if not blank or len(body) < int(length.partition(b":")[2]):
            return
        self.received = b""
        self.operations = DECODER.decode(body).operations
        self.results: list[Any] = [None] * len(self.operations)
        self.left, self.next = len(self.operations), 0
        for _ in range(min(CONCURRENCY, self.left)):
            self.send_next()

    def send_next(self) -> None:
        index, self.next = self.next, self.next + 1
        asked, body = self.operations[index], bytes(self.operations[index].body)
        length = f"Content-Length: {len(body)}\r\n" if body else ""
        request = f"{asked.method} {asked.path} HTTP/1.1\r\nHost: upstream\r\n{length}\r\n".encode() + body
        Upstream.with_room(self.pipelining).ask(self, index, request)

    def answered(self, index: int, status: int, headers: dict[str, str], body: bytes) -> None:
        self.results[index] = Result(self.operations[index].id, status, headers, msgspec.Raw(body))
        self.left -= 1
        if self.next < len(self.operations):
            self.send_next()
        elif not self.left and not self.transport.is_closing():
            answer = msgspec.json.encode({"results": self.results})
            head = b"HTTP/1.1 207 Multi-Status\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
            self.transport.write(head % len(answer) + answer)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--upstream", required=True)
    parser.add_argument("--pipelining", type=int, default=1)
    options = parser.parse_args()
    uvloop.run(serve(options.upstream, Upstream, lambda: Batch(options.pipelining)))
