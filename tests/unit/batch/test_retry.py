"""The retry law as a table (PROMISES 2.1): every method, every loss."""

from itertools import product

import pytest

from gateway.batch.model import METHODS
from gateway.batch.retry import (
    REJECTIONS,
    TOO_EARLY,
    Again,
    GiveUp,
    Loss,
    decide,
    decide_rejection,
    given_up,
    is_repeatable,
)

_NOT_SENT = {Loss.CONNECT, Loss.DRAINING, Loss.TLS, Loss.NO_ROOM}


@pytest.mark.parametrize(("method", "marked"), list(product(METHODS, (False, True))))
def test_only_safe_methods_and_marked_puts_and_deletes_are_repeatable(method: str, marked: bool) -> None:
    expected = method in ("GET", "HEAD", "OPTIONS") or (marked and method in ("PUT", "DELETE"))

    assert is_repeatable(method, route_idempotent=marked) is expected


@pytest.mark.parametrize(("loss", "repeatable"), list(product(Loss, (False, True))))
def test_a_request_is_sent_again_only_if_nothing_was_sent_or_it_is_repeatable(loss: Loss, repeatable: bool) -> None:
    decision = decide(loss, repeatable=repeatable, attempt=1, retries_max=2, remaining_s=10)

    assert isinstance(decision, Again) is (loss in (Loss.CONNECT, Loss.TLS) or (loss is Loss.RESET and repeatable))


@pytest.mark.parametrize("loss", list(Loss))
def test_no_request_is_sent_more_often_than_allowed(loss: Loss) -> None:
    decision = decide(loss, repeatable=True, attempt=3, retries_max=2, remaining_s=10)

    assert isinstance(decision, GiveUp)


def test_no_request_is_tried_again_beyond_its_deadline() -> None:
    decision = decide(Loss.CONNECT, repeatable=True, attempt=1, retries_max=2, remaining_s=0.025)

    assert isinstance(decision, GiveUp)


def test_each_refused_connect_waits_twice_as_long_as_the_one_before() -> None:
    decisions = [
        decide(Loss.CONNECT, repeatable=False, attempt=attempt, retries_max=9, remaining_s=10) for attempt in (1, 2, 3)
    ]

    assert decisions == [Again(0.025), Again(0.05), Again(0.1)]


def test_a_lost_connection_is_tried_again_at_once() -> None:
    assert decide(Loss.RESET, repeatable=True, attempt=1, retries_max=1, remaining_s=1) == Again(0.0)


@pytest.mark.parametrize("status", sorted(REJECTIONS))
@pytest.mark.parametrize("asked_s", [None, 0.0, 1.5])
def test_a_rejection_is_repeated_after_what_it_asks_for_and_too_early_also_if_it_asks_for_nothing(
    status: int, asked_s: float | None
) -> None:
    decision = decide_rejection(status, asked_s, attempt=1, retries_max=2, remaining_s=10)

    expected = asked_s if asked_s is not None else 0.025 if status in TOO_EARLY else None
    assert decision == (None if expected is None else Again(expected))


@pytest.mark.parametrize("status", sorted(REJECTIONS))
def test_a_rejection_is_not_repeated_more_often_than_allowed(status: int) -> None:
    assert decide_rejection(status, 0.0, attempt=2, retries_max=2, remaining_s=10) == Again(0.0)
    assert decide_rejection(status, 0.0, attempt=3, retries_max=2, remaining_s=10) is None


def test_a_rejection_that_asks_for_more_time_than_is_left_is_the_answer() -> None:
    assert decide_rejection(503, 2.0, attempt=1, retries_max=2, remaining_s=2.0) is None
    assert decide_rejection(425, None, attempt=1, retries_max=2, remaining_s=0.025) is None


@pytest.mark.parametrize(
    ("loss", "repeatable", "status", "slug"),
    [
        (Loss.CONNECT, False, 502, "upstream-connect"),
        (Loss.CONNECT, True, 502, "upstream-connect"),
        (Loss.DRAINING, False, 503, "draining"),
        (Loss.DRAINING, True, 503, "draining"),
        (Loss.TLS, False, 502, "upstream-tls"),
        (Loss.TLS, True, 502, "upstream-tls"),
        (Loss.NO_ROOM, False, 503, "overloaded"),
        (Loss.NO_ROOM, True, 503, "overloaded"),
        (Loss.TIMEOUT, False, 504, "outcome-unknown"),
        (Loss.TIMEOUT, True, 504, "upstream-timeout"),
        (Loss.RESET, False, 502, "outcome-unknown"),
        (Loss.RESET, True, 502, "upstream-reset"),
        (Loss.MALFORMED, False, 502, "upstream-malformed"),
        (Loss.MALFORMED, True, 502, "upstream-malformed"),
        (Loss.TOO_LARGE, False, 502, "upstream-response-too-large"),
        (Loss.TOO_LARGE, True, 502, "upstream-response-too-large"),
    ],
)
def test_a_loss_has_the_status_and_slug_of_the_table(loss: Loss, repeatable: bool, status: int, slug: str) -> None:
    given = given_up(loss, repeatable=repeatable, attempt=1)

    assert (given.status, given.failure.slug) == (status, slug)


@pytest.mark.parametrize(("loss", "repeatable"), list(product(Loss, (False, True))))
def test_a_caller_is_told_to_repeat_only_what_cannot_have_a_second_effect(loss: Loss, repeatable: bool) -> None:
    failure = given_up(loss, repeatable=repeatable, attempt=1).failure

    may_repeat = loss in _NOT_SENT or (repeatable and loss in (Loss.TIMEOUT, Loss.RESET))
    assert failure.retryable is may_repeat
