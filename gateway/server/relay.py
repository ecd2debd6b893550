"""A whole request that goes to the upstream at once, and the plain answer to it that comes in one.

Nearly every forwarded request is one. It waits for nothing but the upstream, so it has no coroutine, no task and no
request of aiohttp's. Where it turns out to need more (interim answers, an answer in pieces, a large one, none at all),
the coroutines that serve every other request go on with the exchange that is under way.
"""

from collections.abc import Callable, Sequence
from time import perf_counter
from typing import TYPE_CHECKING

from aiohttp.web import BaseRequest

from gateway.batch.routes import Route
from gateway.limiter.bucket import Reading
from gateway.limiter.http import rate_limit_lines
from gateway.server.answer import Answer
from gateway.server.heads import Head
from gateway.server.passage import VIA, Known
from gateway.upstream.stream import StreamedExchange
from gateway.upstream.upstream import Upstream

if TYPE_CHECKING:
    from gateway.server.connection import CallerConnection
    from gateway.server.edge import Edge, Rooms
    from gateway.server.forwarding import Forwarding

_AT_ONCE_BYTES_MAX = 32 * 1024  # of a body; a write of more could fill a transport's buffer (64 KiB in uvloop)


class Lone:
    """What is told of a forwarded request when it has ended. `readings`: what its buckets then held."""

    __slots__ = ("began_s", "ip", "method", "readings", "route")

    def __init__(self, method: str, route: Route, ip: str, began_s: float) -> None:
        self.method = method
        self.route = route
        self.ip = ip
        self.began_s = began_s
        self.readings: Sequence[Reading] = ()


class Relay:
    """One request on its way. Its caller's connection serves nothing else until this calls `relayed` or `take_over` of
    it, or is cancelled by it."""

    __slots__ = ("_by", "_connection", "_edge", "_head", "_rooms", "_sent_s", "exchange", "known", "lone", "upstream")

    def __init__(
        self,
        connection: "CallerConnection",
        head: Head,
        known: Known,
        lone: Lone,
        upstream: Upstream,
        exchange: StreamedExchange,
        by: "Forwarding",
    ) -> None:
        self._connection, self._head, self._by = connection, head, by
        self.known = known
        self.lone = lone
        self.upstream = upstream
        self.exchange = exchange

    def go(self, edge: "Edge", rooms: "Rooms") -> None:
        """Send the request, on which `rooms` are at work."""
        self._edge, self._rooms = edge, rooms
        self.exchange.resume = self._arrived
        self.upstream.pool.submit(self.exchange, self.exchange.loop.time())
        self._sent_s = perf_counter()

    @property
    def waited_s(self) -> float:
        """How long the upstream has had it."""
        return perf_counter() - self._sent_s

    def cancel(self) -> None:
        """The caller is gone."""
        self.exchange.resume = None
        self.upstream.pool.withdraw(self.exchange)
        self._end(499)

    async def answer(self, request: BaseRequest) -> Answer:
        """Answer `request`, which is what this was, now that it needs more."""
        return await self._edge.go_on(self._rooms, request, self._rest)

    async def _rest(self, request: BaseRequest, _path: str, is_last: Callable[[], bool]) -> Answer:
        return await self._by.go_on(self, request, is_last)

    def _arrived(self) -> None:
        exchange, connection = self.exchange, self._connection
        transport, body = connection.transport, b"".join(exchange.chunks or ())
        is_whole = exchange.ended and exchange.passed and not exchange.interims
        if not is_whole or transport is None or len(body) > _AT_ONCE_BYTES_MAX:
            connection.take_over(self._head, self.answer)
            return
        keep_alive = self._head.said.keep_alive and not self._edge.draining
        end = b"\r\n" if keep_alive else b"Connection: close\r\n\r\n"
        data = b"".join([exchange.passed, VIA, rate_limit_lines(self.lone.readings), end, body])
        connection.written_bytes += len(data)
        transport.write(data)
        self._end(exchange.status)
        connection.relayed(keep_alive)

    def _end(self, status: int) -> None:
        self._by.account(self.lone, status, self.waited_s)
        self._edge.left(self._rooms)
