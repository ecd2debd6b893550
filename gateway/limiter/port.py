"""What a store of buckets promises."""

from collections.abc import Sequence
from typing import Protocol

from gateway.errors import GatewayError
from gateway.limiter.bucket import Bucket, Charge, Denied, Granted, Reading


class LimiterUnavailableError(GatewayError):
    """503 `limiter-unavailable`: the store of buckets does not answer, nobody knows whether something was taken."""

    def __init__(self) -> None:
        super().__init__("limiter-unavailable", headers={"Retry-After": "1"})


class Limiter(Protocol):
    """Buckets by name and key. A bucket that was never charged is full."""

    async def take(self, charges: Sequence[Charge], *, wait_max_us: int) -> Granted | Denied:
        """Take what all charges cost, in one atomic step over all of their buckets; or nothing at all.

        `charges` is not empty and every `costs` has the same length. Concurrent calls behave as if one after the other.
        Raises `LimiterUnavailableError`, as the others do.
        """

    def pay(self, charges: Sequence[Charge]) -> Sequence[Reading] | None:
        """`take` without waiting, where the buckets are here and hold what all charges cost: what they hold after it.

        None, and nothing is taken, where they hold less, or are elsewhere: then `take` decides.
        """

    async def ask(self, charges: Sequence[Charge], *, wait_max_us: int) -> Granted | Denied:
        """What `take` would answer now. Takes nothing."""

    async def look(self, keys: Sequence[tuple[Bucket, str]]) -> Sequence[Reading]:
        """What these buckets hold now. Takes nothing."""
