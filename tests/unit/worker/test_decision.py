import pytest

from gateway.batch.model import Failure, Outcome
from gateway.batch.retry import TOO_EARLY
from gateway.worker.decision import (
    Again,
    Keep,
    Pause,
    backoff_ms,
    begin,
    failed,
    is_suspected,
    judge,
    quarantined,
    surely_sent,
)

UNSAFE, SAFE = False, True
NOW_S = 784_111_777.0  # Sun, 06 Nov 1994 08:49:37 GMT


def test_a_fresh_slice_runs_whole() -> None:
    beginning = begin(3, frozenset(), frozenset(), 0, [UNSAFE, SAFE, UNSAFE])

    assert beginning.run == [0, 1, 2]
    assert beginning.settled == []


def test_what_has_an_outcome_is_never_run_again() -> None:
    beginning = begin(4, frozenset({0, 2}), frozenset(), 1, [UNSAFE] * 4)

    assert beginning.run == [1, 3]


def test_what_may_have_been_sent_is_unknown_unless_the_retry_law_repeats_it() -> None:
    beginning = begin(4, frozenset({3}), frozenset({0, 1, 3}), 1, [UNSAFE, SAFE, UNSAFE, UNSAFE])

    assert [(position, failure.slug) for position, failure in beginning.settled] == [(0, "outcome-unknown")]
    assert beginning.run == [1, 2]


@pytest.mark.parametrize(
    ("losses", "others_lost", "suspected"),
    [(0, False, False), (0, True, False), (1, False, True), (1, True, False), (2, True, False), (3, True, True)],
)
def test_a_slice_that_lost_its_worker_is_suspected_unless_others_were_lost_since(
    losses: int, others_lost: bool, suspected: bool
) -> None:
    assert is_suspected(losses, others_lost=others_lost) == suspected


def test_the_one_in_doubt_after_a_second_loss_is_quarantined() -> None:
    beginning = begin(3, frozenset({0}), frozenset({1}), 2, [SAFE] * 3)

    assert [(position, failure.slug) for position, failure in beginning.settled] == [(1, "quarantined")]
    assert beginning.run == [2]


def test_what_is_never_sent_again_is_unknown_and_not_quarantined() -> None:
    beginning = begin(2, frozenset(), frozenset({0}), 2, [UNSAFE, SAFE])

    assert [(position, failure.slug) for position, failure in beginning.settled] == [(0, "outcome-unknown")]
    assert beginning.run == [1]


@pytest.mark.parametrize("losses", [1, 3])
def test_nobody_is_guilty_at_the_first_loss_or_where_several_are_in_doubt(losses: int) -> None:
    in_doubt = frozenset({1}) if losses == 1 else frozenset({0, 1})
    beginning = begin(3, frozenset(), in_doubt, losses, [UNSAFE, SAFE, SAFE])

    assert "quarantined" not in [failure.slug for _, failure in beginning.settled]
    assert beginning.run == [position for position in range(3) if position not in dict(beginning.settled)]
    assert 1 in beginning.run


@pytest.mark.parametrize(
    ("slug", "retryable", "repeatable", "expected"),
    [
        ("upstream-connect", True, UNSAFE, Again()),
        ("upstream-tls", True, UNSAFE, Again()),
        ("overloaded", True, UNSAFE, Again()),
        ("upstream-timeout", True, SAFE, Again()),
        ("upstream-reset", True, SAFE, Again()),
        ("upstream-reset", True, UNSAFE, Keep()),
        ("outcome-unknown", False, UNSAFE, Keep()),
        ("upstream-malformed", False, SAFE, Keep()),
        ("route-not-allowed", False, SAFE, Keep()),
    ],
)
def test_a_failure_is_tried_again_where_nothing_was_sent_or_the_law_allows_it(
    slug: str, retryable: bool, repeatable: bool, expected: object
) -> None:
    outcome = Outcome(0, 502, failure=Failure(slug, "", retryable=retryable))

    assert judge(outcome, repeatable=repeatable, rejections=TOO_EARLY, tries_left=True, now_s=NOW_S) == expected
    assert judge(outcome, repeatable=repeatable, rejections=TOO_EARLY, tries_left=False, now_s=NOW_S) == Keep()


