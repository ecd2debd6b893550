"""Who waits for a connection: forwarded requests in one line, operations of batches in another.

Batches take at most `batched_max` of the connections, so a forwarded request finds one of the others whatever they do.
As many are sure to batches: above that, forwarded requests go first.
"""

from collections import deque
from collections.abc import Iterator
from itertools import chain

from gateway.upstream.exchange import Exchange


class Line:
    """Exchanges that wait, the first of each kind first, in `lone` and `batched`. Each may be `waiting_max` long."""

    def __init__(self, connections_max: int, batched_max: int, waiting_max: int) -> None:
        self.batched_max = batched_max
        self._sure = max(0, connections_max - batched_max)
        self._waiting_max = waiting_max
        self.batched: deque[Exchange] = deque()
        self.lone: deque[Exchange] = deque()

    def __len__(self) -> int:
        return len(self.batched) + len(self.lone)

    def __iter__(self) -> Iterator[Exchange]:
        return chain(self.lone, self.batched)

    def join(self, exchange: Exchange) -> bool:
        """False: the line is full."""
        own = self.lone if exchange.streamed else self.batched
        if len(own) >= self._waiting_max:
            return False
        own.append(exchange)
        return True

    def leave(self, exchange: Exchange) -> None:
        """Does nothing where the exchange does not wait."""
        own = self.lone if exchange.streamed else self.batched
        if exchange in own:
            own.remove(exchange)

    def clear(self) -> None:
        self.batched.clear()
        self.lone.clear()

    def first(self, batched: int) -> deque[Exchange]:
        """The line whose first is next while batches have `batched` connections; empty where nobody may have one."""
        if self.lone and (not self.batched or batched >= self._sure):
            return self.lone
        return self.batched if batched < self.batched_max else self.lone

    def wanted(self, batched: int) -> int:
        """How many connections those in line could have."""
        return len(self.lone) + min(len(self.batched), max(0, self.batched_max - batched))
