"""What limits do while their store is away: `open` lets everything pass, `closed` refuses, `local` counts by itself."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Literal, TypeVar

from gateway.limiter.bucket import Bucket, Charge, Denied, Granted, Reading
from gateway.limiter.memory import MemoryLimiter
from gateway.limiter.port import Limiter, LimiterUnavailableError

OnFailure = Literal["open", "closed", "local"]
_Answer = TypeVar("_Answer")

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
        everything = Granted(len(charges[0].costs), (), (), ())
        return await self._asked(lambda limiter: limiter.take(charges, wait_max_us=wait_max_us), everything)

    def pay(self, charges: Sequence[Charge]) -> Sequence[Reading] | None:
        return None  # whether the store is there is found out by asking it

    async def ask(self, charges: Sequence[Charge], *, wait_max_us: int) -> Granted | Denied:
        everything = Granted(len(charges[0].costs), (), (), ())
        return await self._asked(lambda limiter: limiter.ask(charges, wait_max_us=wait_max_us), everything)

    async def look(self, keys: Sequence[tuple[Bucket, str]]) -> Sequence[Reading]:
        return await self._asked(lambda limiter: limiter.look(keys), ())

    async def _asked(self, call: Callable[[Limiter], Awaitable[_Answer]], when_open: _Answer) -> _Answer:
        """What the shared limiter answers, else what the policy says."""
        if self._may_ask():
            try:
                answer = await call(self._shared)
            except LimiterUnavailableError:
                self._is_down()
            else:
                self._answers()
                return answer
        if self._on_failure == "closed":
            raise LimiterUnavailableError
        return await call(self._local) if self._on_failure == "local" else when_open

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
