"""What became of a Facebook batch, as its client judges it: by its body, else by its code (WIRE 7.2).

- What the upstream's status says is what the client sees, whatever the body: one that the client would misread is
  wrapped, all others stay as they are. A body that says `error` or `"success": false` itself is the upstream's word.
- `null` stands for what surely did not run, since the client sends that again, and for what was to be left out.
"""

from base64 import b64encode
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec

from gateway.batch.model import Failure, Outcome
from gateway.dialects.port import Page
from gateway.errors import GatewayError

Entry = Mapping[str, object] | None

_TYPE: tuple[bytes, bytes] = (b"Content-Type", b"application/json; charset=utf-8")
_RETRY_AFTER_S_MAX = 120
_VALUE = msgspec.json.Decoder(float_hook=float)  # 1e400 is JSON too
# Surely not run, and worth another try with the same words.
_NOT_RUN = frozenset({"batch-deadline", "cancelled", "draining", "expired", "halted"})
_STATUSES = {"outcome-unknown": 504, "response-budget-exceeded": 502, "too-many-operations": 400}
_EMPTY_IS_SUCCESS = frozenset({200, 304})
_MISREAD = frozenset({"error", "success", "Service Unavailable"})
# Codes of Facebook's errors by status: OAuth, permission, the request limit. Else 1 unknown, 2 later, 100 parameter.
_CODES = {401: 190, 403: 200, 429: 4}


def page(entries: Sequence[Entry]) -> Page:
    return Page(200, [_TYPE], msgspec.json.encode(entries))


def refusal(error: GatewayError, request_id: str) -> Page:
    """An error for all entries together."""
    slug = error.problem.slug
    status = _STATUSES.get(slug, error.status)
    if slug == "too-many-operations":
        body = _error(error.detail, "GraphBatchException", -3)
    else:
        kind = "OAuthException" if status in _CODES or status >= 500 else "GraphBatchException"
        body = _error(error.detail, kind, _code(status), is_transient=status in (429, 503))
    return Page(status, [_TYPE], msgspec.json.encode({"error": body | {"fbtrace_id": request_id}}))


def wrong(status: int, message: str, *, with_headers: bool) -> Entry:
    """An entry that was not sent, since something is wrong with it."""
    return _entry(status, {}, _wrapped_error(_error(message, "GraphBatchException", 100)), with_headers=with_headers)


def answered(outcome: Outcome, *, with_headers: bool, omits: bool) -> Entry:
    """What became of an entry that could be sent. `omits`: a success is not shown."""
    failure = outcome.failure
    if failure is not None:
        return None if failure.slug in _NOT_RUN else _failed(outcome.status, failure, with_headers=with_headers)
    if omits and outcome.succeeded:
        return None
    status, headers = outcome.status, outcome.headers
    body = _success(outcome) if outcome.succeeded else _upstream_error(outcome)
    if body.encode() != outcome.body:
        headers = {name: value for name, value in headers.items() if name not in ("Content-Length", "Content-Encoding")}
        headers["Content-Type"] = "application/json"
    return _entry(200 if status == 204 else status, headers, body, with_headers=with_headers)


def _entry(status: int, headers: Mapping[str, str | list[str]], body: str, *, with_headers: bool) -> Entry:
    if not with_headers:
        return {"code": status, "body": body}
    return {"code": status, "headers": list(_shown(headers)), "body": body}


def _shown(headers: Mapping[str, str | list[str]]) -> Iterator[Mapping[str, str]]:
    for name, values in headers.items():
        for value in [values] if isinstance(values, str) else values:
            yield {"name": name, "value": value}


def _success(outcome: Outcome) -> str:
    """The upstream's body as it is, where the client takes it for the success that it is."""
    text, value = _read(outcome.body)
    is_empty = value is None or value in ({}, [])
    if is_empty and outcome.status in _EMPTY_IS_SUCCESS:
        return text
    match value:
        case {"error": dict()}:
            return text if _is_readable(value) else _upstream_error(outcome)
        case {"error": _}:
            return f'{{"data":{text}}}'
        case dict() if value:
            return text
        case [_, *_] if not any(isinstance(each, str) and each in _MISREAD for each in value):
            return text
        case None | True | {}:
            return '{"success":true}'
        case _:
            return f'{{"data":{text}}}'


def _upstream_error(outcome: Outcome) -> str:
    """The upstream's own error where it is shaped as Facebook's, else one that holds what it said."""
    text, value = _read(outcome.body)
    if _is_readable(value):
        return text
    error = value.get("error") if isinstance(value, dict) else None
    if isinstance(error, dict):
        return _wrapped_error(error | {"error_data": {"value": error.get("error_data")}})
    said = value.get("message", error) if isinstance(value, dict) else None
    message = said if isinstance(said, str) else f"the upstream answered {outcome.status}"
    told = _error(message, "GraphMethodException", _code(outcome.status), is_transient=outcome.status in (429, 503))
    return _wrapped_error(told if value is None else told | {"error_data": {"body": msgspec.Raw(text.encode())}})


def _failed(status: int, failure: Failure, *, with_headers: bool) -> Entry:
    """What the gateway has to say of an entry without an answer."""
    status = _STATUSES.get(failure.slug, status)
    wait_s = failure.members.get("retryAfter")
    headers = {"Content-Type": "application/json"}
    if isinstance(wait_s, int):
        headers["Retry-After"] = str(min(wait_s, _RETRY_AFTER_S_MAX))
    error = _error(failure.detail, "OAuthException", _code(status), is_transient=failure.retryable)
    return _entry(status, headers, _wrapped_error(error), with_headers=with_headers)


def _is_readable(value: Any) -> bool:
    """Whether the client can read the error: it takes `error_data` apart, which is an object or the text of JSON."""
    match value:
        case {"error": {"error_data": str(text)}}:
            return _json(text.encode()) is not None
        case {"error": {"error_data": told}}:
            return isinstance(told, dict)
        case {"error": dict()}:
            return True
        case _:
            return False


def _read(body: bytes) -> tuple[str, Any]:
    """A body as the text of JSON and its value: text becomes a string, bytes an object that says that it is base64."""
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError:
        value = {"body": b64encode(body).decode("ascii"), "encoding": "base64"}
        return msgspec.json.encode(value).decode(), value
    if not text.strip():
        return text, None
    found = _json(body)
    if found is None:
        return msgspec.json.encode(text).decode(), text
    return text, found[0]


def _json(text: bytes) -> tuple[Any] | None:
    """The value of a JSON text; None where it is none."""
    try:
        return (_VALUE.decode(text),)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def _code(status: int) -> int:
    return _CODES.get(status) or (2 if status in (503, 504) else 1 if status >= 500 else 100)


def _error(message: str, kind: str, code: int, *, is_transient: bool = False) -> dict[str, object]:
    return {"message": message, "type": kind, "code": code, "is_transient": is_transient}


def _wrapped_error(error: Mapping[str, object]) -> str:
    return msgspec.json.encode({"error": error}).decode()