@pytest.mark.parametrize(
    ("status", "repeatable", "expected"),
    [
        (200, SAFE, Keep()),
        (404, SAFE, Keep()),
        (500, SAFE, Keep()),
        (425, SAFE, Again()),
        (429, SAFE, Again()),
        (502, SAFE, Again()),
        (503, SAFE, Again()),
        (504, SAFE, Again()),
        (425, UNSAFE, Again()),
        (503, UNSAFE, Keep()),
        (429, UNSAFE, Keep()),
    ],
)
def test_a_transient_answer_is_tried_again_only_where_the_law_allows_it(
    status: int, repeatable: bool, expected: object
) -> None:
    assert (
        judge(Outcome(0, status), repeatable=repeatable, rejections=TOO_EARLY, tries_left=True, now_s=NOW_S) == expected
    )
    assert (
        judge(Outcome(0, status), repeatable=repeatable, rejections=TOO_EARLY, tries_left=False, now_s=NOW_S) == Keep()
    )


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize("repeatable", [SAFE, UNSAFE])
def test_retry_after_pauses_and_burns_no_try(status: int, repeatable: bool) -> None:
    outcome = Outcome(0, status, {"Retry-After": "7"})

    assert judge(outcome, repeatable=repeatable, rejections=TOO_EARLY, tries_left=False, now_s=NOW_S) == Pause(
        7.0, repeatable
    )


def test_a_rejection_that_the_route_marks_is_tried_again_whatever_the_method() -> None:
    outcome = Outcome(0, 429, {"Retry-After": "7"})

    said = judge(outcome, repeatable=False, rejections=frozenset({425, 429, 503}), tries_left=True, now_s=NOW_S)

    assert said == Pause(7.0, True)


@pytest.mark.parametrize(
    ("status", "said", "expected"),
    [
        (503, "Sun, 06 Nov 1994 08:49:47 GMT", Pause(10.0, True)),
        (503, "9999999", Pause(3600.0, True)),
        (503, "soon", Again()),
        (503, ["1", "2"], Again()),
        (301, "7", Keep()),
    ],
)
def test_retry_after_is_heard_where_it_means_a_pause(status: int, said: str | list[str], expected: object) -> None:
    outcome = Outcome(0, status, {"Retry-After": said})

    assert judge(outcome, repeatable=True, rejections=TOO_EARLY, tries_left=True, now_s=NOW_S) == expected


def test_the_backoff_doubles_and_has_an_end() -> None:
    assert [backoff_ms(tries, 0.0) for tries in (1, 2, 3, 7, 1000)] == [1000, 2000, 4000, 60_000, 60_000]
    assert backoff_ms(1, 1.0) == 500


@pytest.mark.parametrize("repeatable", [SAFE, UNSAFE])
def test_an_open_breaker_pauses_the_upstream_and_burns_no_try(repeatable: bool) -> None:
    outcome = Outcome(0, 503, failure=Failure("upstream-unavailable", "", retryable=True, members={"retryAfter": 4}))

    said = judge(outcome, repeatable=repeatable, rejections=TOO_EARLY, tries_left=False, now_s=NOW_S)

    assert said == Pause(4.0, True)


@pytest.mark.parametrize(
    ("rate", "left_s", "expected"), [(20, 1.0, 10), (2, 0.5, 0), (10_000, 1.0, 5000), (0, 1.0, 0), (5, -1.0, -2)]
)
def test_of_a_turn_half_of_what_the_last_round_promises_is_surely_sent(
    rate: float, left_s: float, expected: int
) -> None:
    assert surely_sent(rate, left_s) == expected


def test_a_quarantined_operation_tells_how_often_it_was_at_work_when_a_worker_was_lost() -> None:
    failure = quarantined(2)

    assert failed(4, failure) == Outcome(4, 500, failure=failure)
    assert failure.slug == "quarantined"
    assert failure.detail.startswith("2 workers were lost with this slice")
