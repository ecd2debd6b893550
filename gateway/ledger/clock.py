"""Wall time that does not jump: read once, then counted on by the monotonic clock (PROMISES D11)."""

import time
from collections.abc import Callable


def steady_clock(wall_s: float | None = None) -> Callable[[], int]:
    """Milliseconds since 1970, as the wall clock had it when this was called, or as `wall_s` says."""
    start_s = time.time() if wall_s is None else wall_s
    offset_ms = int((start_s - time.monotonic()) * 1000)
    return lambda: offset_ms + int(time.monotonic() * 1000)
