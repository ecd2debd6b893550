"""The two clocks that the server's calls read, as one value, so that tests can turn them."""

from collections.abc import Callable
from time import monotonic, time
from typing import NamedTuple


class Clock(NamedTuple):
    """`now_s` counts from 1970 and may jump, `monotonic_s` never does."""

    now_s: Callable[[], float] = time
    monotonic_s: Callable[[], float] = monotonic
