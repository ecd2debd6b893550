"""A bucket never grants more than its burst and what has flowed back; and what it tells a caller to wait is right."""

from itertools import accumulate, product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.limiter.bucket import (
    Bucket,
    Charge,
    Denied,
    Granted,
    Level,
    OnExhausted,
    Reading,
    full,
    plan,
    read,
    redefined,
    refilled,
)
from tests.strategies import LAW

_S = 1_000_000


def _bucket(
    tokens: int = 10, burst: int = 10, on_exhausted: OnExhausted = "reject", per_us: int = _S, name: str = "b"
) -> Bucket:
    return Bucket(name, tokens, per_us, burst, on_exhausted)


def _buckets(*on_exhausted: OnExhausted) -> st.SearchStrategy[Bucket]:
    return st.builds(
        Bucket,
        st.just("b"),
        st.integers(1, 1000),
        st.sampled_from([_S, 60 * _S, 3600 * _S]),
        st.integers(1, 50),
        st.sampled_from(on_exhausted),
    )


_arrivals = st.lists(
    st.tuples(st.integers(0, 5 * _S), st.lists(st.integers(0, 5), min_size=1, max_size=12), st.integers(0, 3 * _S)),
    min_size=1,
    max_size=12,
)
"""Microseconds since the arrival before, the cost of each operation, and how long the batch would wait."""


def _starts(bucket: Bucket, arrivals: list[tuple[int, list[int], int]]) -> list[tuple[int, int]]:
    """When each admitted operation may start, and what it costs."""
    now_us, level, starts = 0, full(bucket, 0), []
    for gap_us, costs, wait_max_us in arrivals:
        now_us += gap_us
        decision, (level,) = plan([Charge(bucket, "", costs)], [refilled(bucket, level, now_us)], wait_max_us)
        if isinstance(decision, Granted):
            delays = decision.delays_us or [0] * decision.admitted
            starts += [(now_us + delay, cost) for delay, cost in zip(delays, costs, strict=False)]
    return starts


@LAW
@given(_buckets("reject", "partial", "wait"), _arrivals)
def test_no_stretch_of_time_sees_more_than_the_burst_and_what_flowed_back(
    bucket: Bucket, arrivals: list[tuple[int, list[int], int]]
) -> None:
    starts = sorted(_starts(bucket, arrivals))

    for (from_us, _), (to_us, _) in product(starts, starts):
        spent = sum(cost for at_us, cost in starts if from_us <= at_us <= to_us)
        elapsed_us = max(0, to_us - from_us) + 1  # a start is rounded up to a whole microsecond
        assert spent * bucket.per_us <= bucket.full_units + elapsed_us * bucket.tokens or to_us < from_us


@LAW
@given(_buckets("wait"), _arrivals)
def test_operations_start_in_order_and_within_what_the_batch_would_wait(
    bucket: Bucket, arrivals: list[tuple[int, list[int], int]]
) -> None:
    level = full(bucket, 0)
    for gap_us, costs, wait_max_us in arrivals:
        before = refilled(bucket, level, level.at_us + gap_us)
        decision, (level,) = plan([Charge(bucket, "", costs)], [before], wait_max_us)
        if isinstance(decision, Granted):
            assert list(decision.delays_us) == sorted(decision.delays_us)
            assert max(decision.delays_us, default=0) <= wait_max_us or not any(costs)


@st.composite
def _denials(draw: st.DrawFn) -> tuple[Bucket, Level, list[int], int]:
    bucket = draw(_buckets("reject", "wait"))
    costs = draw(
        st.lists(st.integers(0, 5), min_size=1, max_size=8).filter(lambda costs: 0 < sum(costs) <= bucket.burst)
    )
    units = draw(st.integers(-bucket.full_units, sum(costs) * bucket.per_us - 1))
    return bucket, Level(units, 0), costs, draw(st.sampled_from([0, 1, 1000, _S]))


