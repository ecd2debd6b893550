"""Anthropic's batches, result lines and errors as the vendor writes them (WIRE 3.2 to 3.5).

A batch is `in_progress`, `canceling` or `ended`; how a request ended stands in its line only. Until the end every
request counts as `processing`.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec

from gateway.batch.model import Outcome
from gateway.batch.states import FINAL
from gateway.dialects.native import embedded
from gateway.dialects.on_record import Record
from gateway.dialects.port import Page
from gateway.errors import GatewayError

_PREFIX = "msgbatch_"
_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    408: "timeout_error",
    409: "conflict_error",
    413: "request_too_large",
    429: "rate_limit_error",
    504: "timeout_error",
    529: "overloaded_error",
}
# Refusals for which the vendor has another status than we; its clients would send a 409 again, to no use.
_STATUSES = {
    "validation-failed": 400,
    "async-disabled": 400,
    "results-not-ready": 400,
    "results-expired": 404,
    "batch-terminal": 400,
    "batch-running": 400,
}
_SENT_AGAIN = frozenset({408, 429, 502, 503, 504})
_NEVER_RAN = {"cancelled": "canceled", "expired": "expired"}
_WORDS_MAX = 500  # of an upstream's error that is not in the vendor's shape

_ENCODER = msgspec.json.Encoder()
_ERROR = msgspec.json.Decoder(dict[str, Any])


def shown_id(batch_id: str) -> str:
    return _PREFIX + batch_id


def own_id(said: str) -> str:
    """The gateway's id behind the vendor's; "" where there is none."""
    return said.removeprefix(_PREFIX) if said.startswith(_PREFIX) else ""


def page(document: Mapping[str, Any], status: int = 200) -> Page:
    return Page(status, [(b"Content-Type", b"application/json")], _ENCODER.encode(document))


def batch(record: Record, batches: str) -> dict[str, Any]:
    """`batches` is the URL of all batches, as the caller reaches it: absolute, for clients prefix a relative one."""
    id_ = shown_id(record.id)
    ended = record.state in FINAL
    return {
        "id": id_,
        "type": "message_batch",
        "processing_status": "ended" if ended else "canceling" if record.state == "cancelling" else "in_progress",
        "request_counts": _counts(record) if ended else dict.fromkeys(_COUNTED, 0) | {"processing": record.total},
        "created_at": _instant(record.accepted_ms),
        "expires_at": _instant(record.expires_ms),
        "ended_at": _instant(record.ended_ms),
        "cancel_initiated_at": _instant(record.cancelled_ms),
        "archived_at": None,
        "results_url": f"{batches}/{id_}/results" if ended else None,
    }


_COUNTED = ("processing", "succeeded", "errored", "canceled", "expired")


def _counts(record: Record) -> dict[str, int]:
    """Of a batch that has ended: nothing is left to process."""
    counts = dict.fromkeys(_COUNTED, 0) | {"succeeded": record.succeeded, "errored": record.failed}
    counts[_NEVER_RAN.get(record.state, "errored")] += record.total - record.succeeded - record.failed
    return counts


def _instant(time_ms: int | None) -> str | None:
    """RFC 3339, UTC."""
    if time_ms is None:
        return None
    return datetime.fromtimestamp(time_ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def line(id_: str, outcome: Outcome) -> bytes:
    """One line of the results. A 3xx is an answer as well: clients of the API never see one followed."""
    slug = None if outcome.failure is None else outcome.failure.slug
    result: dict[str, Any]
    if outcome.succeeded:
        result = {"type": "succeeded", "message": embedded(outcome)[0] if outcome.body else None}
    elif slug in _NEVER_RAN:
        result = {"type": _NEVER_RAN[slug]}
    else:
        result = {"type": "errored", "error": _error_of(outcome)}
    text = _ENCODER.encode({"custom_id": id_, "result": result})
    # Only white space between the tokens of an embedded body can be a raw line end: dropping it changes no value.
    return text.replace(b"\n", b"").replace(b"\r", b"") + b"\n"


def _error_of(outcome: Outcome) -> Any:
    """The upstream's own error where it is in the vendor's shape, else one made from its status."""
    failure = outcome.failure
    if failure is not None:
        return _error(outcome.status, failure.detail, None, failure.slug)
    body = embedded(outcome)[0] if outcome.body else None
    words = body[:_WORDS_MAX] if isinstance(body, str) else f"the upstream answered {outcome.status}"
    if isinstance(body, msgspec.Raw):
        match _decoded(body):
            case {"type": "error", "error": {"type": str(), "message": str()}}:
                return body
            case {"error": {"message": str(said)}} | {"message": str(said)} | {"error": str(said)}:
                words = said[:_WORDS_MAX]
    request_id = outcome.headers.get("Request-Id")
    return _error(outcome.status, words, request_id if isinstance(request_id, str) else None)


def _decoded(body: msgspec.Raw) -> dict[str, Any]:
    try:
        return _ERROR.decode(body)
    except (msgspec.DecodeError, RecursionError):
        return {}


def refusal(error: GatewayError, request_id: str) -> Page:
    slug = error.problem.slug
    status = _STATUSES.get(slug, error.status)
    words = "true" if status in _SENT_AGAIN or slug == "idempotency-in-progress" else "false"
    written = page(_error(status, error.detail, request_id, slug), status)
    return written._replace(fields=[*written.fields, (b"x-should-retry", words.encode())])


def _error(status: int, message: str, request_id: str | None, slug: str | None = None) -> dict[str, Any]:
    kind = _TYPES.get(status, "invalid_request_error" if status < 500 else "api_error")
    details = {} if slug is None else {"details": {"error_code": slug}}
    return {"type": "error", "error": {"type": kind, "message": message, **details}, "request_id": request_id}
