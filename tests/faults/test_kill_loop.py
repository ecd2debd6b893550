"""No batch that was acknowledged is lost and no unsafe operation is sent twice, whenever the worker's process dies.

KILL_LOOP=full runs the long ones: 20 000 operations and at least 100 kills, some minutes; and as long with an order,
and with cancels.
"""

import os
import time
from pathlib import Path

import pytest

from tests.faults.killing import broken
from tests.faults.killing.checker import Evidence, violations
from tests.faults.killing.loop import Loop, run, run_crashing, summary
from tests.faults.killing.plan import Plan

_IS_FULL = os.environ.get("KILL_LOOP") == "full"
_SHORT = Loop(Plan(batches=48, size=200), kills=20, life_s=(0.3, 1.2), latency_ms=25)
_FULL = Loop(Plan(batches=100, size=200), kills=400, life_s=(0.3, 2.0), latency_ms=80, end_s=300.0)
_QUICK = Loop(Plan(batches=4, size=150), kills=6, life_s=(0.2, 0.5), latency_ms=15, end_s=30.0, quiet_s=1.0)
_CANCELLING = _QUICK._replace(plan=Plan(batches=16, size=100, cancels=True), latency_ms=60)
_FOR = {  # what makes some builds show what is broken at any pace of the machine
    "innocent": _QUICK._replace(plan=Plan(batches=2, size=10), latency_ms=600),  # the same are under way at each kill
    "unsent": _CANCELLING,  # what is unsent without an order was cancelled
    "vague": _QUICK._replace(kills=4, latency_ms=100),  # each kill finds most of four slices still to be sent
}
# What has an order waits for quiet once it is suspected: it sees no more kills in a row, but those of another seed.
_ORDERED = _QUICK._replace(plan=Plan(batches=16, size=48, is_ordered=True), kills=4)
_ORDERED_FULL = _ORDERED._replace(plan=Plan(batches=24, size=192, is_ordered=True), kills=15, end_s=300.0)
_ORDERED_QUICK = _QUICK._replace(plan=Plan(batches=12, size=24, is_ordered=True), kills=2)
_UNKILLED = _ORDERED_QUICK._replace(kills=0)
_CANCELLING_FULL = _CANCELLING._replace(plan=Plan(batches=120, size=200, cancels=True), kills=100, end_s=300.0)
_LOOPS = {"free": _SHORT, "ordered": _ORDERED, "cancelling": _CANCELLING}
if _IS_FULL:
    _LOOPS = {f"ordered-{seed}": _ORDERED_FULL._replace(seed=seed) for seed in range(1, 9)}
    _LOOPS |= {"free": _FULL, "cancelling": _CANCELLING_FULL}

_STALLED = Loop(Plan(8, 150), 0, (0.3, 0.6), latency_ms=25, end_s=30.0, stalls=4, stall_s=1.5, lease_s=1.0)
_CAUGHT = {
    "acknowledged early": "lost",
    "done ignored": "repeated",
    "doubt cancelled": "unsent",
    "doubt ignored": "repeated",
    "everything unknown": "vague",
    "everybody suspected": "innocent",
    "intent forgotten": "repeated",
    "intent late": "repeated",
    "intents retracted": "repeated",
    "outcomes swapped": "untrue",
    "safe unknown": "untrue",
    "success invented": "untrue",
}


_CAUGHT_IN_ORDER = {
    "answers kept back": ("unsent", _ORDERED_QUICK),
    "cause cut short": ("baseless", _UNKILLED),
    "doubt passed over": ("disordered", _ORDERED_QUICK),
    "order forgotten": ("hasty", _ORDERED_QUICK),
    "order ignored": ("hasty", _UNKILLED),
    "refusal passed over": ("hopeless", _UNKILLED),
}


@pytest.mark.parametrize("loop", _LOOPS.values(), ids=_LOOPS)
def test_a_killed_worker_loses_nothing_and_repeats_nothing(
    loop: Loop, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    began_s = time.monotonic()

    evidence = run(loop, tmp_path / "state")

    with capsys.disabled():
        print(f"\nkill loop: {summary(evidence, began_s)}")
    assert violations(evidence) == []
    assert evidence.kills >= min(loop.kills, 100)
    assert len(evidence.acknowledged) == evidence.plan.batches


def test_a_worker_that_stood_still_for_longer_than_its_lease_repeats_nothing(tmp_path: Path) -> None:
    evidence = run(_STALLED, tmp_path / "state")._replace(kills=_STALLED.stalls)  # each may leave some in doubt

    assert violations(evidence) == []
    assert set(evidence.states.values()) == {"completed"}


def test_an_operation_that_aborts_its_workers_is_quarantined_and_the_rest_completes(tmp_path: Path) -> None:
    evidence = run_crashing(Plan(1, 20), tmp_path / "state", "poisoned", crashes_max=6)

    assert violations(evidence) == []
    assert set_aside(evidence) == [broken.POISON]
    assert evidence.kills == 2
    assert not any(receipt.target.endswith(f"/{broken.POISON}") for receipt in evidence.receipts)


def test_many_operations_that_abort_their_workers_are_quarantined_and_the_rest_completes(tmp_path: Path) -> None:
    evidence = run_crashing(Plan(4, 20), tmp_path / "state", "poisoned", crashes_max=20)

    assert violations(evidence) == []
    assert set_aside(evidence) == [broken.POISON] * 4
    assert evidence.kills <= 4 * 4


def set_aside(evidence: Evidence) -> list[str]:
    return [str(kept.place) for found in evidence.outcomes.values() for kept in found if kept.slug == "quarantined"]


@pytest.mark.parametrize(("build", "word"), _CAUGHT.items())
def test_the_checker_catches_a_broken_build_for_what_is_broken(build: str, word: str, tmp_path: Path) -> None:
    assert is_caught(build, word, _FOR.get(word, _QUICK), tmp_path)


@pytest.mark.parametrize("build", _CAUGHT_IN_ORDER)
def test_the_checker_catches_a_build_that_breaks_an_order_for_what_is_broken(build: str, tmp_path: Path) -> None:
    assert is_caught(build, *_CAUGHT_IN_ORDER[build], tmp_path)


def is_caught(build: str, word: str, loop: Loop, folder: Path) -> bool:
    """In one of three runs at most: where a kill comes late, there may be nothing left to break."""
    runs = (run(loop._replace(seed=seed), folder / str(seed), build) for seed in (1, 2, 3))
    return any(word in {violation.partition(":")[0] for violation in violations(found)} for found in runs)


def test_the_same_short_run_of_a_sound_build_has_nothing_to_catch(tmp_path: Path) -> None:
    assert violations(run(_QUICK, tmp_path / "state")) == []


def test_every_broken_build_is_tried() -> None:
    assert sorted(_CAUGHT | _CAUGHT_IN_ORDER) == broken.NAMES
