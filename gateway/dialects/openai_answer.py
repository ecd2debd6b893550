"""OpenAI's batches, lists and errors as the vendor writes them (WIRE 4.3, 4.5).

A batch and its result files share an id: `batch_X`, `file-output-X`, `file-errors-X`; an upload is `file-X`. X are
the ledger's own ids.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from gateway.batch.states import FINAL
from gateway.dialects.on_record import Part, Record
from gateway.dialects.openai_create import Create, created
from gateway.dialects.openai_lines import complaints_from_bytes
from gateway.dialects.port import Page
from gateway.errors import GatewayError

_TYPES = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}
_STATUSES = {"results-expired": 404, "async-disabled": 400}  # the vendor has others than we
_FILE_ID = re.compile(r"file-(?:(output|errors)-)?([a-z2-7]{40})")
_BATCH_ID = re.compile(r"batch_([a-z2-7]{40})")
_DAMAGED = {"code": "payload_corrupt", "message": "The record of this batch is damaged.", "param": None, "line": None}
_NO_COUNTS = {"total": 0, "completed": 0, "failed": 0}

_ENCODER = msgspec.json.Encoder()


def own_id(said: str) -> str:
    """The gateway's id behind a batch's; "" where there is none."""
    found = _BATCH_ID.fullmatch(said)
    return found[1] if found else ""


def own_file_id(said: str) -> tuple[str, Part]:
    """The gateway's id behind a file's, and which result file it is of; "" where there is none."""
    found = _FILE_ID.fullmatch(said)
    return (found[2], found[1] or "") if found else ("", "")  # type: ignore[return-value]  # the pattern's own words


def file_id(own: str, part: Part) -> str:
    return f"file-{part}-{own}" if part else f"file-{own}"


def page(document: Mapping[str, Any], status: int = 200) -> Page:
    return Page(status, [(b"Content-Type", b"application/json")], _ENCODER.encode(document))


def listed(entries: Sequence[Mapping[str, Any]], *, has_more: bool) -> Mapping[str, Any]:
    return {
        "object": "list",
        "data": entries,
        "first_id": entries[0]["id"] if entries else None,
        "last_id": entries[-1]["id"] if entries else None,
        "has_more": has_more,
    }


def batch(record: Record, complaints_max: int | None = None) -> Mapping[str, Any]:
    create, status = created(record.memo), _status(record)
    ended_s = _s(record.ended_ms)
    return {
        "id": f"batch_{record.id}",
        "object": "batch",
        "endpoint": create.endpoint,
        "errors": {"object": "list", "data": _complaints(record)[:complaints_max]} if status == "failed" else None,
        "input_file_id": create.input_file_id,
        "completion_window": create.completion_window,
        "status": status,
        "output_file_id": file_id(record.id, "output") if holds(record, "output") else None,
        "error_file_id": file_id(record.id, "errors") if holds(record, "errors") else None,
        "created_at": record.accepted_ms // 1000,
        "in_progress_at": _s(record.started_ms),
        "expires_at": record.expires_ms // 1000,
        "finalizing_at": ended_s if status == "completed" else None,
        "completed_at": ended_s if status == "completed" else None,
        "failed_at": ended_s or record.accepted_ms // 1000 if status == "failed" else None,
        "expired_at": ended_s if status == "expired" else None,
        "cancelling_at": _s(record.cancelled_ms),
        "cancelled_at": ended_s if status == "cancelled" else None,
        "request_counts": _NO_COUNTS if record.why else _counts(record),
        "metadata": create.metadata,
    }


def holds(record: Record, part: Part) -> bool:
    """Whether a batch has a result file: once it has ended, and something belongs into it."""
    if record.why or record.state not in FINAL:
        return False
    return record.succeeded > 0 if part == "output" else record.total > record.succeeded


def results_expire_s(record: Record, create: Create) -> int:
    """When result files go: as ordered, and never after their batch."""
    gone_s = (record.kept_until_ms or record.expires_ms) // 1000
    after, ended_s = create.output_expires_after, _s(record.ended_ms) or 0
    return gone_s if after is None else min(gone_s, ended_s + after.seconds)


def _status(record: Record) -> str:
    if record.why:
        return "failed"
    return {"accepted": "validating", "processing": "in_progress"}.get(record.state, record.state)


def _counts(record: Record) -> Mapping[str, int]:
    return {"total": record.total, "completed": record.succeeded, "failed": record.failed}


def _complaints(record: Record) -> list[dict[str, Any]]:
    return complaints_from_bytes(record.why) if record.why else [_DAMAGED]


def _s(time_ms: int | None) -> int | None:
    return None if time_ms is None else time_ms // 1000


def refusal(error: GatewayError) -> Page:
    """An error in the vendor's shape."""
    slug = error.problem.slug
    status = _STATUSES.get(slug, error.status)
    said = {
        "message": error.detail,
        "type": error_type(status),
        "param": error.members.get("param"),
        "code": error.members.get("code") or slug.replace("-", "_"),
    }
    return page({"error": said}, status)


def error_type(status: int) -> str:
    """The vendor's word for a status."""
    return _TYPES.get(status, "invalid_request_error" if status < 500 else "server_error")
