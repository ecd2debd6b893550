"""Connections to one upstream: reuse, limits, deadlines and the retry law, for batches and forwarded requests alike.

- An exchange takes an idle connection, the most recently used first; else a new one is opened, up to `connections_max`;
  else it waits in line, batches and forwarded requests each with their share. With `pipelining_max` above 1, safe
  requests fill up one connection before they take another: cheapest, but a slow answer holds up those behind it.
- One sweep every 50 ms looks at all deadlines: no timer an exchange, and nothing to do when there are no connections.
- Where connections run short, answers that their callers do not read give up what is above their share.
"""

import asyncio
import ssl
from collections.abc import Callable
from typing import cast

from gateway.batch.model import Failure
from gateway.batch.retry import Loss
from gateway.upstream import stalls
from gateway.upstream.address import Address, PoolLimits
from gateway.upstream.budget import RetryBudget
from gateway.upstream.exchange import Exchange
from gateway.upstream.freshness import ASK_AFTER_IDLE_S, Freshness
from gateway.upstream.http1 import Connection
from gateway.upstream.line import Line
from gateway.upstream.plain import Heads
from gateway.upstream.repeats import Repeats
from gateway.upstream.share import Share
from gateway.upstream.sluice import Sluice
from gateway.upstream.turns import Turns

SWEEP_S = 0.05  # deadlines are met within 250 ms (PROMISES X12)


