"""What became of a Google batch, as its client reads it: a `multipart/mixed`, or one error for all (WIRE 5.2 to 5.4).

- Lines end in CRLF, parts stand in the order of the calls, and each has at least one inner field: without one the
  client fails, and so it does on bytes that are not UTF-8 anywhere in the answer, which is why such a body is base64.
- `Content-ID` comes back with `response-` in front: the client finds its calls by it.
"""

from base64 import b64encode
from collections.abc import Iterator, Mapping, Sequence
from hashlib import blake2b
from http import HTTPStatus

import msgspec

from gateway.batch.model import Failure, Outcome
from gateway.dialects.port import Page
from gateway.errors import GatewayError

Answered = Outcome | tuple[int, str]
"""What the upstream or the gateway said, or status and words of a call that was not sent."""

_JSON = "application/json; charset=UTF-8"
_REASONS = {status.value: status.phrase for status in HTTPStatus}
_RETRY_AFTER_S_MAX = 120
# `google.rpc.Code` and the older word beside it, by HTTP status (google/rpc/code.proto).
_WORDS = {
    400: ("INVALID_ARGUMENT", "badRequest"),
    401: ("UNAUTHENTICATED", "authError"),
    403: ("PERMISSION_DENIED", "forbidden"),
    404: ("NOT_FOUND", "notFound"),
    409: ("ABORTED", "conflict"),
    413: ("INVALID_ARGUMENT", "uploadTooLarge"),
    429: ("RESOURCE_EXHAUSTED", "rateLimitExceeded"),
    500: ("INTERNAL", "internalError"),
    501: ("UNIMPLEMENTED", "notImplemented"),
    503: ("UNAVAILABLE", "backendError"),
    504: ("DEADLINE_EXCEEDED", "backendError"),
}
# Without an answer of the upstream's: 503 where surely nothing ran, 504 where time was up or it may have (WIRE 5.4, 9).
_STATUSES: Mapping[str, int] = {
    "batch-deadline": 504,
    "outcome-unknown": 504,
    "response-budget-exceeded": 502,
    "upstream-connect": 503,
    "upstream-reset": 503,
    "upstream-tls": 503,
    "validation-failed": 400,
}


def page(answers: Sequence[tuple[str | None, Answered]], seed: bytes) -> Page:
    """The whole answer; each call's `Content-ID` beside what became of it. `seed` makes the boundary."""
    parts = [_part(content_id, answered) for content_id, answered in answers]
    boundary = _boundary(parts, seed)
    delimiter = b"--" + boundary + b"\r\n"
    body = b"".join([delimiter + part for part in parts]) + b"--" + boundary + b"--\r\n"
    return Page(200, [(b"Content-Type", b"multipart/mixed; boundary=" + boundary)], body)


def refusal(error: GatewayError) -> Page:
    """An error for all calls together."""
    status = _STATUSES.get(error.problem.slug, error.status)
    return Page(status, [(b"Content-Type", _JSON.encode())], _error(status, error.detail))


def _part(content_id: str | None, answered: Answered) -> bytes:
    fields: dict[str, str | list[str]]
    if not isinstance(answered, Outcome):
        status, fields, body = answered[0], {"Content-Type": _JSON}, _error(*answered)
    elif answered.failure is not None:
        status, fields, body = _failed(answered.status, answered.failure)
    else:
        status, fields, body = answered.status, dict(answered.headers), answered.body
        if not _is_utf8(body):
            fields["Content-Transfer-Encoding"], body = "base64", b64encode(body)
    fields["Content-Length"] = str(len(body))
    called = "" if content_id is None else f"Content-ID: {_responding(content_id)}\r\n"
    start = f"HTTP/1.1 {status} {_REASONS.get(status, '')}\r\n"
    head = "".join(["Content-Type: application/http\r\n", called, "\r\n", start, *_lines(fields), "\r\n"])
    return head.encode() + body + b"\r\n"


def _failed(status: int, failure: Failure) -> tuple[int, dict[str, str | list[str]], bytes]:
    status = _STATUSES.get(failure.slug, status)
    fields: dict[str, str | list[str]] = {"Content-Type": _JSON}
    if isinstance(wait_s := failure.members.get("retryAfter"), int):
        fields["Retry-After"] = str(min(wait_s, _RETRY_AFTER_S_MAX))
    return status, fields, _error(status, failure.detail)


def _error(status: int, message: str) -> bytes:
    word, reason = _WORDS.get(status) or _WORDS[400 if status < 500 else 500]
    errors = [{"message": message, "domain": "global", "reason": reason}]
    return msgspec.json.encode({"error": {"code": status, "message": message, "status": word, "errors": errors}})


def _responding(content_id: str) -> str:
    return f"<response-{content_id[1:]}" if content_id.startswith("<") else f"response-{content_id}"


def _lines(fields: Mapping[str, str | list[str]]) -> Iterator[str]:
    for name, values in fields.items():
        for value in values if isinstance(values, list) else [values]:
            yield f"{name}: {_as_utf8(value)}\r\n"


def _as_utf8(value: str) -> str:
    """A field's value, read as Latin-1 before, as the UTF-8 that it may have been."""
    if value.isascii():
        return value
    try:
        return value.encode("latin-1").decode("utf-8")
    except UnicodeDecodeError:
        return value


def _is_utf8(body: bytes) -> bool:
    if body.isascii():
        return True
    try:
        body.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _boundary(parts: Sequence[bytes], seed: bytes) -> bytes:
    """A boundary that stands in no part: nobody can have written it into a body, and it is looked for all the same."""
    while True:
        boundary = b"batch_" + blake2b(seed, digest_size=12).hexdigest().encode()
        if not any(boundary in part for part in parts):
            return boundary
        seed = boundary
