"""Whose turn it is to send to one upstream, among the batches: its breaker and the limit that adapts, at work.

Forwarded requests never ask here: an upstream that is the only one must not be taken away from its callers.
For an operation this is a few whole numbers. Batches that have to wait stand in line; each takes one turn at a time.
"""

import asyncio
import enum
import math
import random
from collections import deque
from typing import Protocol

from gateway.batch.model import Failure
from gateway.upstream import adaptive, breaker
from gateway.upstream.address import PoolLimits
from gateway.upstream.breaker import Event, State
from gateway.upstream.exchange import Exchange
from gateway.upstream.window import Window

_SAMPLE_S = 0.1  # the least stretch of time that makes a sample
_SAMPLE_MAX = 16  # answers that are enough for one, where the limit is not below
_STEADY = 1.25  # a sample's latency beside the one before it: more, and a queue is still growing
_PATIENCE_S = 0.5  # how long a batch waits for a probe before it is told that the upstream is away
_NOT_ITS_FAULT = frozenset({"overloaded", "upstream-response-too-large"})


class Turn(enum.Enum):
    """What one that asks may do."""

    PROBE = "send this one operation"
    LATER = "wait in line"


class Run(Protocol):
    """A batch on its way."""

    def take_turn(self) -> None:
        """Send one operation, and stand in line again for more."""

    def was_hurried(self, exchange: Exchange) -> bool:
        """Whether the caller left `exchange` less time than the operator does."""


