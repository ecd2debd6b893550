"""A counting upstream: `python -m tests.faults.killing.upstream LOG LATENCY_MS` prints its port.

A request is a line in LOG, on the disk (fdatasync), before any byte of its answer; the answer's body is the number of
that line. Requests of one turn of the loop share one write. LOG.answered has a line for each answer: its number, and
how many requests there were before it left.
"""

import asyncio
import os
import sys
from functools import partial

from tests.faults.killing.plan import is_refused


class _Counting(asyncio.Protocol):
    def __init__(self, log: "_Log") -> None:
        self._log = log
        self._head = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._head += data
        while b"\r\n\r\n" in self._head:
            head, _, self._head = self._head.partition(b"\r\n\r\n")
            method, target, _ = head.split(b" ", 2)
            status = b"422 No" if is_refused(target.decode()) else b"200 OK"
            self._log.add(method + b" " + target, partial(self._answer, status))

    def _answer(self, status: bytes, number: int) -> None:
        body = b"%d" % number
        transport = self._transport
        if isinstance(transport, asyncio.WriteTransport) and not transport.is_closing():
            self._log.answers(number)
            transport.write(b"HTTP/1.1 %b\r\nContent-Length: %d\r\n\r\n%b" % (status, len(body), body))


class _Log:
    def __init__(self, path: str, latency_s: float) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        self._answered = os.open(f"{path}.answered", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        self._latency_s = latency_s
        self._waiting: list[tuple[bytes, object]] = []
        self._count = 0

    def add(self, line: bytes, answer: object) -> None:
        if not self._waiting:
            asyncio.get_running_loop().call_soon(self._write)
        self._waiting.append((line, answer))

    def answers(self, number: int) -> None:
        os.write(self._answered, b"%d %d\n" % (number, self._count))

    def _write(self) -> None:
        waiting, self._waiting = self._waiting, []
        os.write(self._file, b"".join(line + b"\n" for line, _ in waiting))
        os.fdatasync(self._file)
        for _, answer in waiting:
            self._count += 1
            asyncio.get_running_loop().call_later(self._latency_s, answer, self._count)  # type: ignore[arg-type]


async def main() -> None:
    log = _Log(sys.argv[1], int(sys.argv[2]) / 1000)
    server = await asyncio.get_running_loop().create_server(lambda: _Counting(log), "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
