"""Everything that is no batch: through to the upstream as it came, and back (CONTRACT 7).

The request's target, and the order, case and duplicates of its fields stay; bodies stream with back-pressure both ways;
1xx, trailers, HEAD, 204, 304 and upgrades pass. What the gateway adds is `Via` and `X-Forwarded-*`. All that may differ
from an exchange without it stands in the tables of tests/integration/edge/test_requests.py and test_answers.py.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import NamedTuple, cast

from aiohttp.web import BaseRequest
from multidict import CIMultiDictProxy

from gateway.admission import ANONYMOUS, Admission, Caller
from gateway.batch.routes import Route
from gateway.errors import GatewayError
from gateway.limiter.bucket import Reading
from gateway.limiter.http import rate_limit_headers, rate_limit_lines
from gateway.server.access import Access
from gateway.server.answer import Answer
from gateway.server.callers import Callers
from gateway.server.connection import CallerConnection
from gateway.server.origin import Origins
from gateway.server.passage import Passage, lines_of
from gateway.server.steps import in_task
from gateway.upstream.headers import RawFields
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


class _Known(NamedTuple):
    """What the fields of a request come to: its origin, which of them pass, what the gateway says of the caller, and
    the lines for the upstream. A connection remembers it for the next request whose fields are the same.
    """

    headers: "CIMultiDictProxy[str]"
    by: "Forwarding"
    ip: str
    fields: RawFields
    said: RawFields
    lines: bytes


class Forwarding:
    """Forwards requests to the upstream of their route."""

    def __init__(
        self, settings: ForwardingSettings, admission: Admission, upstreams: Mapping[str, Upstream], access: Access
    ) -> None:
        self._settings = settings
        self._admission = admission
        self._upstreams = upstreams
        self._access = access
        self._waiting = 0  # for tokens

    async def __call__(self, request: BaseRequest, path: str, is_last: Callable[[], bool]) -> Answer:
        began_s = perf_counter()
        connection = cast(CallerConnection, request.protocol)
        known = connection.known
        if not isinstance(known, _Known) or known.headers is not request.headers or known.by is not self:
            known = connection.known = self._met(request)
        route = self._admission.route_of(request.method, request.raw_path)
        upstream = self._upstreams[route.upstream]
        passage = Passage(request, upstream, route, known.fields, known.said, known.lines, is_last)
        slug, status = None, 499  # the caller went away
        readings: Sequence[Reading] = ()
        try:
            if upstream.pool.line.is_full:
                raise GatewayError("overloaded", "too many requests wait; come back", headers={"Retry-After": "1"})
            if self._settings.counts:
                readings = await self._admitted(request, route, known.ip)
                passage.limits = rate_limit_lines(readings)
                passage.waited_s = perf_counter() - began_s
            answer = await passage.run(self._settings.buffer_bytes_max)
            status = answer.status
            return answer
        except GatewayError as refusal:  # by a bucket, or of the body
            slug, status = refusal.problem.slug, refusal.status
            self._access.denied(refusal)
            raise
        except UpstreamError as error:
            slug, status = error.failure.slug, error.status
            headers = rate_limit_headers(readings) | ({"Retry-After": "1"} if status == 503 else {})
            raise GatewayError(
                slug, error.failure.detail, status=status, headers=headers, close=status in (400, 408)
            ) from None
        finally:
            self._access.forwarded(
                route, request.method, status, began_s=began_s, client_ip=known.ip, slug=slug,
                waited_s=passage.waited_s,
            )  # fmt: skip

    def _met(self, request: BaseRequest) -> _Known:
        origins = self._settings.origins
        said, fields = origins.vouched(request, self._settings.via), origins.fields_of(request)
        return _Known(request.headers, self, origins.ip_of(request), fields, said, lines_of(fields, said))

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
