"""A batch that is answered in place and whose time is up: what of it has an outcome, and what can still run. Pure."""

from collections.abc import Sequence

from gateway.batch.model import Outcome
from gateway.executor import Plan

# What may have run when the batch's time was up, or surely did not.
_OUT_OF_TIME = frozenset({"batch-deadline", "outcome-unknown", "upstream-timeout"})
_LEFT = frozenset({"batch-deadline", "upstream-timeout"})


def ran_out(plan: Plan, outcomes: Sequence[Outcome], now_s: float) -> bool:
    """Whether the batch's time ended it. `now_s` is of the loop's clock."""
    if now_s < min(plan.starts_until_s, plan.deadline_s):
        return False
    return any(outcome.failure is not None and outcome.failure.slug in _OUT_OF_TIME for outcome in outcomes)


def is_left(outcome: Outcome) -> bool:
    """Whether the operation can still run: it was not sent, or by the retry law it may be sent again."""
    return outcome.failure is not None and outcome.failure.slug in _LEFT
