"""Upstreams that asked for a pause with `Retry-After`: what their caller has there in the background waits until then.

What one caller was told says nothing of the others: an API may count for each of them. Where nothing was sent, because
an upstream fails all the time, everybody waits.
"""

from collections.abc import Callable, Iterable

_EVERYBODY = ""  # is nobody's name
_TOLD_FROM_S = 5.0


class Pauses:
    """Times in seconds of a monotonic clock. `told` hears upstream, caller and length of a long pause that begins; the
    caller is empty where it is everybody's."""

    def __init__(self, monotonic_s: Callable[[], float], told: Callable[[str, str, float], None]) -> None:
        self.monotonic_s = monotonic_s
        self._told = told
        self.until_s: dict[tuple[str, str], float] = {}  # by upstream and caller

    def of(self, caller: str) -> "PausesOf":
        return PausesOf(self, caller)

    def add(self, upstream: str, caller: str, wait_s: float) -> None:
        now_s, key = self.monotonic_s(), (upstream, caller)
        if key not in self.until_s:
            self.until_s = {each: until_s for each, until_s in self.until_s.items() if until_s > now_s}
        begun_s = max(now_s, self.until_s.get(key, 0.0))
        self.until_s[key] = max(begun_s, now_s + wait_s)
        if now_s + wait_s >= begun_s + _TOLD_FROM_S:
            self._told(upstream, caller, wait_s)


class PausesOf:
    """Those of one caller."""

    def __init__(self, pauses: Pauses, caller: str) -> None:
        self._pauses = pauses
        self._caller = caller

    def add(self, upstream: str, wait_s: float, *, everybody: bool = False) -> None:
        """The longest pause that was asked for counts."""
        self._pauses.add(upstream, _EVERYBODY if everybody else self._caller, wait_s)

    def left_s(self, upstreams: Iterable[str]) -> float:
        """How long until the caller may ask all of `upstreams` again; 0 for now."""
        until_s = self._pauses.until_s
        if not until_s:
            return 0.0
        now_s = self._pauses.monotonic_s()
        ends_s = [until_s.get((upstream, who), now_s) for upstream in upstreams for who in (self._caller, _EVERYBODY)]
        return max(0.0, max(ends_s, default=now_s) - now_s)