@LAW
@given(_denials())
def test_waiting_as_told_is_enough_and_a_microsecond_less_is_not(denial: tuple[Bucket, Level, list[int], int]) -> None:
    bucket, level, costs, wait_max_us = denial
    charges = [Charge(bucket, "", costs)]
    decision, _ = plan(charges, [level], wait_max_us)
    if not isinstance(decision, Denied):
        return

    after, _ = plan(charges, [refilled(bucket, level, decision.retry_after_us)], wait_max_us)
    before, _ = plan(charges, [refilled(bucket, level, decision.retry_after_us - 1)], wait_max_us)

    assert isinstance(after, Granted)
    assert isinstance(before, Denied)


@st.composite
def _several(draw: st.DrawFn) -> tuple[list[Charge], list[Level]]:
    count = draw(st.integers(1, 6))
    charges, levels = [], []
    for _ in range(draw(st.integers(1, 4))):
        bucket = draw(_buckets("reject", "partial", "wait"))
        costs = draw(st.lists(st.integers(0, 8), min_size=count, max_size=count))
        if bucket.on_exhausted != "partial":  # a batch that can never pay is refused before it comes here
            bucket = bucket._replace(burst=max(bucket.burst, sum(costs)))
        charges.append(Charge(bucket, "", costs))
        lowest = -bucket.full_units if bucket.on_exhausted == "wait" else 0
        levels.append(Level(draw(st.integers(lowest, bucket.full_units)), 0))
    return charges, levels


@LAW
@given(_several(), st.sampled_from([0, _S]))
def test_waiting_as_told_is_enough_over_several_buckets(
    several: tuple[list[Charge], list[Level]], wait_us: int
) -> None:
    charges, levels = several
    decision, _ = plan(charges, levels, wait_us)
    if not isinstance(decision, Denied):
        return

    later = [
        refilled(charge.bucket, level, decision.retry_after_us) for charge, level in zip(charges, levels, strict=True)
    ]

    assert isinstance(plan(charges, later, wait_us)[0], Granted)


@LAW
@given(_several(), st.sampled_from([0, _S]))
def test_all_buckets_pay_for_the_same_operations_or_none_pays(
    several: tuple[list[Charge], list[Level]], wait_us: int
) -> None:
    charges, levels = several

    decision, after = plan(charges, levels, wait_us)

    if isinstance(decision, Denied):
        assert after == levels
    else:
        paid = [sum(charge.costs[: decision.admitted]) for charge in charges]
        assert list(decision.tokens) == paid
        assert [before.units - level.units for before, level in zip(levels, after, strict=True)] == [
            tokens * charge.bucket.per_us for tokens, charge in zip(paid, charges, strict=True)
        ]


@LAW
@given(st.lists(st.integers(0, 5), min_size=1, max_size=10), st.integers(0, 20))
def test_a_partial_bucket_admits_as_many_operations_as_it_can_pay(costs: list[int], held: int) -> None:
    bucket = _bucket(burst=20, on_exhausted="partial")

    decision, _ = plan([Charge(bucket, "", costs)], [Level(held * _S, 0)], 0)

    assert isinstance(decision, Granted)
    if sum(costs) <= held:
        assert decision.admitted == len(costs)
    else:
        spent = list(accumulate(costs, initial=0))
        assert spent[decision.admitted] <= held < spent[decision.admitted + 1]


@LAW
@given(_buckets("reject"), st.lists(st.integers(0, 10 * _S), min_size=1, max_size=10))
def test_refilling_in_steps_is_refilling_at_once(bucket: Bucket, steps_us: list[int]) -> None:
    level = once = Level(0, 0)
    for step_us in steps_us:
        level = refilled(bucket, level, level.at_us + step_us)

    once = refilled(bucket, once, sum(steps_us))

    assert level == once


def test_a_clock_that_went_back_refills_nothing() -> None:
    assert refilled(_bucket(), Level(5, 100), 50) == Level(5, 100)


def test_a_bucket_never_holds_more_than_its_burst() -> None:
    assert refilled(_bucket(burst=3), Level(0, 0), 3600 * _S) == Level(3 * _S, 3600 * _S)


