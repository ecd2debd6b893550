"""How many operations of batches one upstream gets at once: a limit that follows what the upstream can take. Pure.

Every limit that adapts asks whether more concurrency only makes a queue longer. Vegas and Netflix's gradient2 compare
latency with a baseline; Envoy's gradient controller measures its baseline by sending little for a while. A baseline
alone is wrong as soon as callers ask for slower things, so this one does what Envoy does, but only on suspicion:

- Operations that were answered within a stretch of time make a sample. Nothing is lowered before there is evidence, so
  a fast and steady upstream never meets the limit.
- 429, 503 and timeouts lower the limit by half of their share (DCTCP, RFC 8257): all rejected halves it.
- Latency above half as much again as the baseline, and 10 ms, puts the concurrency on trial: it is halved. If latency
  falls with it, it was a queue, and the halving stays; else the upstream has become slower by itself, the limit is
  given back, and what was measured is the new baseline.
- Otherwise a limit that is in use grows by an eighth, after a pause where something was rejected.
"""

from typing import NamedTuple

SLACK_US = 10_000  # below this a loop's own turns look like a queue
HOLD = 10  # samples before a limit that was rejected grows again
_UNTRIED_IN_FLIGHT = 16  # more than one batch: from here on a first latency may already be a queue's


class Sample(NamedTuple):
    """Operations sent and answered within one stretch: how many, how many of them were rejected, the mean latency of
    the others, and the mean number that were in flight."""

    answers: int
    rejected: int
    latency_us: int
    in_flight: int


class Limit(NamedTuple):
    """The limit in force. `baseline_us` 0: not known. While a trial runs, `before` and `before_us` are what it had."""

    limit: int
    baseline_us: int = 0
    hold: int = 0
    before: int = 0
    before_us: int = 0


def after(state: Limit, sample: Sample, limit_max: int) -> Limit:
    """The limit after `sample`: at least 1, at most `limit_max`."""
    if sample.rejected * 10 >= sample.answers:
        used = min(state.limit, sample.in_flight)
        less = max(1, used * sample.rejected // (2 * sample.answers))
        return Limit(max(1, used - less), state.baseline_us, HOLD)
    if state.before:
        return _tried(state, sample)
    latency_us, known = sample.latency_us, bool(state.baseline_us)
    is_suspect = latency_us > _tolerated_us(state.baseline_us) if known else _may_be_a_queue(sample)
    if is_suspect and sample.in_flight > 1:
        return _trial(state, sample)
    if is_suspect or not known:  # one at a time makes no queue: this is how long it takes now
        return state._replace(baseline_us=latency_us)
    return _grown(state._replace(baseline_us=min(state.baseline_us, latency_us)), sample, limit_max)


def _tried(state: Limit, sample: Sample) -> Limit:
    """A trial is over: half the concurrency brought this latency."""
    latency_us = sample.latency_us
    if latency_us * 4 > state.before_us * 3:  # it hardly fell
        return Limit(state.before, latency_us, state.hold)
    if state.baseline_us:
        is_enough = latency_us <= _tolerated_us(state.baseline_us)
    else:  # as long as latency falls in step, all of it is a queue
        is_enough = latency_us * 5 > state.before_us * 3 or latency_us <= SLACK_US
    if is_enough or sample.in_flight == 1:
        return Limit(state.limit, min(state.baseline_us or latency_us, latency_us), state.hold)
    return _trial(state, sample)


def _trial(state: Limit, sample: Sample) -> Limit:
    used = min(state.limit, sample.in_flight)
    return Limit(max(1, used // 2), state.baseline_us, state.hold, state.limit, sample.latency_us)


def _grown(state: Limit, sample: Sample, limit_max: int) -> Limit:
    if state.hold:
        return state._replace(hold=state.hold - 1)
    if sample.in_flight * 4 < state.limit * 3:  # it holds nobody up
        return state
    return state._replace(limit=min(limit_max, state.limit + max(1, state.limit // 8)))


def _may_be_a_queue(sample: Sample) -> bool:
    return sample.in_flight >= _UNTRIED_IN_FLIGHT and sample.latency_us > SLACK_US


def _tolerated_us(baseline_us: int) -> int:
    return baseline_us + baseline_us // 2 + SLACK_US
