"""A window over counters, against a list of what happened."""

from hypothesis import given
from hypothesis import strategies as st

from gateway.upstream.window import WINDOW_S, Window
from tests.strategies import LAW


def test_a_window_begins_with_its_first_question() -> None:
    window = Window()

    assert window.growth(7, 3, 100.0) == (0, 0)
    assert window.growth(9, 4, 100.5) == (2, 1)


def test_what_is_older_than_the_window_is_forgotten() -> None:
    window = Window()
    for second in range(31):
        grown = window.growth(second * 5, second, float(second))

    assert grown == (5 * WINDOW_S, WINDOW_S)


@LAW
@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=60))
def test_a_window_that_is_asked_each_second_holds_the_last_ten(gains: list[tuple[int, int]]) -> None:
    window, first, second = Window(), 0, 0
    window.growth(0, 0, 0.0)
    for at_s, gain in enumerate(gains, 1):
        first, second = first + gain[0], second + gain[1]
        grown = window.growth(first, second, float(at_s))

    last = gains[-WINDOW_S:]
    assert grown == (sum(gain[0] for gain in last), sum(gain[1] for gain in last))
