"""What the evidence of a kill loop says: every way in which record and receipts contradict a promise. Pure.

A receipt is a line that the upstream had on its disk before it answered; its number is in the answer's body, so an
outcome can be traced to the one receipt that it is the answer of.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from itertools import pairwise
from typing import NamedTuple

from tests.faults.killing.plan import Plan, is_refused, method_of, target_of


class Receipt(NamedTuple):
    """A request as the upstream has it in its log; `number` counts from 1.

    `answered` is how many requests the upstream had received when it answered; None where it did not.
    """

    number: int
    method: str
    target: str
    answered: int | None = None


class Kept(NamedTuple):
    """An outcome on record; `place` is its operation's index, `body` the upstream's, `cause` what is told of the way
    down from an operation that failed."""

    place: int
    status: int
    slug: str | None
    body: str
    cause: Sequence[str] = ()


class Seen(NamedTuple):
    """A batch's progress at one moment."""

    total: int
    completed: int
    succeeded: int
    failed: int
    unknown: int
    cancelled: int = 0


class Evidence(NamedTuple):
    """`acknowledged` batches, their last `states`, all `outcomes` as found, and what was seen of them on the way.

    `guilty` are the places of the operations that crash their worker. `noticed` are batches of which the
    gateways said that the store had lost acknowledged changes, as one that writes its file every second may in a crash
    (D8): they may be lost or fall back, but nothing unsafe of them is sent twice.
    """

    plan: Plan
    kills: int
    in_flight_max: int
    acknowledged: Sequence[str]
    states: Mapping[str, str]
    outcomes: Mapping[str, Sequence[Kept]]
    receipts: Sequence[Receipt]
    progress: Mapping[str, Sequence[Seen]]
    guilty: frozenset[int] = frozenset()
    noticed: frozenset[str] = frozenset()


_MAY_HAVE_RUN = frozenset({"outcome-unknown", "quarantined"})
_NOT_ANSWERED = _MAY_HAVE_RUN | {"dependency-failed"}


def violations(evidence: Evidence) -> list[str]:
    """Empty for a build that keeps its promises."""
    times = Counter(receipt.target for receipt in evidence.receipts)
    found = [*_lost(evidence), *_repeated(evidence, times), *_strangers(evidence), *_backwards(evidence)]
    found += _hasty(evidence)
    for batch_id, outcomes in evidence.outcomes.items():
        found += _disordered(evidence.plan, batch_id, outcomes)
        found += _unsent(evidence.plan, batch_id, outcomes, times)
        for kept in outcomes:
            found += _untrue(evidence, batch_id, kept)
            if kept.slug == "quarantined" and kept.place not in evidence.guilty:
                found.append(f"innocent: {target_of(batch_id, kept.place)} was set aside (D6)")
    return [*found, *_too_many_unknown(evidence, times)]


def _lost(evidence: Evidence) -> list[str]:
    """D1: what was acknowledged reaches its end, and every operation of it has one outcome."""
    found = []
    for batch_id in evidence.acknowledged:
        if batch_id in evidence.noticed:
            continue
        state = evidence.states.get(batch_id)
        if state != "completed" and not _is_cancelled(evidence, batch_id):
            found.append(f"lost: {batch_id} was acknowledged and is {state}")
            continue
        count = Counter(kept.place for kept in evidence.outcomes.get(batch_id, ()))
        found += [f"lost: {batch_id}/{index} has no outcome" for index in range(evidence.plan.size) if not count[index]]
        found += [f"doubled: {batch_id}/{index} has {times} outcomes" for index, times in count.items() if times > 1]
    return found


def _repeated(evidence: Evidence, times: Mapping[str, int]) -> list[str]:
    """D2: an unsafe operation is received at most once."""
    unsafe = {receipt.target for receipt in evidence.receipts if receipt.method == "POST"}
    return [f"repeated: POST {target} was received {times[target]} times" for target in unsafe if times[target] > 1]


def _strangers(evidence: Evidence) -> list[str]:
    """Nothing is sent that nobody asked for."""
    asked = {
        (method_of(index), target_of(batch_id, index))
        for batch_id in evidence.plan.ids
        for index in range(evidence.plan.size)
    }
    return [
        f"stranger: {receipt.method} {receipt.target} was never asked for"
        for receipt in evidence.receipts
        if (receipt.method, receipt.target) not in asked
    ]


def _hasty(evidence: Evidence) -> list[str]:
    """Nothing is sent before each of its parents was answered, nor where one can never have succeeded."""
    received: dict[str, list[Receipt]] = {}
    for receipt in evidence.receipts:
        received.setdefault(receipt.target, []).append(receipt)
    found = []
    for batch_id in evidence.plan.ids if evidence.plan.is_ordered else ():
        hopeless = evidence.plan.hopeless(batch_id)
        for index in range(evidence.plan.size):
            target = target_of(batch_id, index)
            if target not in received:
                continue
            if index in hopeless:
                found.append(f"hopeless: {target} was sent, and what it waits for was refused")
            first = received[target][0].number
            for parent in map(partial(target_of, batch_id), evidence.plan.parents(batch_id, index)):
                answered = [each.answered for each in received.get(parent, ()) if each.answered is not None]
                if not answered or min(answered) >= first:
                    found.append(f"hasty: {target} was sent before {parent} was answered")
    return found


