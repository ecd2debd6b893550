"""One leased slice, from its first operation to the last word on it.

A slice runs in rounds: what was admitted in one step goes through the executor together. It is let go early, at the
boundary of an operation, when its batch is to stop, when its turn is over (others wait), when an upstream asked for a
pause and when there are no tokens; what was not sent then is run under a later lease.
"""

import asyncio
from collections.abc import Sequence, Set
from contextlib import aclosing
from functools import partial

import msgspec

from gateway.admission import Admitted, Caller
from gateway.batch.model import SAFE_METHODS, Batch, Failure, Operation, Outcome
from gateway.batch.retry import is_repeatable
from gateway.batch.routes import Route
from gateway.ledger.port import LedgerUnavailableError
from gateway.plan import HALTED, Gate, Plan
from gateway.worker.claims import AT_ONCE, Claims
from gateway.worker.decision import Again, Keep, Pause, backoff_ms, begin, failed, is_suspected, judge
from gateway.worker.hold import STOPPED, Hold
from gateway.worker.intents import Intents
from gateway.worker.means import Means, Surroundings
from gateway.worker.opened import Opened
from gateway.worker.ordered import Earlier, Ordered
from gateway.worker.recorder import GROUP, Ending, Recorder
from gateway.worker.settled import Settled
from gateway.worker.tokens import NotNow, Tokens

_LONGEST_S = 86_400.0  # of a round: routes, upstreams and the lease bound it, not the plan
_COME_BACK_S = 1.0  # to a store that is away


