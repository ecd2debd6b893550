"""The retry budget: how many extra sends one upstream gets, over all of its callers (PROMISES 2.1, X9). Pure.

Retries help when few requests fail. When all do they triple the load on an upstream that is in trouble already. So
extra sends of any ten seconds are at most a share of what was sent in them, and a few more for those who send little.
"""

from gateway.upstream.window import WINDOW_S, Window


class RetryBudget:
    """`percent` of the requests sent, and `per_second`; counted over a sliding window, so that nothing is saved up."""

    def __init__(self, percent: int, per_second: int) -> None:
        self.sends = 0  # of requests, each counted once: whoever sends raises it
        self._percent = percent
        self._reserve = per_second * WINDOW_S
        self._repeats = 0
        self._window = Window()

    def note(self, now_s: float) -> None:
        """Time goes on; to be called about once a second while something is sent."""
        self._window.growth(self.sends, self._repeats, now_s)

    def takes(self, now_s: float) -> bool:
        """Whether one more extra send is allowed; then it is counted."""
        sends, repeats = self._window.growth(self.sends, self._repeats, now_s)
        allowed = (repeats + 1 - self._reserve) * 100 <= sends * self._percent
        self._repeats += allowed
        return allowed
