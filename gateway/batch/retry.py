"""The retry law (PROMISES 2.1): may a request that failed be sent again? Pure decisions.

A request, of a batch or alone, is sent again only if
- no connection could be made, so that nothing of it was written; or
- the upstream said that it did not process it: 425, or 429 and 503 with Retry-After on a route that the operator marked
  `retryable_rejection`; without Retry-After these two are an answer like any other, and so are 502 and 504; or
- its connection was lost, and its method is safe (RFC 9110 9.2.1), or PUT or DELETE on a route marked `idempotent`.
Everything else may have run: its outcome is unknown. A timeout is not tried again, for nothing of the time is left.
No request is sent twice at once, and none after its deadline.
"""

import enum
from typing import NamedTuple

from gateway.batch.model import SAFE_METHODS, Failure


class Loss(enum.Enum):
    """How an exchange with the upstream failed."""

    CONNECT = "no connection could be made"
    DRAINING = "the upstream is gone while this gateway goes away; send it again, another replica answers"
    TLS = "the upstream's certificate was refused"
    NO_ROOM = "no connection became free in time"
    TIMEOUT = "no whole answer arrived in time"
    RESET = "the connection was lost before the whole answer"
    MALFORMED = "the answer broke HTTP"
    TOO_LARGE = "the answer is above the upstream's answer_max"


class Again(NamedTuple):
    """Send it again after `delay_s`."""

    delay_s: float


class GiveUp(NamedTuple):
    """Answer with `failure` and `status`."""

    status: int
    failure: Failure


TOO_EARLY = frozenset({425})
"""Rejections that may be sent again on every route (RFC 8470 5.2)."""
REJECTIONS = frozenset({425, 429, 503})
"""Those on a route marked `retryable_rejection`."""

_BACKOFF_S = 0.025  # doubled with each attempt; a refused connect is often a restarting upstream
_NOT_CONNECTED = (Loss.CONNECT, Loss.TLS)


def is_repeatable(method: str, *, route_idempotent: bool) -> bool:
    """Whether repeating the request cannot repeat an effect."""
    return method in SAFE_METHODS or (route_idempotent and method in ("PUT", "DELETE"))


def decide(loss: Loss, *, repeatable: bool, attempt: int, retries_max: int, remaining_s: float) -> Again | GiveUp:
    """What to do after the `attempt`-th send (from 1) failed, with `remaining_s` left of the request's time."""
    delay_s = _BACKOFF_S * 2 ** (attempt - 1) if loss in _NOT_CONNECTED else 0.0
    may_repeat = loss in _NOT_CONNECTED or (loss is Loss.RESET and repeatable)
    if may_repeat and attempt <= retries_max and delay_s < remaining_s:
        return Again(delay_s)
    return given_up(loss, repeatable=repeatable, attempt=attempt)


def decide_rejection(
    status: int, retry_after_s: float | None, *, attempt: int, retries_max: int, remaining_s: float
) -> Again | None:
    """Whether a request that the upstream rejected is sent again; None: its answer is given as it is.

    `status` is one of those that the route lets be sent again. What Retry-After asks for is waited in full or not at
    all: an attempt before that time would be rejected as well.
    """
    if retry_after_s is None and status not in TOO_EARLY:
        return None
    delay_s = _BACKOFF_S * 2 ** (attempt - 1) if retry_after_s is None else retry_after_s
    return Again(delay_s) if attempt <= retries_max and delay_s < remaining_s else None


def given_up(loss: Loss, *, repeatable: bool, attempt: int) -> GiveUp:
    """The words for a loss that is not tried again (PROMISES D.4)."""
    match loss:
        case Loss.CONNECT | Loss.TLS | Loss.NO_ROOM:
            slug = {Loss.CONNECT: "upstream-connect", Loss.TLS: "upstream-tls", Loss.NO_ROOM: "overloaded"}[loss]
            return GiveUp(
                503 if loss is Loss.NO_ROOM else 502, Failure(slug, f"{loss.value}; not sent", retryable=True)
            )
        case Loss.DRAINING:
            return GiveUp(503, Failure("draining", loss.value, retryable=True, members={"retryAfter": 1}))
        case Loss.TIMEOUT | Loss.RESET:
            status = 504 if loss is Loss.TIMEOUT else 502
            if not repeatable:
                return GiveUp(status, Failure("outcome-unknown", loss.value, members={"attempt": attempt}))
            slug = "upstream-timeout" if loss is Loss.TIMEOUT else "upstream-reset"
            return GiveUp(status, Failure(slug, loss.value, retryable=True, members={"attempt": attempt}))
        case _:
            slug = {Loss.MALFORMED: "upstream-malformed", Loss.TOO_LARGE: "upstream-response-too-large"}[loss]
            return GiveUp(502, Failure(slug, loss.value, members={"executed": True}))
