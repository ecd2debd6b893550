"""What of a slice may have been sent: announced in the ledger before the first byte of it leaves."""

import asyncio
from collections.abc import Sequence, Set

import structlog

from gateway.batch.model import Failure
from gateway.ledger.port import LedgerUnavailableError, LostLeaseError, Queue
from gateway.worker.hold import Hold


class Intents:
    """Of one lease. Operations are told by their positions in the slice."""

    def __init__(self, queue: Queue, hold: Hold, logger: structlog.typing.FilteringBoundLogger) -> None:
        self._queue = queue
        self._hold = hold
        self._logger = logger
        self._announced = {index - hold.lease.first for index in hold.lease.in_doubt}

    def announce(self, positions: Sequence[int]) -> asyncio.Future[Failure | None]:
        """Done with None once the intent is durable and the lease still ours; never fails."""
        self._announced.update(positions)  # also where the ledger fails: nobody can know then
        return asyncio.ensure_future(self._put(positions))

    def indexes_without(self, settled: Set[int]) -> Sequence[int]:
        """The indexes in the batch of what was announced and is not among `settled`."""
        return [self._hold.lease.first + position for position in sorted(self._announced - settled)]

    async def _put(self, positions: Sequence[int]) -> Failure | None:
        lease = self._hold.lease
        try:
            await self._queue.intend(lease, [lease.first + position for position in positions])
        except (LostLeaseError, LedgerUnavailableError):
            self._hold.stop()
        except Exception:  # nobody would hear of it
            self._logger.exception("defect", listener="worker", batch_id=lease.batch)
            self._hold.stop()
        return self._hold.refusal()
