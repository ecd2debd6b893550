"""The front door: what every request must obey (PROMISES D.1), and which way it goes."""

import asyncio
import re
from collections.abc import Awaitable, Callable, Sequence
from secrets import token_hex
from typing import TYPE_CHECKING, Protocol

import structlog
from aiohttp.web import BaseRequest

from gateway.errors import GatewayError
from gateway.server import problem
from gateway.server.answer import Answer
from gateway.server.heads import Asked, Head
from gateway.server.relay import Relay
from gateway.server.steps import in_task
from gateway.telemetry.logs import Throttle

if TYPE_CHECKING:
    from gateway.server.connection import CallerConnection

_HOST = re.compile(r"(?:[A-Za-z0-9._~!$&'()*+,;=%-]+|\[[0-9A-Fa-f:.]+\])?(?::[0-9]{0,5})?")
_REQUEST_ID = re.compile(r"[A-Za-z0-9._~-]{1,128}")


Serve = Callable[[BaseRequest, str, Callable[[], bool]], Awaitable[Answer]]
"""Answers a request at a path; the last argument tells, when a head is about to be written, whether we are draining."""


LimitsOf = Callable[[BaseRequest], Awaitable[Sequence[tuple[bytes, bytes]]]]


class Vendor(Protocol):
    """Answers the envelopes of one vendor's dialect, and refuses them in its shape. None: it is no envelope of it."""

    def __call__(self, request: BaseRequest, path: str, is_last: Callable[[], bool], /) -> Awaitable[Answer | None]: ...

    def refuse(self, error: GatewayError, request_id: str) -> Answer: ...


class Rooms:
    """Where requests go under one configuration: to the `vendor_of` them, below `base` to `batches`, else to `relay`
    where it can, else to `forward`.

    `ready` is awaited before a batch is answered: who sent it can be told afterwards. `limits_of` tells what an answer
    of ours says of the caller's buckets; None where there are none.
    """

    def __init__(
        self,
        base: str,
        ready: Callable[[BaseRequest], Awaitable[None]],
        vendor_of: Callable[[BaseRequest | Asked], Vendor | None],
        batches: Serve,
        forward: Serve,
        relay: Callable[["CallerConnection", Head, bytes], Relay | None],
        logger: structlog.typing.FilteringBoundLogger,
        limits_of: LimitsOf | None = None,
    ) -> None:
        self.limits_of = limits_of
        self.ready = ready
        self.vendor_of = vendor_of
        self.base = base
        self.under_base = base + "/"
        self.batches = batches
        self.forward = forward
        self.relay = relay
        self.logger = logger
        self.active = 0
        self._nobody: asyncio.Future[None] | None = None

    def leave(self) -> None:
        """One request fewer is being answered here."""
        self.active -= 1
        if self._nobody is not None and not self.active and not self._nobody.done():
            self._nobody.set_result(None)

    async def left(self) -> None:
        """Wait until nothing is being answered here. For one waiter, once no request is sent here any more."""
        if self.active:
            self._nobody = asyncio.get_running_loop().create_future()
            await self._nobody


