"""After a 101 both ends speak a protocol of their own, such as WebSocket: bytes pass untouched, with back-pressure."""

import asyncio

from aiohttp.web import BaseRequest

from gateway.server.answer import Answer, call_endless, head, send
from gateway.upstream.headers import forwarded
from gateway.upstream.stream import StreamedExchange, UpstreamError

_KEPT = frozenset({b"upgrade"})


class _CallerBytes:
    """Takes the caller's bytes in place of aiohttp's request parser; pauses the caller while the upstream is full."""

    def __init__(self, request: BaseRequest, exchange: StreamedExchange) -> None:
        self._request = request
        self._exchange = exchange
        self._writing: asyncio.Task[None] | None = None
        self._waiting: list[bytes] = []
        self.ended = asyncio.Event()

    def feed_data(self, data: bytes) -> tuple[bool, bytes]:
        self._waiting.append(data)
        if self._writing is None:
            self._writing = asyncio.get_running_loop().create_task(self._write())
        return False, b""

    def feed_eof(self) -> None:
        self.ended.set()

    def stop(self) -> None:
        """Nothing more comes; what has come still goes out."""
        if self._writing is not None:
            self._writing.cancel()
        if self._waiting and self._exchange.connection is not None:
            self._exchange.connection.write(b"".join(self._waiting))

    async def _write(self) -> None:
        transport = self._request.transport
        if transport is not None:
            transport.pause_reading()
        while self._waiting:
            await self._exchange.write(b"")  # only waits for room: what is cancelled meanwhile is not lost
            data = b"".join(self._waiting)
            self._waiting.clear()
            await self._exchange.write(data)
        self._writing = None
        if transport is not None and not transport.is_closing():
            transport.resume_reading()


async def tunnel(request: BaseRequest, exchange: StreamedExchange) -> Answer:
    """Answer 101 and carry bytes both ways until either end closes. Cancelled when the caller's connection is lost."""
    transport = request.transport
    if transport is None:
        raise ConnectionResetError
    fields = [*forwarded(exchange.fields, keep=_KEPT), (b"Connection", b"upgrade")]
    await send(request, head(101, exchange.reason, fields, request=request, keep_alive=True))
    call_endless(request)
    caller = _CallerBytes(request, exchange)
    request.protocol.set_parser(caller)  # type: ignore[arg-type]  # it asks for feed_data and feed_eof only
    try:
        while True:
            data = b"".join(exchange.taken())
            if data:
                await send(request, data)
            if exchange.ended:
                break
            await exchange.arrival()
    except UpstreamError:
        pass
    finally:
        caller.stop()
    transport.close()
    return Answer.already_written(101, keep_alive=False)
