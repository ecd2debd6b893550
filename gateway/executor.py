"""Runs a batch: sends its operations in parallel under limits and yields their outcomes as they finish. Keeps none.

No task, future or timer an operation: each is an `Exchange` whose completion starts the next one. Whoever iterates is
woken once for all outcomes of a turn of the loop, or for a group of them. When it stops iterating (its caller is gone),
nothing further is sent; what is on its way ends by itself, then `stray` is told once: every sent operation has an
outcome on record.
"""

import asyncio
import math
from collections.abc import AsyncGenerator, Mapping, Sequence
from functools import partial
from typing import cast

from gateway.batch.agenda import Agenda
from gateway.batch.model import SAFE_METHODS, Failure, Outcome
from gateway.batch.retry import is_repeatable
from gateway.batch.routes import Route
from gateway.outbox import Outbox, is_notable
from gateway.plan import HALTED, OUT_OF_TIME, Gate, Plan, Stray, failed, refused
from gateway.upstream.exchange import Exchange
from gateway.upstream.headers import Names, end_to_end
from gateway.upstream.turns import Turn
from gateway.upstream.upstream import Upstream

_SHAREABLE = frozenset({"GET", "OPTIONS"})  # HEAD is safe too, but the parser cannot be told where its answer ends


class Executor:
    """Runs plans against the upstreams. One for the whole process."""

    def __init__(self, upstreams: Mapping[str, Upstream], loop: asyncio.AbstractEventLoop, stray: Stray) -> None:
        self._upstreams = upstreams
        self._loop = loop
        self._stray = stray
        self._names = Names()

    async def run(
        self, plan: Plan, *, group: int = 1, patience_s: float = math.inf
    ) -> AsyncGenerator[Sequence[Outcome]]:
        """All outcomes of `plan`, each once, in the order in which they finish, grouped by turn of the loop, and in
        groups of at least `group` while there are so many to come (see `Outbox`)."""
        run = _Run(plan, self._upstreams, self._loop, self._names)
        left = len(plan.batch.operations) - len(plan.earlier)
        try:
            run.start()
            while left:
                finished = await run.outbox.taken(min(left, group), patience_s)
                group = group if finished else 1
                left -= len(finished)
                if plan.keyed is not None:
                    await plan.keyed.settle(finished)
                yield finished
        finally:
            run.stop(self._stray)


