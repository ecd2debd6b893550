"""Outcomes and how they are counted."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.batch.model import Batch, Failure, Operation, Outcome, summarize
from gateway.errors import PROBLEMS
from tests.strategies import LAW

_failures = st.sampled_from(sorted(PROBLEMS)).map(lambda slug: Failure(slug, "words"))
_outcomes = st.builds(Outcome, st.just(0), st.integers(200, 599), failure=st.none() | _failures)


@LAW
@given(st.lists(_outcomes))
def test_a_summary_adds_up_and_its_unknown_are_among_the_failed(outcomes: list[Outcome]) -> None:
    summary = summarize(outcomes)

    assert summary.total == len(outcomes) == summary.succeeded + summary.failed
    assert summary.succeeded == sum(outcome.succeeded for outcome in outcomes)
    assert summary.unknown == sum(outcome.unknown for outcome in outcomes) <= summary.failed


@pytest.mark.parametrize(("status", "succeeded"), [(200, True), (304, True), (399, True), (400, False), (500, False)])
def test_an_answer_below_400_is_a_success(status: int, succeeded: bool) -> None:
    assert Outcome(0, status).succeeded is succeeded


def test_a_failure_is_no_success_whatever_its_status() -> None:
    assert not Outcome(0, 200, failure=Failure("halted", "")).succeeded


@pytest.mark.parametrize(
    ("outcome", "kind"),
    [
        (Outcome(0, 204), "ok"),
        (Outcome(0, 404), "client_error"),
        (Outcome(0, 503), "server_error"),
        (Outcome(0, 504, failure=Failure("outcome-unknown", "")), "unknown"),
        (Outcome(0, 429, failure=Failure("rate-limited", "")), "limited"),
        (Outcome(0, 502, failure=Failure("upstream-malformed", "")), "server_error"),
    ],
)
def test_the_kind_of_an_outcome_is_the_metrics_word_for_it(outcome: Outcome, kind: str) -> None:
    assert outcome.kind == kind


@LAW
@given(_outcomes)
def test_there_are_at_most_ten_kinds(outcome: Outcome) -> None:
    assert outcome.kind in {
        "ok", "client_error", "server_error", "unknown", "timeout", "unreachable", "limited", "skipped",
    }  # fmt: skip


def test_a_batch_knows_whether_any_operation_has_a_key() -> None:
    bare, keyed = Operation("a", "GET", "/"), Operation("b", "GET", "/", key="k")

    assert not Batch([bare]).has_keys
    assert Batch([bare, keyed]).has_keys
