"""A clock that starts with the wall's time and goes on by itself."""

import time

from gateway.ledger.clock import steady_clock


def test_it_starts_at_wall_time() -> None:
    before_ms = time.time_ns() // 1_000_000

    now_ms = steady_clock()()

    assert before_ms - 1 <= now_ms <= time.time_ns() // 1_000_000 + 1


def test_it_goes_on_as_the_monotonic_clock_does() -> None:
    clock = steady_clock(wall_s=0.0)
    started_s = time.monotonic()
    first = clock()

    while time.monotonic() - started_s < 0.01:
        pass

    passed_ms = (time.monotonic() - started_s) * 1000
    assert 9 <= clock() - first <= passed_ms + 2
