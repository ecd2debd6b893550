"""The breaker's table, and its two numbers."""

from itertools import pairwise, product

import pytest

from gateway.upstream.breaker import CALLS_MIN, TRANSITIONS, Event, State, advance, pause_s, trips


def test_each_pair_that_the_table_does_not_name_changes_nothing() -> None:
    named = {
        (State.CLOSED, Event.TRIPPED): State.OPEN,
        (State.OPEN, Event.RESTED): State.HALF_OPEN,
        (State.HALF_OPEN, Event.RECOVERED): State.CLOSED,
        (State.HALF_OPEN, Event.RELAPSED): State.OPEN,
    }

    assert dict(TRANSITIONS) == named
    for pair in product(State, Event):
        assert advance(*pair) is named.get(pair, pair[0])


@pytest.mark.parametrize(
    ("calls", "failures", "expected"),
    [(CALLS_MIN - 1, CALLS_MIN - 1, False), (20, 10, True), (20, 9, False), (1000, 499, False), (1000, 500, True)],
)
def test_half_of_enough_calls_trips_it(calls: int, failures: int, expected: bool) -> None:
    assert trips(calls, failures) is expected


def test_pauses_grow_from_one_second_and_stay_below_five() -> None:
    shortest = [pause_s(openings, 0.0) for openings in range(1, 50)]
    longest = [pause_s(openings, 1.0) for openings in range(1, 50)]

    assert shortest[:4] == [1.0, 2.0, 4.0, 4.0]
    assert all(before <= later for before, later in pairwise(shortest))
    assert max(longest) < 5
