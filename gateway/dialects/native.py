"""The gateway's own dialect (CONTRACT 2): a JSON envelope in, JSON or one line an outcome (NDJSON) out.

Bodies are `msgspec.Raw`: an operation's JSON body goes upstream, and an answer's JSON body comes back, byte for byte.
"""

import base64
from collections.abc import Mapping, Sequence
from functools import partial
from operator import attrgetter
from typing import Any, Literal

import msgspec
from msgspec import UNSET, Raw, UnsetType

from gateway.batch.idempotency import is_key
from gateway.batch.model import Batch, Fields, Operation, Outcome, Summary
from gateway.batch.validation import Rules, Violation, order_of, violations
from gateway.dialects import native_shape
from gateway.dialects.native_operation import Headers, WireOperation, fields_of, operation_of
from gateway.dialects.native_shape import ShapeError
from gateway.dialects.port import EnvelopeError, EnvelopeLimits
from gateway.dialects.schedule import schedule_of
from gateway.dialects.slices import Sliced, at_once
from gateway.dialects.strictness import check_members_once, check_syntax, check_text, structure_checked
from gateway.errors import PROBLEMS


class _Defaults(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True, gc=False):
    headers: Headers | UnsetType = UNSET
    method: str | UnsetType = UNSET


class _Envelope(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True, gc=False):
    operations: list[WireOperation]
    defaults: _Defaults | UnsetType = UNSET
    onFailure: Literal["continue", "halt"] | UnsetType = UNSET  # noqa: N815
    priority: Raw | UnsetType = UNSET
    notBefore: Raw | UnsetType = UNSET  # noqa: N815


_ENVELOPE = msgspec.json.Decoder(_Envelope)
_OPERATIONS = msgspec.json.Decoder(list[WireOperation])
_RAW = msgspec.json.Decoder(Raw)
_ENCODER = msgspec.json.Encoder()
_DOLLAR, _BACKSLASH = b"$\\"
_PARENTS = attrgetter("depends_on")
_PIECE_BYTES = 1 << 18


def parse(data: bytes, limits: EnvelopeLimits, rules: Rules) -> Batch:
    """Read an envelope, or raise `EnvelopeError`: broken JSON first, then the count, then every violation at once."""
    return at_once(parsed(data, limits, rules))


def parsed(data: bytes, limits: EnvelopeLimits, rules: Rules) -> Sliced[Batch]:
    """What `parse` does. The longest slice decodes: 10 to 20 ms for 10 MiB; whatever a hostile envelope could make last
    for seconds is no slice."""
    check_text(data)
    yield None
    bare = data.lstrip()[:1] == b"["
    envelope, found = yield from _decoded(data, limits, bare=bare)
    if len(envelope.operations) > limits.operations_max:
        raise too_many(len(envelope.operations), limits.operations_max)
    if not found:
        yield from _members_checked(data, envelope, bare=bare)
    yield None
    # Looking for one byte first, as a number: it takes a tenth of the time.
    may_refer = (_DOLLAR in data and b"$ops." in data) or (_BACKSLASH in data and b"\\u" in data)
    pointer = "" if bare else "/operations"
    batch: Batch = yield partial(_batch, envelope, found, pointer, rules, may_refer=may_refer)
    return batch


def _members_checked(data: bytes, envelope: _Envelope, *, bare: bool) -> Sliced[None]:
    if len(data) > _PIECE_BYTES and (yield from _encoded_bytes(envelope, len(data), bare=bare)) == len(data):
        return
    again = _ENCODER.encode(envelope.operations if bare else envelope)
    if len(again) != len(data):
        yield partial(check_members_once, data, again, native_shape.levels)


def _encoded_bytes(envelope: _Envelope, about: int, *, bare: bool) -> Sliced[int]:
    """How long `envelope` is as compact text; it came in `about` as many bytes. In pieces: where the system has to give
    each page of a buffer of 10 MiB, that takes ten times as long."""
    operations = envelope.operations
    encoded = 2 if bare else len(_ENCODER.encode(msgspec.structs.replace(envelope, operations=[])))
    size = len(operations) * _PIECE_BYTES // about + 1
    for first in range(0, len(operations), size):
        encoded += len(_ENCODER.encode(operations[first : first + size])) - len("[]") + len(",")
        yield None
    return encoded - len(",")


