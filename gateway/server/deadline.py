"""A batch that is answered in place and whose time is up: what of it has an outcome, and what can still run. Pure."""

from collections import deque
from collections.abc import Sequence

from gateway.batch.model import Outcome
from gateway.plan import Plan

# What may have run when the batch's time was up, or surely did not.
_OUT_OF_TIME = frozenset({"batch-deadline", "outcome-unknown", "upstream-timeout"})
_LEFT = frozenset({"batch-deadline", "upstream-timeout"})
_BECAUSE_OF_OTHERS = frozenset({"halted", "dependency-failed"})


def ran_out(plan: Plan, outcomes: Sequence[Outcome], now_s: float) -> bool:
    """Whether the batch's time ended it. `now_s` is of the loop's clock; all outcomes are there."""
    if now_s < min(plan.starts_until_s, plan.deadline_s):
        return False
    return any(outcome.failure is not None and outcome.failure.slug in _OUT_OF_TIME for outcome in outcomes)


def left_of(plan: Plan, outcomes: Sequence[Outcome | None]) -> frozenset[int]:
    """The operations that can still run, and those that ended only because one of these had not. None: on its way."""
    known = [outcome for outcome in outcomes if outcome is not None]
    left = {outcome.index for outcome in known if is_left(outcome)}
    failed = {each.index for each in known if not each.succeeded and _slug(each) not in _BECAUSE_OF_OTHERS}
    if failed <= left:
        left |= {outcome.index for outcome in known if _slug(outcome) == "halted"}
    waiting = deque(left if plan.batch.graph is not None else ())
    while plan.batch.graph is not None and waiting:
        for child in plan.batch.graph.children[waiting.popleft()]:
            if child not in left and _slug(outcomes[child]) == "dependency-failed":
                left.add(child)
                waiting.append(child)
    return frozenset(left)


def _slug(outcome: Outcome | None) -> str | None:
    return None if outcome is None or outcome.failure is None else outcome.failure.slug


def runs_again(outcome: Outcome) -> bool:
    """Whether the operation is run again, once it is on record, in spite of this outcome."""
    return is_left(outcome) or not outcome.attempts


def is_left(outcome: Outcome) -> bool:
    """Whether the operation can still run: it was not sent, or by the retry law it may be sent again."""
    return outcome.failure is not None and outcome.failure.slug in _LEFT
