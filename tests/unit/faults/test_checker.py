from typing import Any

import pytest

from tests.faults.killing.checker import Evidence, Kept, Receipt, Seen, violations
from tests.faults.killing.plan import Plan, is_refused, method_of, target_of

PLAN = Plan(batches=1, size=4)
(ID,) = PLAN.ids


def evidence(**changed: Any) -> Evidence:
    """A run in which nothing is wrong, but for what is `changed`."""
    receipts = [Receipt(index + 1, method_of(index), target_of(ID, index)) for index in range(4)]
    outcomes = [Kept(index, 200, None, str(index + 1)) for index in range(4)]
    progress = [Seen(4, 0, 0, 0, 0), Seen(4, 2, 2, 0, 0), Seen(4, 4, 4, 0, 0)]
    sound = Evidence(PLAN, 1, 2, [ID], {ID: "completed"}, {ID: outcomes}, receipts, {ID: progress})
    return sound._replace(**changed)


def but(place: int, status: int, slug: str | None, body: str = "") -> dict[str, list[Kept]]:
    """Outcomes of which one is another."""
    return {ID: [Kept(place, status, slug, body) if kept.place == place else kept for kept in evidence().outcomes[ID]]}


def test_a_run_that_kept_every_promise_has_no_violations() -> None:
    assert violations(evidence()) == []


def test_a_safe_operation_may_be_received_twice_and_either_answer_is_true() -> None:
    receipts = [*evidence().receipts, Receipt(5, "GET", target_of(ID, 2))]

    assert violations(evidence(receipts=receipts)) == []
    assert violations(evidence(receipts=receipts, outcomes=but(2, 200, None, "5"))) == []


@pytest.mark.parametrize("place", [1, 3])
def test_an_unsafe_operation_may_be_unknown_whether_it_was_received_or_not(place: int) -> None:
    unreceived = [receipt for receipt in evidence().receipts if receipt.target != target_of(ID, place)]
    unknown = but(place, 502, "outcome-unknown")

    assert violations(evidence(outcomes=unknown)) == []
    if place == 3:  # the numbers of the others stay as they were
        assert violations(evidence(outcomes=unknown, receipts=unreceived)) == []


def test_what_a_store_lost_is_forgiven_where_it_was_noticed_but_nothing_unsafe_may_be_sent_twice() -> None:
    fell_back = {ID: [Seen(4, 2, 2, 0, 0), Seen(4, 1, 1, 0, 0)]}
    lost = evidence(states={ID: "missing"}, outcomes={}, progress=fell_back, noticed=frozenset({ID}))
    twice = [*evidence().receipts, Receipt(5, "POST", target_of(ID, 1))]

    assert violations(lost) == []
    assert len(violations(lost._replace(noticed=frozenset()))) == 2
    assert len(violations(lost._replace(receipts=twice))) == 1


@pytest.mark.parametrize(
    ("word", "changed"),
    [
        ("innocent", {"outcomes": but(2, 500, "quarantined"), "guilty": frozenset({0})}),
        ("lost", {"states": {}}),
        ("lost", {"states": {ID: "processing"}}),
        ("lost", {"outcomes": {ID: evidence().outcomes[ID][:3]}}),
        ("lost", {"outcomes": {}}),
        ("doubled", {"outcomes": {ID: [*evidence().outcomes[ID], evidence().outcomes[ID][0]]}}),
        ("repeated", {"receipts": [*evidence().receipts, Receipt(5, "POST", target_of(ID, 1))]}),
        ("stranger", {"receipts": [*evidence().receipts, Receipt(5, "GET", "/else")]}),
        ("stranger", {"receipts": [*evidence().receipts, Receipt(5, "DELETE", target_of(ID, 0))]}),
        ("untrue", {"outcomes": but(0, 200, None, "2")}),
        ("untrue", {"outcomes": but(0, 200, None, "9")}),
        ("untrue", {"outcomes": but(0, 200, None, "")}),
        ("untrue", {"outcomes": but(0, 500, None, "1")}),
        ("untrue", {"outcomes": but(0, 502, "outcome-unknown")}),
        ("untrue", {"outcomes": but(1, 502, "upstream-connect")}),
        (
            "vague",
            {
                "outcomes": but(3, 500, "quarantined"),
                "receipts": evidence().receipts[:3],
                "kills": 0,
                "guilty": frozenset({3}),
            },
        ),
        ("vague", {"outcomes": but(3, 502, "outcome-unknown"), "receipts": evidence().receipts[:3], "kills": 0}),
        ("backwards", {"progress": {ID: [Seen(4, 2, 2, 0, 0), Seen(4, 1, 1, 0, 0)]}}),
        ("sums", {"progress": {ID: [Seen(4, 3, 1, 1, 0)]}}),
        ("sums", {"progress": {ID: [Seen(4, 5, 5, 0, 0)]}}),
        ("sums", {"progress": {ID: [Seen(4, 2, 1, 1, 2)]}}),
    ],
)
def test_each_contradiction_is_named(word: str, changed: dict[str, Any]) -> None:
    found = violations(evidence(**changed))

    assert {violation.partition(":")[0] for violation in found} == {word}


CANCELLING = PLAN._replace(cancels=True)
CANCELLED = {"plan": CANCELLING, "states": {ID: "cancelled"}}
SENT_BUT_ONE = [receipt for receipt in evidence().receipts if receipt.target != target_of(ID, 3)]


