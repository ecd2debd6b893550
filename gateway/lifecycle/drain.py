"""Going away without losing a request (EXPERIENCE 6). SIGTERM and `POST /drain` are this one path.

1. Readiness goes, and every answer carries `Connection: close`; new connections are still taken, for endpoints lag.
   From here on an upstream that cannot be reached is 503 `draining`: in a pod it ends at the same time.
2. The listener closes. A connection that was taken last may still send its head; those between requests are closed.
3. What is running finishes, to the last byte. Tunnels and event streams have no end of their own: they are closed after
   a grace, and their callers connect again elsewhere.
4. Meanwhile the worker stops at an operation boundary and hands its leases back. One that works alone does only that.
"""

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import NamedTuple

import structlog

from gateway.server.edge import Edge
from gateway.server.listening import CallerServer

_LAST_HEADS_S = 0.1  # a request's head follows its connection within a round trip


Listening = tuple[asyncio.Server, CallerServer]


class Timings(NamedTuple):
    """In seconds: still accepting; for tunnels and event streams once that is over; for all that is running."""

    delay_s: float
    stream_grace_s: float
    timeout_s: float


class Drain:
    """Drains a process once, however often it is asked to. `begun` is called when it begins.

    `hand_back` stops the worker within so many seconds and says whether that sufficed.
    """

    def __init__(
        self,
        edge: Edge,
        timings: Callable[[], Timings],
        begun: Callable[[], None],
        logger: Callable[[], structlog.typing.FilteringBoundLogger],
        hand_back: Callable[[float], Coroutine[None, None, bool]],
    ) -> None:
        self._edge = edge
        self._timings = timings
        self._begun = begun
        self._logger = logger
        self._hand_back = hand_back
        self._running: asyncio.Task[bool] | None = None

    async def run(self, traffic: Listening | None, *, delay_s: float | None = None) -> bool:
        """True when everything ended in time. May be called again, also while it runs. Without traffic: None."""
        if self._running is None:
            timings = self._timings()
            if delay_s is not None:
                timings = timings._replace(delay_s=delay_s)
            self._running = asyncio.create_task(self._drain(traffic, timings))
        return await asyncio.shield(self._running)

    async def _drain(self, traffic: Listening | None, timings: Timings) -> bool:
        self._edge.draining = True
        self._begun()
        self._logger().info("draining", **timings._asdict())
        ends = [self._hand_back(timings.timeout_s)]
        if traffic is not None:
            ends.append(self._finished(*traffic, timings))
        return all(await asyncio.gather(*ends))

    async def _finished(self, server: asyncio.Server, connections: CallerServer, timings: Timings) -> bool:
        await asyncio.sleep(timings.delay_s)
        server.close()
        try:
            async with asyncio.timeout(timings.timeout_s):
                await self._finish(connections, timings.stream_grace_s)
        except TimeoutError:
            self._logger().warning("drain timed out", active=self._edge.active)
            return False
        self._logger().info("drained")
        return True

    async def _finish(self, connections: CallerServer, stream_grace_s: float) -> None:
        if connections.connections:
            await asyncio.sleep(_LAST_HEADS_S)
        connections.leave()
        with suppress(TimeoutError):
            async with asyncio.timeout(stream_grace_s):
                await connections.gone()
                return
        ended = connections.end_endless()
        if ended:
            self._logger().info("streams ended", count=ended)
        await connections.gone()
