"""Upstreams that asked for a pause with `Retry-After`: no asynchronous work goes there until it is over."""

from collections.abc import Callable, Iterable


class Pauses:
    """Times in seconds of a monotonic clock."""

    def __init__(self, monotonic_s: Callable[[], float]) -> None:
        self._monotonic_s = monotonic_s
        self._until_s: dict[str, float] = {}  # by upstream

    def add(self, upstream: str, wait_s: float) -> None:
        """The longest pause that was asked for counts."""
        until_s = self._monotonic_s() + wait_s
        self._until_s[upstream] = max(until_s, self._until_s.get(upstream, 0.0))

    def left_s(self, upstreams: Iterable[str]) -> float:
        """How long until all of `upstreams` may be asked again; 0 for now."""
        if not self._until_s:
            return 0.0
        now_s = self._monotonic_s()
        self._until_s = {name: until_s for name, until_s in self._until_s.items() if until_s > now_s}
        return max((self._until_s[name] - now_s for name in upstreams if name in self._until_s), default=0.0)
