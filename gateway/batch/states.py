"""The life of an asynchronous batch as a table (ARCHITECTURE, rule 7). Pure.

`accepted` is on record and nobody has begun it; on the wire it reads `processing` as well. The last four are final.
"""

from typing import Literal, get_args

State = Literal["accepted", "processing", "cancelling", "completed", "failed", "cancelled", "expired"]
Event = Literal["lease", "cancel", "settle", "expire", "break"]

TRANSITIONS: dict[tuple[State, Event], State] = {
    ("accepted", "lease"): "processing",
    ("accepted", "cancel"): "cancelling",
    ("accepted", "expire"): "expired",
    ("accepted", "break"): "failed",
    ("processing", "lease"): "processing",
    ("processing", "cancel"): "cancelling",
    ("processing", "settle"): "completed",
    ("processing", "expire"): "expired",
    ("processing", "break"): "failed",
    ("cancelling", "cancel"): "cancelling",
    ("cancelling", "settle"): "cancelled",
    ("cancelling", "expire"): "cancelled",
    ("cancelling", "break"): "failed",
}
"""What becomes of a batch in a state on an event; a pair that is absent changes nothing and is refused.

`lease` a worker takes a slice · `cancel` the caller · `settle` nothing of it is leased and nothing is left to run (all
done, or cancelling) · `expire` its time is up · `break` its record cannot be run.
"""

FINAL: frozenset[State] = frozenset({"completed", "failed", "cancelled", "expired"})
STATES: tuple[State, ...] = get_args(State)


def advance(state: State, event: Event) -> State | None:
    """The state after `event`; None where the event may not happen."""
    return TRANSITIONS.get((state, event))
