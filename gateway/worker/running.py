"""One leased slice, from its first operation to the last word on it.

A slice runs in rounds: what was admitted in one step goes through the executor together. It is let go early, at the
boundary of an operation, when its batch is to stop, when its turn is over (others wait), when an upstream asked for a
pause and when there are no tokens; what was not sent then is run under a later lease.
"""

import asyncio
from collections.abc import Sequence
from contextlib import aclosing
from functools import partial

import msgspec

from gateway.admission import Admitted, Caller
from gateway.batch.model import Batch, Failure, Outcome
from gateway.batch.retry import is_repeatable
from gateway.batch.routes import Route
from gateway.errors import GatewayError
from gateway.ledger.port import LedgerUnavailableError, LostLeaseError
from gateway.ledger.segments import Recorded
from gateway.plan import HALTED, Gate, Plan
from gateway.worker.claims import AT_ONCE, Claims
from gateway.worker.decision import Again, Keep, Pause, backoff_ms, begin, failed, is_suspected, judge, surely_sent
from gateway.worker.hold import STOPPED, Hold
from gateway.worker.means import Means, Surroundings
from gateway.worker.opened import Opened
from gateway.worker.ordered import Earlier, Ordered
from gateway.worker.recorder import Ending, Recorder

_LONGEST_S = 86_400.0  # of a round: routes, upstreams and the lease bound it, not the plan
_COME_BACK_S = 1.0  # where a refusal does not say when


