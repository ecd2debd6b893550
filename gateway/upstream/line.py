"""Who waits for a connection: forwarded requests in one line, operations of batches in another.

Batches take at most `batched_max` of the connections, so a forwarded request finds one of the others whatever they do.
As many are sure to batches: above that, forwarded requests go first.
"""

from collections import deque
from collections.abc import Iterator
from itertools import chain

from gateway.upstream.exchange import Exchange


class Line:
    """Exchanges that wait, the first of each kind first. Each kind may be `waiting_max` long."""

    def __init__(self, connections_max: int, batched_max: int, waiting_max: int) -> None:
        self.batched_max = batched_max
        self._sure = max(0, connections_max - batched_max)
        self._waiting_max = waiting_max
        self._batched: deque[Exchange] = deque()
        self._lone: deque[Exchange] = deque()

    def __len__(self) -> int:
        return len(self._batched) + len(self._lone)

    def __iter__(self) -> Iterator[Exchange]:
        return chain(self._lone, self._batched)

    def join(self, exchange: Exchange) -> bool:
        """False: the line is full."""
        own = self._lone if exchange.streamed else self._batched
        if len(own) >= self._waiting_max:
            return False
        own.append(exchange)
        return True

    def leave(self, exchange: Exchange) -> None:
        """Does nothing where the exchange does not wait."""
        own = self._lone if exchange.streamed else self._batched
        if exchange in own:
            own.remove(exchange)

    def clear(self) -> None:
        self._batched.clear()
        self._lone.clear()

    def first(self, batched: int) -> deque[Exchange]:
        """The line whose first is next while batches have `batched` connections; empty where nobody may have one."""
        if self._lone and (not self._batched or batched >= self._sure):
            return self._lone
        return self._batched if batched < self.batched_max else self._lone

    def wanted(self, batched: int) -> int:
        """How many connections those in line could have."""
        return len(self._lone) + min(len(self._batched), max(0, self.batched_max - batched))
