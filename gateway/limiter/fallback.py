"""What limits do while their store is away: `open` lets everything pass, `closed` refuses, `local` counts by itself."""

from collections.abc import Callable, Sequence
from typing import Literal

from gateway.limiter.bucket import Bucket, Charge, Denied, Granted, Reading
from gateway.limiter.memory import MemoryLimiter
from gateway.limiter.port import Limiter, LimiterUnavailableError

OnFailure = Literal["open", "closed", "local"]

_ASK_AGAIN_S = 1.0  # meanwhile nobody waits for the store's timeout


class FallbackLimiter:
    """A `Limiter` in front of a shared one. `closed` passes the error on; `noticed(up)` hears of each change."""

    def __init__(
        self,
        shared: Limiter,
        on_failure: OnFailure,
        local: MemoryLimiter,
        time_s: Callable[[], float],
        noticed: Callable[[bool], None],
    ) -> None:
        self._shared = shared
        self._on_failure = on_failure
        self._local = local
        self._time_s = time_s
        self._noticed = noticed
        self._is_up = True
        self._ask_at_s = 0.0

    async def take(self, charges: Sequence[Charge], *, wait_max_us: int) -> Granted | Denied:
        if self._may_ask():
            try:
                taken = await self._shared.take(charges, wait_max_us=wait_max_us)
            except LimiterUnavailableError:
                self._is_down()
            else:
                self._answers()
                return taken
        if self._on_failure == "closed":
            raise LimiterUnavailableError
        if self._on_failure == "local":
            return await self._local.take(charges, wait_max_us=wait_max_us)
        return Granted(len(charges[0].costs), (), (), ())

    async def look(self, keys: Sequence[tuple[Bucket, str]]) -> Sequence[Reading]:
        if self._may_ask():
            try:
                readings = await self._shared.look(keys)
            except LimiterUnavailableError:
                self._is_down()
            else:
                self._answers()
                return readings
        if self._on_failure == "closed":
            raise LimiterUnavailableError
        return await self._local.look(keys) if self._on_failure == "local" else ()

    def _may_ask(self) -> bool:
        """While the store is away one call a second asks it, and the others wait for nothing."""
        if self._is_up:
            return True
        now_s = self._time_s()
        if now_s < self._ask_at_s:
            return False
        self._ask_at_s = now_s + _ASK_AGAIN_S
        return True

    def _is_down(self) -> None:
        self._ask_at_s = self._time_s() + _ASK_AGAIN_S
        if self._is_up:
            self._is_up = False
            self._noticed(False)

    def _answers(self) -> None:
        if not self._is_up:
            self._is_up = True
            self._noticed(True)
