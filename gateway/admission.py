"""May this operation run? The same answer alone or in a batch: its route, its cost, its caller's buckets."""

import hashlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

from gateway.batch.model import Batch, Failure, Operation
from gateway.batch.resolution import Resolution, route_ahead
from gateway.batch.routes import EVERY_ROUTE, Route, Routes
from gateway.batch.validation import VIOLATIONS_MAX, Rules
from gateway.errors import GatewayError
from gateway.limiter.bucket import Bucket, Charge, Denied, Granted, Reading, total
from gateway.limiter.http import never_fits, rate_limited, retry_after_s
from gateway.limiter.port import Limiter
from gateway.upstream.headers import RawFields

ANONYMOUS = "anonymous"
"""The identity of everybody of whom nothing is known: one caller together."""


@dataclass(frozen=True, slots=True)
class Limit:
    """A bucket and whose it is: `key` is `caller`, `ip`, `global` or `header:<name>`; `templates` None: every route."""

    bucket: Bucket
    key: str
    templates: frozenset[str] | None = None


class Caller(NamedTuple):
    """Who asks: `identity` is a digest of what says so, or `ANONYMOUS`; `ip` is the peer's.

    `fields` are the outer request's, without what only a trusted proxy may say.
    """

    identity: str
    ip: str
    fields: RawFields


class Admitted(NamedTuple):
    """`routes[i]` for each operation, or why it may not run; `delays_us` where tokens come later.

    `tokens[j]` is what the bucket of `readings[j]` granted.
    """

    routes: Sequence[Route | Failure]
    delays_us: Sequence[int] = ()
    readings: Sequence[Reading] = ()
    tokens: Sequence[int] = ()


class Rehearsal(NamedTuple):
    """What admission would say to a batch: its `costs` by limit, what each limit holds now, its `refusal`."""

    admitted: Admitted
    costs: Mapping[str, int]
    readings: Sequence[Reading]
    refusal: GatewayError | None = None


class Admission:
    """Decides for operations and lone requests alike. Charges nothing for what a route refuses.

    `away_s` tells for how many seconds batches may not ask the upstream of that name; 0 while they may.
    """

    def __init__(
        self,
        routes: Routes,
        limits: Sequence[Limit],
        limiter: Limiter,
        *,
        strict: bool = False,
        away_s: Callable[[str], int] = lambda _: 0,
    ) -> None:
        self._routes = routes
        self._limits = limits
        self._limiter = limiter
        self._strict = strict
        self._away_s = away_s

    @property
    def counts(self) -> bool:
        """Whether there is any limit."""
        return bool(self._limits)

    def route_of(self, method: str, target: str) -> Route:
        """How a lone request is treated: routes allow-list batches only, so one always applies."""
        return self._routes.match(method, target) or EVERY_ROUTE

    def decide(self, method: str, target: str, *, batched: bool) -> Route | Failure:
        """The route of one operation, or why it may not run. Says nothing about whether the target exists."""
        if not batched or not self._routes.configured:
            return self.route_of(method, target)
        route = self._routes.match(method, target)
        if route is None:
            return Failure("route-not-allowed", "no configured route allows this method and path in a batch")
        if not route.batchable:
            return Failure("route-not-batchable", "this route is closed to batches; send the request alone")
        return route

    def resolution(self, batch: Batch, routes: Sequence[Route | Failure], rules: Rules) -> Resolution | None:
        """What resolves the references of an admitted batch; None where it can hold none."""
        if batch.graph is None or not batch.graph.refers:
            return None
        limited = {template for limit in self._limits for template in limit.templates or ()}
        return Resolution(batch, routes, rules, partial(self.decide, batched=True), limited)

    async def admit(
        self,
        operations: Sequence[Operation],
        caller: Caller,
        *,
        batched: bool,
        wait_max_us: int,
        pointer: str = "",
        always_waits: bool = False,
        ordered: bool = False,
        paid: bool = False,
        routes: list[Route | Failure] | None = None,
    ) -> Admitted:
        """Routes for all, and tokens for all that have one, in one step.

        Raises 429, 413, 422 for strict routes, or 503 for a batch all of whose upstreams are away: it costs nothing.
        `always_waits`: a limit that is exhausted is waited for, whatever it does for others (CONTRACT 5).
        `ordered`: the operations may hold references, and are routed by what surrounds them. `paid`: an earlier call
        took the tokens. `routes`: what was decided for each already.
        """
        if routes is None:
            routes = self.routes_of(operations, batched=batched, ordered=ordered)
        if self._strict and batched:
            _refuse_all(operations, routes, pointer)
        if batched:
            self._refuse_if_away(routes)
        if paid or not self._limits:
            return Admitted(routes)
        return await self._charged(routes, caller, wait_max_us=wait_max_us, always_waits=always_waits)

    def admit_lone(self, route: Route, caller: Caller, *, wait_max_us: int) -> Awaitable[Admitted]:
        """The same for a request that goes alone, whose `route_of` is known."""
        return self._charged([route], caller, wait_max_us=wait_max_us)

    def admit_at_once(self, route: Route, caller: Caller) -> Admitted | None:
        """The same without waiting; None where that cannot be, or where it is refused."""
        charges = [
            Charge(limit.bucket, _key(limit, caller), (route.cost,))
            for limit in self._limits
            if route.cost and (limit.templates is None or route.template in limit.templates)
        ]
        if not charges:
            return Admitted((route,))
        readings = self._limiter.pay(charges)
        return None if readings is None else Admitted((route,), (), readings, [route.cost] * len(charges))

    async def _charged(
        self, routes: list[Route | Failure], caller: Caller, *, wait_max_us: int, always_waits: bool = False
    ) -> Admitted:
        """Tokens for all that have a route. Raises 429 and 413."""
        charges = self._charges(routes, caller, always_waits=always_waits)
        _refuse_oversized(charges)
        return (
            _granted(routes, await self._limiter.take(charges, wait_max_us=wait_max_us))
            if charges
            else Admitted(routes)
        )

    async def rehearse(self, batch: Batch, caller: Caller, *, wait_max_us: int, in_background: bool) -> Rehearsal:
        """What `admit` would say; nothing is taken. Raises 422 for strict routes.

        `in_background`: operations are admitted few by few, and wait for their tokens as long as it takes.
        """
        routes = self.routes_of(batch.operations, batched=True, ordered=batch.graph is not None)
        if self._strict:
            _refuse_all(batch.operations, routes, batch.pointer)
        charges = self._charges(routes, caller, always_waits=in_background)
        costs = {charge.bucket.name: sum(charge.costs) for charge in charges}
        readings: Sequence[Reading] = ()
        try:
            readings = await self.readings(caller)
            if not in_background:
                self._refuse_if_away(routes)
                _refuse_oversized(charges)
            asked = await self._limiter.ask(charges, wait_max_us=wait_max_us) if charges else None
            admitted = Admitted(routes) if asked is None else _granted(routes, asked)
        except GatewayError as refusal:
            return Rehearsal(Admitted(routes), costs, readings, refusal)
        return Rehearsal(admitted, costs, readings)

    def check(self, operations: Sequence[Operation], pointer: str, *, ordered: bool = False) -> None:
        """Raise 422 for strict routes, and charge nothing: the batch runs, and pays, later."""
        if self._strict:
            _refuse_all(operations, self.routes_of(operations, batched=True, ordered=ordered), pointer)

    def routes_of(self, operations: Sequence[Operation], *, batched: bool, ordered: bool) -> list[Route | Failure]:
        """What `decide` says of each. `ordered`: they may hold references, and are routed by what surrounds them."""
        decide = partial(self.decide, batched=batched)
        if ordered:
            return [route_ahead(each, decide, self._routes.cost_max) for each in operations]
        match = self._routes.match
        found = [match(operation.method, operation.target) for operation in operations]
        return [
            decide(operation.method, operation.target) if route is None or not route.batchable else route
            for operation, route in zip(operations, found, strict=True)
        ]

    async def readings(self, caller: Caller) -> Sequence[Reading]:
        """What every limit has left for this caller."""
        if not self._limits:
            return ()
        return await self._limiter.look([(limit.bucket, _key(limit, caller)) for limit in self._limits])

    def _refuse_if_away(self, routes: Sequence[Route | Failure]) -> None:
        waits_s = [self._away_s(name) for name in {route.upstream for route in routes if isinstance(route, Route)}]
        if waits_s and all(waits_s):
            raise GatewayError("upstream-unavailable", headers={"Retry-After": str(min(waits_s))})

    def _charges(self, routes: list[Route | Failure], caller: Caller, *, always_waits: bool = False) -> list[Charge]:
        charges = []
        for limit in self._limits:
            bucket = limit.bucket._replace(on_exhausted="wait") if always_waits else limit.bucket
            costs = _costs(limit, routes)
            if any(costs):
                charges.append(Charge(bucket, _key(limit, caller), costs))
        return charges


