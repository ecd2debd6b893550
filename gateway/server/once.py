"""Envelopes that are answered once: under an `Idempotency-Key`, or repeated by a client by itself (CONTRACT 3).

- Under a caller's own key the answer of what ran is given again, byte for byte. What was refused is tried again.
- `x-stainless-retry-count` above 0 says that a client repeats bytes that it has sent within the last ten minutes: it is
  given what came of them. Batches on record are known by their bytes whether or not the first was marked.
- Such an envelope runs to its end, and its answer is kept, when its caller has gone: it will come back for it.
- Where its gateway dies meanwhile, a batch that is on record by then is the answer, and one that would be is put there
  under the same id. Otherwise nobody knows how far it came, unless all of it may be run again.
"""

import asyncio
import re
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import msgspec
from aiohttp.web import BaseRequest

from gateway.admission import Admission
from gateway.batch.idempotency import CURE, FIELD, bare, is_key
from gateway.batch.model import SAFE_METHODS, Batch
from gateway.errors import GatewayError
from gateway.ledger.port import View
from gateway.replay.envelopes import Asked, Envelopes, Hold, Kept, Lost
from gateway.server import problem
from gateway.server.access import Access, Served
from gateway.server.answer import Answer
from gateway.server.edge import request_id_of
from gateway.server.in_place import answer_fields
from gateway.server.preferences import Preferences
from gateway.server.steps import in_task

if TYPE_CHECKING:
    from gateway.server.asynchronous import Asynchronous
    from gateway.server.custody import Custody

T = TypeVar("T")
Work = Callable[[bytes], Awaitable[Answer]]
"""Answers the envelope; given the fence under which it may be put on record, empty without a key."""
Make = Callable[[bytes], Awaitable[View]]
"""Puts the envelope on record, likewise."""

_REPEATS = "x-stainless-retry-count"
_ABOVE_0 = re.compile(r"0*[1-9][0-9]*")
_ACCEPT_S = 5.0  # the longest that a ledger takes to accept a batch, or to say that it is away
_REPLAYED = (b"Idempotent-Replayed", b"true")
_OF_EACH = frozenset({b"x-request-id", b"cache-control", b"x-content-type-options", b"ratelimit", b"ratelimit-policy"})
"""Fields of an answer that every request is given anew."""


class Envelope(NamedTuple):
    """A batch as it was read from `data`; `form` is what its answer is asked for in."""

    batch: Batch
    data: bytes
    form: str
    preferences: Preferences
    goes_on_record: bool


class _Said(msgspec.Struct, frozen=True, array_like=True, gc=False):
    status: int
    fields: list[tuple[bytes, bytes]]
    body: bytes


_encode = msgspec.msgpack.Encoder().encode
_said = msgspec.msgpack.Decoder(_Said)


