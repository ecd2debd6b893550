"""What has finished of a batch that runs, until whoever waits for it takes it."""

import asyncio
import math
from collections.abc import Sequence

from gateway.batch.model import Outcome
from gateway.upstream.waking import Waking

_SMALL_BYTES = 8192  # of an answer that waits for others


class Outbox:
    """Outcomes of one run. Who puts one into `outcomes` calls `wake` where there are `least` of them, and, where it
    `is_told`, for a notable one."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.outcomes: list[Outcome] = []
        self.least = math.inf  # nobody waits
        self.is_told = False
        self._loop = loop
        self._waking = Waking(loop)
        self._patience: asyncio.TimerHandle | None = None
        self._tells_time = False

    async def taken(self, least: int, patience_s: float) -> Sequence[Outcome]:
        """The outcomes since the last call, as soon as there are `least` of them. None, once, where the time is up.

        Nobody waits for company longer than `patience_s`; where that is finite, what is notable waits for none.
        """
        if len(self.outcomes) < least and not self._tells_time:
            self.least = least
            if least > 1 and patience_s < math.inf:
                self.is_told = True
                self._patience = self._loop.call_later(patience_s, self._wait_no_more)
            await self._waking
        outcomes = self.emptied()
        self._tells_time = self._tells_time and bool(outcomes)
        return outcomes

    def wake(self) -> None:
        """Hand over what is there."""
        self.least, self.is_told = math.inf, False
        self.close()
        self._waking.wake()

    def tell_time(self) -> None:
        """The time is up: whoever waits is told, behind the outcomes that are there."""
        self._tells_time = True
        self.wake()

    def emptied(self) -> list[Outcome]:
        outcomes, self.outcomes = self.outcomes, []
        return outcomes

    def close(self) -> None:
        """Nobody is patient any more."""
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None

    def _wait_no_more(self) -> None:
        """Hand over what is there, or else the next one."""
        self.least = 1
        if self.outcomes:
            self.wake()


def is_notable(outcome: Outcome) -> bool:
    """Whether it is large, or no success: whoever waits may have to act."""
    return outcome.failure is not None or outcome.status >= 400 or len(outcome.body) > _SMALL_BYTES
