"""What of a batch can still run when its time is up."""

import pytest

from gateway.batch.model import Batch, Failure, Operation, Outcome
from gateway.batch.ordering import graph_of
from gateway.plan import Plan
from gateway.server.deadline import left_of

DONE = 200


def left(said: list[int | str], parents: list[list[str]] | None = None) -> set[int]:
    """What is left of operations "0", "1" ... that ended with these statuses and slugs."""
    ids = [str(index) for index in range(len(said))]
    graph = None if parents is None else graph_of(ids, parents)[0]
    batch = Batch([Operation(id_, "GET", "/") for id_ in ids], graph=graph)
    plan = Plan(batch, [], lambda operation, index: b"", 10, 0.0, 0)
    outcomes = [
        Outcome(index, each) if isinstance(each, int) else Outcome(index, 500, failure=Failure(each, ""))
        for index, each in enumerate(said)
    ]
    return set(left_of(plan, outcomes))


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ([DONE, 404, "batch-deadline", "upstream-timeout", "outcome-unknown", "upstream-connect"], {2, 3}),
        ([DONE, DONE], set()),
        ([DONE, "upstream-timeout", "halted", "halted"], {1, 2, 3}),
        ([500, "upstream-timeout", "halted"], {1}),
        (["outcome-unknown", "halted"], set()),
    ],
)
def test_what_was_not_sent_or_may_be_sent_again_is_left(said: list[int | str], expected: set[int]) -> None:
    assert left(said) == expected


@pytest.mark.parametrize(
    ("said", "parents", "expected"),
    [
        (["upstream-timeout", "dependency-failed", "dependency-failed"], [[], ["0"], ["1"]], {0, 1, 2}),
        ([500, "dependency-failed", "batch-deadline"], [[], ["0"], []], {2}),
        (["outcome-unknown", "dependency-failed"], [[], ["0"]], set()),
        (["upstream-timeout", 500, "dependency-failed"], [[], [], ["0", "1"]], {0, 2}),
        ([DONE, "batch-deadline", DONE], [[], ["0"], []], {1}),
    ],
)
def test_what_waits_for_something_left_is_left(
    said: list[int | str], parents: list[list[str]], expected: set[int]
) -> None:
    assert left(said, parents) == expected