def test_a_full_bucket_pays_exactly_its_burst() -> None:
    bucket = _bucket(burst=10)

    granted, (level,) = plan([Charge(bucket, "", [1] * 10)], [full(bucket, 0)], 0)
    denied, _ = plan([Charge(bucket, "", [1])], [level], 0)

    assert isinstance(granted, Granted)
    assert isinstance(denied, Denied)
    assert (denied.cost, denied.retry_after_us) == (1, 100_000)


def test_a_waiting_bucket_spreads_operations_as_tokens_come() -> None:
    bucket = _bucket(tokens=10, burst=2, on_exhausted="wait")

    decision, (level,) = plan([Charge(bucket, "", [1] * 4)], [full(bucket, 0)], _S)

    assert isinstance(decision, Granted)
    assert decision.delays_us == [0, 0, 100_000, 200_000]
    assert level.units == -2 * _S


def test_a_waiting_bucket_refuses_a_debt_longer_than_the_batch_would_wait() -> None:
    bucket = _bucket(tokens=10, burst=20, on_exhausted="wait")

    decision, _ = plan([Charge(bucket, "", [20])], [Level(0, 0)], _S)

    assert isinstance(decision, Denied)
    assert decision.retry_after_us == _S


def test_operations_of_two_waiting_buckets_start_when_the_later_one_has_paid() -> None:
    quick = _bucket(tokens=10, burst=9, on_exhausted="wait", name="quick")
    slow = _bucket(tokens=1, burst=9, on_exhausted="wait", name="slow")

    decision, _ = plan([Charge(quick, "", [1, 1]), Charge(slow, "", [0, 1])], [Level(0, 0), Level(0, 0)], 9 * _S)

    assert isinstance(decision, Granted)
    assert decision.delays_us == [100_000, _S]


def test_an_operation_that_costs_nothing_passes_a_bucket_in_debt() -> None:
    bucket = _bucket(on_exhausted="reject")

    decision, _ = plan([Charge(bucket, "", [0])], [Level(-5, 0)], 0)

    assert isinstance(decision, Granted)


def test_the_bucket_that_takes_longest_is_named_when_several_are_short() -> None:
    quick, slow = _bucket(tokens=100, name="quick"), _bucket(tokens=1, name="slow")

    decision, _ = plan([Charge(quick, "", [1]), Charge(slow, "", [1])], [Level(0, 0), Level(0, 0)], 0)

    assert isinstance(decision, Denied)
    assert (decision.bucket.name, decision.retry_after_us) == ("slow", _S)


@pytest.mark.parametrize(
    ("units", "remaining", "full_in_s"),
    [(10 * _S, 10, 0), (10 * _S - 1, 9, 1), (0, 0, 1), (-20 * _S, 0, 3), (_S - 1, 0, 1)],
)
def test_a_reading_rounds_against_the_caller(units: int, remaining: int, full_in_s: int) -> None:
    assert read(_bucket(), Level(units, 0)) == Reading(_bucket(), remaining, full_in_s)


@pytest.mark.parametrize(
    ("before", "after", "held", "holds"),
    [
        (_bucket(), _bucket(), 4, 4),
        (_bucket(burst=10), _bucket(burst=100), 4, 4),
        (_bucket(burst=10), _bucket(burst=3), 4, 3),
        (_bucket(per_us=_S), _bucket(per_us=60 * _S), 4, 4),
        (_bucket(per_us=60 * _S), _bucket(per_us=_S), 4, 4),
        (_bucket(burst=10), _bucket(burst=100), -7, -7),
    ],
)
def test_a_bucket_that_is_defined_anew_holds_the_tokens_that_it_held(
    before: Bucket, after: Bucket, held: int, holds: int
) -> None:
    level = redefined(before, after, Level(held * before.per_us, 5), 5)

    assert level == Level(holds * after.per_us, 5)


def test_what_came_back_until_the_definition_changed_came_at_the_old_rate() -> None:
    before, after = _bucket(tokens=2, burst=100), _bucket(tokens=50, burst=100)

    assert redefined(before, after, Level(0, 0), 3 * _S) == Level(6 * _S, 3 * _S)