def _decoded(data: bytes, limits: EnvelopeLimits, *, bare: bool) -> Sliced[tuple[_Envelope, list[Violation]]]:
    """The envelope, and what had to be left out of it because its shape is wrong."""
    envelope = None
    if data.count(b",") > limits.nodes_max:  # before anything is made of it
        yield partial(check_syntax, data)
        yield from structure_checked(data, depth_max=limits.depth_max, nodes_max=limits.nodes_max)
    yield None
    try:
        envelope = _Envelope(_OPERATIONS.decode(data)) if bare else _ENVELOPE.decode(data)
    except (msgspec.DecodeError, RecursionError):  # a wrong shape ends it even before broken JSON further on
        yield partial(check_syntax, data)
    yield from structure_checked(data, depth_max=limits.depth_max, nodes_max=limits.nodes_max)
    if envelope is not None:
        return envelope, []
    found, cleaned = yield partial(native_shape.cleaned, data)
    return _ENVELOPE.decode(cleaned), found


def too_many(count: int, most: int) -> EnvelopeError:
    """413 for a batch of `count` operations where `most` fit."""
    return EnvelopeError(
        "too-many-operations",
        f"{count} operations; at most {most} fit in one batch",
        headers={"X-Limit-Operations": str(most)},
        members={"max": most},
    )


def _batch(envelope: _Envelope, found: list[Violation], pointer: str, rules: Rules, *, may_refer: bool) -> Batch:
    misshapen = {(violation.position, violation.member) for violation in found}
    operations = _operations(envelope, found, rules)
    if not operations:
        found.append(Violation(-1, "operations" if pointer else "", "empty", "no operations; send at least one"))
    schedule = schedule_of(envelope.priority, envelope.notBefore, found)
    judged = violations(operations, rules)
    graph, tangles = order_of(operations) if may_refer or any(map(_PARENTS, operations)) else (None, [])
    judged += tangles
    found += [violation for violation in judged if not {(violation.position, ""), violation[:2]} & misshapen]
    if found:
        found.sort(key=lambda violation: violation.position)
        raise native_shape.invalid(found, pointer, [operation.id for operation in operations])
    on_failure = "continue" if envelope.onFailure is UNSET else envelope.onFailure
    return Batch(operations, on_failure, pointer, graph, schedule)


def _operations(envelope: _Envelope, found: list[Violation], rules: Rules) -> list[Operation]:
    defaults = envelope.defaults
    method = "" if defaults is UNSET or defaults.method is UNSET else defaults.method
    headers = () if defaults is UNSET or defaults.headers is UNSET else fields_of((), defaults.headers)
    if headers and (wrong := _of_defaults(headers, rules)):  # judged once: a thousand operations would multiply it
        found += [Violation(-1, "defaults/headers", *each) for each in wrong]
        headers = ()
    operations = []
    for index, wire in enumerate(envelope.operations):
        id_ = str(index) if wire.id is UNSET else wire.id
        verb = method if wire.method is UNSET else wire.method
        target = "" if wire.path is UNSET else wire.path
        if (
            not headers
            and wire.headers is wire.body is wire.bodyEncoding is wire.timeoutSeconds is wire.dependsOn is UNSET
        ):
            key = wire.idempotencyKey
            if key is UNSET:
                operations.append(Operation(id_, verb, target))
                continue
            if is_key(key):
                operations.append(Operation(id_, verb, target, key=key))
                continue
        operations.append(_read(wire, Operation(id_, verb, target, headers), index, found))
    return operations


def _read(wire: WireOperation, bare: Operation, index: int, found: list[Violation]) -> Operation:
    """The operation that `wire` is, without the members that cannot be read: the rest is judged as well."""
    while True:
        try:
            return operation_of(wire, bare.id, bare.method, bare.target, bare.fields)
        except ShapeError as error:
            found.append(Violation(index, error.member, error.code, error.detail))
            setattr(wire, error.member, UNSET)
            if error.member == "body":
                wire.bodyEncoding = UNSET


def _of_defaults(headers: Fields, rules: Rules) -> Sequence[tuple[str, str]]:
    if any(name.lower() == "idempotency-key" for name, _ in headers):
        return [("header-not-allowed", "a key is of one operation; write it there"), *rules.fields_rule(headers)]
    return rules.fields_rule(headers)


class _Result(msgspec.Struct, omit_defaults=True, gc=False):
    """One entry of the answer; the order of the members is the order on the wire."""

    id: str
    status: int
    headers: Mapping[str, str | list[str]]
    result: Any = UNSET
    encoding: str | UnsetType = UNSET
    error: Mapping[str, Any] | UnsetType = UNSET
    replayed: bool = False


