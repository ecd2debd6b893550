"""When batches stop asking an upstream that fails, and when they ask again: a circuit breaker as a table. Pure.

Closed: everything passes. It opens when at least half of the last ten seconds' operations failed, of twenty or more.
Open: nothing passes until a pause is over. Half open: one operation does, the probe, and its outcome decides.
"""

import enum

CALLS_MIN = 20  # fewer say little
FAILED_PERCENT = 50
PAUSE_S = 1.0  # at most one probe a second
PAUSE_MAX_S = 4.0  # with the jitter, an upstream that is well again is asked within five seconds (PROMISES L4)
_JITTER = 0.15  # of the pause, so that replicas do not ask in step


class State(enum.Enum):
    """The metric's words."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


class Event(enum.Enum):
    """What moves the breaker."""

    TRIPPED = "too many operations failed"
    RESTED = "the pause is over"
    RECOVERED = "the probe was answered"
    RELAPSED = "the probe failed"


TRANSITIONS = {
    (State.CLOSED, Event.TRIPPED): State.OPEN,
    (State.OPEN, Event.RESTED): State.HALF_OPEN,
    (State.HALF_OPEN, Event.RECOVERED): State.CLOSED,
    (State.HALF_OPEN, Event.RELAPSED): State.OPEN,
}


def advance(state: State, event: Event) -> State:
    """The state after `event`; one that the table does not name changes nothing."""
    return TRANSITIONS.get((state, event), state)


def trips(calls: int, failures: int) -> bool:
    """Whether so many failures of so many calls open it."""
    return calls >= CALLS_MIN and failures * 100 >= calls * FAILED_PERCENT


def pause_s(openings: int, jitter: float) -> float:
    """How long it stays open the `openings`-th time in a row (from 1); `jitter` is 0 to 1."""
    return min(PAUSE_S * (1 << min(openings - 1, 10)), PAUSE_MAX_S) * (1 + _JITTER * jitter)
