"""The results of a batch on record: streamed a slice at a time, as lines, as one JSON document or as CSV."""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import NamedTuple, Protocol

import msgspec
from aiohttp.web import BaseRequest

from gateway.batch.states import FINAL
from gateway.dialects import native
from gateway.dialects.tabular import CsvWriter
from gateway.errors import GatewayError, quoted
from gateway.ledger.port import View
from gateway.ledger.segments import Recorded
from gateway.server.answer import Answer
from gateway.server.chunks import Chunks, accepts_gzip
from gateway.server.records import Records
from gateway.upstream.headers import RawFields

_LIMIT_MAX = 1_000_000
_DIGITS_MAX = 9


class Page(NamedTuple):
    """Which operations: from `first` on, `most` of them; and in which form."""

    first: int
    most: int
    form: str = ""
    partial: bool = False


class Form(Protocol):
    """One way of writing results."""

    content_type: bytes

    def first(self) -> bytes:
        """What stands before all results."""

    def pieces(self, recorded: Sequence[Recorded]) -> bytes:
        """Some results."""

    def last(self, next_: int | None) -> bytes:
        """What stands after them; `next_` is where the next page begins."""


def page_of(query: Mapping[str, str]) -> Page:
    """The page that a query asks for. Raises 400 `bad-cursor`."""
    form = query.get("format", "ndjson")
    if form not in _FORMS:
        raise GatewayError("bad-cursor", f"{quoted(form)} is not a format; use {', '.join(_FORMS)}")
    first, most = number(query, "after", 0, 0), number(query, "limit", _LIMIT_MAX, 1)
    return Page(first, most, form, query.get("partial", "false") == "true")


def number(query: Mapping[str, str], name: str, otherwise: int, least: int) -> int:
    """A whole number of the query."""
    said = query.get(name)
    if said is None:
        return otherwise
    if not said.isascii() or not said.isdecimal() or len(said) > _DIGITS_MAX or int(said) < least:
        raise GatewayError("bad-cursor", f"{name} is {quoted(said)}; write a whole number of at least {least}")
    return int(said)


async def send_results(
    request: BaseRequest, view: View, records: Records, fields: RawFields, base: str, *, keep_alive: bool
) -> Answer:
    """Stream the page that the request asks for. Raises 409 `results-not-ready` before anything is written."""
    page = page_of(request.query)
    if not page.partial:
        check_ended(view)
    form = _FORMS[page.form](base)
    end = min(view.total, page.first + page.most)
    next_ = end if end < view.total else None
    head = [*fields, *_links(request, page, next_)]
    if page.form == "csv":
        head.append((b"Content-Disposition", b'attachment; filename="%b.csv"' % view.id.encode()))
    return await stream(request, view, records, form, page, head, keep_alive=keep_alive)


def check_ended(view: View) -> None:
    """Raise 409 `results-not-ready` for a batch that has not ended."""
    if view.state not in FINAL:
        raise GatewayError("results-not-ready", headers={"Retry-After": "1"})


async def stream(
    request: BaseRequest, view: View, records: Records, form: Form, page: Page, fields: RawFields, *, keep_alive: bool
) -> Answer:
    """Write the outcomes of a page as they are read from the ledger."""
    chunks = Chunks(request, gzip=accepts_gzip(request))
    head = [*fields, (b"Content-Type", form.content_type), (b"Vary", b"Accept-Encoding")]
    end = min(view.total, page.first + page.most)
    pieces = _pieces(form, records, view, page, end if end < view.total else None)
    first = await anext(pieces)  # the ledger is asked before the head goes out: its trouble is a 503, not a broken body
    await chunks.begin(200, head, keep_alive=keep_alive)
    if request.method == "HEAD":
        return Answer.already_written(200, keep_alive=False)
    try:
        await chunks.piece(first)
        async for piece in pieces:
            await chunks.piece(piece)
    except GatewayError:
        return chunks.break_off(200)
    return await chunks.end(200)


async def _pieces(form: Form, records: Records, view: View, page: Page, next_: int | None) -> AsyncIterator[bytes]:
    before = form.first()
    async for outcomes in records.outcomes(view, first=page.first, most=page.most):
        yield before + form.pieces(outcomes)
        before = b""
    if view.state in FINAL:
        await records.find(view.id, view.owner)  # deleted meanwhile: what was read is not the whole
    yield before + form.last(next_)


def _links(request: BaseRequest, page: Page, next_: int | None) -> Sequence[tuple[bytes, bytes]]:
    """`Link` to the next page (RFC 8288)."""
    if next_ is None:
        return ()
    partial = "&partial=true" if page.partial else ""
    path = request.raw_path.partition("?")[0]
    target = f"{path}?format={page.form}&after={next_}&limit={page.most}{partial}"
    return [(b"Link", f'<{target}>; rel="next"'.encode())]


class _Lines:
    content_type = b"application/x-ndjson"

    def __init__(self, base: str) -> None:
        self._base = base
        self._writer = native.LinesWriter()

    def first(self) -> bytes:
        return b""

    def pieces(self, recorded: Sequence[Recorded]) -> bytes:
        return self._writer.pieces([each.id for each in recorded], [each.outcome for each in recorded], self._base)

    def last(self, next_: int | None) -> bytes:
        return b""


class _Json:
    content_type = b"application/json"

    def __init__(self, base: str) -> None:
        self._base = base
        self._between = b""

    def first(self) -> bytes:
        return b'{"results":['

    def pieces(self, recorded: Sequence[Recorded]) -> bytes:
        if not recorded:
            return b""
        results = [native.result_of(each.id, each.outcome, self._base) for each in recorded]
        between, self._between = self._between, b","
        return between + msgspec.json.encode(results)[1:-1]

    def last(self, next_: int | None) -> bytes:
        return b'],"hasMore":%b,"next":%b}' % (b"false" if next_ is None else b"true", msgspec.json.encode(next_))


class _Csv:
    content_type = b"text/csv; charset=utf-8"

    def __init__(self, base: str) -> None:
        self._writer = CsvWriter()

    def first(self) -> bytes:
        return self._writer.first()

    def pieces(self, recorded: Sequence[Recorded]) -> bytes:
        return b"".join([self._writer.piece(each.id, each.outcome) for each in recorded])

    def last(self, next_: int | None) -> bytes:
        return b""


_FORMS: Mapping[str, Callable[[str], Form]] = {"ndjson": _Lines, "json": _Json, "csv": _Csv}
