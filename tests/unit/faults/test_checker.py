from typing import Any

import pytest

from tests.faults.killing.checker import Evidence, Kept, Receipt, Seen, violations
from tests.faults.killing.plan import Plan, method_of, target_of

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