def result_of(id_: str, outcome: Outcome, base: str) -> _Result:
    """An outcome as its entry: `result` below 400, else `error` with where it came from."""
    if outcome.failure is None and outcome.status < 400:
        headers = outcome.headers
        if not outcome.body:
            return _Result(id_, outcome.status, headers, replayed=outcome.replayed)
        body, encoding = embedded(outcome)
        return _Result(id_, outcome.status, headers, body, encoding, replayed=outcome.replayed)
    return _Result(id_, outcome.status, outcome.headers, error=_error(outcome, base), replayed=outcome.replayed)


def embedded(outcome: Outcome) -> tuple[Any, str | UnsetType]:
    """A body as a JSON value: JSON as its own bytes, other text as a string, the rest as base64."""
    body, headers = outcome.body, outcome.headers
    media_type = headers.get("Content-Type")
    if (media_type == "application/json" or _says_json(media_type)) and "Content-Encoding" not in headers:
        try:
            if not body.isascii():
                body.decode("utf-8")  # RFC 8259 8.1
            _RAW.decode(body)
            return Raw(body), UNSET
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            pass
    try:
        return body.decode("utf-8"), "text"
    except UnicodeDecodeError:
        return base64.b64encode(body).decode("ascii"), "base64"


def _says_json(media_type: str | list[str] | None) -> bool:
    essence = media_type.partition(";")[0].strip().lower() if isinstance(media_type, str) else ""
    return essence == "application/json" or essence.endswith("+json")


def _error(outcome: Outcome, base: str) -> dict[str, Any]:
    failure = outcome.failure
    slug = "upstream-error" if failure is None else failure.slug
    error: dict[str, Any] = {
        "type": f"{base}/problems/{slug}",
        "title": PROBLEMS[slug].title,
        "status": outcome.status,
        "origin": "upstream" if failure is None else "gateway",
    }
    if failure is not None:
        return error | {"detail": failure.detail, "retryable": failure.retryable, **failure.members}
    if outcome.body:
        error["body"], encoding = embedded(outcome)
        if encoding is not UNSET:
            error["encoding"] = encoding
    return error


class JsonWriter:
    """`{"results": [...], "summary": {...}}`, the answer by default."""

    media_type = "application/json"

    def whole(self, ids: Sequence[str], outcomes: Sequence[Outcome], summary: Summary, base: str) -> bytes:
        return _encoded([result_of(id_, outcome, base) for id_, outcome in zip(ids, outcomes, strict=True)], summary)

    def written(self, ids: Sequence[str], outcomes: Sequence[Outcome], summary: Summary, base: str) -> Sliced[bytes]:
        results = []
        for id_, outcome in zip(ids, outcomes, strict=True):
            results.append(result_of(id_, outcome, base))
            yield None
        return _encoded(results, summary)


def _encoded(results: Sequence[_Result], summary: Summary) -> bytes:
    return _ENCODER.encode({"results": results, "summary": shown(summary)})


class LinesWriter:
    """One result a line as each finishes, the summary last (NDJSON)."""

    media_type = "application/x-ndjson"

    def piece(self, id_: str, outcome: Outcome, base: str) -> bytes:
        line = _ENCODER.encode(result_of(id_, outcome, base))
        # Only white space between the tokens of an embedded body can be a raw line end: dropping it changes no value.
        return line.replace(b"\n", b"").replace(b"\r", b"") + b"\n"

    def pieces(self, ids: Sequence[str], outcomes: Sequence[Outcome], base: str) -> bytes:
        """Many lines."""
        results = [result_of(id_, outcome, base) for id_, outcome in zip(ids, outcomes, strict=True)]
        lines = _ENCODER.encode_lines(results)
        if lines.count(b"\n") == len(results) and b"\r" not in lines:
            return lines
        return b"".join([self.piece(id_, outcome, base) for id_, outcome in zip(ids, outcomes, strict=True)])

    def last(self, summary: Summary) -> bytes:
        return _ENCODER.encode({"summary": shown(summary)}) + b"\n"


def preview(ids: Sequence[str], outcomes: Sequence[Outcome], summary: Summary, base: str) -> dict[str, Any]:
    """Results and summary as members of a problem document, for a batch that ran out of time."""
    results = [result_of(id_, outcome, base) for id_, outcome in zip(ids, outcomes, strict=True)]
    return {"results": results, "summary": shown(summary)}


def shown(summary: Summary) -> dict[str, int]:
    """The summary's members; `unknown` only where there is one."""
    counts = {"total": summary.total, "succeeded": summary.succeeded, "failed": summary.failed}
    return counts | {"unknown": summary.unknown} if summary.unknown else counts