class Turns:
    """Counts operations of batches in flight. One that takes a turn raises `in_flight`; `left` lowers it."""

    def __init__(self, limits: PoolLimits, loop: asyncio.AbstractEventLoop) -> None:
        most = min(limits.batched_max, limits.connections_max) * limits.pipelining_max
        self.in_flight = 0
        self.room = most  # how many may be in flight; 0 while the breaker is not closed: then one has to ask
        self.line: deque[Run] = deque()
        self.state = State.CLOSED
        self._most = most
        self._loop = loop
        self._breaks, self._adapts = limits.breaks, limits.adapts
        self._limit = adaptive.Limit(most)
        self._ended = self._failed = self._openings = 0
        self._window = Window()
        self._rests_until_s = self._settled_s = 0.0
        self._probe: tuple[Run, int] | None = None
        self._patience: asyncio.TimerHandle | None = None
        self._begin_sample(loop.time())

    @property
    def limit(self) -> int:
        """The concurrency limit in force."""
        return self._limit.limit

    def ask(self, run: Run, index: int) -> Turn | Failure:
        """What operation `index` of `run` may do when there is no room, or a line."""
        if self.state is State.OPEN and self._loop.time() >= self._rests_until_s:
            self.state = breaker.advance(self.state, Event.RESTED)
        if self.state is State.HALF_OPEN and self._probe is None:
            self._probe = (run, index)
            self._patience = self._loop.call_later(_PATIENCE_S, self._lose_patience)
            return Turn.PROBE
        if self.state is State.OPEN or (self.state is State.HALF_OPEN and self._patience is None):
            detail = "the upstream fails too often; batches do not ask it for a while; not sent"
            return Failure("upstream-unavailable", detail, True, {"retryAfter": self.retry_after_s() or 1})
        if run not in self.line:
            self.line.append(run)
        return Turn.LATER

    def retry_after_s(self) -> int:
        """Whole seconds until batches may ask again; 0 while they may."""
        if self.state is State.CLOSED:
            return 0
        if self.state is State.HALF_OPEN:
            return 1 if self._probe is not None and self._patience is None else 0
        return max(0, math.ceil(self._rests_until_s - self._loop.time()))

    def is_probe(self, run: Run, index: int) -> bool:
        return self._probe == (run, index)

    def left(self, run: Run, exchange: Exchange, now_s: float) -> None:
        """An operation has its outcome."""
        self.in_flight -= 1
        self._ended += 1
        is_rejected = exchange.status >= 429 and self._is_trouble(run, exchange, now_s)
        if not self.room:
            self._judge_probe(run, exchange, now_s)
        elif exchange.sent_s >= self._began_s:
            self._answers += 1
            self._seen += self.in_flight + 1
            if is_rejected:
                self._rejected += 1
            else:
                self._latency_s += now_s - exchange.sent_s
            if now_s >= self._ends_s and self._answers >= self._enough:
                self._judge(now_s)
        if self.line:
            self._admit()

    def withdrawn(self, run: Run, index: int) -> None:
        """An operation ends that was never sent."""
        self.in_flight -= 1
        if self._probe == (run, index):
            self._end_probe()
        self._admit()

    def leave(self, run: Run) -> None:
        """`run` waits no longer."""
        if run in self.line:
            self.line.remove(run)

    # The line.

    def _admit(self) -> None:
        while self.line and (self.in_flight < self.room or self.state is not State.CLOSED):
            if self.state is State.HALF_OPEN and self._probe is not None and self._patience is not None:
                return  # they wait for the probe
            self.line.popleft().take_turn()

    def _lose_patience(self) -> None:
        self._patience = None
        self._admit()

    # The breaker.

    def _is_trouble(self, run: Run, exchange: Exchange, now_s: float) -> bool:
        """Note a failure; whether it says that there was too much at once."""
        status, failure = exchange.status, exchange.failure
        if failure is not None and (failure.slug in _NOT_ITS_FAULT or (status == 504 and run.was_hurried(exchange))):
            return False
        is_rejection = status in (429, 503) or (status == 504 and failure is not None)
        # What may pass with fewer at once is for the limit, until that is 1.
        is_failure = status in (502, 504) or (status == 503 and (not self._adapts or self.limit == 1))
        if is_failure and self._breaks and self.room:
            self._failed += 1
            if breaker.trips(*self._window.growth(self._ended, self._failed, now_s)):
                self._open(Event.TRIPPED, now_s)
        return is_rejection

    def _judge_probe(self, run: Run, exchange: Exchange, now_s: float) -> None:
        if self._probe != (run, exchange.index):
            return
        failure = exchange.failure
        says_nothing = failure is not None and (failure.slug in _NOT_ITS_FAULT or run.was_hurried(exchange))
        self._end_probe()
        if says_nothing:
            return
        if exchange.status in (502, 503, 504):
            self._open(Event.RELAPSED, now_s)
            return
        self.state = breaker.advance(self.state, Event.RECOVERED)
        self._openings = self._failed = self._ended = 0
        self._window = Window()
        self.room = self.limit
        self._begin_sample(now_s)

    def _open(self, event: Event, now_s: float) -> None:
        self.state = breaker.advance(self.state, event)
        self._openings += 1
        self._rests_until_s = now_s + breaker.pause_s(self._openings, random.random())  # noqa: S311 no secret
        self.room = 0

    def _end_probe(self) -> None:
        self._probe = None
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None

    # The limit.

    def _judge(self, now_s: float) -> None:
        """A sample is complete: the limit follows it, unless a queue is still growing into its length."""
        self._window.growth(self._ended, self._failed, now_s)
        answered = self._answers - self._rejected
        latency_s = self._latency_s / answered if answered else self._settled_s
        if self._adapts and (self._rejected or latency_s <= _STEADY * self._settled_s):
            in_flight = round(self._seen / self._answers)
            sample = adaptive.Sample(self._answers, self._rejected, int(latency_s * 1_000_000), in_flight)
            self._limit = adaptive.after(self._limit, sample, self._most)
            if self.room:
                self.room = self.limit
        self._settled_s = latency_s
        self._begin_sample(now_s)

    def _begin_sample(self, now_s: float) -> None:
        """What is sent from now on counts, but for what meets the queue of those before it."""
        self._began_s = now_s + self._settled_s
        self._ends_s = self._began_s + _SAMPLE_S
        self._answers = self._rejected = self._seen = 0
        self._latency_s = 0.0
        self._enough = min(_SAMPLE_MAX, 2 * self.limit)
