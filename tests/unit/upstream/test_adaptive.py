"""The limit that adapts: a table of single samples, and whole upstreams on paper."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.upstream.adaptive import HOLD, Limit, Sample, after
from tests.strategies import LAW

MOST = 100
_FIRST = Limit(MOST)
Upstream = Callable[[int], tuple[int, int]]  # how many at once -> latency in us, rejected of 16


@pytest.mark.parametrize(
    ("state", "sample", "expected"),
    [
        (Limit(100), Sample(16, 0, 5000, 80), Limit(100, 5000)),
        (Limit(100), Sample(16, 0, 50_000, 10), Limit(100, 50_000)),
        (Limit(100), Sample(16, 0, 50_000, 80), Limit(40, 0, 0, 100, 50_000)),
        (Limit(100, 5000), Sample(16, 0, 17_500, 80), Limit(100, 5000)),
        (Limit(100, 5000), Sample(16, 0, 18_000, 80), Limit(40, 5000, 0, 100, 18_000)),
        (Limit(1, 5000), Sample(16, 0, 90_000, 1), Limit(1, 90_000)),
        (Limit(40, 5000, 0, 100, 18_000), Sample(16, 0, 17_000, 40), Limit(100, 17_000)),
        (Limit(40, 5000, 0, 100, 18_000), Sample(16, 0, 9000, 40), Limit(40, 5000)),
        (Limit(40, 5000, 0, 100, 80_000), Sample(16, 0, 40_000, 40), Limit(20, 5000, 0, 40, 40_000)),
        (Limit(40, 5000, 0, 100, 80_000), Sample(16, 0, 58_000, 40), Limit(20, 5000, 0, 40, 58_000)),
        (Limit(40, 0, 0, 100, 80_000), Sample(16, 0, 40_000, 40), Limit(20, 0, 0, 40, 40_000)),
        (Limit(40, 0, 0, 100, 80_000), Sample(16, 0, 58_000, 40), Limit(40, 58_000)),
        (Limit(1, 5000, 0, 2, 80_000), Sample(16, 0, 20_000, 1), Limit(1, 5000)),
        (Limit(100), Sample(16, 16, 0, 80), Limit(40, 0, HOLD)),
        (Limit(100), Sample(16, 16, 0, 1), Limit(1, 0, HOLD)),
        (Limit(10, 5000), Sample(20, 2, 5000, 10), Limit(9, 5000, HOLD)),
        (Limit(10, 5000, 2), Sample(16, 0, 5000, 10), Limit(10, 5000, 1)),
        (Limit(10, 5000), Sample(16, 1, 5000, 10), Limit(11, 5000)),
        (Limit(40, 5000), Sample(16, 0, 4000, 40), Limit(45, 4000)),
        (Limit(40, 5000), Sample(16, 0, 5000, 20), Limit(40, 5000)),
        (Limit(99, 5000), Sample(16, 0, 5000, 99), Limit(100, 5000)),
    ],
)
def test_one_sample_changes_the_limit_so(state: Limit, sample: Sample, expected: Limit) -> None:
    assert after(state, sample, MOST) == expected


def _limits(upstream: Upstream, samples: int, state: Limit = _FIRST, wanted: int = 80) -> list[Limit]:
    states = [state]
    for _ in range(samples):
        in_flight = min(states[-1].limit, wanted)
        latency_us, rejected = upstream(in_flight)
        states.append(after(states[-1], Sample(16, rejected, latency_us, in_flight), MOST))
    return states


def test_a_queue_from_the_start_is_found_within_ten_samples_and_kept_short() -> None:
    states = _limits(lambda in_flight: (40_000 * max(8, in_flight) // 8, 0), 100)

    assert all(4 <= state.limit <= 16 for state in states[10:])
    assert sum(min(8, state.limit) for state in states[10:]) >= 0.9 * 8 * len(states[10:])


def test_an_upstream_that_rejects_above_eight_is_asked_eight_at_a_time() -> None:
    states = _limits(lambda in_flight: (5000, 16 * max(0, in_flight - 8) // in_flight), 200)

    assert all(4 <= state.limit <= 12 for state in states[20:])


def test_what_becomes_slower_by_itself_keeps_its_concurrency() -> None:
    states = _limits(lambda _: (500_000, 0), 20, Limit(MOST, 5000))

    assert sum(state.limit < 80 for state in states) == 1


def test_an_upstream_that_is_well_again_gets_all_of_it_back_soon() -> None:
    states = _limits(lambda _: (5000, 0), 60, Limit(1, 5000, HOLD))

    assert states[-1].limit >= 80


@LAW
@given(
    st.lists(
        st.integers(1, 32).flatmap(
            lambda answers: st.builds(
                Sample, st.just(answers), st.integers(0, answers), st.integers(0, 10**8), st.integers(0, 200)
            )
        ),
        max_size=50,
    )
)
def test_the_limit_stays_between_one_and_the_most(samples: list[Sample]) -> None:
    state = Limit(MOST)
    for sample in samples:
        state = after(state, sample, MOST)

        assert 1 <= state.limit <= MOST
