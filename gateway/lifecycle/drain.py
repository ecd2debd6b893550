"""Going away without losing a request (EXPERIENCE 6). SIGTERM and `POST /drain` are this one path.

1. Readiness goes, and every answer carries `Connection: close`; new connections are still taken, for endpoints lag.
2. The listener closes, and so do connections that are between requests.
3. What is running finishes.
"""

import asyncio
from collections.abc import Callable

import structlog

from gateway.server.connection import CallerServer
from gateway.server.edge import Edge


class Drain:
    """Drains one traffic listener once, however often it is asked to. `timings_s` are its delay and its timeout."""

    def __init__(
        self,
        edge: Edge,
        timings_s: Callable[[], tuple[float, float]],
        logger: Callable[[], structlog.typing.FilteringBoundLogger],
    ) -> None:
        self._edge = edge
        self._timings_s = timings_s
        self._logger = logger
        self._running: asyncio.Task[bool] | None = None

    async def run(self, server: asyncio.Server, connections: CallerServer, *, delay_s: float | None = None) -> bool:
        """True when everything ended in time. May be called again, also while it runs."""
        if self._running is None:
            usual_delay_s, timeout_s = self._timings_s()
            wait_s = usual_delay_s if delay_s is None else delay_s
            self._running = asyncio.create_task(self._drain(server, connections, wait_s, timeout_s))
        return await asyncio.shield(self._running)

    async def _drain(self, server: asyncio.Server, connections: CallerServer, delay_s: float, timeout_s: float) -> bool:
        self._edge.draining = True
        self._logger().info("draining", delay_s=delay_s, timeout_s=timeout_s)
        await asyncio.sleep(delay_s)  # endpoints lag behind readiness, so requests still come
        server.close()
        connections.pre_shutdown()
        try:
            async with asyncio.timeout(timeout_s):
                await self._edge.idle.wait()
        except TimeoutError:
            self._logger().warning("drain timed out", active=self._edge.active)
            return False
        return True
