"""Whoever connects to a listener: how many there are, who of them is too slow, and how they all go."""

import asyncio
from typing import Any, cast

from aiohttp.web import RequestHandler, Server

from gateway.server.connection import CallerConnection, Handler
from gateway.server.heads import HeadLimits, Heads
from gateway.server.patience import Patience
from gateway.upstream.sluice import Sluice


class CallerServer(Server):
    """aiohttp's low-level server, making `CallerConnection`s. A handler is cancelled when its caller is gone.

    A connection above `connections_max` is answered 503 `overloaded` at once. Slow ones are looked for as long as there
    are any.
    """

    def __init__(
        self, handler: Handler, *, limits: HeadLimits, connections_max: int, patience: Patience, **kwargs: Any
    ) -> None:
        super().__init__(cast(Any, handler), handler_cancellation=True)
        self._connections_max = connections_max
        self._look_s = patience.look_s
        self._looked_s = 0.0
        self._looking: asyncio.TimerHandle | None = None
        self._nobody: asyncio.Future[None] | None = None
        own = {"heads": Heads(limits), "patience": patience, "sluice": Sluice(self._loop), "is_full": self._is_full}
        self._connection_options = {"access_log": None, **own, **kwargs}

    def _is_full(self) -> bool:
        return len(self._connections) > self._connections_max

    def __call__(self) -> RequestHandler:
        return CallerConnection(self, loop=self._loop, **self._connection_options)

    def connection_made(self, handler: RequestHandler, transport: asyncio.Transport) -> None:
        super().connection_made(handler, transport)
        if self._looking is None:
            self._looked_s = self._loop.time()
            self._looking = self._loop.call_later(self._look_s, self._look)

    def connection_lost(self, handler: RequestHandler, exc: BaseException | None = None) -> None:
        super().connection_lost(handler, exc)
        serving = handler.serving if isinstance(handler, CallerConnection) else handler._task_handler
        if serving is None:
            self._one_has_gone()
        else:
            serving.add_done_callback(self._one_has_gone)  # behind aiohttp's own, which forgets it

    def _one_has_gone(self, _: object = None) -> None:
        if self._nobody is not None and not self._connections and not self._nobody.done():
            self._nobody.set_result(None)

    def leave(self) -> None:
        """Close the connections that are between requests."""
        for each in self.connections:
            if isinstance(each, CallerConnection):
                each.leave()

    async def gone(self) -> None:
        """Wait until every connection has ended, with all that was written to it. For one waiter at a time."""
        if self._connections:
            self._nobody = self._loop.create_future()
            await self._nobody

    def end_endless(self) -> int:
        """Close the connections whose answers have no end of their own; how many there were."""
        return sum(isinstance(each, CallerConnection) and each.end_endless() for each in self.connections)

    async def shutdown(self, timeout: float | None = None) -> None:
        await super().shutdown(timeout)
        if self._looking is not None:
            self._looking.cancel()

    def _look(self) -> None:
        now_s = self._loop.time()
        passed_s = min(now_s - self._looked_s, 2 * self._look_s)  # time in which we did not read is nobody's fault
        self._looked_s = now_s
        for connection, transport in list(self._connections.items()):
            if isinstance(connection, CallerConnection):
                connection.look(transport, now_s, passed_s)
        self._looking = self._loop.call_later(self._look_s, self._look) if self._connections else None