class Running:
    """Runs the operations of one lease, at most `concurrency` at a time; each outcome goes to `recorder`."""

    def __init__(
        self,
        around: Surroundings,
        means: Means,
        hold: Hold,
        opened: Opened,
        recorder: Recorder,
        concurrency: int,
        earlier: Earlier | None = None,
    ) -> None:
        self._around = around
        self._means = means
        self._hold = hold
        self._lease = lease = hold.lease
        self._operations = list(opened.operations)
        self._earlier = earlier
        self._ordered: Ordered | None = None
        self._context = context = opened.context
        self._recorder = recorder
        self._concurrency = self._surely = concurrency
        self._caller = Caller(context.identity, context.ip, context.fields)
        self._write = opened.writer(lease.batch, means.via, means.default_host).write
        self._claims = Claims(
            means.replay, lease, opened.operations, context.identity, around.turn_s + means.operation_s_max
        )
        self._decide = partial(means.admission.decide, batched=True)
        self._routes = [self._decide(each.method, each.target) for each in opened.operations]
        self._upstreams = {route.upstream for route in self._routes if isinstance(route, Route)}
        self._turn_ends_s = self._wait_s = 0.0
        self._intended = {index - lease.first for index in lease.in_doubt}
        self._settled: set[int] = set()
        self._halted: list[int] = []
        self._burns = False  # something failed that is tried again, and counts as a try
        self._postponed = False

    async def run(self) -> Ending:
        """Run what has no outcome; what is to be said of the lease then. Raises `LostLeaseError`."""
        lease = self._lease
        repeatable = [self._is_repeatable(position) for position in range(lease.count)]
        done, in_doubt = (frozenset(index - lease.first for index in found) for found in (lease.done, lease.in_doubt))
        beginning = begin(lease.count, done, in_doubt, lease.losses, repeatable)
        doubtful = [msgspec.structs.replace(failed(*each), attempts=1) for each in beginning.settled]
        try:
            settled = await self._claims.known(doubtful)
        except LedgerUnavailableError:
            return Ending(int(_COME_BACK_S * 1000))
        for outcome in settled:
            self._keep(outcome.index, outcome)
        floor, quiet_s = self._around.floor, self._around.until_quiet_s(lease.lost_ago_ms / 1000)
        if not is_suspected(lease.losses, others_lost=lease.others_lost):
            async with floor.together():
                await self._run(beginning.run, settled, careful=False)
        elif quiet_s > 0:
            if self._earlier is None and not self._halts:  # what is announced before it is sent is not suspected
                async with floor.together():
                    await self._run([each for each in beginning.run if not repeatable[each]], settled, careful=False)
            self._wait_s = max(self._wait_s, quiet_s)
        else:
            self._around.logger.warning("careful", batch_id=lease.batch, slice=lease.slice, losses=lease.losses)
            await self._recorder.write()  # what is in doubt after this is in doubt because of this lease
            async with floor.alone():
                await self._run(beginning.run, settled, careful=True)
        return self._ending(whole=len(done) + len(self._settled) == lease.count)

    async def _run(self, left: Sequence[int], settled: Sequence[Outcome], *, careful: bool) -> None:
        self._turn_ends_s = self._around.monotonic_s() + self._around.turn_s
        if self._earlier is not None:
            await self._run_ordered(self._earlier, settled, careful=careful)
            return
        while left and self._refusal() is None:
            left = await self._round(left, careful=careful)

    async def _run_ordered(self, earlier: Earlier, settled: Sequence[Outcome], *, careful: bool) -> None:
        """Wave by wave. What a wave could not do now is done under a later lease, and so is what waits for it."""
        known = {outcome.index: outcome for outcome in settled}
        self._ordered = ordered = Ordered(self._operations, earlier, known, self._means.rules, self._decide)
        for lost in ordered.lost:
            self._keep(lost.index, lost)
        most = 1 if careful else self._concurrency if self._means.admission.counts else None
        while self._refusal() is None and (wave := ordered.wave(most)):
            left: Sequence[int] = [position for position in wave if self._settle(position, ordered)]
            while left and self._refusal() is None:
                left = await self._round(left, careful=careful)

    def _settle(self, position: int, ordered: Ordered) -> bool:
        """Put what the references found in their place; False where the operation ends for want of them."""
        resolved = ordered.resolved(position)
        if isinstance(resolved, Failure):
            self._keep(position, failed(position, resolved))
            return False
        self._operations[position], self._routes[position] = resolved
        return True

    @property
    def has_halted(self) -> bool:
        """Whether the rest of the batch shall not run, because an operation failed and the caller wants it so."""
        return bool(self._halted)

    def _is_repeatable(self, position: int) -> bool:
        """By the retry law. Where a path may still be a reference, no route speaks for it."""
        route = self._routes[position] if self._earlier is None or self._ordered is not None else None
        method = self._operations[position].method
        return is_repeatable(method, route_idempotent=isinstance(route, Route) and route.idempotent)

    def _refusal(self) -> Failure | None:
        """Why no further operation may start now."""
        if self._around.monotonic_s() >= self._turn_ends_s or self._around.pauses.left_s(self._upstreams):
            return STOPPED
        return self._hold.refusal()

    async def _round(self, left: Sequence[int], *, careful: bool) -> Sequence[int]:
        """Run as many of the positions `left` as are admitted together; those behind them."""
        # Tokens are taken for what is surely sent in this turn; where nothing is counted, for all of it.
        size = 1 if careful else self._surely if self._means.admission.counts else len(left)
        if self._claims.has_any:
            size = min(size, AT_ONCE)
        began_s = self._around.monotonic_s()
        taken, admitted = await self._admitted(left[:size])
        if admitted is not None:
            await self._execute(taken, admitted, careful=careful)
        now_s = self._around.monotonic_s()
        self._surely = max(self._concurrency, surely_sent(len(taken), now_s - began_s, self._turn_ends_s - now_s))
        if careful:
            await self._recorder.write()  # only the next operation can be in doubt
        return left[len(taken) :]

    async def _admitted(self, taken: Sequence[int]) -> tuple[Sequence[int], Admitted | None]:
        """Routes and tokens for the first of `taken`, for half as many each time that no bucket has so much."""
        while True:
            try:
                return taken, await self._means.admission.admit(
                    [self._operations[position] for position in taken],
                    self._caller,
                    batched=True,
                    wait_max_us=int(self._around.turn_s * 1_000_000),
                    always_waits=True,
                    paid=self._context.paid and not self._lease.losses and not self._lease.tries,
                    routes=[self._routes[position] for position in taken],
                )
            except GatewayError as refused:
                if refused.status >= 500 or (refused.status == 429 and len(taken) <= self._concurrency):
                    self._wait_s = float(refused.headers.get("Retry-After", _COME_BACK_S))
                    self._turn_ends_s = 0.0
                    return (), None
                if len(taken) == 1:
                    failure = Failure(refused.problem.slug, refused.detail, members=refused.members)
                    self._keep(taken[0], Outcome(taken[0], refused.status, failure=failure))
                    return taken, None
                taken = taken[: len(taken) // 2]

    async def _execute(self, taken: Sequence[int], admitted: Admitted, *, careful: bool) -> None:
        keyed = await self._claims.of(taken, self._is_repeatable)
        earlier = {} if keyed is None else keyed.earlier
        for place, outcome in earlier.items():
            self._judge(taken[place], outcome)
        holds = [careful or not self._is_repeatable(position) for position in taken]
        plan = Plan(
            Batch([self._operations[position] for position in taken], "halt" if self._halts else "continue"),
            admitted.routes,
            lambda operation, index: self._write(operation, self._lease.first + taken[index]),
            self._concurrency,
            asyncio.get_running_loop().time() + _LONGEST_S,
            self._means.answers_bytes_max,
            admitted.delays_us,
            Gate(self._refusal, holds, lambda indexes: self._intend(taken, indexes), self._hold.stopped),
            earlier=earlier,
            keyed=keyed,
        )
        async with aclosing(self._means.executor.run(plan)) as groups:
            async for finished in groups:
                for outcome in finished:
                    self._judge(taken[outcome.index], outcome)
                if self._recorder.is_full:
                    await self._recorder.write()
        self._end_halt()

    @property
    def _halts(self) -> bool:
        return self._context.on_failure == "halt"

    def _end_halt(self) -> None:
        """What was halted has its outcome, unless what halted it is tried again."""
        if self._halted and self._postponed:
            self._halted = []
        for position in self._halted:
            self._keep(position, failed(position, HALTED))
        if self._halted or (self._halts and self._postponed):
            self._turn_ends_s = 0.0

    def _intend(self, taken: Sequence[int], indexes: Sequence[int]) -> asyncio.Future[Failure | None]:
        positions = [taken[index] for index in indexes]
        self._intended.update(positions)  # also where the ledger fails: nobody can know then
        return asyncio.ensure_future(self._put_intent(positions))

    async def _put_intent(self, positions: Sequence[int]) -> Failure | None:
        """None when the intent is durable and the lease still ours; never raises, for nobody would hear it."""
        try:
            await self._around.queue.intend(self._lease, [self._lease.first + position for position in positions])
        except (LostLeaseError, LedgerUnavailableError):
            self._hold.stop()
        except Exception:
            self._around.logger.exception("defect", listener="worker", batch_id=self._lease.batch)
            self._hold.stop()
        return self._hold.refusal()

    def _judge(self, position: int, outcome: Outcome) -> None:
        if outcome.succeeded:
            return self._keep(position, outcome)
        slug = None if outcome.failure is None else outcome.failure.slug
        if outcome.failure is STOPPED or slug == "batch-deadline":
            return
        if slug == "halted":
            return self._halted.append(position)
        if slug == "ledger-unavailable":  # the keys' store is away: nothing was sent
            self._wait_s, self._postponed = _COME_BACK_S, True
            return
        route = self._routes[position]
        tries_left = self._lease.tries < self._around.tries_max
        repeatable = self._is_repeatable(position)
        rejections = route.rejections if isinstance(route, Route) else frozenset()
        now_s = self._around.now_s()
        match judge(outcome, repeatable=repeatable, rejections=rejections, tries_left=tries_left, now_s=now_s):
            case Keep():
                self._keep(position, outcome)
            case Again():
                self._burns = self._postponed = True
            case Pause(wait_s, again):
                if isinstance(route, Route):
                    self._around.pauses.add(route.upstream, wait_s)
                if again:
                    self._postponed = True
                else:
                    self._keep(position, outcome)

    def _keep(self, position: int, outcome: Outcome) -> None:
        operation, route = self._operations[position], self._routes[position]
        recorded = Recorded.of(operation.id, self._lease.first + position, outcome)
        self._settled.add(position)
        self._recorder.add(recorded)
        template = route.template if isinstance(route, Route) else "_other"
        metrics = self._around.metrics
        metrics.operations.add((self._lease.dialect, template, operation.method, outcome.kind))
        if outcome.failure is not None and outcome.failure.slug == "quarantined":
            metrics.operations_quarantined.add(())
            self._around.logger.error(
                "quarantined", batch_id=self._lease.batch, op_index=recorded.index, losses=self._lease.losses
            )
        if self._ordered is not None:
            for lost in self._ordered.finished(msgspec.structs.replace(outcome, index=position)):
                self._keep(lost.index, lost)

    def _ending(self, *, whole: bool) -> Ending:
        if whole:
            return Ending()
        first, around = self._lease.first, self._around
        retracts = [first + position for position in sorted(self._intended - self._settled)]
        wait_s = max(self._wait_s, around.pauses.left_s(self._upstreams))
        tries = None
        if self._burns:
            tries = self._lease.tries + 1
            wait_s = max(wait_s, backoff_ms(tries, around.jitter()) / 1000)
        return Ending(int(wait_s * 1000) if wait_s else None, retracts, tries)
