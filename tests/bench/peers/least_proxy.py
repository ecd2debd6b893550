"""The least that Python can do to forward a request and still read HTTP: uvloop, llhttp on both sides, no gateway.

It parses the request and the answer, and writes both anew with the fields that they had. It judges nothing, adds
nothing, counts nothing, and has no route, limit, deadline, retry, stream, pipelining or error.
"""

import argparse
import asyncio
from typing import Any, ClassVar, cast

import uvloop
from httptools import HttpRequestParser, HttpResponseParser

from tests.bench.peers.serving import serve


class Message(asyncio.Protocol):
    """A connection on which messages come one at a time; `parser` is of llhttp."""

    parser: Any

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.fields: list[tuple[bytes, bytes]] = []
        self.body = b""

    def data_received(self, data: bytes) -> None:
        self.parser.feed_data(data)

    def on_header(self, name: bytes, value: bytes) -> None:
        self.fields.append((name, value))

    def on_body(self, data: bytes) -> None:
        self.body += data

    def taken(self) -> bytes:
        """Fields and body as they go on, from the end of the first line."""
        fields, body, self.fields, self.body = self.fields, self.body, [], b""
        return b"\r\n%b\r\n%b" % (b"".join([b"%b: %b\r\n" % field for field in fields]), body)


class Upstream(Message):
    """A connection to the upstream and the caller whose request is on it."""

    idle: ClassVar[list["Upstream"]] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.parser = HttpResponseParser(self)
        self.reason = b""
        self.idle.append(self)

    def ask(self, caller: "Caller", request: bytes) -> None:
        self.caller = caller
        self.transport.write(request)

    def on_status(self, reason: bytes) -> None:
        self.reason = reason

    def on_message_complete(self) -> None:
        answer = b"HTTP/1.1 %d %b%b" % (self.parser.get_status_code(), self.reason, self.taken())
        self.idle.append(self)
        if not self.caller.transport.is_closing():
            self.caller.transport.write(answer)


class Caller(Message):
    """A caller's connection, one request at a time."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.parser = HttpRequestParser(self)
        self.target = b""

    def on_url(self, target: bytes) -> None:
        self.target += target

    def on_message_complete(self) -> None:
        request = b"%b %b HTTP/1.1%b" % (self.parser.get_method(), self.target, self.taken())
        self.target = b""
        Upstream.idle.pop().ask(self, request)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--upstream", required=True)
    uvloop.run(serve(parser.parse_args().upstream, Upstream, Caller))
