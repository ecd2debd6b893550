"""How many batches are answered in place at once, over all callers and of each: one too many is told to come back."""

from gateway.errors import GatewayError

_RETRY_AFTER = {"Retry-After": "1"}


class InFlight:
    """At most `most` batches, and `of_caller_max` of one caller. Who entered must `leave`."""

    def __init__(self, most: int, of_caller_max: int) -> None:
        self._most = most
        self._of_caller_max = of_caller_max
        self._of_callers: dict[str, int] = {}  # of those who have any
        self._all = 0

    def enter(self, caller: str) -> None:
        """Raises 503 `overloaded` where there is no room."""
        own = self._of_callers.get(caller, 0)
        if self._all >= self._most:
            raise GatewayError("overloaded", f"{self._all} batches are running; come back", headers=_RETRY_AFTER)
        if own >= self._of_caller_max:
            raise GatewayError("overloaded", f"{own} of your batches are running; come back", headers=_RETRY_AFTER)
        self._all += 1
        self._of_callers[caller] = own + 1

    def leave(self, caller: str) -> None:
        self._all -= 1
        left = self._of_callers.pop(caller) - 1
        if left:
            self._of_callers[caller] = left
