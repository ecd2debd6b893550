"""Everything that is no batch: through to the upstream as it came, and back (CONTRACT 7).

The request's target, and the order, case and duplicates of its fields stay; bodies stream with back-pressure both ways;
1xx, trailers, HEAD, 204, 304 and upgrades pass. What the gateway adds is `Via` and `X-Forwarded-*`. All that may differ
from an exchange without it stands in the tables of tests/integration/edge/test_requests.py and test_answers.py.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import NamedTuple

from aiohttp.web import BaseRequest

from gateway.admission import ANONYMOUS, Admission, Caller
from gateway.batch.routes import Route
from gateway.errors import GatewayError
from gateway.limiter.bucket import Reading
from gateway.limiter.http import rate_limit_headers, rate_limit_lines
from gateway.server.access import Access
from gateway.server.answer import Answer
from gateway.server.callers import Callers
from gateway.server.connection import CallerConnection
from gateway.server.heads import Asked, Head, Said
from gateway.server.origin import Origins
from gateway.server.passage import Known, Passage, exchange_of, head_of, lines_of
from gateway.server.relay import Lone, Relay
from gateway.server.steps import in_task
from gateway.upstream.headers import rendered
from gateway.upstream.stream import UpstreamError
from gateway.upstream.upstream import Upstream

_WAITING_MAX = 1000  # requests that wait for tokens; more are told to come back


@dataclass(frozen=True, slots=True)
class ForwardingSettings:
    """`asks_who`: some bucket is a caller's own, so that it matters who that is. `counts_here`: in this process.

    `buffer_bytes_max`: how much of a body is here before the upstream hears of the request.
    """

    callers: Callers
    asks_who: bool
    counts: bool
    counts_here: bool
    via: bytes
    origins: Origins
    buffer_bytes_max: int


class Met(NamedTuple):
    """What a connection remembers of its last request: what its fields `of` come to, as `by` has it.

    `told`: the lines of what the gateway says of the caller where they go by `Host` alone.
    """

    of: Said
    by: "Forwarding"
    caller: Caller
    known: Known
    told: bytes


class Forwarding:
    """Forwards requests to the upstream of their route."""

    def __init__(
        self, settings: ForwardingSettings, admission: Admission, upstreams: Mapping[str, Upstream], access: Access
    ) -> None:
        self._settings = settings
        self._admission = admission
        self._upstreams = upstreams
        self._access = access
        self._loop = asyncio.get_running_loop()
        self._counts_at_once = settings.counts_here and (settings.callers.is_ready or not settings.asks_who)
        self._waiting = 0  # for tokens

    async def __call__(self, request: BaseRequest, path: str, is_last: Callable[[], bool]) -> Answer:
        began_s, settings = perf_counter(), self._settings
        origins = settings.origins
        said, fields = origins.vouched(request, settings.via), origins.fields_of(request)
        route = self._admission.route_of(request.method, request.raw_path)
        known = Known(fields, said, lines_of(fields, said))
        passage = Passage(request, self._upstreams[route.upstream], route, known, is_last)
        lone = Lone(request.method, route, origins.ip_of(request), began_s)
        return await self._told(lone, passage, self._passed(request, lone, passage))

    def relay(self, connection: CallerConnection, head: Head, body: bytes) -> Relay | None:
        """What forwards a whole request that has to wait for nothing but the upstream; else None."""
        began_s = perf_counter()
        met = connection.met
        if not isinstance(met, Met) or met.of is not head.said or met.by is not self:
            met = connection.met = self._met(met, Asked(head, connection.remote))
        route = self._admission.route_of(head.method, head.target)
        upstream = self._upstreams[route.upstream]
        if upstream.pool.line.is_full:
            return None
        lone = Lone(head.method, route, met.caller.ip, began_s)
        if self._settings.counts:
            admitted = self._admission.admit_at_once(route, met.caller) if self._counts_at_once else None
            if admitted is None:
                return None
            self._access.taken(admitted.readings, admitted.tokens)
            lone.readings = admitted.readings
        data = head_of(head.method, head.target, met.known.lines) + body
        exchange = exchange_of(head.method, data, upstream, route, self._loop)
        return Relay(connection, head, met.known, lone, upstream, exchange, self)

    async def go_on(self, relay: Relay, request: BaseRequest, is_last: Callable[[], bool]) -> Answer:
        """Answer what was relayed, now that it needs more than that."""
        lone = relay.lone
        passage = Passage(request, relay.upstream, lone.route, relay.known, is_last)
        passage.limits, passage.waited_s = rate_limit_lines(lone.readings), relay.waited_s
        return await self._told(lone, passage, passage.rest(relay.exchange))

    def account(self, lone: Lone, status: int, waited_s: float, slug: str | None = None) -> None:
        """The request has ended."""
        self._access.forwarded(
            lone.route, lone.method, status, began_s=lone.began_s, client_ip=lone.ip, slug=slug, waited_s=waited_s
        )

    async def _passed(self, request: BaseRequest, lone: Lone, passage: Passage) -> Answer:
        """Admit and forward."""
        if self._upstreams[lone.route.upstream].pool.line.is_full:
            raise GatewayError("overloaded", "too many requests wait; come back", headers={"Retry-After": "1"})
        if self._settings.counts:
            lone.readings = await self._admitted(request, lone.route, lone.ip)
            passage.limits = rate_limit_lines(lone.readings)
            passage.waited_s = perf_counter() - lone.began_s
        return await passage.run(self._settings.buffer_bytes_max)

    async def _told(self, lone: Lone, passage: Passage, answering: Awaitable[Answer]) -> Answer:
        """Wait for the answer, and account for it or for what there is instead."""
        slug, status = None, 499  # the caller went away
        try:
            answer = await answering
            status = answer.status
            return answer
        except GatewayError as refusal:  # by a bucket, or of the body
            slug, status = refusal.problem.slug, refusal.status
            self._access.denied(refusal)
            raise
        except UpstreamError as error:
            slug, status = error.failure.slug, error.status
            headers = rate_limit_headers(lone.readings) | ({"Retry-After": "1"} if status == 503 else {})
            raise GatewayError(
                slug, error.failure.detail, status=status, headers=headers, close=status in (400, 408)
            ) from None
        finally:
            self.account(lone, status, passage.waited_s, slug)

    def _met(self, before: object, asked: Asked) -> Met:
        """What the fields of a request come to. Those of the request before often differ in nothing that counts."""
        settings, said = self._settings, asked.head.said
        origins, callers = settings.origins, settings.callers
        ip = origins.ip_of(asked)
        identity = callers.identity_of(asked) if settings.asks_who and self._counts_at_once else ANONYMOUS
        caller = Caller(identity, ip, said.fields)
        goes_by_host = not said.vouches and origins.goes_by_host(asked)
        if goes_by_host and isinstance(before, Met) and before.told and before.of.host == said.host:
            lines = said.lines + before.told
            return Met(said, self, caller, Known(said.fields, before.known.said, lines), before.told)
        vouched, fields = origins.vouched(asked, settings.via), origins.fields_of(asked)
        known = Known(fields, vouched, lines_of(fields, vouched))
        return Met(said, self, caller, known, rendered(vouched) if goes_by_host else b"")

    async def _admitted(self, request: BaseRequest, route: Route, ip: str) -> Sequence[Reading]:
        """The same admission as an operation's; what the buckets hold after it.

        Where a limit waits, so does the request, for at most its upstream's timeout.
        """
        if not self._settings.counts_here:
            await in_task()
        identity, callers = ANONYMOUS, self._settings.callers
        if self._settings.asks_who:
            await callers.ready(request)
            identity = callers.identity_of(request)
        caller = Caller(identity, ip, request.raw_headers)
        timeout_s = self._upstreams[route.upstream].timeout_s if route.timeout_s is None else route.timeout_s
        wait_max_us = int(timeout_s * 1_000_000) if self._waiting < _WAITING_MAX else 0
        admitted = await self._admission.admit_lone(route, caller, wait_max_us=wait_max_us)
        self._access.taken(admitted.readings, admitted.tokens)
        if admitted.delays_us and admitted.delays_us[0]:
            self._waiting += 1
            try:
                await asyncio.sleep(admitted.delays_us[0] / 1_000_000)
            finally:
                self._waiting -= 1
        refused = admitted.routes[0]
        if isinstance(refused, Route):
            return admitted.readings
        retry_after = str(refused.members.get("retryAfter", 1))
        raise GatewayError(refused.slug, refused.detail, headers={"Retry-After": retry_after})
