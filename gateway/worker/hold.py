"""How long a lease may be trusted, by our own clock: it ends before the ledger's does, whatever happens to us.

A process may stand still at any point (SIGSTOP, a frozen machine). So the time counts from before the lease was asked
for, with a margin, on a clock that nobody sets, and it is looked at before every group of sends.
"""

import asyncio
from collections.abc import Callable

from gateway.batch.model import Failure
from gateway.ledger.port import Lease

STOPPED = Failure("cancelled", "the worker let go of the slice before this operation was sent")
_TRUST = 0.8  # of what the ledger granted


class Hold:
    """One lease in our hands. Times are CLOCK_MONOTONIC; `stopped` is done once nothing may start any more.

    `is_over`: nothing of it is on its way any more, and only its last word is still to be put on record.
    """

    def __init__(
        self,
        lease: Lease,
        lasts_s: float,
        asked_s: float,
        monotonic_s: Callable[[], float],
        stopped: asyncio.Future[None],
    ) -> None:
        self.lease = lease
        self.stopped = stopped
        self.is_over = False
        self._lasts_s = lasts_s * _TRUST
        self._monotonic_s = monotonic_s
        self._until_s = asked_s + self._lasts_s

    def extend(self, asked_s: float) -> None:
        """The ledger renewed the lease when it was asked to at `asked_s`."""
        self._until_s = asked_s + self._lasts_s

    @property
    def has_lapsed(self) -> bool:
        """Whether it was not renewed in time."""
        return self._monotonic_s() >= self._until_s

    def stop(self) -> None:
        """Start nothing further; what is on its way may end."""
        if not self.stopped.done():
            self.stopped.set_result(None)

    def refusal(self) -> Failure | None:
        """`STOPPED` once nothing may start any more."""
        if self.stopped.done():
            return STOPPED
        if not self.has_lapsed:
            return None
        self.stop()
        return STOPPED
