"""Requests that are sent again: the retry law and the retry budget at work for one upstream."""

import asyncio
import time
from collections.abc import Callable

from gateway.batch.retry import Again, Loss, decide, decide_rejection, given_up
from gateway.upstream.budget import RetryBudget
from gateway.upstream.exchange import Exchange
from gateway.upstream.headers import retry_after_s


class Repeats:
    """Decides whether a request is sent again, and hands it to `submit` when its time has come."""

    def __init__(
        self,
        submit: Callable[[Exchange, float], None],
        budget: RetryBudget,
        refused: Callable[[], None],
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self.closed = self.draining = False
        self.waiting: set[Exchange] = set()  # those that `submit` gets again, now or after a pause
        self._submit = submit
        self._budget = budget
        self._refused = refused
        self._loop = loop

    def drain(self) -> None:
        """From now on an upstream that cannot be reached is one that goes away with us."""
        self.draining = True

    def lost(self, exchange: Exchange, loss: Loss) -> None:
        """`exchange` failed: it is sent again, or given up."""
        exchange.connection = None
        now_s = self._loop.time()
        remaining_s = exchange.deadline_s - now_s
        if loss is Loss.RESET and remaining_s <= 0:
            loss = Loss.TIMEOUT
        elif loss is Loss.CONNECT and self.draining:
            loss = Loss.DRAINING
        exchange.may_share = False  # a repeat travels alone: it shall not be lost for another's sake again
        repeatable, attempt = exchange.repeatable, exchange.attempt
        decision = decide(
            loss,
            repeatable=repeatable,
            attempt=attempt,
            retries_max=0 if self.closed else exchange.retries_max,
            remaining_s=remaining_s,
        )
        if isinstance(decision, Again) and self._takes(now_s):
            self._again(exchange, decision.delay_s)
            return
        status, failure = given_up(loss, repeatable=repeatable, attempt=attempt)
        exchange.on_give_up(status, failure)

    def after_rejection(self, exchange: Exchange) -> bool:
        """Whether the whole answer of `exchange` is a rejection and it is sent again; else the answer stands."""
        if exchange.status not in exchange.rejections:
            return False
        now_s = self._loop.time()
        again = decide_rejection(
            exchange.status,
            retry_after_s(exchange.fields, time.time()),
            attempt=exchange.attempt,
            retries_max=0 if self.closed else exchange.retries_max,
            remaining_s=exchange.deadline_s - now_s,
        )
        if again is None or not self._takes(now_s):
            return False
        self._again(exchange, again.delay_s)
        return True

    def withdraw(self, exchange: Exchange) -> None:
        """Do not send it again."""
        self.waiting.discard(exchange)

    def _takes(self, now_s: float) -> bool:
        if self._budget.takes(now_s):
            return True
        self._refused()
        return False

    def _again(self, exchange: Exchange, delay_s: float) -> None:
        exchange.begin()
        self.waiting.add(exchange)
        self._loop.call_later(delay_s, self._resubmit, exchange)

    def _resubmit(self, exchange: Exchange) -> None:
        if exchange in self.waiting:  # nobody withdrew it
            self.waiting.remove(exchange)
            self._budget.sends -= 1  # `submit` counts it, and it is no further request
            self._submit(exchange, self._loop.time())