class Once:
    """`lasts_s`: the longest that an envelope runs in place. Without `envelopes` no key is kept."""

    def __init__(
        self,
        envelopes: Envelopes | None,
        admission: Admission,
        access: Access,
        asynchronous: "Asynchronous | None",
        *,
        lasts_s: float,
        base: str,
    ) -> None:
        self._envelopes = envelopes
        self._admission = admission
        self._access = access
        self._asynchronous = asynchronous
        self._lasts_s = lasts_s
        self._base = base

    async def answer(self, request: BaseRequest, envelope: Envelope, served: Served, work: Work) -> Answer:
        """What `work` answers, or what was answered before. Raises 400, 409, 422, 429 and 503."""
        headers = request.headers
        if not envelope.goes_on_record and FIELD not in headers and _REPEATS not in headers:
            return await work(b"")
        await in_task()
        may_repeat = not envelope.goes_on_record and all(
            operation.key or operation.method in SAFE_METHODS for operation in envelope.batch.operations
        )
        parts = (envelope.form.encode(), envelope.data)
        asked = self._asked(request, parts, may_repeat=may_repeat, goes_on_record=envelope.goes_on_record)
        match await self._found(asked, served, goes_on_record=envelope.goes_on_record):
            case None:
                return await work(b"")
            case Hold() as hold:
                return await outlasting(self._held(request, hold, served, work))
            case Kept(content):
                return await self._replayed(request, content, envelope, served)
            case Lost(fence):
                return await self._resumed(request, fence, envelope, served, work)

    async def view(self, request: BaseRequest, data: bytes, served: Served, custody: "Custody", make: Make) -> View:
        """The batch that `make` puts on record of `data`, or that it has become before. Raises as `answer` does."""
        asked = self._asked(request, (data,), may_repeat=False, goes_on_record=True)
        match await self._found(asked, served, goes_on_record=True):
            case None:
                return await make(b"")
            case Hold() as hold:
                return await outlasting(_made(hold, make))
            case Kept(content):
                view = await custody.find(request, (content or b"").decode())
                self._access.accepted(served, view.total, mode="replayed", status=200)
                return view
            case Lost(fence):
                return await custody.found(fence, served.caller) or await make(fence)

    async def _found(self, asked: Asked | None, served: Served, *, goes_on_record: bool) -> Hold | Kept | Lost | None:
        """None: there is nothing to look for, or nowhere."""
        if asked is None or self._envelopes is None:
            return None
        try:
            lasts_s = _ACCEPT_S if goes_on_record else self._lasts_s
            return await self._envelopes.claim(asked, served.caller.identity, lasts_s)
        except GatewayError as error:
            if asked.key or error.problem.slug not in ("ledger-unavailable", "rate-limited"):
                raise
            return None  # nobody has asked for it

    def _asked(
        self, request: BaseRequest, parts: Sequence[bytes], *, may_repeat: bool, goes_on_record: bool
    ) -> Asked | None:
        said = request.headers.getall(FIELD, ())
        parts = (request.raw_path.encode("utf-8", "surrogateescape"), *parts)
        if said:
            if len(said) > 1 or not is_key(said[0]):
                raise GatewayError("idempotency-key-invalid", CURE)
            if self._envelopes is None:
                raise _off()
            return Asked(bare(said[0]), parts, may_repeat)
        repeats = request.headers.get(_REPEATS)
        if repeats is None and not goes_on_record:
            return None
        return Asked("", parts, anew=repeats is None or not _ABOVE_0.fullmatch(repeats))

    async def _held(self, request: BaseRequest, hold: Hold, served: Served, work: Work) -> Answer:
        try:
            answer = await work(hold.fence)
        except GatewayError as refusal:
            if refusal.problem.slug != "batch-deadline":
                _let_go(hold, refusal)
                raise
            refusal.request_id = request_id_of(request, served.batch_id)
            page = problem.answer_for(refusal, base=self._base, request_id=refusal.request_id)
            await hold.keep(_packed(page))  # some of it ran
            raise
        await hold.keep(_packed(answer))
        return answer

    async def _resumed(
        self, request: BaseRequest, fence: bytes, envelope: Envelope, served: Served, work: Work
    ) -> Answer:
        """Go on where a gateway died."""
        there = self._asynchronous
        if there is not None:
            view = await there.custody.found(fence, served.caller)
            if view is not None:
                served.batch_id = view.id
                return there.accepted(request, view)
            if envelope.goes_on_record:
                return await work(fence)
        detail = "the gateway that ran this envelope is gone; look at the upstream for what of it has run"
        raise GatewayError("outcome-unknown", detail)

    async def _replayed(
        self, request: BaseRequest, content: bytes | None, envelope: Envelope, served: Served
    ) -> Answer:
        if content is None:
            detail = "this envelope ran before under its key; its answer was too large to be kept"
            raise GatewayError("response-budget-exceeded", detail)
        said = _said.decode(content)
        fresh = answer_fields(request, await self._admission.readings(served.caller), served)
        served.bytes_out = len(said.body)
        self._access.accepted(served, len(envelope.batch.operations), mode="replayed", status=said.status)
        return Answer(said.status, [*said.fields, *fresh, _REPLAYED], said.body)


async def _made(hold: Hold, make: Make) -> View:
    try:
        view = await make(hold.fence)
    except GatewayError as refusal:
        _let_go(hold, refusal)
        raise
    await hold.keep(view.id.encode())
    return view


def _let_go(hold: Hold, refusal: GatewayError) -> None:
    """Nothing ran. Whether a ledger that did not answer has taken the batch nobody knows: that key stays, and who comes
    back for it once the hold is over finds the batch, or puts it there under the same id."""
    if refusal.problem.slug != "ledger-unavailable":
        hold.forget()


async def outlasting(work: Coroutine[None, None, T]) -> T:
    """The answer of `work`, which goes on when the caller has gone; that is over once the work is."""
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        return task.result()


def _off() -> GatewayError:
    detail = "this gateway keeps no idempotency keys; leave it out"
    errors = [{"pointer": "", "code": "idempotency-off", "detail": f"Idempotency-Key: {detail}"}]
    return GatewayError("validation-failed", detail, members={"errors": errors})


def _packed(answer: Answer) -> bytes:
    fields = [field for field in answer.fields if field[0].lower() not in _OF_EACH]
    return _encode(_Said(answer.status, fields, answer.body))