class Running:
    """Runs the operations of one lease, at most `concurrency` at a time; each outcome goes to `recorder`.

    `has_halted`: the rest of the batch shall not run, because an operation failed and the caller wants it so; given
    where that was under an earlier lease.
    """

    def __init__(
        self,
        around: Surroundings,
        means: Means,
        hold: Hold,
        opened: Opened,
        recorder: Recorder,
        concurrency: int,
        earlier: Earlier | None = None,
        *,
        has_halted: bool = False,
    ) -> None:
        self._around = around
        self._monotonic_s, self._pauses = around.monotonic_s, around.pauses.of(opened.context.identity)
        self._means = means
        self._hold = hold
        self._lease = lease = hold.lease
        self._operations = list(opened.operations)
        self._earlier = earlier
        self._ordered: Ordered | None = None
        context = opened.context
        self._halts = opened.halts
        self.has_halted = has_halted
        self._recorder = recorder
        self._concurrency = concurrency
        self._tokens = Tokens(
            means.admission,
            Caller(context.identity, context.ip, context.fields),
            lease.batch,
            around.rates,
            concurrency=concurrency,
            turn_s=around.turn_s,
            paid=context.paid and not lease.losses and not lease.tries,
        )
        self._write = opened.writer(lease.batch, means.via, means.default_host).write
        self._claims = Claims(
            means.replay, lease, opened.operations, context.identity, around.turn_s + means.operation_s_max
        )
        self._decide = partial(means.admission.decide, batched=True)
        self._routes = means.admission.routes_of(opened.operations, batched=True, ordered=False)
        # By the retry law. Where a path may still be a reference, no route speaks for it (see `_settle`).
        self._repeatable = [
            each.method in SAFE_METHODS or _is_repeatable(each, route if earlier is None else None)
            for each, route in zip(opened.operations, self._routes, strict=True)
        ]
        self._upstreams = {route.upstream for route in self._routes if isinstance(route, Route)}
        self._turn_ends_s = self._wait_s = 0.0
        self._intents = Intents(around.queue, hold, around.logger)
        self._settled = Settled(lease, self._operations, self._routes, recorder, around.metrics)
        self._burns = False  # something failed that is tried again, and counts as a try
        self._postponed = False

    async def run(self) -> Ending:
        """Run what has no outcome; what is to be said of the lease then. Raises `LostLeaseError`."""
        lease = self._lease
        repeatable = self._repeatable
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
        if self.has_halted:
            self._halt(done)
        return self._ending(whole=len(done) + len(self._settled.positions) == lease.count)

    async def _run(self, left: Sequence[int], settled: Sequence[Outcome], *, careful: bool) -> None:
        self._turn_ends_s = self._monotonic_s() + self._around.turn_s
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
            await self._hold_to(left, earlier)
            while left and self._refusal() is None:
                left = await self._round(left, careful=careful)

    async def _hold_to(self, wave: Sequence[int], earlier: Earlier) -> None:
        """What is sent unannounced is sent once its parents' answers are on record: else it were called unsent where a
        crash leaves them in doubt."""
        if any(self._repeatable[position] and earlier.graph.parents[position] for position in wave):
            await self._recorder.write()

    def _settle(self, position: int, ordered: Ordered) -> bool:
        """Put what the references found in their place; False where the operation ends for want of them."""
        resolved = ordered.resolved(position)
        if isinstance(resolved, Failure):
            self._keep(position, failed(position, resolved))
            return False
        self._operations[position], self._routes[position] = resolved
        self._repeatable[position] = _is_repeatable(*resolved)
        return True

    def _halt(self, done: Set[int]) -> None:
        """What has no outcome gets none of its own any more; nor does what waits for it."""
        self._ordered = None
        for position in sorted(set(range(self._lease.count)) - done - self._settled.positions):
            self._keep(position, failed(position, HALTED))

    def _refusal(self) -> Failure | None:
        """Why no further operation may start now."""
        if self.has_halted or self._monotonic_s() >= self._turn_ends_s or self._pauses.left_s(self._upstreams):
            return STOPPED
        return self._hold.refusal()

    async def _round(self, left: Sequence[int], *, careful: bool) -> Sequence[int]:
        """Run as many of the positions `left` as are admitted together; those behind them."""
        began_s = self._monotonic_s()
        size = 1 if careful else self._tokens.most(len(left), self._turn_ends_s - began_s)
        if self._claims.has_any:
            size = min(size, AT_ONCE)
        taken, admitted = await self._admitted(left[:size])
        if admitted is not None:
            settled = len(self._settled.positions)
            await self._execute(taken, admitted, careful=careful)
            self._tokens.sent(len(self._settled.positions) - settled, self._monotonic_s() - began_s)
        if careful:
            await self._recorder.write()  # only the next operation can be in doubt
        return left[len(taken) :]

    async def _admitted(self, taken: Sequence[int]) -> tuple[Sequence[int], Admitted | None]:
        """Routes and tokens for the first of `taken`."""
        operations, routes = [self._operations[each] for each in taken], [self._routes[each] for each in taken]
        count, admitted = await self._tokens.take(operations, routes)
        match admitted:
            case Admitted():
                return taken[:count], admitted
            case NotNow(wait_s):
                self._wait_s, self._turn_ends_s = wait_s, 0.0
            case refused:
                failure = Failure(refused.problem.slug, refused.detail, members=refused.members)
                self._keep(taken[0], Outcome(taken[0], refused.status, failure=failure))
        return taken[:count], None

    async def _execute(self, taken: Sequence[int], admitted: Admitted, *, careful: bool) -> None:
        keyed = await self._claims.of(taken, self._repeatable.__getitem__)
        earlier = {} if keyed is None else keyed.earlier
        for place, outcome in earlier.items():
            self._judge(taken[place], outcome)
        holds = [careful or not self._repeatable[position] for position in taken]
        plan = Plan(
            Batch([self._operations[position] for position in taken], "halt" if self._halts else "continue"),
            admitted.routes,
            lambda operation, index: self._write(operation, self._lease.first + taken[index]),
            self._concurrency,
            asyncio.get_running_loop().time() + _LONGEST_S,
            self._means.answers_bytes_max,
            admitted.delays_us,
            Gate(
                self._refusal,
                holds,
                lambda indexes: self._intents.announce([taken[index] for index in indexes]),
                self._hold.stopped,
            ),
            earlier=earlier,
            keyed=keyed,
        )
        running = self._means.executor.run(plan, group=GROUP, patience_s=self._around.patience_s)
        async with aclosing(running) as groups:
            async for finished in groups:
                self._judge_all(taken, finished)
                if self._recorder.is_full:
                    await self._recorder.write()
        if self._halts and self._postponed:  # what failed is tried again before what it has held up
            self._turn_ends_s = 0.0

    def _judge_all(self, taken: Sequence[int], finished: Sequence[Outcome]) -> None:
        """Nearly always all have succeeded, and nothing waits for them."""
        succeeded: list[Outcome] = []
        for outcome in finished:
            if outcome.failure is None and outcome.status < 400 and self._ordered is None:
                succeeded.append(outcome)
            else:
                self._judge(taken[outcome.index], outcome)
        if succeeded:
            self._settled.add([taken[outcome.index] for outcome in succeeded], succeeded)

    def _judge(self, position: int, outcome: Outcome) -> None:
        if outcome.succeeded:
            return self._keep(position, outcome)
        slug = None if outcome.failure is None else outcome.failure.slug
        if outcome.failure is STOPPED or slug in ("batch-deadline", "halted"):
            return
        if slug == "ledger-unavailable":  # the keys' store is away: nothing was sent
            self._wait_s, self._postponed = _COME_BACK_S, True
            return
        route = self._routes[position]
        tries_left = self._lease.tries < self._around.tries_max
        repeatable = self._repeatable[position]
        rejections = route.rejections if isinstance(route, Route) else frozenset()
        now_s = self._around.now_s()
        match judge(outcome, repeatable=repeatable, rejections=rejections, tries_left=tries_left, now_s=now_s):
            case Keep():
                self._keep(position, outcome)
            case Again():
                self._burns = self._postponed = True
            case Pause(wait_s, again):
                if isinstance(route, Route):
                    self._pauses.add(route.upstream, wait_s, everybody=outcome.failure is not None)
                if again:
                    self._postponed = True
                else:
                    self._keep(position, outcome)

    def _keep(self, position: int, outcome: Outcome) -> None:
        around, lease = self._around, self._lease
        self._settled.add([position], [outcome])
        self.has_halted = self.has_halted or (self._halts and not outcome.succeeded)
        if outcome.failure is not None and outcome.failure.slug == "quarantined":
            around.metrics.operations_quarantined.add(())
            index = lease.first + position
            around.logger.error("quarantined", batch_id=lease.batch, op_index=index, losses=lease.losses)
        if self._ordered is not None:
            for lost in self._ordered.finished(msgspec.structs.replace(outcome, index=position)):
                self._keep(lost.index, lost)

    def _ending(self, *, whole: bool) -> Ending:
        if whole:
            return Ending()
        around, retracts = self._around, self._intents.indexes_without(self._settled.positions)
        wait_s = max(self._wait_s, self._pauses.left_s(self._upstreams))
        tries = None
        if self._burns:
            tries = self._lease.tries + 1
            wait_s = max(wait_s, backoff_ms(tries, around.jitter()) / 1000)
        return Ending(int(wait_s * 1000) if wait_s else None, retracts, tries)


def _is_repeatable(operation: Operation, route: Route | Failure | None) -> bool:
    return is_repeatable(operation.method, route_idempotent=isinstance(route, Route) and route.idempotent)
