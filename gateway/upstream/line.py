"""Who waits for a connection: forwarded requests in one line, operations of batches in another.

Batches take at most `batched_max` of the connections, so a forwarded request finds one of the others whatever they do.
As many are sure to batches: above that, forwarded requests go first.
"""

from collections import deque
from collections.abc import Iterator, Sized
from itertools import chain

from gateway.upstream.address import PoolLimits
from gateway.upstream.exchange import Exchange


class Line:
    """Exchanges that wait, the first of each kind first, in `lone` and `batched`. `opening`: connections to be."""

    def __init__(self, limits: PoolLimits, opening: Sized) -> None:
        self._opening = opening
        self.batched_max = limits.batched_max
        self._sure = max(0, limits.connections_max - limits.batched_max)
        self._lone_waiting_max, self._batched_waiting_max = limits.lone_waiting_max, limits.batched_waiting_max
        self.batched: deque[Exchange] = deque()
        self.lone: deque[Exchange] = deque()

    def __len__(self) -> int:
        return len(self.batched) + len(self.lone)

    def __iter__(self) -> Iterator[Exchange]:
        return chain(self.lone, self.batched)

    @property
    def is_full(self) -> bool:
        """Whether no further forwarded request may wait; those for whom a connection opens do not count."""
        return len(self.lone) - len(self._opening) >= self._lone_waiting_max

    def join(self, exchange: Exchange) -> bool:
        """False: the line is full."""
        if self.is_full if exchange.streamed else len(self.batched) >= self._batched_waiting_max:
            return False
        (self.lone if exchange.streamed else self.batched).append(exchange)
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
