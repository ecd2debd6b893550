"""Runs a batch: sends its operations in parallel under limits and yields their outcomes as they finish. Keeps none.

No task, future or timer an operation: each is an `Exchange` whose completion starts the next one. Whoever iterates is
woken once for all outcomes of a turn of the loop. When it stops iterating (its caller is gone), nothing further is
sent; what is on its way ends by itself and is reported to `stray`: every sent operation has an outcome on record.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from functools import partial
from typing import NamedTuple

from gateway.batch.agenda import Agenda
from gateway.batch.model import SAFE_METHODS, Batch, Failure, Operation, Outcome
from gateway.batch.resolution import Resolution
from gateway.batch.retry import is_repeatable
from gateway.batch.routes import Route
from gateway.errors import PROBLEMS
from gateway.upstream.exchange import Exchange
from gateway.upstream.headers import Names, end_to_end
from gateway.upstream.upstream import Upstream

# HEAD is safe too, but where its answer ends cannot be told to the parser.
_SHAREABLE = frozenset({"GET", "OPTIONS"})

Write = Callable[[Operation, int], bytes]


class Gate(NamedTuple):
    """What the operations of an asynchronous batch pass before they start.

    `refusal()` tells why nothing may start any more, None while it may; it is asked before every group of starts, and
    again when `stopped` is done. Operation i with `holds[i]` starts once `intend`, called for all that are about to
    start in one turn of the loop, is done with None; a `Failure` refuses them. Neither future ever fails.
    """

    refusal: Callable[[], Failure | None]
    holds: Sequence[bool]
    intend: Callable[[Sequence[int]], asyncio.Future[Failure | None]]
    stopped: asyncio.Future[None]


class Plan(NamedTuple):
    """A batch that was admitted. `routes[i]` is a `Failure` where operation i may not run; `delays_us` may be empty.

    `write` makes an operation's request; `deadline_s` is a time of the loop's clock. `gate` None: nothing is awaited.
    `resolution` is there where operations may refer to others. Operations with an outcome in `earlier` are not sent.
    """

    batch: Batch
    routes: Sequence[Route | Failure]
    write: Write
    concurrency: int
    deadline_s: float
    answers_bytes_max: int
    delays_us: Sequence[int] = ()
    gate: Gate | None = None
    resolution: Resolution | None = None
    earlier: Mapping[int, Outcome] = {}


class Executor:
    """Runs plans against the upstreams. One for the whole process."""

    def __init__(
        self, upstreams: Mapping[str, Upstream], loop: asyncio.AbstractEventLoop, stray: Callable[[Outcome], None]
    ) -> None:
        self._upstreams = upstreams
        self._loop = loop
        self._stray = stray
        self._names = Names()

    async def run(self, plan: Plan) -> AsyncGenerator[Sequence[Outcome]]:
        """All outcomes of `plan`, each once, in the order in which they finish, grouped by turn of the loop."""
        run = _Run(plan, self._upstreams, self._loop, self._names)
        left = len(plan.batch.operations) - len(plan.earlier)
        try:
            run.start()
            while left:
                finished = await run.finished()
                left -= len(finished)
                yield finished
        finally:
            run.stop(self._stray)


class _Run:
    """One batch on its way."""

    def __init__(
        self, plan: Plan, upstreams: Mapping[str, Upstream], loop: asyncio.AbstractEventLoop, names: Names
    ) -> None:
        self._plan = plan
        self._operations = plan.batch.operations
        self._upstreams = upstreams
        self._loop = loop
        self._names = names
        self._agenda = Agenda(self._operations, plan.batch.graph, plan.resolution, plan.earlier)
        self._in_flight = 0
        self._answers_bytes = 0
        self._finished: list[Outcome] = []
        self._waiter: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._deadline: asyncio.TimerHandle | None = None
        self._stray: Callable[[Outcome], None] | None = None
        self._began_s = loop.time()
        self._halts = plan.batch.on_failure == "halt"
        self._held: list[int] = []  # started, but for the intent

    def start(self) -> None:
        if self._plan.gate is not None:
            self._plan.gate.stopped.add_done_callback(lambda _: self._send())
        for outcome in self._agenda.lost:
            self._finish(outcome)
        self._deadline = self._loop.call_at(self._plan.deadline_s, self._send_no_more, _out_of_time())
        self._send()

    def stop(self, stray: Callable[[Outcome], None]) -> None:
        """Send nothing further. Outcomes that still come go to `stray`."""
        self._stray = stray
        self._agenda.rest()
        for outcome in self._finished:  # nobody will fetch these
            if outcome.attempts:
                stray(outcome)
        if self._in_flight:
            for upstream in self._upstreams.values():
                upstream.pool.withdraw_waiting(self._done)
        for timer in (self._timer, self._deadline):
            if timer is not None:
                timer.cancel()

    async def finished(self) -> Sequence[Outcome]:
        """The outcomes since the last call; waits for one."""
        if not self._finished:
            self._waiter = self._loop.create_future()
            await self._waiter
        finished, self._finished = self._finished, []
        return finished

    def _send(self) -> None:
        """Send as many operations as the concurrency allows, in their order."""
        ready, concurrency, gate = self._agenda.ready, self._plan.concurrency, self._plan.gate
        if gate is not None and ready:
            refusal = gate.refusal()
            if refusal is not None:
                self._send_no_more(refusal)
                return
        while ready and self._in_flight < concurrency:
            index = ready[0]
            if self._plan.delays_us and self._is_early(index):
                return
            ready.popleft()
            if self._agenda.is_ordered:
                self._agenda.begun(index)
            route = self._plan.routes[index]
            if isinstance(route, Failure):
                self._finish(Outcome(index, PROBLEMS[route.slug].status, failure=route))
            else:
                self._in_flight += 1
                if gate is not None and gate.holds[index]:
                    self._hold(index, gate)
                else:
                    self._submit(index, route)

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
            self._refuse(held, refusal)
            return
        for index in held:
            route = self._plan.routes[index]
            if isinstance(route, Route):
                self._submit(index, route)

    def _refuse(self, held: Sequence[int], refusal: Failure | None) -> None:
        """These end unsent; without words for it where nobody listens any more."""
        self._in_flight -= len(held)
        if refusal is not None and self._stray is None:
            for index in held:
                self._finish(Outcome(index, PROBLEMS[refusal.slug].status, failure=refusal))
            self._send()

    def _submit(self, index: int, route: Route) -> None:
        operation, plan = self._operations[index], self._plan
        if plan.resolution is not None:
            settled = self._agenda.settled(index, plan.resolution)
            if isinstance(settled, Failure):
                self._in_flight -= 1
                self._finish(Outcome(index, PROBLEMS[settled.slug].status, failure=settled))
                self._loop.call_soon(self._send)
                return
            operation, route = settled
        upstream = self._upstreams[route.upstream]
        timeout_s = upstream.timeout_s if route.timeout_s is None else route.timeout_s
        if operation.timeout_s is not None and operation.timeout_s < timeout_s:
            timeout_s = operation.timeout_s
        deadline_s = self._loop.time() + timeout_s
        method = operation.method
        exchange = Exchange(
            method,
            plan.write(operation, index),
            deadline_s if deadline_s < plan.deadline_s else plan.deadline_s,
            method in SAFE_METHODS or is_repeatable(method, route_idempotent=route.idempotent),
            self._done,
            index,
            upstream.answer_bytes_max,
            upstream.retries_max,
            route.rejections,
            method in _SHAREABLE,
        )
        upstream.pool.submit(exchange)

    def _done(self, exchange: Exchange) -> None:
        """What a finished exchange became, and the next operation in its place."""
        self._in_flight -= 1
        now_s = self._loop.time()
        size = self._answers_bytes + len(exchange.body)
        if exchange.failure is None and size <= self._plan.answers_bytes_max:
            self._answers_bytes = size
            headers = end_to_end(exchange.fields, self._names) if exchange.shown is None else exchange.shown
            seconds = now_s - exchange.sent_s
            outcome = Outcome(exchange.index, exchange.status, headers, exchange.body, None, seconds, exchange.attempt)
        else:
            outcome = self._failed(exchange, now_s)
        self._finish(outcome)
        if self._halts and not outcome.succeeded:
            self._send_no_more(Failure("halted", "an earlier operation failed and onFailure is halt; not sent"))
        elif outcome.status == 401 and outcome.failure is None and self._has_one_credential():
            self._send_no_more(Failure("credential-refused", "the upstream refused this caller's credential; not sent"))
        self._send()

    def _has_one_credential(self) -> bool:
        """One caller, one credential, one upstream: what it refused once it would refuse again (PROMISES S20)."""
        upstreams = {route.upstream for route in self._plan.routes if isinstance(route, Route)}
        own = (name for operation in self._operations for name, _ in operation.fields)
        return len(upstreams) == 1 and not any(name.lower() in ("authorization", "cookie") for name in own)

    def _failed(self, exchange: Exchange, now_s: float) -> Outcome:
        status, failure = exchange.status, exchange.failure
        if failure is None:
            detail = "the answers of this batch are above the cap; the operation ran"
            failure = Failure("response-budget-exceeded", detail, members={"upstreamStatus": status})
            status = 507
        elif failure.slug == "overloaded" and now_s >= self._plan.deadline_s:
            failure, status = _out_of_time(), 408
        seconds = now_s - exchange.sent_s if exchange.sent_s else 0.0
        return Outcome(exchange.index, status, {}, b"", failure, seconds, exchange.attempt)

    def _finish(self, outcome: Outcome) -> None:
        if self._stray is not None:
            self._stray(outcome)
            return
        self._finished.append(outcome)
        if self._agenda.is_ordered:
            self._finished += self._agenda.finished(outcome)
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    def _send_no_more(self, refusal: Failure) -> None:
        """Every operation that was not sent yet ends with `refusal`."""
        if self._stray is not None:
            return
        status = PROBLEMS[refusal.slug].status
        for index in self._agenda.rest():
            own = self._plan.routes[index]
            if isinstance(own, Failure):
                self._finish(Outcome(index, PROBLEMS[own.slug].status, failure=own))
            else:
                self._finish(Outcome(index, status, failure=refusal))

    def _is_early(self, index: int) -> bool:
        """Whether the operation's tokens are still to come; then `_send` runs again when they have."""
        due_s = self._began_s + self._plan.delays_us[index] / 1_000_000
        if due_s <= self._loop.time():
            return False
        if self._timer is None or self._timer.cancelled() or self._timer.when() <= self._loop.time():
            self._timer = self._loop.call_at(due_s, self._send)
        return True


def _out_of_time() -> Failure:
    return Failure("batch-deadline", "the batch ran out of time before this operation was sent", retryable=True)
