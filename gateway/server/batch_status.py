"""A batch on record as callers see it (CONTRACT 2, "asynchronous"). Pure."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from gateway.batch.states import FINAL, State
from gateway.ledger.port import View

WIRE_STATES = ("processing", "cancelling", "completed", "failed", "cancelled", "expired")


def wire_state(state: State) -> str:
    """The word for a state on the wire: what nobody has begun yet is being processed as well."""
    return "processing" if state == "accepted" else state


def accepted(view: View, base: str) -> dict[str, Any]:
    """The body of a 202."""
    urls = {f"{verb}Url": f"{base}/{view.id}/{verb}" for verb in ("status", "results", "events", "cancel")}
    return {
        "batchId": view.id,
        "status": wire_state(view.state),
        "total": view.total,
        **urls,
        "expiresAt": timestamp(view.expires_ms),
        **_only_if_given(view),
    }


def status(view: View, base: str, now_ms: int) -> dict[str, Any]:
    """Where the batch stands. `completed` counts every operation with an outcome, also the gateway's own words for
    what never ran once the batch has ended (PROMISES 2.4)."""
    ended = view.state in FINAL
    never_ran = view.total - view.completed if ended else 0
    completed = view.completed + never_ran
    rate = _operations_per_s(view, now_ms)
    left = view.total - completed
    return {
        "batchId": view.id,
        "status": wire_state(view.state),
        "paused": view.paused,
        "total": view.total,
        "completed": completed,
        "succeeded": view.succeeded,
        "failed": view.failed + (never_ran if view.state == "failed" else 0),
        "unknown": view.unknown,
        "cancelled": never_ran if view.state == "cancelled" else 0,
        "expired": never_ran if view.state == "expired" else 0,
        "progress": completed / view.total,
        "createdAt": timestamp(view.accepted_ms),
        "startedAt": timestamp(view.started_ms),
        "endedAt": timestamp(view.ended_ms),
        "expiresAt": timestamp(view.expires_ms),
        "operationsPerSecond": rate,
        "etaSeconds": 0 if ended else round(left / rate, 1) if rate and not view.paused else None,
        "resultsUrl": f"{base}/{view.id}/results",
        **_only_if_given(view),
    }


def event_id(view: View) -> str:
    """Changes whenever `status` tells something new: what a reader of events has seen."""
    return f"{view.completed}-{wire_state(view.state)}{'-paused' if view.paused else ''}"


def timestamp(time_ms: int | None) -> str | None:
    """RFC 3339 with milliseconds, UTC."""
    if time_ms is None:
        return None
    return datetime.fromtimestamp(time_ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _operations_per_s(view: View, now_ms: int) -> float | None:
    """On average since the start; None before it."""
    if view.started_ms is None:
        return None
    spent_ms = (now_ms if view.ended_ms is None else view.ended_ms) - view.started_ms
    return round(view.completed * 1000 / max(1, spent_ms), 3)


def _only_if_given(view: View) -> Mapping[str, str]:
    return {} if view.retry_of is None else {"retryOf": view.retry_of}