class Edge:
    """Takes every request of the traffic listener, and hands it to the rooms of the configuration in force."""

    def __init__(self, rooms: Rooms, *, via: bytes) -> None:
        self._rooms = rooms
        self._via = via.decode()
        self._throttle = Throttle()
        self.active = 0
        self.draining = False
        self.idle = asyncio.Event()  # nothing is being answered
        self.idle.set()

    def move(self, rooms: Rooms) -> None:
        """Requests to come are answered in `rooms`; those that are being answered end where they began."""
        self._rooms = rooms

    async def __call__(self, request: BaseRequest) -> Answer:
        """Answer one request. Only cancellation, when the caller is gone, leaves this function as an exception."""
        rooms = self._rooms
        self._entered(rooms)
        return await self.go_on(rooms, request)

    def relay(self, connection: "CallerConnection", head: Head, body: bytes) -> Callable[[], None] | None:
        """Forward a whole request without further ado; what then cancels it. None, and nothing done, where it needs
        more than that."""
        rooms, target, said = self._rooms, head.target, head.said
        path = target.partition("?")[0]
        if target[0] != "/" or path == rooms.base or path.startswith(rooms.under_base):
            return None
        passed = connection.passed
        if said is not passed:
            if (passed is None or said.vouches or said.host != passed.host) and not self._lets_pass(
                Asked(head, connection.remote)
            ):
                return None
            connection.passed = said
        if rooms.vendor_of(Asked(head, connection.remote)) is not None:
            return None
        relay = rooms.relay(connection, head, body)
        if relay is None:
            return None
        self._entered(rooms)
        relay.go(self, rooms)
        return relay.cancel

    async def go_on(self, rooms: Rooms, request: BaseRequest, serve: Serve | None = None) -> Answer:
        """Answer a request on which `rooms` are at work; by `serve` where it is under way."""
        try:
            answer = await self._answer(rooms, request, serve)
        finally:
            self.left(rooms)
        if self.draining:
            answer.keep_alive = False
        return answer

    def left(self, rooms: Rooms) -> None:
        """`rooms` are not at work on a request any more."""
        rooms.leave()
        self.active -= 1
        if self.active == 0:
            self.idle.set()

    def _entered(self, rooms: Rooms) -> None:
        rooms.active += 1
        self.active += 1
        if self.active == 1:
            self.idle.clear()

    async def _answer(self, rooms: Rooms, request: BaseRequest, under_way: Serve | None) -> Answer:
        path = request.raw_path.partition("?")[0]
        vendor = rooms.vendor_of(request) if under_way is None else None
        is_batch = under_way is None and (path == rooms.base or path.startswith(rooms.under_base))
        serve = under_way or (rooms.batches if is_batch else rooms.forward)
        refuse = self.refuse if vendor is None else vendor.refuse
        if vendor is not None:
            await in_task()
        try:
            self._check(request)
            if vendor is not None or is_batch:
                await rooms.ready(request)
            answer = None if vendor is None else await vendor(request, path, self._is_draining)
            if answer is None:
                refuse, vendor = self.refuse, None
                answer = await serve(request, path, self._is_draining)
        except GatewayError as error:
            answer = refuse(error, error.request_id or request_id_of(request))
        except Exception as defect:
            request_id = request_id_of(request)
            self._report(defect, request_id)
            answer = refuse(GatewayError("internal-error", close=True), request_id)
        is_ours = vendor is not None or is_batch
        if is_ours and rooms.limits_of is not None and _tells_no_limits(answer):
            answer.fields += await rooms.limits_of(request)
        return answer

    def _lets_pass(self, request: Asked) -> bool:
        try:
            self._check(request)
        except GatewayError:
            return False
        return True

    def _check(self, request: BaseRequest | Asked) -> None:
        """Refuse what is no request to a proxy, or comes round in a circle."""
        checked(request)
        if "Via" in request.headers and any(self._via in said for said in request.headers.getall("Via")):
            raise GatewayError("loop-detected")

    def _is_draining(self) -> bool:
        return self.draining

    def refuse(self, error: GatewayError, request_id: str | None = None) -> Answer:
        return problem.answer_for(error, base=self._rooms.base, request_id=request_id or token_hex(16))

    def _report(self, defect: Exception, request_id: str) -> None:
        left_out = self._throttle.admits(type(defect).__name__)
        if left_out is not None:
            self._rooms.logger.error("defect", request_id=request_id, left_out=left_out, exc_info=defect)


def _tells_no_limits(answer: Answer) -> bool:
    """Whether what the caller's buckets hold is still to be told; never in an answer that may be cached for others."""
    said = dict(answer.fields)
    return b"RateLimit" not in said and said.get(b"Cache-Control") == b"no-store" and not answer.written


def checked(request: BaseRequest | Asked) -> None:
    """Refuse what `heads` let pass and two readers of HTTP could understand differently, and what no proxy serves."""
    host = request.headers.get("Host", "")
    if not _HOST.fullmatch(host):
        raise GatewayError("bad-host", close=True)
    if request.method == "CONNECT":
        raise GatewayError("method-not-supported", "CONNECT is for tunnels; this is a reverse proxy", close=True)
    target = request.raw_path
    if not target.startswith("/") and not (target == "*" and request.method == "OPTIONS"):
        raise GatewayError("bad-target", close=True)


def request_id_of(request: BaseRequest, otherwise: str | None = None) -> str:
    """The caller's own `X-Request-Id` where it is a plain word, else `otherwise`, else a new one."""
    said = request.headers.get("X-Request-Id")
    return said if said is not None and _REQUEST_ID.fullmatch(said) else otherwise or token_hex(16)
