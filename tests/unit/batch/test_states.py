"""The life of an asynchronous batch: final is final, and every state can end."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.batch.states import FINAL, STATES, TRANSITIONS, Event, State, advance

EVENTS: tuple[Event, ...] = ("lease", "cancel", "settle", "expire", "break")


@pytest.mark.parametrize("state", sorted(FINAL))
@pytest.mark.parametrize("event", EVENTS)
def test_nothing_happens_to_a_batch_that_has_ended(state: State, event: Event) -> None:
    assert advance(state, event) is None


@pytest.mark.parametrize("state", sorted(set(STATES) - FINAL))
def test_every_unfinished_batch_can_expire_and_break(state: State) -> None:
    assert advance(state, "expire") in FINAL
    assert advance(state, "break") == "failed"


@given(st.lists(st.sampled_from(EVENTS), max_size=8))
def test_once_cancelling_no_slice_is_leased_again(events: list[Event]) -> None:
    state: State = "accepted"
    cancelling = False
    for event in events:
        after = advance(state, event)
        if cancelling:
            assert event != "lease" or after is None
            assert (after or state) in ("cancelling", "cancelled", "failed")
        state = after or state
        cancelling = cancelling or state == "cancelling"


def test_every_state_can_be_reached() -> None:
    assert {"accepted", *TRANSITIONS.values()} == set(STATES)
