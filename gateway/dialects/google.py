"""Google's batches: HTTP requests as the parts of a `multipart/mixed`, and their answers the same way (WIRE 5).

- A part that is no request, or that may not be sent, is answered 400 in its place; the others run.
- Fields and query parameters of the outer request apply to every part; a part's own win, its `Authorization` too.
- A `Host` inside chooses nothing; a whole URL may name this gateway or one of `origins` and goes to the upstream.
"""

import re
from collections.abc import Iterator, Sequence
from hashlib import blake2b
from typing import NamedTuple, cast
from urllib.parse import unquote_plus

from gateway.batch.model import Batch, Operation, Outcome
from gateway.batch.references import MARK
from gateway.batch.validation import VIOLATIONS_MAX, Rules, violations
from gateway.dialects import google_answer
from gateway.dialects.google_parts import Head, Inner, request_in
from gateway.dialects.multipart import PartError, boundary_of, fields_of, head_of, parts_of
from gateway.dialects.port import Call, EnvelopeError, Page, Read
from gateway.errors import GatewayError, quoted

_PARAMETERS_MAX = 100  # each is looked at for each call
_ABSOLUTE = re.compile(r"(https?)://([^/?#]*)(.*)", re.IGNORECASE)


class _Memo(NamedTuple):
    """For each part its `Content-ID`, and what is wrong with those that are not sent, by their place."""

    content_ids: list[str | None]
    wrong: dict[int, tuple[int, str]]
    seed: bytes


class Google:
    """POST `multipart/mixed` at `path` or below it, as in `/batch/{api}/{version}`."""

    name = "google"
    later = None

    def __init__(self, *, path: str, operations_max: int, origins: Sequence[str], rules: Rules) -> None:
        self._path = path
        self._below = path + "/"
        self._operations_max = operations_max
        self._origins = frozenset(origin.lower() for origin in origins)
        self._rules = rules

    def reads(self, call: Call) -> bool:
        is_here = call.path == self._path or call.path.startswith(self._below)
        return is_here and call.method == "POST" and _essence(call.content_type) == "multipart/mixed"

    def parse(self, call: Call) -> Read:
        """The parts that can be sent as a batch, each under its place as id; the others stay in the memo."""
        memo = _Memo([], {}, blake2b(call.body, digest_size=8).digest())
        operations = list(self._operations(call, memo))
        if not memo.content_ids:
            raise EnvelopeError("invalid-envelope", "the envelope holds no part of application/http")
        found = violations(operations, self._rules)
        if len(found) > VIOLATIONS_MAX:  # then not all of them were looked at
            raise EnvelopeError("invalid-envelope", f"more than {VIOLATIONS_MAX} requests are not such as can be sent")
        for violation in found:
            status = 413 if violation.code == "body-too-large" else 400
            index = int(operations[violation.position].id)
            memo.wrong.setdefault(index, (status, f"{violation.member}: {violation.detail}"))
        return Read(Batch([each for each in operations if int(each.id) not in memo.wrong], pointer=""), memo)

    def answer(self, read: Read, outcomes: Sequence[Outcome]) -> Page:
        memo, answered = cast(_Memo, read.memo), iter(outcomes)
        answers = [
            (content_id, memo.wrong[index] if index in memo.wrong else next(answered))
            for index, content_id in enumerate(memo.content_ids)
        ]
        return google_answer.page(answers, memo.seed)

    def refusal(self, error: GatewayError, request_id: str) -> Page:
        return google_answer.refusal(error)

    def _operations(self, call: Call, memo: _Memo) -> Iterator[Operation]:
        outer = [(_name(piece), piece) for piece in call.query.split("&") if piece]
        if len(outer) > _PARAMETERS_MAX:
            raise EnvelopeError("invalid-envelope", f"more than {_PARAMETERS_MAX} parameters for every call")
        known: dict[bytes, Head] = {}
        for content_id, content in self._requests(call):
            index = len(memo.content_ids)
            memo.content_ids.append(content_id)
            try:
                inner = request_in(content, known)
                target = _with_query(self._target(inner, call.host), outer)
                yield Operation(str(index), inner.method, target, inner.fields, inner.body, bool(inner.body))
            except PartError as error:
                memo.wrong[index] = 400, str(error)

    def _requests(self, call: Call) -> Iterator[tuple[str | None, bytes]]:
        """`Content-ID` and content of each part that is an HTTP request; parts of other kinds are left out."""
        for number, part in enumerate(parts_of(call.body, boundary_of(call.content_type)), 1):
            if number > self._operations_max:
                detail = f"more than {self._operations_max} calls in one batch; send several"
                raise EnvelopeError("too-many-operations", detail)
            lines, content = head_of(part)
            try:
                named = {name.lower(): value for name, value in reversed(fields_of(lines))}
            except PartError as error:  # without its Content-ID the answer would have no place in the client's
                raise EnvelopeError("invalid-envelope", f"part {number}: {error}") from None
            kind = named.get(b"content-type", b"application/http")
            if kind == b"application/http" or _essence(kind.decode("latin-1")) == "application/http":
                yield _content_id(named.get(b"content-id"), number), content

    def _target(self, inner: Inner, host: str) -> str:
        target = inner.target
        if target[0] != "/" and (whole := _ABSOLUTE.fullmatch(target)):
            scheme, authority, target = whole[1].lower(), whole[2].lower(), whole[3]
            if authority != host.lower() and f"{scheme}://{authority}" not in self._origins:
                raise PartError(f"{quoted(inner.target)} is on another host; write its path")
            target = target if target.startswith("/") else f"/{target}"
        if not target.startswith("/") or "{" + MARK in target:  # no references in this dialect
            raise PartError(f"{quoted(inner.target)} is no path; write one that begins with a slash and is plain")
        return target


def _essence(media_type: str) -> str:
    return media_type.partition(";")[0].strip().lower()


def _content_id(said: bytes | None, number: int) -> str | None:
    if said is None:
        return None
    text = said.decode("utf-8", "surrogateescape")
    if not text.isprintable():
        raise EnvelopeError("invalid-envelope", f"part {number}: its Content-ID is no printable text")
    return text


def _name(piece: str) -> str:
    return unquote_plus(piece.partition("=")[0])


def _with_query(target: str, outer: Sequence[tuple[str, str]]) -> str:
    """The target with those parameters of the outer request that it has none of its own for."""
    if not outer:
        return target
    _, question, query = target.partition("?")
    own = {_name(piece) for piece in query.split("&")} if query else set()
    added = "&".join([piece for name, piece in outer if name not in own])
    if not added:
        return target
    return f"{target}{'&' if query else '' if question else '?'}{added}"
