"""Whoever connects to a listener: how many there are, who of them is too slow, and how they all go."""

import asyncio
from collections.abc import Callable

from gateway.errors import GatewayError
from gateway.server.answer import Answer
from gateway.server.connection import CallerConnection, Handler
from gateway.server.heads import HeadLimits, Heads
from gateway.server.patience import Patience

Render = Callable[[GatewayError], Answer]


class CallerServer:
    """Makes a `CallerConnection` for each caller. What answers a request is cancelled when its caller is gone.

    A connection above `connections_max` is answered 503 `overloaded` at once. No timer a connection: one looks at all
    of them, `Patience.look_s` apart, while there are any. `render` words a problem where no request is there.
    """

    def __init__(
        self, handler: Handler, render: Render, *, limits: HeadLimits, connections_max: int, patience: Patience
    ) -> None:
        self.handler = handler
        self.render = render
        self.heads = Heads(limits)
        self.is_closing = False
        self._connections_max = connections_max
        self._patience = patience
        self._loop = asyncio.get_running_loop()
        self._looked_s = 0.0
        self._looking: asyncio.TimerHandle | None = None
        self._nobody: asyncio.Future[None] | None = None
        self.connections: set[CallerConnection] = set()

    def __call__(self) -> CallerConnection:
        return CallerConnection(self, self._loop, self._patience)

    @property
    def is_full(self) -> bool:
        return len(self.connections) > self._connections_max

    def enter(self, connection: CallerConnection) -> None:
        """A caller has come."""
        self.connections.add(connection)
        if self._looking is None:
            self._looked_s = self._loop.time()
            self._looking = self._loop.call_later(self._patience.look_s, self._look)

    def leave(self, connection: CallerConnection) -> None:
        """A caller is gone; its connection counts until what served it has ended."""
        if connection.task is None:
            self._forget(connection)
        else:
            connection.task.add_done_callback(lambda _: self._forget(connection))

    def close_idle(self) -> None:
        """Close the connections that are between requests."""
        for each in list(self.connections):
            each.leave()

    async def gone(self) -> None:
        """Wait until every connection has ended, with all that was written to it. For one waiter at a time."""
        if self.connections:
            self._nobody = self._loop.create_future()
            await self._nobody

    def end_endless(self) -> int:
        """Close the connections whose answers have no end of their own; how many there were."""
        return sum(each.end_endless() for each in list(self.connections))

    async def shutdown(self, timeout_s: float) -> None:
        """Close all connections; what is being served has so long."""
        self.is_closing = True
        self.close_idle()
        tasks = [each.task for each in self.connections if each.task is not None]
        if tasks:
            await asyncio.wait(tasks, timeout=timeout_s)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for each in self.connections:
            if each.transport is not None:
                each.transport.close()
        if self._looking is not None:
            self._looking.cancel()

    def _forget(self, connection: CallerConnection) -> None:
        self.connections.discard(connection)
        if self._nobody is not None and not self.connections and not self._nobody.done():
            self._nobody.set_result(None)

    def _look(self) -> None:
        now_s = self._loop.time()
        passed_s = min(now_s - self._looked_s, 2 * self._patience.look_s)  # while we did not read, nobody was slow
        self._looked_s = now_s
        for connection in list(self.connections):
            connection.look(now_s, passed_s)
        self._looking = self._loop.call_later(self._patience.look_s, self._look) if self.connections else None
