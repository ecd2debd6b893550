"""OpenAI's batches, lists and errors as the vendor writes them."""

import json
from typing import Any

import msgspec
import pytest

from gateway.batch.states import State
from gateway.dialects.on_record import Record
from gateway.dialects.openai_create import invalid
from gateway.dialects.port import Page
from gateway.errors import GatewayError
from tests.unit.dialects.test_openai import CREATE, ID, SPOKEN, parsed

_COMPLAINT = {"code": "empty_file", "message": "m", "param": None, "line": None}
_WHY = json.dumps([list(_COMPLAINT.values())] * 150).encode()


def record(state: State, **more: Any) -> Record:
    given: dict[str, Any] = {"total": 3, "succeeded": 1, "failed": 1, "accepted_ms": 10_000}
    over = (
        {"ended_ms": 20_500, "kept_until_ms": 90_000} if state not in ("accepted", "processing", "cancelling") else {}
    )
    times = {"started_ms": 11_000, "ended_ms": None, "kept_until_ms": None, "cancelled_ms": None, "expires_ms": 50_000}
    return Record(**{"id": ID, "state": state, "memo": parsed().memo, **given, **times, **over, **more})


def _read(page: Page) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(page.body)
    return document


def shown(of: Record) -> dict[str, Any]:
    return _read(SPOKEN.shown(of, "http://gw"))


@pytest.mark.parametrize(
    ("state", "status", "times", "has_files"),
    [
        ("accepted", "validating", {}, False),
        ("processing", "in_progress", {}, False),
        ("cancelling", "cancelling", {"cancelling_at": 15}, False),
        ("completed", "completed", {"finalizing_at": 20, "completed_at": 20}, True),
        ("expired", "expired", {"expired_at": 20}, True),
        ("cancelled", "cancelled", {"cancelling_at": 15, "cancelled_at": 20}, True),
        ("failed", "failed", {"failed_at": 20}, True),
    ],
)
def test_a_batch_shows_its_state_and_the_times_of_what_has_happened(
    state: State, status: str, times: dict[str, int], has_files: bool
) -> None:
    found = shown(record(state, cancelled_ms=15_000 if "cancelling_at" in times else None))

    standing = ("created_at", "in_progress_at", "expires_at")
    happened = {
        name: time for name, time in found.items() if name.endswith("_at") and name not in standing and time is not None
    }
    assert (found["status"], happened) == (status, times)
    assert [found[name] for name in standing] == [10, 11, 50]
    assert found["output_file_id"] == (f"file-output-{ID}" if has_files else None)
    assert found["error_file_id"] == (f"file-errors-{ID}" if has_files else None)
    assert found["request_counts"] == {"total": 3, "completed": 1, "failed": 1}
    assert (found["errors"] is not None) == (state == "failed")
    assert {name: found[name] for name in CREATE} == CREATE


@pytest.mark.parametrize("state", ["accepted", "failed"])
def test_a_refused_batch_has_failed_in_whatever_state_its_record_is(state: State) -> None:
    found = shown(record(state, why=_WHY))

    assert (found["status"], found["failed_at"]) == ("failed", 10 if state == "accepted" else 20)
    assert found["errors"] == {"object": "list", "data": [_COMPLAINT] * 150}
    assert found["request_counts"] == {"total": 0, "completed": 0, "failed": 0}
    assert found["output_file_id"] is found["error_file_id"] is None


def test_a_batch_whose_record_is_damaged_says_so() -> None:
    assert shown(record("failed"))["errors"]["data"][0]["code"] == "payload_corrupt"


def test_a_result_file_without_a_line_is_none() -> None:
    assert shown(record("completed", succeeded=3))["error_file_id"] is None
    assert shown(record("completed", succeeded=0))["output_file_id"] is None


def test_a_page_names_its_ends_and_shortens_complaints() -> None:
    records = [record("failed", why=_WHY), record("completed", id="b" * 40)]

    page = _read(SPOKEN.listed(records, "http://gw", has_more=True))

    assert (page["object"], page["has_more"]) == ("list", True)
    assert (page["first_id"], page["last_id"]) == (f"batch_{ID}", f"batch_{'b' * 40}")
    assert len(page["data"][0]["errors"]["data"]) == 100
    assert _read(SPOKEN.listed([], "http://gw", has_more=False))["last_id"] is None


@pytest.mark.parametrize(
    ("error", "status", "type_", "code"),
    [
        (GatewayError("batch-not-found"), 404, "invalid_request_error", "batch_not_found"),
        (GatewayError("results-expired"), 404, "invalid_request_error", "results_expired"),
        (GatewayError("async-disabled"), 400, "invalid_request_error", "async_disabled"),
        (GatewayError("too-many-batches"), 429, "rate_limit_error", "too_many_batches"),
        (GatewayError("ledger-unavailable"), 503, "server_error", "ledger_unavailable"),
        (invalid("no", "limit", "bad_limit"), 400, "invalid_request_error", "bad_limit"),
    ],
)
def test_an_error_is_an_object_in_the_vendors_shape(error: GatewayError, status: int, type_: str, code: str) -> None:
    page = SPOKEN.refusal(error, "req")

    said = _read(page)["error"]
    assert (page.status, said["type"], said["code"], said["message"]) == (status, type_, code, error.detail)


def test_a_memo_of_an_earlier_version_is_read() -> None:
    older = msgspec.json.encode(CREATE)

    assert shown(record("completed", memo=older))["metadata"] is None
