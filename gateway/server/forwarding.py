"""Everything that is no batch: through to the upstream as it came, and back (CONTRACT 7).

The request's target, and the order, case and duplicates of its fields stay; bodies stream with back-pressure both ways;
1xx, trailers, HEAD, 204, 304 and upgrades pass. What the gateway adds is `Via` and `X-Forwarded-*`. All that may differ
from an exchange without it stands in the tables of tests/integration/edge/test_requests.py and test_answers.py.
"""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from time import perf_counter

from aiohttp.web import BaseRequest

from gateway.admission import ANONYMOUS, Admission, Caller
from gateway.batch.model import Failure, Operation
from gateway.batch.retry import is_repeatable
from gateway.batch.routes import Route
from gateway.errors import GatewayError
from gateway.limiter.http import rate_limit_headers
from gateway.server.access import Access
from gateway.server.answer import Answer, date_field, head, send
from gateway.server.callers import Callers
from gateway.server.connection import call_endless
from gateway.server.origin import Origins
from gateway.server.tunnel import tunnel
from gateway.server.upload import Upload, framed
from gateway.upstream.headers import RawFields, forwarded, is_event_stream, rendered, requested
from gateway.upstream.stream import StreamedExchange, UpstreamError
from gateway.upstream.upstream import Upstream

_WAITING_MAX = 1000  # requests that wait for tokens; more are told to come back
_VIA = (b"Via", b"1.1 batch-gateway")
_CHUNKED = (b"Transfer-Encoding", b"chunked")
_TUNNELLED = frozenset({b"upgrade"})
_TRAILED = frozenset({b"trailer"})
_NOTHING: frozenset[bytes] = frozenset()


@dataclass(frozen=True, slots=True)
class ForwardingSettings:
    """`asks_who`: some bucket is a caller's own, so that it matters who that is.

    `buffer_bytes_max`: how much of a body is here before the upstream hears of the request.
    """

    callers: Callers
    asks_who: bool
    counts: bool
    via: bytes
    origins: Origins
    buffer_bytes_max: int


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
        ip = self._settings.origins.ip_of(request)
        try:
            route, limits = await self._admitted(request, ip)
            waited_s = perf_counter() - began_s
        except GatewayError as refusal:
            self._access.denied(refusal)
            self._access.forwarded(
                self._admission.route_of(request.method, request.raw_path), request.method, refusal.status,
                began_s=began_s, client_ip=ip, slug=refusal.problem.slug, waited_s=0.0,
            )  # fmt: skip
            raise
        said = self._settings.origins.vouched(request, self._settings.via)
        forwarding = _Forwarded(request, self._upstreams[route.upstream], route, said, is_last)
        forwarding.fields = self._settings.origins.fields_of(request)
        forwarding.waited_s, forwarding.limits = waited_s, [(n.encode(), v.encode()) for n, v in limits.items()]
        slug = None
        status = 499  # the caller went away
        try:
            answer = await forwarding.run(self._settings.buffer_bytes_max)
            status = answer.status
            return answer
        except GatewayError as refusal:  # of the body
            slug, status = refusal.problem.slug, refusal.status
            raise
        except UpstreamError as error:
            slug, status = error.failure.slug, error.status
            headers = limits | ({"Retry-After": "1"} if status == 503 else {})
            raise GatewayError(
                slug, error.failure.detail, status=status, headers=headers, close=status in (400, 408)
            ) from None
        finally:
            self._access.forwarded(
                route, request.method, status, began_s=began_s, client_ip=ip, slug=slug,
                waited_s=forwarding.waited_s,
            )  # fmt: skip

    async def _admitted(self, request: BaseRequest, ip: str) -> tuple[Route, dict[str, str]]:
        """The same admission as an operation's, and what the answer says of it; nothing where there is no limit.

        Where a limit waits, so does the request, for at most its upstream's timeout.
        """
        target = request.raw_path
        own = self._admission.route_of(request.method, target)
        if self._upstreams[own.upstream].pool.line.is_full:
            raise GatewayError("overloaded", "too many requests wait; come back", headers={"Retry-After": "1"})
        if not self._settings.counts:
            return own, {}
        identity, callers = ANONYMOUS, self._settings.callers
        if self._settings.asks_who:
            await callers.ready(request)
            identity = callers.identity_of(request)
        caller = Caller(identity, ip, request.raw_headers)
        lone = Operation("", request.method, target)
        timeout_s = self._upstreams[own.upstream].timeout_s if own.timeout_s is None else own.timeout_s
        wait_max_us = int(timeout_s * 1_000_000) if self._waiting < _WAITING_MAX else 0
        admitted = await self._admission.admit([lone], caller, batched=False, wait_max_us=wait_max_us)
        self._access.taken(admitted.readings, admitted.tokens)
        if admitted.delays_us and admitted.delays_us[0]:
            self._waiting += 1
            try:
                await asyncio.sleep(admitted.delays_us[0] / 1_000_000)
            finally:
                self._waiting -= 1
        route = admitted.routes[0]
        if isinstance(route, Route):
            return route, rate_limit_headers(admitted.readings)
        raise GatewayError(route.slug, route.detail, headers={"Retry-After": str(route.members.get("retryAfter", 1))})


