"""The least that aiohttp's server costs when it forwards a request: its low-level server before the bare connections of
`least_proxy`. Like that one it judges, adds and counts nothing.
"""

import argparse
import asyncio
from typing import ClassVar

import uvloop
from aiohttp import web
from httptools import HttpResponseParser
from multidict import CIMultiDict

from tests.bench.peers.least_proxy import Message
from tests.bench.peers.serving import connected, say_ready

_OF_THE_CONNECTION = {"connection", "content-length", "keep-alive", "transfer-encoding"}


class Upstream(Message):
    """A connection to the upstream, and the future of the answer that is awaited on it."""

    idle: ClassVar[list["Upstream"]] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.parser = HttpResponseParser(self)
        self.idle.append(self)

    def ask(self, request: bytes) -> asyncio.Future[web.Response]:
        self.answer: asyncio.Future[web.Response] = asyncio.get_running_loop().create_future()
        self.transport.write(request)
        return self.answer

    def on_message_complete(self) -> None:
        fields = CIMultiDict((name.decode("latin-1"), value.decode("latin-1")) for name, value in self.fields)
        for name in _OF_THE_CONNECTION:
            fields.popall(name, None)
        answer = web.Response(status=self.parser.get_status_code(), body=self.body, headers=fields)
        self.fields, self.body = [], b""
        self.idle.append(self)
        self.answer.set_result(answer)


async def forward(request: web.BaseRequest) -> web.Response:
    """As it came, and as it is answered."""
    body = await request.read() if request.can_read_body else b""
    fields = b"".join([b"%b: %b\r\n" % field for field in request.raw_headers])
    head = b"%b %b HTTP/1.1\r\n%b\r\n" % (request.method.encode(), request.path_qs.encode(), fields)
    return await Upstream.idle.pop().ask(head + body)


async def serve(upstream: str) -> None:
    """Listen on a free port until told to end."""
    await connected(upstream, Upstream)
    server = await asyncio.get_running_loop().create_server(web.Server(forward, access_log=None), "127.0.0.1", 0)
    say_ready(server)
    await server.serve_forever()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--upstream", required=True)
    uvloop.run(serve(parser.parse_args().upstream))
