"""A batch on record as callers see it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.batch.states import FINAL, STATES, State
from gateway.ledger.port import View
from gateway.server.batch_status import event_id, status, timestamp, wire_state

NOW_MS = 1_800_000_010_000


def view(state: State = "processing", succeeded: int = 0, failed: int = 0, **more: object) -> View:
    given_: dict[str, object] = {
        "id": "b", "owner": "o", "dialect": "native", "state": state, "paused": False, "total": 10, "slice_size": 5,
        "succeeded": succeeded, "failed": failed, "unknown": 0, "accepted_ms": 1_800_000_000_000,
        "started_ms": 1_800_000_000_000, "ended_ms": 1_800_000_020_000 if state in FINAL else None,
        "expires_ms": 1_800_000_100_000, "kept_until_ms": None, "key": b"",
    }  # fmt: skip
    return View(**(given_ | more))  # type: ignore[arg-type]


@given(st.sampled_from(STATES), st.integers(0, 5), st.integers(0, 5))
def test_the_sums_hold_in_every_state(state: State, succeeded: int, failed: int) -> None:
    found = status(view(state, succeeded, failed), "/batch", NOW_MS)

    told = found["succeeded"] + found["failed"] + found["cancelled"] + found["expired"]
    if state == "completed":  # the ledger completes a batch only when all have an outcome
        assert told == succeeded + failed
    else:
        assert told == found["completed"] == (10 if state in FINAL else succeeded + failed)
    assert found["progress"] == found["completed"] / 10


@pytest.mark.parametrize(("state", "word"), [("accepted", "processing"), ("processing", "processing"), ("failed",) * 2])
def test_what_nobody_has_begun_is_being_processed(state: State, word: str) -> None:
    assert wire_state(state) == word


def test_the_rate_is_that_of_the_time_since_the_start() -> None:
    running = status(view(succeeded=5), "/batch", NOW_MS)
    final = status(view("completed", succeeded=10), "/batch", NOW_MS)

    assert (running["operationsPerSecond"], running["etaSeconds"]) == (0.5, 10.0)
    assert (final["operationsPerSecond"], final["etaSeconds"]) == (0.5, 0)


def test_nothing_is_foretold_before_the_start_nor_while_paused() -> None:
    waiting = status(view("accepted", started_ms=None), "/batch", NOW_MS)
    paused = status(view(succeeded=5, paused=True), "/batch", NOW_MS)

    assert (waiting["operationsPerSecond"], waiting["etaSeconds"], waiting["startedAt"]) == (None, None, None)
    assert paused["etaSeconds"] is None


def test_times_are_rfc_3339() -> None:
    assert timestamp(1_800_000_000_123) == "2027-01-15T08:00:00.123Z"


def test_an_event_has_another_id_whenever_something_changes() -> None:
    views = [view(), view(succeeded=1), view(succeeded=1, paused=True), view("completed", 10), view("cancelled", 10)]

    assert len({event_id(each) for each in views}) == len(views)