class Pool:
    """All connections to one upstream. Lives on one loop; `close` ends it.

    `refused` is called for each repeat that the retry law allows and the retry budget does not, `cut` for each answer
    that is ended because its caller does not read it. Uploads enter `uploads` before they are submitted.
    """

    def __init__(
        self,
        address: Address,
        limits: PoolLimits,
        loop: asyncio.AbstractEventLoop,
        refused: Callable[[], None] = lambda: None,
        cut: Callable[[], None] = lambda: None,
    ) -> None:
        self.address, self.heads, self.sluice = address, Heads(), Sluice(loop)
        self._limits, self._loop = limits, loop
        self._connections: set[Connection] = set()
        self._idle: list[Connection] = []
        self._batched: set[Connection] = set()  # those that carry operations of batches
        self._connecting: set[asyncio.Task[None]] = set()
        self.line = Line(limits, self._connecting)
        self._filling: Connection | None = None
        self._sweeping: asyncio.TimerHandle | None = None
        self._freshness = Freshness(limits.idle_timeout_s)
        self.uploads = Share(limits.streams_max, limits.lone_waiting_max)
        self._cut = cut
        self._budget = RetryBudget(limits.retries_percent, limits.retries_per_s)
        self._repeats = Repeats(self.submit, self._budget, refused, loop)
        self.drain, self.lost = self._repeats.drain, self._repeats.lost  # the latter is for an exchange that failed
        self.repeats = self._repeats.after_rejection  # ... and for an answer from 425 on
        self.turns = Turns(limits, loop)  # of batches; asked by the executor
        self._closed = False
        self._is_plain = limits.pipelining_max == 1 and limits.idle_timeout_s >= ASK_AFTER_IDLE_S  # nothing to ask

    def __repr__(self) -> str:
        return (
            f"<Pool {self.address} connections={len(self._connections)} idle={len(self._idle)} "
            f"connecting={len(self._connecting)} waiting={len(self.line)} in_flight={self.in_flight}>"
        )

    @property
    def in_flight(self) -> int:
        """Exchanges that are on a connection."""
        return sum(len(connection.exchanges) for connection in self._connections)

    @property
    def waiting(self) -> int:
        return len(self.line)

    def submit(self, exchange: Exchange, now_s: float) -> None:
        """Send `exchange` as soon as a connection is free; its `done` is called in every case, never from in here."""
        if self._sweeping is None:
            self._sweeping = self._loop.call_later(SWEEP_S, self._sweep)
            self._budget.note(now_s)
        self._budget.sends += 1
        idle = self._idle
        if (
            self._is_plain
            and idle
            and not exchange.attempt
            and now_s - idle[-1].idle_since_s < ASK_AFTER_IDLE_S
            and (exchange.streamed or len(self._batched) < self.line.batched_max)
        ):
            self._put(idle.pop(), exchange, now_s)  # just used, so surely alive
            return
        found = self._connection_for(exchange, now_s)
        if found is not None:
            self._put(found, exchange, now_s)
        elif not self._closed and self.line.join(exchange):
            if exchange.streamed:
                self._end_stalled(now_s)
            self._connect()
        else:
            self._loop.call_soon(self.lost, exchange, Loss.NO_ROOM)

    def withdraw(self, exchange: Exchange) -> None:
        """Nobody wants the answer any more: do not send `exchange`, or close the connection that it is on."""
        exchange.deadline_s = 0.0  # nor send it again
        if exchange.connection is not None:
            exchange.connection.close()
        self.line.leave(exchange)
        self._repeats.withdraw(exchange)

    def withdraw_waiting(self, done: Callable[[Exchange], None]) -> list[Exchange]:
        """Send nothing, nor again, for `done`; only what was sent before is still reported. The rest comes back."""
        for exchange in (exchange for connection in self._connections for exchange in connection.exchanges):
            if exchange.done == done:
                exchange.retries_max = 0
        withdrawn = [exchange for exchange in (*self.line, *self._repeats.waiting) if exchange.done == done]
        for exchange in withdrawn:
            self.line.leave(exchange)
            exchange.retries_max = 0
            self._repeats.withdraw(exchange)
            if exchange.sent_s:
                self.lost(exchange, Loss.RESET)
        return [exchange for exchange in withdrawn if not exchange.sent_s]

    def leave_alone(self, done: Callable[[Exchange], None]) -> None:
        """What has no effect, and is for `done`, need not hold a connection until its answer comes."""
        for connection in [c for c in self._connections if c.exchanges]:
            if all(_may_be_left(exchange, done) for exchange in connection.exchanges):
                connection.close()

    async def close(self) -> None:
        """Close every connection; what is still in flight is lost."""
        self._closed = self._repeats.closed = True
        for task in list(self._connecting):
            task.cancel()
        await asyncio.gather(*self._connecting, return_exceptions=True)
        for connection in list(self._connections):
            connection.close()
        for exchange in [*self.line, *self._repeats.waiting]:
            self.lost(exchange, Loss.NO_ROOM)
        self.line.clear()
        self._repeats.waiting.clear()
        if self._sweeping is not None:
            self._sweeping.cancel()

    def release(self, connection: Connection) -> None:
        """`connection` has nothing to do: it takes what waits, else it is idle."""
        now_s = connection.idle_since_s = self._loop.time()
        self._batched.discard(connection)
        line = self.line
        if not line.lone and not line.batched:  # nearly always
            self._idle.append(connection)
            return
        waiting = line.first(len(self._batched))
        while waiting and self._has_room(connection, waiting[0]):
            self._put(connection, waiting.popleft(), now_s)
        if not connection.exchanges:
            self._idle.append(connection)

    def forget(self, connection: Connection) -> None:
        self._connections.discard(connection)
        self._batched.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)
        if self._filling is connection:
            self._filling = None
        if self.line:
            self._connect()
            if self._idle:  # a share that was full may have let them lie idle
                self._loop.call_soon(self._serve)

    # Choosing a connection.

    def _put(self, connection: Connection, exchange: Exchange, now_s: float) -> None:
        if not exchange.streamed:
            self._batched.add(connection)
        connection.send(exchange, now_s)

    def _serve(self) -> None:
        """Idle connections to those that wait."""
        now_s = self._loop.time()
        while self._idle and (waiting := self.line.first(len(self._batched))):
            exchange = waiting.popleft()
            connection = self._connection_for(exchange, now_s)
            if connection is None:
                waiting.appendleft(exchange)
                return self._connect()
            self._put(connection, exchange, now_s)

    def _connection_for(self, exchange: Exchange, now_s: float) -> Connection | None:
        filling = self._filling
        if filling is not None and exchange.may_share and filling.exchanges and self._has_room(filling, exchange):
            return filling  # one without exchanges is in `_idle`
        if not exchange.streamed and len(self._batched) >= self.line.batched_max:
            return None
        if exchange.sent_s:  # lost once: idle connections may share that fate, a new one cannot
            if self._idle and len(self._connections) + len(self._connecting) >= self._limits.connections_max:
                self._idle[0].close()
            return None
        while self._idle:
            connection = self._idle.pop()
            if self._freshness.holds(connection, now_s):
                if self._limits.pipelining_max > 1 and exchange.may_share:
                    self._filling = connection
                return connection
            connection.close()
        return None

    def _has_room(self, connection: Connection, exchange: Exchange) -> bool:
        if not connection.is_reusable:
            return False
        if not connection.exchanges:
            return True
        return (
            len(connection.exchanges) < self._limits.pipelining_max
            and exchange.may_share
            and connection.exchanges[-1].may_share
        )

    def _connect(self) -> None:
        """Open a connection if more wait than are on their way and the limit allows it."""
        opening = len(self._connecting)
        if self._closed:
            return
        if (
            opening < self.line.wanted(len(self._batched))
            and len(self._connections) + opening < self._limits.connections_max
        ):
            task = self._loop.create_task(self._open())
            self._connecting.add(task)
            task.add_done_callback(self._connecting.discard)

    async def _open(self) -> None:
        connection = Connection(self, shares_writes=self._limits.pipelining_max > 1)
        loss = await self._dial(connection)
        # Now, not once the task is seen to be done: a request that comes in between shall open its own.
        self._connecting.discard(cast("asyncio.Task[None]", asyncio.current_task()))
        if loss is None:
            self._connections.add(connection)
            self.release(connection)
            return
        if waiting := self.line.first(len(self._batched)):
            exchange = waiting.popleft()
            exchange.attempt += 1
            self.lost(exchange, loss)
        self._connect()  # those that wait behind it had no attempt of their own

    async def _dial(self, connection: Connection) -> Loss | None:
        at, make, loop = self.address, lambda: connection, self._loop
        try:
            async with asyncio.timeout(self._limits.connect_timeout_s):
                if at.path is not None:
                    await loop.create_unix_connection(make, at.path)
                else:
                    await loop.create_connection(make, at.host, at.port, ssl=at.tls, server_hostname=at.server_name)
        except (OSError, TimeoutError) as error:  # ssl.SSLError is an OSError
            return Loss.TLS if isinstance(error, ssl.SSLError) else Loss.CONNECT
        return None if connection.is_reusable else Loss.CONNECT  # the upstream may have closed it already

    # Deadlines.

    def _sweep(self) -> None:
        self._sweeping = self._loop.call_later(SWEEP_S, self._sweep)  # first: whatever happens in here, there is a next
        now_s = self._loop.time()
        self._budget.note(now_s)
        for connection in list(self._connections):
            if connection.exchanges:
                if any(exchange.deadline_s <= now_s for exchange in connection.exchanges):
                    connection.close()
            elif now_s - connection.idle_since_s > self._freshness.idle_max_s(connection):
                connection.close()
        self._end_stalled(now_s)
        late = [exchange for exchange in self.line if exchange.deadline_s <= now_s]
        for exchange in late:
            self.line.leave(exchange)
            self.lost(exchange, Loss.NO_ROOM)
        if not (self._connections or self.line or self._connecting):
            self._sweeping.cancel()
            self._sweeping = None

    def _end_stalled(self, now_s: float) -> None:
        limits = self._limits
        free = limits.connections_max - len(self._connections) - len(self._connecting) + len(self._idle)
        exchanges = (exchange for connection in self._connections for exchange in connection.exchanges)
        for exchange in stalls.to_end(
            exchanges, now_s, free=free, connections_max=limits.connections_max, streams_max=limits.streams_max
        ):
            self.withdraw(exchange)
            exchange.on_give_up(503, Failure("overloaded", "the answer was not read while others waited"))
            self._cut()


def _may_be_left(exchange: Exchange, done: Callable[[Exchange], None]) -> bool:
    return exchange.done == done and exchange.repeatable
