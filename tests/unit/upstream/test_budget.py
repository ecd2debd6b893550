"""The retry budget against its promise: at most a tenth of what was sent, and one a second (PROMISES X9)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.upstream.budget import RetryBudget
from tests.strategies import LAW


def _granted(budget: RetryBudget, wanted: int, now_s: float) -> int:
    return sum(budget.takes(now_s) for _ in range(wanted))


def test_who_sends_little_has_a_reserve_of_ten_seconds() -> None:
    budget = RetryBudget(10, 1)
    budget.sends = 1

    assert _granted(budget, 50, 0.0) == 10


def test_a_tenth_of_what_was_sent_is_granted_on_top() -> None:
    budget = RetryBudget(10, 1)
    budget.note(0.0)
    budget.sends = 1000

    assert _granted(budget, 500, 1.0) == 110


def test_nothing_is_saved_up_in_a_quiet_hour() -> None:
    budget = RetryBudget(10, 1)
    budget.note(0.0)
    budget.sends = 1_000_000
    budget.note(1.0)
    budget.note(3600.0)

    assert _granted(budget, 500, 3611.0) == 10


@pytest.mark.parametrize(("percent", "per_second", "granted"), [(0, 0, 0), (0, 2, 20), (100, 0, 100)])
def test_both_parts_can_be_set(percent: int, per_second: int, granted: int) -> None:
    budget = RetryBudget(percent, per_second)
    budget.note(0.0)
    budget.sends = 100

    assert _granted(budget, 1000, 0.5) == granted


def test_thirty_seconds_in_which_all_fails_cost_a_tenth_and_one_a_second() -> None:
    budget = RetryBudget(10, 1)
    repeats = 0
    for tick in range(3000):  # 100 operations a second, each wants two more sends
        budget.sends += 1
        repeats += _granted(budget, 2, tick / 100)

    assert 200 <= repeats <= 3000 // 10 + 30


@LAW
@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50)), min_size=1, max_size=40))
def test_no_ten_seconds_hold_more_than_their_share(seconds: list[tuple[int, int]]) -> None:
    budget, granted = RetryBudget(10, 1), []
    budget.note(0.0)
    for at_s, (sends, wanted) in enumerate(seconds, 1):
        budget.sends += sends
        granted.append(_granted(budget, wanted, float(at_s)))

    for end in range(1, len(granted) + 1):
        sent = sum(sends for sends, _ in seconds[max(0, end - 10) : end])
        assert sum(granted[max(0, end - 10) : end]) <= sent / 10 + 10