class _Forwarded:
    """One request on its way."""

    def __init__(
        self,
        request: BaseRequest,
        upstream: Upstream,
        route: Route,
        said: RawFields,
        is_last: Callable[[], bool],
    ) -> None:
        self._request = request
        self._is_last = is_last
        self._upstream, self._pool, self._route, self._said = upstream, upstream.pool, route, said
        self._loop = asyncio.get_running_loop()
        self._upload = Upload(request)
        self.waited_s = 0.0
        self._has_begun = False  # our answer has
        self.limits: RawFields = ()  # what the buckets say
        self.fields: RawFields = request.raw_headers
        self._timeout_s = upstream.timeout_s if route.timeout_s is None else route.timeout_s

    async def run(self, buffer_bytes_max: int) -> Answer:
        began_s = perf_counter()
        upload, uploads = self._upload, self._pool.uploads
        begun = await upload.begin(buffer_bytes_max)
        if upload.is_whole:
            self.waited_s += perf_counter() - began_s
            self._exchange = self._exchange_with(begun)
            return await self._sent(None)
        if not await uploads.enter(self._timeout_s):
            raise UpstreamError(503, Failure("overloaded", "too many uploads are under way"))
        try:
            self.waited_s += perf_counter() - began_s
            self._exchange = exchange = self._exchange_with(begun)
            return await self._sent(self._loop.create_task(upload.pump(exchange, self._pool, self._timeout_s)))
        finally:
            uploads.leave()

    def _exchange_with(self, begun: bytes) -> StreamedExchange:
        """The exchange whose request begins with the head and with what there is of the body."""
        request, route, upload = self._request, self._route, self._upload
        upgrades = bool(request._message.upgrade)  # as the reader decided, which stops behind it
        host = str(self._pool.address).encode()
        start = _request_head(request, self.fields, self._said, host, upgrades=upgrades, chunked=upload.chunked)
        return StreamedExchange(
            method=request.method,
            request=start + begun,
            deadline_s=self._loop.time() + self._timeout_s,
            repeatable=is_repeatable(request.method, route_idempotent=route.idempotent),
            retries_max=self._upstream.retries_max,
            rejections=route.rejections,
            upgrades=upgrades,
            loop=self._loop,
            requested=upload.is_whole,
        )

    async def _sent(self, pump: asyncio.Task[None] | None) -> Answer:
        """Submit the exchange and answer; `pump` sends what is left of the body."""
        exchange = self._exchange
        self._pool.submit(exchange)
        try:
            await self._head()
            if exchange.failure is not None:  # it broke in the same read: still time to say so
                raise UpstreamError(exchange.status, exchange.failure)
            self._has_begun = True
            if exchange.status == 101:
                return await tunnel(self._request, exchange)
            return await self._body()
        except UpstreamError:
            if self._has_begun:
                self._break_off()
                return Answer.already_written(exchange.status, keep_alive=False)
            raise
        finally:
            if not exchange.ended:
                self._pool.withdraw(exchange)
            if pump is not None:
                pump.cancel()
                await asyncio.wait([pump])

    async def _head(self) -> None:
        exchange = self._exchange
        while not exchange.has_head:
            began_s = perf_counter()
            await exchange.arrival()
            self.waited_s += perf_counter() - began_s
            interims, exchange.interims = exchange.interims, []
            for status, reason, fields in interims:
                if self._request.version == (1, 1) and self._request.transport is not None:
                    lines = rendered(forwarded(fields))
                    self._request.transport.write(b"HTTP/1.1 %d %b\r\n%b\r\n" % (status, reason, lines))

    async def _body(self) -> Answer:
        """The answer's head and body to the caller; both in one write where all of it is there."""
        exchange, request = self._exchange, self._request
        status, method = exchange.status, request.method
        bodiless = method == "HEAD" or status in (204, 304)
        names = {name.lower() for name, _ in exchange.fields}
        framed = bodiless or b"content-length" in names
        chunked = not framed and request.version == (1, 1)
        keep_alive = request.keep_alive and (framed or chunked) and not self._is_last()
        fields = [*forwarded(exchange.fields, keep=_TRAILED), _VIA, *self.limits]
        if status == 204:  # RFC 9110 8.6: it has no length
            fields = [field for field in fields if field[0].lower() != b"content-length"]
        if b"date" not in names:
            fields.append(date_field())  # RFC 9110 6.6.1: a recipient with a clock adds it
        if chunked or (method == "HEAD" and b"transfer-encoding" in names):
            fields.append(_CHUNKED)
        if not framed and is_event_stream(exchange.fields):
            call_endless(request)
        start = head(status, exchange.reason, fields, request=request, keep_alive=keep_alive)
        sent = await self._stream(start, chunked=chunked)
        return Answer.already_written(status, keep_alive=keep_alive, body_bytes=sent)

    async def _stream(self, start: bytes, *, chunked: bool) -> int:
        exchange, request, sent = self._exchange, self._request, 0
        while True:
            data = b"".join(exchange.taken())
            sent += len(data)
            ended = exchange.ended
            if chunked:
                data = framed(data)
                if ended:
                    data += b"0\r\n%b\r\n" % rendered(exchange.trailers)
            if start or data:
                await send(request, start + data)
                start = b""
            if ended:
                return sent
            began_s = perf_counter()
            await exchange.arrival()
            self.waited_s += perf_counter() - began_s

    def _break_off(self) -> None:
        """The upstream's answer ended early: so must ours, visibly."""
        if self._request.transport is not None:
            self._request.transport.abort()


def _request_head(
    request: BaseRequest, fields: RawFields, said: RawFields, default_host: bytes, *, upgrades: bool, chunked: bool
) -> bytes:
    """The request's head for the upstream. Our own fields come last, after what the caller could have meant by them."""
    host = request.headers.get("Host")
    keep = (_TUNNELLED if upgrades else _NOTHING) | (_TRAILED if chunked else _NOTHING)
    kept = requested(fields, keep=keep)
    if host is None:  # HTTP/1.0 may come without; HTTP/1.1 may not go without (RFC 9112 3.2)
        kept.insert(0, (b"Host", default_host))
    lines = rendered([*kept, *said])
    if chunked:
        lines += b"Transfer-Encoding: chunked\r\n"
    if upgrades:
        lines += b"Connection: upgrade\r\n"
    target = request.raw_path.encode("utf-8", "surrogateescape")
    return b"%b %b HTTP/1.1\r\n%b\r\n" % (request.method.encode(), target, lines)
