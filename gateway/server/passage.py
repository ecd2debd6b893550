"""One forwarded request on its way to the upstream, and its answer on the way back."""

import asyncio
from collections.abc import Callable
from time import perf_counter
from typing import NamedTuple

from aiohttp.web import BaseRequest

from gateway.batch.model import Failure
from gateway.batch.retry import is_repeatable
from gateway.batch.routes import Route
from gateway.server.answer import Answer, call_endless, date_field, end_of_head, send
from gateway.server.steps import in_task
from gateway.server.tunnel import tunnel
from gateway.server.upload import Upload, framed
from gateway.upstream.headers import RawFields, forwarded, is_event_stream, rendered, requested
from gateway.upstream.stream import StreamedExchange, UpstreamError
from gateway.upstream.upstream import Upstream

VIA = b"Via: 1.1 batch-gateway\r\n"
_CHUNKED = b"Transfer-Encoding: chunked\r\n"
_TUNNELLED = frozenset({b"upgrade"})
_TRAILED = frozenset({b"trailer"})
_NOTHING: frozenset[bytes] = frozenset()


class Known(NamedTuple):
    """What the fields of a request come to: which of them pass, what the gateway says of the caller, and the lines for
    the upstream."""

    fields: RawFields
    said: RawFields
    lines: bytes


def lines_of(fields: RawFields, said: RawFields, keep: frozenset[bytes] = _NOTHING) -> bytes:
    """The fields that the upstream gets. Our own come last, after what the caller could have meant by them."""
    return rendered([*requested(fields, keep=keep), *said])


def head_of(method: str, target: str, lines: bytes) -> bytes:
    """The head of a request for the upstream."""
    return b"%b %b HTTP/1.1\r\n%b\r\n" % (method.encode(), target.encode("utf-8", "surrogateescape"), lines)


def timeout_s_of(route: Route, upstream: Upstream) -> float:
    """How long the upstream has until its answer begins."""
    return upstream.timeout_s if route.timeout_s is None else route.timeout_s


def exchange_of(
    method: str,
    data: bytes,
    upstream: Upstream,
    route: Route,
    loop: asyncio.AbstractEventLoop,
    *,
    upgrades: bool = False,
    is_whole: bool = True,
) -> StreamedExchange:
    """The exchange of a request that begins with `data`, or is that."""
    return StreamedExchange(
        method=method,
        request=data,
        deadline_s=loop.time() + timeout_s_of(route, upstream),
        repeatable=is_repeatable(method, route_idempotent=route.idempotent),
        retries_max=upstream.retries_max,
        rejections=route.rejections,
        upgrades=upgrades,
        loop=loop,
        requested=is_whole,
    )


