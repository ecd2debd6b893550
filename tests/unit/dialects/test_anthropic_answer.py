"""Anthropic's dialect: batches, lines and errors as the vendor writes them."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.batch.model import Failure, Outcome
from gateway.batch.states import STATES
from gateway.dialects.on_record import Ask, Record
from gateway.errors import PROBLEMS, GatewayError
from tests.unit.dialects.test_anthropic import SPOKEN

_JSON = {"Content-Type": "application/json"}


def _record(state: Any = "processing", **more: Any) -> Record:
    given = {
        "total": 9,
        "succeeded": 4,
        "failed": 2,
        "ended_ms": None,
        "cancelled_ms": None,
        "started_ms": None,
        "kept_until_ms": None,
    } | more
    return Record("id", state, accepted_ms=0, expires_ms=86_400_000, **given)


def _shown(record: Record) -> dict[str, Any]:
    shown: dict[str, Any] = json.loads(SPOKEN.shown(record, "http://gw").body)
    return shown


def _result(outcome: Outcome) -> dict[str, Any]:
    line = SPOKEN.line("b", "a", outcome, "")
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    document: dict[str, Any] = json.loads(line)
    assert document.pop("custom_id") == "a"
    result: dict[str, Any] = document.pop("result")
    assert document == {}
    return result


def _error(outcome: Outcome) -> dict[str, Any]:
    result = _result(outcome)
    assert result["type"] == "errored"
    error: dict[str, Any] = result["error"]
    return error


@pytest.mark.parametrize("state", ["accepted", "processing"])
def test_a_batch_that_runs_counts_every_request_as_processing(state: str) -> None:
    assert _shown(_record(state)) == {
        "id": "msgbatch_id",
        "type": "message_batch",
        "processing_status": "in_progress",
        "request_counts": {"processing": 9, "succeeded": 0, "errored": 0, "canceled": 0, "expired": 0},
        "created_at": "1970-01-01T00:00:00.000Z",
        "expires_at": "1970-01-02T00:00:00.000Z",
        "ended_at": None,
        "cancel_initiated_at": None,
        "archived_at": None,
        "results_url": None,
    }


def test_a_batch_that_is_being_cancelled_says_since_when() -> None:
    shown = _shown(_record("cancelling", cancelled_ms=1500))

    assert (shown["processing_status"], shown["cancel_initiated_at"]) == ("canceling", "1970-01-01T00:00:01.500Z")


@pytest.mark.parametrize(
    ("state", "counted"),
    [("completed", {}), ("cancelled", {"canceled": 3}), ("expired", {"expired": 3}), ("failed", {"errored": 5})],
)
def test_a_batch_that_has_ended_counts_how_each_request_did(state: str, counted: dict[str, int]) -> None:
    never_ran = 3 if counted else 0

    shown = _shown(_record(state, total=6 + never_ran, ended_ms=1000))

    wanted = {"processing": 0, "succeeded": 4, "errored": 2, "canceled": 0, "expired": 0} | counted
    assert (shown["processing_status"], shown["request_counts"]) == ("ended", wanted)
    assert shown["results_url"] == "http://gw/v1/messages/batches/msgbatch_id/results"


@given(st.sampled_from(STATES), st.integers(0, 9), st.integers(0, 9), st.integers(1, 9))
def test_the_sum_of_the_counts_never_changes(state: Any, succeeded: int, failed: int, rest: int) -> None:
    total = succeeded + failed + rest

    shown = _shown(_record(state, total=total, succeeded=succeeded, failed=failed))

    assert sum(shown["request_counts"].values()) == total


def test_a_list_names_its_first_and_its_last() -> None:
    records = [_record()._replace(id=id_) for id_ in "abc"]

    listed = json.loads(SPOKEN.listed(records, "", has_more=True).body)

    assert (listed["first_id"], listed["last_id"], listed["has_more"]) == ("msgbatch_a", "msgbatch_c", True)
    assert [each["id"] for each in listed["data"]] == ["msgbatch_a", "msgbatch_b", "msgbatch_c"]


def test_an_empty_list_has_neither() -> None:
    listed = json.loads(SPOKEN.listed([], "", has_more=False).body)

    assert listed == {"data": [], "has_more": False, "first_id": None, "last_id": None}


def test_a_deleted_batch_is_named() -> None:
    assert json.loads(SPOKEN.deleted(Ask("delete", "x")).body) == {"id": "msgbatch_x", "type": "message_batch_deleted"}


@pytest.mark.parametrize(
    ("headers", "body", "message"),
    [
        (_JSON, b'{\r\n "a": 1.0\n}', {"a": 1.0}),
        (_JSON, b"", None),
        ({}, "ä\n".encode(), "ä\n"),
        ({}, b"\xff", "/w=="),
    ],
)
def test_an_answer_is_a_message(headers: dict[str, Any], body: bytes, message: Any) -> None:
    assert _result(Outcome(0, 200, headers, body)) == {"type": "succeeded", "message": message}


def test_an_upstreams_own_error_is_passed_on_as_it_is() -> None:
    body = b'{"type":"error","error":{"type":"odd_error","message":"no","x":1},"request_id":"r"}'

    assert _error(Outcome(0, 418, _JSON, body)) == json.loads(body)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "the upstream answered 429"),
        (b"[1]", "the upstream answered 429"),
        (b'{"type":"error","error":{"message":"said"}}', "said"),
        (b'{"message":"said"}', "said"),
        (b'{"error":"said"}', "said"),
        (b'{"error":7}', "the upstream answered 429"),
        (b"no json", "no json"),
        (b"x" * 9000, "x" * 500),
    ],
)
def test_any_other_error_is_put_in_the_vendors_shape(body: bytes, message: str) -> None:
    assert _error(Outcome(0, 429, _JSON | {"Request-Id": "req_1"}, body)) == {
        "type": "error",
        "error": {"type": "rate_limit_error", "message": message},
        "request_id": "req_1",
    }


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, "invalid_request_error"),
        (418, "invalid_request_error"),
        (401, "authentication_error"),
        (500, "api_error"),
        (503, "api_error"),
        (529, "overloaded_error"),
        (504, "timeout_error"),
        (404, "not_found_error"),
    ],
)
def test_the_type_of_an_error_follows_from_its_status(status: int, kind: str) -> None:
    error = _error(Outcome(0, status, {"Request-Id": ["a", "b"]}))

    assert (error["error"]["type"], error["request_id"]) == (kind, None)


@pytest.mark.parametrize(("slug", "kind"), [("cancelled", "canceled"), ("expired", "expired")])
def test_what_never_ran_is_canceled_or_expired(slug: str, kind: str) -> None:
    assert _result(Outcome(0, 409, failure=Failure(slug, "x"))) == {"type": kind}


@pytest.mark.parametrize(
    ("status", "slug", "kind"),
    [
        (429, "rate-limited", "rate_limit_error"),
        (504, "outcome-unknown", "timeout_error"),
        (502, "upstream-response-too-large", "api_error"),
        (403, "route-not-allowed", "permission_error"),
    ],
)
def test_the_gateways_own_failures_tell_their_slug(status: int, slug: str, kind: str) -> None:
    error = _error(Outcome(0, status, failure=Failure(slug, "why")))

    assert error["error"] == {"type": kind, "message": "why", "details": {"error_code": slug}}


@pytest.mark.parametrize(
    ("slug", "status", "kind", "again"),
    [
        ("validation-failed", 400, "invalid_request_error", b"false"),
        ("batch-not-found", 404, "not_found_error", b"false"),
        ("results-expired", 404, "not_found_error", b"false"),
        ("batch-running", 400, "invalid_request_error", b"false"),
        ("too-many-operations", 413, "request_too_large", b"false"),
        ("too-many-batches", 429, "rate_limit_error", b"true"),
        ("ledger-unavailable", 503, "api_error", b"true"),
        ("internal-error", 500, "api_error", b"false"),
    ],
)
def test_a_refusal_is_in_the_vendors_shape(slug: str, status: int, kind: str, again: bytes) -> None:
    page = SPOKEN.refusal(GatewayError(slug, "why"), "req_9")

    assert (page.status, dict(page.fields)[b"x-should-retry"]) == (status, again)
    assert json.loads(page.body) == {
        "type": "error",
        "error": {"type": kind, "message": "why", "details": {"error_code": slug}},
        "request_id": "req_9",
    }


def test_no_refusal_is_a_conflict_that_clients_would_send_again() -> None:
    statuses = {slug: SPOKEN.refusal(GatewayError(slug), "r").status for slug in PROBLEMS if slug.startswith("batch")}

    assert 409 not in statuses.values()
