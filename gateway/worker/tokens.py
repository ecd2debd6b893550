"""Tokens for a slice, a round at a time: for what is surely sent in its turn, so that few are taken in vain."""

from collections.abc import MutableMapping, Sequence
from typing import NamedTuple

from gateway.admission import Admission, Admitted, Caller
from gateway.batch.model import Failure, Operation
from gateway.batch.routes import Route
from gateway.errors import GatewayError
from gateway.worker.decision import surely_sent

_COME_BACK_S = 1.0  # where a refusal does not say when


class NotNow(NamedTuple):
    """No operation is admitted for `wait_s`."""

    wait_s: float


class Tokens:
    """Of one slice. `paid`: its batch has them already. `rates` tells what slices of each batch have sent in a second
    last, and is told; before anything is known, `concurrency` operations are surely sent."""

    def __init__(
        self,
        admission: Admission,
        caller: Caller,
        batch: str,
        rates: MutableMapping[str, float],
        *,
        concurrency: int,
        turn_s: float,
        paid: bool,
    ) -> None:
        self._admission = admission
        self._caller = caller
        self._batch = batch
        self._rates = rates
        self._concurrency = concurrency
        self._turn_s = turn_s
        self._paid = paid

    def most(self, left: int, turn_left_s: float) -> int:
        """How many of `left` operations take their tokens now."""
        if not self._admission.counts:
            return left
        return min(left, max(self._concurrency, surely_sent(self._rates.get(self._batch, 0.0), turn_left_s)))

    def sent(self, count: int, took_s: float) -> None:
        """A round of so many operations has ended."""
        self._rates[self._batch] = count / max(took_s, 1e-6)

    async def take(
        self, operations: Sequence[Operation], routes: Sequence[Route | Failure]
    ) -> tuple[int, Admitted | NotNow | GatewayError]:
        """Routes and tokens for the first of `operations`, and how many: half as many each time that no bucket has so
        much."""
        count = len(operations)
        while True:
            try:
                return count, await self._admission.admit(
                    operations[:count],
                    self._caller,
                    batched=True,
                    wait_max_us=int(self._turn_s * 1_000_000),
                    always_waits=True,
                    paid=self._paid,
                    routes=list(routes[:count]),
                )
            except GatewayError as refused:
                if refused.status >= 500 or (refused.status == 429 and count <= self._concurrency):
                    return 0, NotNow(float(refused.headers.get("Retry-After", _COME_BACK_S)))
                if count == 1:
                    return 1, refused
                count //= 2
