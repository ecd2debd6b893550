"""The least that Python can do for a batch: uvloop and system calls, and nothing that makes a gateway.

No HTTP parser, no validation, no header, limit, deadline or error: it believes that every answer comes in one piece.
What it costs is the floor under any gateway written on this loop.
"""

import argparse
import asyncio
from collections import deque
from typing import ClassVar, cast

import msgspec
import uvloop

from tests.bench.peers.serving import serve

CONCURRENCY = 10
BLANK = b"\r\n\r\n"


class Upstream(asyncio.Protocol):
    """A connection with one request on it; free ones wait in `idle`."""

    idle: ClassVar[deque["Upstream"]] = deque()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.idle.append(self)

    def ask(self, batch: "Batch", index: int) -> None:
        self.batch, self.index = batch, index
        self.transport.write(b"GET %b HTTP/1.1\r\nHost: upstream\r\n\r\n" % batch.paths[index])

    def data_received(self, data: bytes) -> None:
        self.idle.append(self)
        self.batch.answered(self.index, data.partition(BLANK)[2])


class Batch(asyncio.Protocol):
    """A caller's connection, one batch at a time."""

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
        self.paths = [operation["path"].encode() for operation in msgspec.json.decode(body)["operations"]]
        self.bodies: list[bytes] = [b""] * len(self.paths)
        self.left, self.next = len(self.paths), 0
        for _ in range(min(CONCURRENCY, self.left)):
            self.send_next()

    def send_next(self) -> None:
        index, self.next = self.next, self.next + 1
        while (upstream := Upstream.idle.pop()).transport.is_closing():
            pass  # idle for so long that the upstream closed it
        upstream.ask(self, index)

    def answered(self, index: int, body: bytes) -> None:
        self.bodies[index] = body
        self.left -= 1
        if self.next < len(self.paths):
            self.send_next()
        elif not self.left:
            entries = b",".join([b'{"id":"%d","status":200,"result":%b}' % pair for pair in enumerate(self.bodies)])
            answer = b'{"results":[%b]}' % entries
            head = b"HTTP/1.1 207 Multi-Status\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
            self.transport.write(head % len(answer) + answer)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--upstream", required=True)
    uvloop.run(serve(parser.parse_args().upstream, Upstream, Batch))
