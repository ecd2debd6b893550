"""A fast API whose answers are large, and never two the same: `python -m tests.fakes.large_upstream BYTES`.

Prints `ready PORT`. Whoever knows a target knows its answer (`body_of`). `/count` tells how many others were asked for.
"""

import asyncio
import hashlib
import sys
from typing import cast

import uvloop

_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b"
_AROUND = '{"of":"","text":""}'


def body_of(target: str, size: int) -> bytes:
    """JSON of `size` bytes, half of which no compression takes away."""
    text = hashlib.shake_128(target.encode()).hexdigest(size // 2 + 1)
    return b'{"of":"%b","text":"%b"}' % (target.encode(), text[: size - len(_AROUND) - len(target)].encode())


class _Connection(asyncio.Protocol):
    asked = 0

    def __init__(self, size: int) -> None:
        self._size = size
        self._rest = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.WriteTransport, transport)

    def data_received(self, data: bytes) -> None:
        *heads, self._rest = (self._rest + data).split(b"\r\n\r\n")  # no request has a body
        self._transport.write(b"".join([self._answer(head.split(b" ", 2)[1].decode()) for head in heads]))

    def _answer(self, target: str) -> bytes:
        if target == "/count":
            count = b"%d" % _Connection.asked
            return _HEAD % (len(count), count)
        _Connection.asked += 1
        return _HEAD % (self._size, body_of(target, self._size))


async def main() -> None:
    size = int(sys.argv[1])
    server = await asyncio.get_running_loop().create_server(lambda: _Connection(size), "127.0.0.1", 0)
    print(f"ready {server.sockets[0].getsockname()[1]}", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main())