class Passage:
    """`limits` are lines of the answer that tell what the buckets hold; `waited_s` is time in which we only waited."""

    def __init__(
        self,
        request: BaseRequest,
        upstream: Upstream,
        route: Route,
        known: Known,
        is_last: Callable[[], bool],
    ) -> None:
        self._request = request
        self._is_last = is_last
        self._upstream, self._route = upstream, route
        self._known = known
        self._upgrades = bool(request._message.upgrade)  # as the reader decided, which stops behind it
        self._loop = asyncio.get_running_loop()
        self._has_begun = False  # our answer has
        self._timeout_s = timeout_s_of(route, upstream)
        self.waited_s = 0.0
        self.limits = b""

    async def run(self, buffer_bytes_max: int) -> Answer:
        """Answer. Raises GatewayError for what is wrong with the body, UpstreamError where nothing was written."""
        request = self._request
        if not request.body_exists:
            return await self._sent(self._exchange_with(b""), None)
        began_s = perf_counter()
        upload, uploads = Upload(request), self._upstream.pool.uploads
        begun = await upload.begin(buffer_bytes_max)
        if upload.is_whole:
            self.waited_s += perf_counter() - began_s
            return await self._sent(self._exchange_with(begun, chunked=upload.chunked), None)
        await in_task()
        if not await uploads.enter(self._timeout_s):
            raise UpstreamError(503, Failure("overloaded", "too many uploads are under way"))
        try:
            self.waited_s += perf_counter() - began_s
            exchange = self._exchange_with(begun, chunked=upload.chunked, is_whole=False)
            pump = self._loop.create_task(upload.pump(exchange, self._upstream.pool, self._timeout_s))
            return await self._sent(exchange, pump)
        finally:
            uploads.leave()

    def _exchange_with(self, begun: bytes, *, chunked: bool = False, is_whole: bool = True) -> StreamedExchange:
        """The exchange whose request begins with the head and with what there is of the body."""
        data, method = self._head(chunked) + begun, self._request.method
        return exchange_of(
            method, data, self._upstream, self._route, self._loop, upgrades=self._upgrades, is_whole=is_whole
        )

    def _head(self, chunked: bool) -> bytes:
        """The request's head."""
        request, known, lines, framing = self._request, self._known, self._known.lines, b""
        if chunked or self._upgrades:
            keep = (_TUNNELLED if self._upgrades else _NOTHING) | (_TRAILED if chunked else _NOTHING)
            lines = lines_of(known.fields, known.said, keep)
            framing = (_CHUNKED if chunked else b"") + (b"Connection: upgrade\r\n" if self._upgrades else b"")
        if "Host" not in request.headers:  # HTTP/1.0 may come without; HTTP/1.1 may not go without (RFC 9112 3.2)
            lines = b"Host: %b\r\n%b" % (str(self._upstream.pool.address).encode(), lines)
        return head_of(request.method, request.raw_path, lines + framing)

    async def _sent(self, exchange: StreamedExchange, pump: asyncio.Task[None] | None) -> Answer:
        """Submit the exchange and answer; `pump` sends what is left of the body."""
        self._upstream.pool.submit(exchange, self._loop.time())
        try:
            return await self.rest(exchange)
        finally:
            if pump is not None:
                pump.cancel()
                await asyncio.wait([pump])

    async def rest(self, exchange: StreamedExchange) -> Answer:
        """Answer with what comes of an exchange that was submitted. Raises UpstreamError where nothing was written."""
        try:
            self._pass_interims(exchange)
            while not exchange.has_head:
                await self._news(exchange)
                self._pass_interims(exchange)
            if exchange.failure is not None:  # it broke in the same read: still time to say so
                raise UpstreamError(exchange.status, exchange.failure)
            self._has_begun = True
            if exchange.passed:
                return await self._whole(exchange)
            if exchange.status == 101:
                return await tunnel(self._request, exchange)
            return await self._body(exchange)
        except UpstreamError:
            if self._has_begun:
                self._break_off()
                return Answer.already_written(exchange.status, keep_alive=False)
            raise
        finally:
            if not exchange.ended:
                self._upstream.pool.withdraw(exchange)

    async def _news(self, exchange: StreamedExchange) -> None:
        began_s = perf_counter()
        await exchange.arrival()
        self.waited_s += perf_counter() - began_s

    def _pass_interims(self, exchange: StreamedExchange) -> None:
        interims, exchange.interims = exchange.interims, []
        for status, reason, fields in interims:
            if self._request.version == (1, 1) and self._request.transport is not None:
                lines = rendered(forwarded(fields))
                self._request.transport.write(b"HTTP/1.1 %d %b\r\n%b\r\n" % (status, reason, lines))

    async def _whole(self, exchange: StreamedExchange) -> Answer:
        """A plain answer, which came in one: so it goes."""
        request = self._request
        keep_alive = request.keep_alive and not self._is_last()
        await send(
            request,
            b"".join([exchange.passed, VIA, self.limits, end_of_head(request, keep_alive), *exchange.taken()]),
        )
        return Answer.already_written(exchange.status, keep_alive=keep_alive)

    async def _body(self, exchange: StreamedExchange) -> Answer:
        """The answer's head and body to the caller; both in one write where all of it is there."""
        request, status, method = self._request, exchange.status, self._request.method
        bodiless = method == "HEAD" or status in (204, 304)
        names = {name.lower() for name, _ in exchange.fields}
        framed = bodiless or b"content-length" in names
        chunked = not framed and request.version == (1, 1)
        keep_alive = request.keep_alive and (framed or chunked) and not self._is_last()
        fields = forwarded(exchange.fields, keep=_TRAILED)
        if status == 204:  # RFC 9110 8.6: it has no length
            fields = [field for field in fields if field[0].lower() != b"content-length"]
        lines = rendered(fields) + VIA + self.limits
        if b"date" not in names:
            lines += rendered([date_field()])  # RFC 9110 6.6.1: a recipient with a clock adds it
        if chunked or (method == "HEAD" and b"transfer-encoding" in names):
            lines += _CHUNKED
        if not framed and is_event_stream(exchange.fields):
            call_endless(request)
        start = b"HTTP/1.1 %d %b\r\n%b%b" % (status, exchange.reason, lines, end_of_head(request, keep_alive))
        await self._stream(exchange, start, chunked=chunked)
        return Answer.already_written(status, keep_alive=keep_alive)

    async def _stream(self, exchange: StreamedExchange, start: bytes, *, chunked: bool) -> None:
        request = self._request
        while True:
            data = b"".join(exchange.taken())
            ended = exchange.ended
            if chunked:
                data = framed(data)
                if ended:
                    data += b"0\r\n%b\r\n" % rendered(exchange.trailers)
            if start or data:
                await send(request, start + data)
                start = b""
            if ended:
                return
            await self._news(exchange)

    def _break_off(self) -> None:
        """The upstream's answer ended early: so must ours, visibly."""
        if self._request.transport is not None:
            self._request.transport.abort()
