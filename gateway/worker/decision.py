"""What to do with a lease, and with an outcome: skip, call unknown, set aside, keep, try again, pause. Pure.

- An operation that was intended and has no outcome was perhaps sent. It is sent again only by the retry law (PROMISES
  2.1); otherwise nobody can know what became of it (2.2).
- A slice that lost its worker is suspected, unless another worker was lost since, which nothing of this slice can have
  caused (`_PARDONS` times: of many guilty ones each would pardon the others). What had not been announced in it was not
  sent; but what is sent without being announced, since it may be repeated, may have killed. It waits until all has been
  quiet for a while, and then runs *carefully*: nothing beside it, one operation at a time, each announced. If its
  worker is lost even so, the one operation in doubt is guilty and is set aside. So two crashes are enough, and kills
  that come one after the other leave nobody suspected who could be taken for guilty.
"""

from collections.abc import Sequence
from typing import NamedTuple

from gateway.batch.model import Failure, Outcome
from gateway.batch.retry import TOO_EARLY
from gateway.errors import PROBLEMS
from gateway.upstream.headers import retry_after_s

_PARDONS = 2
_BACKOFF_MS = 1000  # doubled with each try
_BACKOFF_MS_MAX = 60_000
_PAUSE_S_MAX = 3600.0  # what an upstream may ask for
_TRANSIENT = frozenset({429, 502, 503, 504})
_UNSENT = frozenset({"upstream-connect", "upstream-tls", "overloaded", "idempotency-in-progress", "rate-limited"})


class Beginning(NamedTuple):
    """How a lease begins: `run` are positions in the slice, in order; `settled` have their outcome without a send."""

    run: Sequence[int]
    settled: Sequence[tuple[int, Failure]]


class Keep(NamedTuple):
    """The outcome is final."""


class Again(NamedTuple):
    """The operation is tried again later, and that counts as a try."""


class Pause(NamedTuple):
    """The upstream wants nothing for `wait_s`; the operation itself is tried after that, where `again` says so."""

    wait_s: float
    again: bool


def begin(
    count: int, done: frozenset[int], in_doubt: frozenset[int], losses: int, repeatable: Sequence[bool]
) -> Beginning:
    """All indexes are positions in the slice of `count` operations; `repeatable[i]` is the retry law's word on it."""
    settled: dict[int, Failure] = {}
    for position in sorted(in_doubt - done):
        if not repeatable[position]:
            settled[position] = unknown()
        elif losses > 1 and len(in_doubt) == 1:
            settled[position] = quarantined(losses)
    run = [position for position in range(count) if position not in done and position not in settled]
    return Beginning(run, list(settled.items()))


def is_suspected(losses: int, *, others_lost: bool) -> bool:
    return losses > 0 and (not others_lost or losses > _PARDONS)


def judge(
    outcome: Outcome, *, repeatable: bool, rejections: frozenset[int], tries_left: bool, now_s: float
) -> Keep | Again | Pause:
    """`rejections` are the statuses after which the route lets anything be sent again (law 2); `now_s` is wall time."""
    failure = outcome.failure
    if failure is not None and failure.slug == "upstream-unavailable":  # the breaker is open: nothing was sent
        retry_after = failure.members.get("retryAfter", 1)
        return Pause(float(retry_after) if isinstance(retry_after, int) else 1.0, True)
    if failure is not None:
        may_repeat = failure.retryable and (repeatable or failure.slug in _UNSENT)
        return Again() if may_repeat and tries_left else Keep()
    if outcome.status in (429, 503):
        said = outcome.headers.get("Retry-After")
        fields = [(b"Retry-After", said.encode())] if isinstance(said, str) else []
        wait_s = retry_after_s(fields, now_s)
        if wait_s is not None:
            return Pause(min(wait_s, _PAUSE_S_MAX), repeatable or outcome.status in rejections)
    may_repeat = outcome.status in TOO_EARLY or (outcome.status in _TRANSIENT and repeatable)
    return Again() if may_repeat and tries_left else Keep()


def surely_sent(rate: float, left_s: float) -> int:
    """How many operations are surely sent within `left_s`, where `rate` a second were: half of what that promises."""
    return int(rate * left_s / 2)


def backoff_ms(tries: int, jitter: float) -> int:
    """How long after the `tries`-th try (from 1) the next one may come; `jitter` from 0 to 1 takes off up to half."""
    full_ms = min(_BACKOFF_MS << min(tries - 1, 10), _BACKOFF_MS_MAX)
    return int(full_ms * (1 - jitter / 2))


def unknown() -> Failure:
    detail = "the worker was lost after it had announced this operation and before it recorded an answer"
    return Failure("outcome-unknown", detail, members={"attempt": 1})


def quarantined(losses: int) -> Failure:
    return Failure("quarantined", f"{losses} workers were lost with this slice, the last while it ran this operation")


def failed(position: int, failure: Failure) -> Outcome:
    return Outcome(position, PROBLEMS[failure.slug].status, failure=failure)
