"""What an outcome means for its key, as a table."""

import pytest

from gateway.batch.model import Failure, Outcome
from gateway.errors import PROBLEMS
from gateway.replay.law import end_of
from gateway.replay.port import End


def failed(slug: str, attempts: int = 1) -> Outcome:
    return Outcome(0, PROBLEMS[slug].status, failure=Failure(slug, "said"), attempts=attempts)


@pytest.mark.parametrize(
    ("outcome", "end"),
    [
        (Outcome(0, 200, attempts=1), End.KEEP),
        (Outcome(0, 304, attempts=1), End.KEEP),
        (Outcome(0, 400, attempts=1), End.FAIL),
        (Outcome(0, 409, {"Retry-After": "1"}, attempts=1), End.FAIL),
        (Outcome(0, 425, attempts=1), End.FORGET),
        (Outcome(0, 429, attempts=1), End.FAIL),
        (Outcome(0, 429, {"Retry-After": "1"}, attempts=1), End.FORGET),
        (Outcome(0, 500, {"Retry-After": "1"}, attempts=1), End.FAIL),
        (Outcome(0, 503, attempts=1), End.FAIL),
        (Outcome(0, 503, {"Retry-After": "1"}, attempts=1), End.FORGET),
        (failed("upstream-connect"), End.FORGET),
        (failed("upstream-tls"), End.FORGET),
        (failed("overloaded"), End.FORGET),
        (failed("halted", 0), End.FORGET),
        (failed("dependency-failed", 0), End.FORGET),
        (failed("batch-deadline", 0), End.FORGET),
        (failed("upstream-unavailable", 0), End.FORGET),
        (failed("upstream-reset"), End.FAIL),
        (failed("upstream-timeout"), End.FAIL),
        (failed("outcome-unknown"), End.KEEP),
        (failed("upstream-malformed"), End.KEEP),
        (failed("upstream-response-too-large"), End.KEEP),
        (failed("response-budget-exceeded"), End.KEEP),
    ],
    ids=lambda value: value.name if isinstance(value, End) else repr(value)[:60],
)
def test_what_becomes_of_a_key(outcome: Outcome, end: End) -> None:
    assert end_of(outcome, repeatable=False) is end


@pytest.mark.parametrize("slug", ["upstream-malformed", "upstream-response-too-large", "outcome-unknown"])
def test_what_may_be_repeated_runs_again_after_any_failure(slug: str) -> None:
    assert end_of(failed(slug), repeatable=True) is End.FAIL


def test_what_may_be_repeated_is_kept_where_it_succeeded() -> None:
    assert end_of(Outcome(0, 200, attempts=1), repeatable=True) is End.KEEP