class _Run:
    """One batch on its way."""

    def __init__(
        self, plan: Plan, upstreams: Mapping[str, Upstream], loop: asyncio.AbstractEventLoop, names: Names
    ) -> None:
        self._plan = plan
        self._upstreams = upstreams
        self._loop, self._names = loop, names
        self._agenda = Agenda(plan.batch.operations, plan.batch.graph, plan.resolution, plan.earlier, plan.twins)
        self._in_flight = self._answers_bytes = 0
        self.outbox = Outbox(loop)
        self._timer: asyncio.TimerHandle | None = None
        self._deadline: asyncio.TimerHandle | None = None
        self._stray: Stray | None = None
        self._began_s, self._wakes_s, self._last_s = loop.time(), 0.0, min(plan.starts_until_s, plan.deadline_s)
        self._halts = plan.batch.on_failure == "halt"
        self._held: list[int] = []  # started, but for the intent

    def start(self) -> None:
        if self._plan.gate is not None:
            self._plan.gate.stopped.add_done_callback(partial(self._stopped, self._plan.gate))
        for outcome in self._agenda.lost:
            self._finish(outcome)
        if self._halts and not all(outcome.succeeded for outcome in self._plan.earlier.values()):
            self._send_no_more(HALTED)
        self._deadline = self._loop.call_at(self._last_s, self._time_is_up)
        self._send()

    def stop(self, stray: Stray) -> None:
        """Send nothing further. `stray` is told of what nobody has fetched, once nothing is on its way any more."""
        self._stray = stray
        for upstream in self._upstreams.values():
            upstream.pool.turns.leave(self)
        unsent = [*self._agenda.rest(), *self._withdrawn()]
        for upstream in self._upstreams.values() if self._in_flight else ():
            upstream.pool.leave_alone(self._done)
        if self._plan.keyed is not None:
            self._plan.keyed.unsent(unsent)
        for timer in filter(None, (self._timer, self._deadline)):
            timer.cancel()
        self.outbox.close()
        self._lose(self.outbox.outcomes)

    def _withdrawn(self) -> list[int]:
        """What has its turn and waits for a connection: it is not sent."""
        pools = [upstream.pool for upstream in self._upstreams.values() if self._in_flight]
        found = [exchange for pool in pools for exchange in pool.withdraw_waiting(self._done)]
        self._in_flight -= len(found)
        for exchange in found:
            exchange.turns.withdrawn(self, exchange.index)
        return [exchange.index for exchange in found]

    def _stopped(self, gate: Gate, _: object) -> None:
        if self._stray is None and (refusal := gate.refusal()) is not None:
            for index in self._withdrawn():
                self._finish(refused(index, refusal))
        self._send()

    def take_turn(self) -> None:
        """The upstream that this batch stood in line for has room for one operation."""
        self._send(called=True)

    def was_hurried(self, exchange: Exchange) -> bool:
        """Whether the caller left `exchange` less time than the operator does: then its timeout says little."""
        route = self._plan.routes[exchange.index]
        if isinstance(route, Failure) or not exchange.sent_s:
            return False
        allowed_s = self._upstreams[route.upstream].timeout_s if route.timeout_s is None else route.timeout_s
        return exchange.deadline_s - exchange.sent_s < 0.9 * allowed_s

    def _send(self, *, called: bool = False) -> None:
        """Send as many operations as the concurrency and the upstream's limit allow, in their order."""
        plan, ready, gate = self._plan, self._agenda.ready, self._plan.gate
        if gate is not None and ready and (refusal := gate.refusal()) is not None:
            return self._send_no_more(refusal)
        while ready and self._in_flight < plan.concurrency:
            index = ready[0]
            if plan.delays_us and self._is_early(index):
                return
            route = plan.routes[index]
            if not isinstance(route, Route):
                self._unsent(index, route)
                continue
            upstream = self._upstreams[route.upstream]
            turns = upstream.pool.turns
            if turns.in_flight >= turns.room or (turns.line and not called):
                turn = turns.ask(self, index)
                if turn is Turn.LATER:
                    return
                if isinstance(turn, Failure):
                    self._unsent(index, turn)
                    continue
            called = False
            self._begin(index)
            self._in_flight += 1
            turns.in_flight += 1
            if gate is not None and gate.holds[index]:
                self._hold(index, gate)
            else:
                self._submit(index, route, upstream)

    def _begin(self, index: int) -> None:
        self._agenda.ready.popleft()
        if self._agenda.is_ordered:
            self._agenda.begun(index)

    def _unsent(self, index: int, refusal: Failure) -> None:
        """The operation ends without being sent."""
        self._begin(index)
        self._finish(refused(index, refusal))

    def _hold(self, index: int, gate: Gate) -> None:
        """Start the operation with all others of this turn of the loop, once their intent is on record."""
        if not self._held:
            self._loop.call_soon(self._intend, gate)
        self._held.append(index)

    def _intend(self, gate: Gate) -> None:
        held, self._held = self._held, []
        refusal = gate.refusal()
        if refusal is None and self._stray is None:
            gate.intend(held).add_done_callback(partial(self._intended, held))
        else:
            self._refuse(held, refusal)

    def _intended(self, held: Sequence[int], asked: asyncio.Future[Failure | None]) -> None:
        refusal = asked.result()
        if refusal is not None or self._stray is not None:
            return self._refuse(held, refusal)
        for index in held:
            self._submit(index, *self._way_of(index))

    def _refuse(self, held: Sequence[int], refusal: Failure | None) -> None:
        """These end unsent; without words for it where nobody listens any more."""
        self._in_flight -= len(held)
        for index in held:
            self._way_of(index)[1].pool.turns.withdrawn(self, index)
        if refusal is not None and self._stray is None:
            for index in held:
                self._finish(refused(index, refusal))
            self._send()
        self._lose(())

    def _submit(self, index: int, route: Route, upstream: Upstream) -> None:
        plan, turns, operation = self._plan, upstream.pool.turns, self._plan.batch.operations[index]
        if plan.resolution is not None:
            settled = self._agenda.settled(index, plan.resolution)
            if isinstance(settled, Failure):
                self._in_flight -= 1
                turns.withdrawn(self, index)
                self._finish(refused(index, settled))
                self._loop.call_soon(self._send)
                return
            operation, route = settled
            upstream = self._upstreams[route.upstream]
        timeout_s = upstream.timeout_s if route.timeout_s is None else route.timeout_s
        if operation.timeout_s is not None and operation.timeout_s < timeout_s:
            timeout_s = operation.timeout_s
        deadline_s = (now_s := self._loop.time()) + timeout_s
        method = operation.method
        exchange = Exchange(
            method,
            plan.write(operation, index),
            deadline_s if deadline_s < plan.deadline_s else plan.deadline_s,
            method in SAFE_METHODS or is_repeatable(method, route_idempotent=route.idempotent),
            self._done,
            index,
            upstream.answer_bytes_max,
            upstream.retries_max if turns.room or not turns.is_probe(self, index) else 0,  # its first failure is enough
            route.rejections,
            method in _SHAREABLE,
            turns,
        )
        upstream.pool.submit(exchange, now_s)

    def _done(self, exchange: Exchange) -> None:
        """What a finished exchange became, and the next operation in its place."""
        self._in_flight -= 1
        now_s, plan = self._loop.time(), self._plan
        size = self._answers_bytes + len(exchange.body) * (self._agenda.shares(exchange.index) if plan.twins else 1)
        if exchange.failure is None and size <= plan.answers_bytes_max:
            self._answers_bytes = size
            headers = end_to_end(exchange.fields, self._names) if exchange.shown is None else exchange.shown
            seconds = now_s - exchange.sent_s
            outcome = Outcome(exchange.index, exchange.status, headers, exchange.body, None, seconds, exchange.attempt)
        else:
            outcome = failed(exchange, plan, now_s)
        self._finish(outcome)
        if outcome.status == 401 and outcome.failure is None and plan.has_one_credential:
            self._send_no_more(Failure("credential-refused", "the upstream refused this caller's credential; not sent"))
        exchange.turns.left(self, exchange, now_s)
        if now_s >= self._last_s:  # a loop that stood still may hear of this before its timer is called
            self._time_is_up()
        self._send()

    def _way_of(self, index: int) -> tuple[Route, Upstream]:
        """The route that operation `index` was admitted for, and the upstream there, where it has taken its turn."""
        route = cast(Route, self._plan.routes[index])
        return route, self._upstreams[route.upstream]

    def _finish(self, outcome: Outcome) -> None:
        outbox = self.outbox
        outbox.outcomes.append(outcome)
        if self._stray is not None:
            return self._lose([outcome])
        if self._agenda.is_ordered:
            outbox.outcomes += self._agenda.finished(outcome)
        if self._halts and not outcome.succeeded:
            self._send_no_more(HALTED)
        if len(outbox.outcomes) >= outbox.least or (outbox.is_told and is_notable(outcome)):
            outbox.wake()

    def _lose(self, outcomes: Sequence[Outcome]) -> None:
        """Nobody will fetch these."""
        if self._plan.keyed is not None:
            self._plan.keyed.stray(outcomes)
        if self._stray is not None and self.outbox.outcomes and not self._in_flight:
            self._stray(self.outbox.emptied())

    def _time_is_up(self) -> None:
        self._last_s = math.inf  # it is told once
        self._send_no_more(OUT_OF_TIME)
        if self._plan.deadline_s == math.inf:
            self.outbox.tell_time()

    def _send_no_more(self, refusal: Failure) -> None:
        """Every operation that was not sent yet ends with `refusal`."""
        if self._stray is not None:
            return
        for index in self._agenda.rest():
            own = self._plan.routes[index]
            self._finish(refused(index, own if isinstance(own, Failure) else refusal))

    def _is_early(self, index: int) -> bool:
        """Whether the operation's tokens are still to come; then `_send` runs again when they have."""
        due_s = self._began_s + self._plan.delays_us[index] / 1_000_000
        if due_s <= self._loop.time():
            return False
        if self._wakes_s <= self._loop.time():
            self._wakes_s = due_s
            self._timer = self._loop.call_at(due_s + 0.001, self._send)  # uvloop's timers are half of this early
        return True