@pytest.mark.parametrize(
    "changed",
    [
        {"outcomes": but(3, 409, "cancelled"), "receipts": SENT_BUT_ONE},
        {"outcomes": but(3, 502, "outcome-unknown")},
        {"outcomes": but(2, 409, "cancelled")},  # a GET
        {"states": {ID: "completed"}},
    ],
)
def test_a_batch_that_was_cancelled_may_end_early(changed: dict[str, Any]) -> None:
    assert violations(evidence(**CANCELLED | changed)) == []


@pytest.mark.parametrize(
    ("word", "changed"),
    [
        ("unsent", CANCELLED | {"outcomes": but(3, 409, "cancelled")}),
        ("lost", CANCELLED | {"plan": PLAN}),
        ("untrue", CANCELLED | {"states": {ID: "completed"}, "outcomes": but(2, 409, "cancelled")}),
    ],
)
def test_each_contradiction_of_a_cancelled_batch_is_named(word: str, changed: dict[str, Any]) -> None:
    found = violations(evidence(**changed))

    assert {violation.partition(":")[0] for violation in found} == {word}


ORDERED = Plan(batches=1, size=24, is_ordered=True)
HOPELESS = ORDERED.hopeless(ID)
CHILD, (PARENT, *_) = next(
    (index, above) for index in range(24) if (above := ORDERED.parents(ID, index)) and index not in HOPELESS
)


def cause_of(place: int) -> list[str]:
    """The way down to one that waits in vain."""
    above = next(each for each in ORDERED.parents(ID, place) if each in HOPELESS or is_refused(target_of(ID, each)))
    return [*(cause_of(above) if above in HOPELESS else ()), str(above)]


def in_order(**changed: Any) -> Evidence:
    """A run with an order in which nothing is wrong: each is answered before the next is sent."""
    sent = [index for index in range(24) if index not in HOPELESS]
    receipts = [Receipt(at, method_of(index), target_of(ID, index), at) for at, index in enumerate(sent, 1)]
    answered = {
        index: Kept(index, 422 if is_refused(target_of(ID, index)) else 200, None, str(at))
        for at, index in enumerate(sent, 1)
    }
    unsent = {index: Kept(index, 424, "dependency-failed", "", cause_of(index)) for index in HOPELESS}
    outcomes = [(answered | unsent)[index] for index in range(24)]
    sound = Evidence(ORDERED, 0, 2, [ID], {ID: "completed"}, {ID: outcomes}, receipts, {})
    return sound._replace(**changed)


def test_a_run_that_kept_an_order_has_no_violations() -> None:
    assert HOPELESS
    assert violations(in_order()) == []


def test_a_parent_may_be_answered_again_later() -> None:
    late = Receipt(99, method_of(PARENT), target_of(ID, PARENT), 99)
    again = in_order(receipts=[*in_order().receipts, late])

    assert [each for each in violations(again) if "repeated" not in each] == []


@pytest.mark.parametrize("answered", [None, CHILD + 1])
def test_who_is_sent_before_its_parent_was_answered_is_named(answered: int | None) -> None:
    late = [
        each._replace(answered=answered) if each.target == target_of(ID, PARENT) else each
        for each in in_order().receipts
    ]

    assert f"hasty: {target_of(ID, CHILD)} was sent before {target_of(ID, PARENT)} was answered" in violations(
        in_order(receipts=late)
    )


def test_who_is_sent_although_it_waits_for_one_that_was_refused_is_named() -> None:
    place = min(HOPELESS)
    sent = Receipt(99, method_of(place), target_of(ID, place), 99)

    found = violations(in_order(receipts=[*in_order().receipts, sent]))

    assert found == [
        f"hopeless: {target_of(ID, place)} was sent, and what it waits for was refused",
        f"unsent: {target_of(ID, place)} was received, and is said not to have been sent",
    ]


@pytest.mark.parametrize(
    ("changed", "word"),
    [
        ({"status": 502}, "baseless"),
        ({"cause": ()}, "baseless"),
        ({"cause": [str(CHILD)]}, "baseless"),
        ({"cause": cause_of(max(HOPELESS))[-1:]}, "baseless"),
        ({"slug": "outcome-unknown"}, "disordered"),
        ({"slug": "quarantined"}, "disordered"),
    ],
)
def test_who_waits_in_vain_and_says_something_else_is_named(changed: dict[str, Any], word: str) -> None:
    place = max(HOPELESS)
    outcomes = [kept._replace(**changed) if kept.place == place else kept for kept in in_order().outcomes[ID]]

    found = violations(in_order(outcomes={ID: outcomes}, kills=1, guilty=frozenset({place})))

    assert [violation.partition(":")[:1] for violation in found if target_of(ID, place) in violation] == [(word,)]


@pytest.mark.parametrize(
    ("place", "other", "also"),
    [
        (CHILD, Kept(CHILD, 424, "dependency-failed", ""), "was not sent, and all that it waits for succeeded"),
        (PARENT, Kept(PARENT, 502, "outcome-unknown", ""), "was sent, and what it waits for did not succeed"),
    ],
)
def test_an_outcome_that_does_not_follow_from_its_parents_is_named(place: int, other: Kept, also: str) -> None:
    outcomes = {ID: [other if kept.place == place else kept for kept in in_order().outcomes[ID]]}

    assert f"disordered: {target_of(ID, CHILD)} {also}" in violations(in_order(outcomes=outcomes))