def _refuse_oversized(charges: Sequence[Charge]) -> None:
    for charge in charges:
        bucket = charge.bucket
        if bucket.on_exhausted != "partial" and (cost := total(charge.costs)) > bucket.burst:
            raise never_fits(bucket, cost)


def _refuse_all(operations: Sequence[Operation], routes: Sequence[Route | Failure], pointer: str) -> None:
    errors = [
        {"pointer": f"{pointer}/{index}/path", "id": operation.id, "code": refusal.slug, "detail": refusal.detail}
        for index, (operation, refusal) in enumerate(zip(operations, routes, strict=True))
        if isinstance(refusal, Failure)
    ]
    if errors:
        members: dict[str, object] = {"errors": errors[:VIOLATIONS_MAX]}
        if len(errors) > VIOLATIONS_MAX:
            members["truncated"] = True
        raise GatewayError("validation-failed", f"{len(errors)} not allowed; nothing was sent", members=members)


def identity_of(fields: RawFields, names: frozenset[bytes]) -> str:
    """A digest of the fields that identify a caller; never the credential itself."""
    if not names:
        return ANONYMOUS
    said = sorted([(lowered, value) for name, value in fields if (lowered := name.lower()) in names])
    return hashlib.blake2b(repr(said).encode(), digest_size=16).hexdigest() if said else ANONYMOUS


def _granted(routes: list[Route | Failure], granted: Granted | Denied) -> Admitted:
    if isinstance(granted, Denied):
        raise rate_limited(granted)
    for index in range(granted.admitted, len(routes)):
        route = routes[index]
        if isinstance(route, Route):
            detail = "the bucket had no tokens for this operation; it was not sent"
            members = {"retryAfter": retry_after_s(route.cost, granted.readings)}
            routes[index] = Failure("rate-limited", detail, retryable=True, members=members)
    return Admitted(routes, granted.delays_us, granted.readings, granted.tokens)


def _costs(limit: Limit, routes: Sequence[Route | Failure]) -> list[int]:
    """What each operation takes of the limit; nothing where it may not run, or where the limit is for other routes."""
    templates = limit.templates
    return [
        route.cost if isinstance(route, Route) and (templates is None or route.template in templates) else 0
        for route in routes
    ]


def _key(limit: Limit, caller: Caller) -> str:
    match limit.key:
        case "caller":
            return caller.identity
        case "ip":
            return caller.ip
        case "global":
            return ""
    name = limit.key.removeprefix("header:").lower().encode()
    return identity_of(caller.fields, frozenset({name}))