def _disordered(plan: Plan, batch_id: str, outcomes: Sequence[Kept]) -> list[str]:
    """What was answered had parents that succeeded, and what was never sent one that did not.

    What was about to be sent, or was, when a kill took the answer of a parent, may be unknown as that is.
    """
    succeeded = {kept.place for kept in outcomes if _has_succeeded(kept)}
    hopeless = plan.hopeless(batch_id)
    found = []
    for kept in outcomes:
        target = target_of(batch_id, kept.place)
        may_run = succeeded.issuperset(plan.parents(batch_id, kept.place))
        if may_run and kept.slug == "dependency-failed":
            found.append(f"disordered: {target} was not sent, and all that it waits for succeeded")
        elif not may_run and kept.slug is None:
            found.append(f"disordered: {target} was sent, and what it waits for did not succeed")
        elif kept.place in hopeless and kept.slug != "dependency-failed":
            found.append(f"disordered: {target} ended with {kept.slug}, and what it waits for was refused")
    return found


def _unsent(plan: Plan, batch_id: str, outcomes: Sequence[Kept], times: Mapping[str, int]) -> list[str]:
    """What is said not to have been sent was not, or may be repeated; what waited for another one names the one that
    failed and the way down from there."""
    failed = {str(kept.place) for kept in outcomes if not _has_succeeded(kept) and kept.slug != "dependency-failed"}
    found = []
    for kept in outcomes:
        target = target_of(batch_id, kept.place)
        is_unsent = kept.slug == "dependency-failed" or (kept.slug == "cancelled" and method_of(kept.place) == "POST")
        if is_unsent and times.get(target):
            found.append(f"unsent: {target} was received, and is said not to have been sent")
        if kept.slug != "dependency-failed":
            continue
        steps = pairwise([*map(int, kept.cause), kept.place])
        follows = all(above in plan.parents(batch_id, below) for above, below in steps)
        if kept.status != 424 or not follows or not failed.issuperset(kept.cause[:1]) or not kept.cause:
            found.append(f"baseless: {target} says {kept.status} because of {kept.cause}")
    return found


def _has_succeeded(kept: Kept) -> bool:
    return kept.slug is None and kept.status == 200


def _is_cancelled(evidence: Evidence, batch_id: str) -> bool:
    """Whether it was, and its caller wanted that."""
    return evidence.states.get(batch_id) == "cancelled" and evidence.plan.cancelled_at(batch_id) is not None


def _untrue(evidence: Evidence, batch_id: str, kept: Kept) -> list[str]:
    """D3: an outcome is what the upstream did. What was cancelled may be in doubt though it may be repeated."""
    target, receipts = target_of(batch_id, kept.place), evidence.receipts
    if kept.slug is None:
        number = int(kept.body) if kept.body.isdigit() else 0
        answered = 0 < number <= len(receipts) and receipts[number - 1].target == target
        status = 422 if is_refused(target) else 200
        return [] if answered and kept.status == status else [f"untrue: {target} says {kept.status} {kept.body!r}"]
    if _is_cancelled(evidence, batch_id) and kept.slug in (*_MAY_HAVE_RUN, "cancelled"):
        return []
    if kept.slug not in _NOT_ANSWERED:
        return [f"untrue: {target} ended with {kept.slug}"]
    if kept.slug == "outcome-unknown" and method_of(kept.place) == "GET":
        return [f"untrue: {target} is safe and called unknown"]
    return []


def _too_many_unknown(evidence: Evidence, times: Mapping[str, int]) -> list[str]:
    """A kill leaves no more in doubt of what never left than was about to.

    What was received may be unknown as well: the answers of the last moments had not been recorded.
    """
    doubts = sum(
        kept.slug in _MAY_HAVE_RUN and not times.get(target_of(batch_id, kept.place))
        for batch_id, outcomes in evidence.outcomes.items()
        for kept in outcomes
    )
    most = evidence.kills * evidence.in_flight_max
    return [f"vague: {doubts} in doubt and never received, after {evidence.kills} kills"] if doubts > most else []


def _backwards(evidence: Evidence) -> list[str]:
    """D17: progress never falls, and its sums hold."""
    found = []
    for batch_id, seen in evidence.progress.items():
        for before, after in pairwise(seen):
            if after.completed < before.completed and batch_id not in evidence.noticed:
                found.append(f"backwards: {batch_id} from {before.completed} to {after.completed}")
        for each in seen:
            if each.completed != each.succeeded + each.failed + each.cancelled or each.completed > each.total:
                found.append(f"sums: {batch_id} {each}")
            if each.unknown > each.failed:
                found.append(f"sums: {batch_id} {each}")
    return found
