"""Vendors' batches at the front door: read by their dialect, run like every other batch, answered in its shape.

A refusal is in that shape too, whatever it is for; a batch whose time was up is answered with what became of each call.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, NamedTuple, Protocol

from aiohttp.web import BaseRequest

from gateway.admission import Admission
from gateway.batch.model import summarize
from gateway.batch.validation import Rules
from gateway.dialects.on_record import OnRecordDialect
from gateway.dialects.port import Call, EnvelopeError, InPlaceDialect, Page, Read
from gateway.errors import GatewayError
from gateway.server import edge
from gateway.server.access import Access, Served
from gateway.server.answer import Answer
from gateway.server.envelope import begun, check_coding, check_framing, invite, too_large
from gateway.server.heads import Asked
from gateway.server.in_place import ALWAYS, InPlace, RunSettings, answer_fields, weight_of
from gateway.server.once import Once
from gateway.server.origin import Origins
from gateway.server.preferences import preferences_of
from gateway.server.reading import Body

if TYPE_CHECKING:  # they bring the ledger with them, which not every gateway has
    from gateway.server.monitors import Monitors

_RETRY_AFTER_S_MAX = 120  # clients give up, or wait for good, above some minutes (WIRE 1.2, 1.3)


class Way(NamedTuple):
    """What every vendor's envelopes go through, as the native ones do."""

    settings: RunSettings
    in_place: InPlace
    admission: Admission
    access: Access
    once: Once


class Vendor:
    """One dialect: answers its envelopes. `rules` judge what references bring. Without `monitors` a preference for a
    later answer is ignored, as every preference may be (RFC 7240 2)."""

    def __init__(self, dialect: InPlaceDialect, rules: Rules, way: Way, monitors: "Monitors | None" = None) -> None:
        self._dialect = dialect
        self._rules = rules
        self._settings, self._in_place, self._access = way.settings, way.in_place, way.access
        self._monitors = monitors

    def may_read(self, call: Call) -> bool:
        return self._dialect.reads(call) is not False

    async def __call__(self, request: BaseRequest, path: str, is_last: Callable[[], bool]) -> Answer | None:
        """None for what turned out to be no envelope; nothing of its body is lost."""
        with self._in_place.on_record(request, self._dialect.name) as served:
            found = await self._read(request, served)
            if found is None:
                return None
            read, data = found
            if self._monitors is not None and read.batch.operations and _prefers_later(request):
                return await self._monitors.accepted(request, read, data, served, is_last)
            return await self._batch(request, read, served)

    def refuse(self, error: GatewayError, request_id: str) -> Answer:
        """The error in the vendor's shape; `X-Gateway-Error` tells it from an upstream's."""
        return refused(self._dialect.refusal(error, request_id), error, (b"X-Request-Id", request_id.encode()))

    async def _read(self, request: BaseRequest, served: Served) -> tuple[Read, bytes] | None:
        """The envelope, and the bytes that it was read from."""
        body_bytes_max = self._settings.body_bytes_max
        call = call_of(request, self._settings.origins)
        if self._dialect.reads(call):
            check_framing(request, body_bytes_max)
            body = await self._in_place.body(request, served)
            read = await self._parsed(_with_body(call, request, body))
            return None if read is None else (read, body)
        invite(request)
        body = await begun(request, body_bytes_max)
        try:
            read = await self._parsed(_with_body(call, request, body))
        except EnvelopeError:
            if len(body) > body_bytes_max:  # so it is one, though the rest of it was not read
                raise too_large(body_bytes_max) from None
            raise
        if read is None:
            if isinstance(request.content, Body):
                request.content.give_back(body)
            return None
        check_coding(request, body_bytes_max)
        if len(body) > body_bytes_max:
            raise too_large(body_bytes_max)
        served.bytes_in = len(body)
        return read, body

    async def _parsed(self, call: Call) -> Read | None:
        return await self._in_place.apart(len(call.body), partial(self._dialect.parse, call))

    async def _batch(self, request: BaseRequest, read: Read, served: Served) -> Answer:
        admitted = await self._in_place.admitted(read.batch, served)
        plan = self._in_place.plan(request, read.batch, admitted, served, self._rules)
        outcomes = await self._in_place.outcomes(plan, served)
        page = await self._in_place.apart(weight_of(outcomes), partial(self._dialect.answer, read, outcomes))
        served.bytes_out = len(page.body)
        self._access.batch(plan, outcomes, summarize(outcomes), served, status=page.status)
        return Answer(page.status, [*page.fields, *answer_fields(request, admitted.readings, served)], page.body)


class Unkept:
    """A dialect of batches that are answered later, where nothing is there to keep them: its calls are refused."""

    def __init__(self, dialect: OnRecordDialect, why: str) -> None:
        self._dialect = dialect
        self._why = why

    def may_read(self, call: Call) -> bool:
        return self._dialect.reads(call)

    async def __call__(self, request: BaseRequest, path: str, _is_last: Callable[[], bool]) -> Answer:
        raise GatewayError("async-disabled", self._why)

    def refuse(self, error: GatewayError, request_id: str) -> Answer:
        page = self._dialect.refusal(error, request_id)
        return refused(page, error, (self._dialect.request_id_field, request_id.encode()))


class Mounted(edge.Vendor, Protocol):
    """A dialect at the front door, that knows its own calls."""

    def may_read(self, call: Call) -> bool: ...


class Vendors:
    """Finds the dialect that a request is a call of."""

    def __init__(self, vendors: Sequence[Mounted], origins: Origins) -> None:
        self._vendors = vendors
        self._origins = origins

    def of(self, request: BaseRequest | Asked) -> Mounted | None:
        """The one that may read it; None for what is no vendor's batch. Nothing of the body is read."""
        if not self._vendors:
            return None
        call = call_of(request, self._origins)
        return next((vendor for vendor in self._vendors if vendor.may_read(call)), None)


def refused(page: Page, error: GatewayError, request_id: tuple[bytes, bytes]) -> Answer:
    """A refusal, with the fields that every dialect's carry."""
    headers = dict(error.headers)
    if headers.get("Retry-After", "").isdecimal():
        headers["Retry-After"] = str(min(int(headers["Retry-After"]), _RETRY_AFTER_S_MAX))
    said = {name.lower() for name, _ in page.fields}
    fields = [
        *page.fields,
        request_id,
        *ALWAYS,
        (b"X-Gateway-Error", error.problem.slug.encode()),
        *((name.encode(), value.encode()) for name, value in headers.items() if name.lower().encode() not in said),
    ]
    return Answer(page.status, fields, page.body, close=error.close)


def call_of(request: BaseRequest | Asked, origins: Origins) -> Call:
    """The request as far as it takes to know whose it is: every request is asked."""
    path, _, query = request.raw_path.partition("?")
    host = origins.host_of(request) or ""
    return Call(request.method, path, query, request.headers.get("Content-Type", ""), b"", host)


def _prefers_later(request: BaseRequest) -> bool:
    """Whether the caller wants no answer but that its batch is on record."""
    preferences = preferences_of(request.headers.getall("Prefer", ()))
    return preferences.respond_async and not preferences.wait_s


def _with_body(call: Call, request: BaseRequest, body: bytes) -> Call:
    prefer = ", ".join(request.headers.getall("Prefer", ()))
    return call._replace(body=body, prefer=prefer, agent=request.headers.get("User-Agent", ""))
