"""Facebook's answers, judged by the client's own classes: what the upstream's status says is what the client sees."""

import json
from typing import Any

import msgspec
import pytest
from facebook_business.api import FacebookResponse
from hypothesis import given
from hypothesis import strategies as st

from gateway.batch.model import Failure, Outcome
from gateway.dialects import facebook_answer
from gateway.errors import PROBLEMS, GatewayError


def _entry(outcome: Outcome, *, with_headers: bool = True, omits: bool = False) -> Any:
    entry = facebook_answer.answered(outcome, with_headers=with_headers, omits=omits)
    return json.loads(facebook_answer.page([entry]).body)[0]


def _seen(entry: Any) -> FacebookResponse:
    return FacebookResponse(entry["body"], entry["code"], entry.get("headers"), {"method": "GET"})


@pytest.mark.parametrize(
    ("status", "body", "code", "shown"),
    [
        (200, b'{"id": 1.0}', 200, '{"id": 1.0}'),
        (200, b'{"success": true}', 200, '{"success": true}'),
        (204, b"", 200, '{"success":true}'),
        (200, b"", 200, ""),
        (304, b"", 304, ""),
        (200, b"{}", 200, "{}"),
        (200, b"null", 200, "null"),
        (201, b"", 201, '{"success":true}'),
        (202, b"{}", 202, '{"success":true}'),
        (201, b"[]", 201, '{"data":[]}'),
        (201, b" null", 201, '{"success":true}'),
        (200, b"true", 200, '{"success":true}'),
        (200, b"false", 200, '{"data":false}'),
        (200, b"5", 200, '{"data":5}'),
        (201, b"0", 201, '{"data":0}'),
        (200, b'{"id": 1e400}', 200, '{"id": 1e400}'),
        (200, b'"success"', 200, '{"data":"success"}'),
        (200, b"Service Unavailable", 200, '{"data":"Service Unavailable"}'),
        (200, b'["success", 1]', 200, '{"data":["success", 1]}'),
        (200, b'["Service Unavailable"]', 200, '{"data":["Service Unavailable"]}'),
        (200, b"[1, true]", 200, "[1, true]"),
        (200, b'{"error": null, "x": 1}', 200, '{"data":{"error": null, "x": 1}}'),
        (200, b'{"error": "no"}', 200, '{"data":{"error": "no"}}'),
        (200, b"\xff\x00", 200, '{"body":"/wA=","encoding":"base64"}'),
        (302, b"", 302, '{"success":true}'),
        (200, b"<html>success</html>", 200, '{"data":"<html>success</html>"}'),
        (200, b"[" * 100_000, 200, None),
    ],
)
def test_a_success_is_one_to_the_client(status: int, body: bytes, code: int, shown: str | None) -> None:
    entry = _entry(Outcome(0, status, {"Content-Type": "text/javascript", "Content-Length": "9"}, body))

    assert entry["code"] == code
    assert shown is None or entry["body"] == shown
    assert _seen(entry).is_success()
    changed = entry["body"].encode() != body
    assert {"name": "Content-Length", "value": "9"} in entry["headers"] or changed
    assert {"name": "Content-Type", "value": "application/json" if changed else "text/javascript"} in entry["headers"]


@pytest.mark.parametrize("status", [400, 404, 500, 503])
@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b'{"error": {"message": "bad", "code": 100}}', "bad"),
        (b'{"error": {"message": "bad", "error_data": "{\\"a\\":1}"}}', "bad"),
        (b'{"error": {"message": "bad", "error_data": {"blame_field_specs": [["a"]]}}}', "bad"),
        (b'{"error": {"message": "bad", "error_data": "no json"}}', "bad"),
        (b'{"error": {"message": "bad", "error_data": null}}', "bad"),
        (b'{"error": {"message": "bad", "error_data": [1]}}', "bad"),
        (b'{"error": "words"}', "words"),
        (b'{"error": null}', None),
        (b'{"message": "no user"}', "no user"),
        (b'{"id": 1}', None),
        (b"", None),
        (b"[1]", None),
        (b"<html>Service Unavailable</html>", None),
        (b"\xff", None),
    ],
)  # fmt: skip
def test_a_failure_is_one_that_the_client_can_read(status: int, body: bytes, message: str | None) -> None:
    entry = _entry(Outcome(0, status, {}, body))

    seen = _seen(entry)
    assert entry["code"] == status
    assert seen.is_failure()
    assert seen.error().api_error_message() == (message or f"the upstream answered {status}")


def test_what_the_upstream_said_of_its_failure_is_kept() -> None:
    entry = _entry(Outcome(0, 404, {}, b'{"why": 1.50}'))

    assert '"error_data":{"body":{"why": 1.50}}' in entry["body"]
    assert json.loads(_entry(Outcome(0, 404, {}, b"gone"))["body"])["error"]["error_data"] == {"body": "gone"}


def test_an_error_behind_a_good_status_is_the_upstreams_word() -> None:
    assert _entry(Outcome(0, 200, {}, b'{"error":{"message":"x"}}'))["body"] == '{"error":{"message":"x"}}'
    mended = _entry(Outcome(0, 200, {}, b'{"error":{"message":"x","error_data":"y"}}'))
    assert _seen(mended).error().api_error_message() == "x"


def test_a_repeated_field_is_shown_repeatedly_and_none_where_not_asked_for() -> None:
    outcome = Outcome(0, 200, {"Set-Cookie": ["a", "b"], "ETag": "c"}, b'{"a":1}')

    assert _entry(outcome)["headers"] == [
        {"name": "Set-Cookie", "value": "a"},
        {"name": "Set-Cookie", "value": "b"},
        {"name": "ETag", "value": "c"},
    ]
    assert _entry(outcome, with_headers=False) == {"code": 200, "body": '{"a":1}'}


@pytest.mark.parametrize("slug", ["batch-deadline", "cancelled", "expired", "halted", "draining"])
def test_what_surely_did_not_run_is_null(slug: str) -> None:
    assert _entry(Outcome(0, PROBLEMS[slug].status, failure=Failure(slug, "words"))) is None


@pytest.mark.parametrize(
    ("slug", "members", "code", "number", "is_transient"),
    [
        ("outcome-unknown", {}, 504, 2, False),
        ("upstream-timeout", {}, 504, 2, True),
        ("rate-limited", {"retryAfter": 500}, 429, 4, True),
        ("dependency-failed", {}, 424, 100, False),
        ("credential-refused", {}, 401, 190, False),
        ("route-not-allowed", {}, 403, 200, False),
        ("upstream-response-too-large", {}, 502, 1, False),
        ("response-budget-exceeded", {}, 502, 1, False),
    ],
)
def test_what_the_gateway_says_of_an_entry_is_an_error_and_never_null(
    slug: str, members: dict[str, object], code: int, number: int, is_transient: bool
) -> None:
    failure = Failure(slug, "words", is_transient, members)

    entry = _entry(Outcome(0, PROBLEMS[slug].status, failure=failure), omits=True)

    error = _seen(entry).error()
    assert entry["code"] == code
    assert (error.api_error_code(), error.api_transient_error()) == (number, is_transient)
    assert ({"name": "Retry-After", "value": "120"} in entry["headers"]) is bool(members)


def test_a_success_may_be_left_out_and_a_failure_never_is() -> None:
    assert _entry(Outcome(0, 200, {}, b"{}"), omits=True) is None
    assert _entry(Outcome(0, 400, {}, b"{}"), omits=True)["code"] == 400


@pytest.mark.parametrize(
    ("slug", "status", "kind", "code"),
    [
        ("too-many-operations", 400, "GraphBatchException", -3),
        ("invalid-json", 400, "GraphBatchException", 100),
        ("rate-limited", 429, "OAuthException", 4),
        ("overloaded", 503, "OAuthException", 2),
        ("internal-error", 500, "OAuthException", 1),
    ],
)
def test_a_refusal_has_the_shape_of_facebooks_errors(slug: str, status: int, kind: str, code: int) -> None:
    page = facebook_answer.refusal(GatewayError(slug, "words"), "r-1")

    error = json.loads(page.body)["error"]
    assert page.status == status
    assert (error["type"], error["code"], error["message"], error["fbtrace_id"]) == (kind, code, "words", "r-1")


_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["error", "id", "error_data", "message"]), inner),
)


@given(st.integers(200, 599), _VALUES.map(msgspec.json.encode) | st.binary())
def test_the_client_sees_a_failure_where_the_status_or_the_upstream_says_so(status: int, body: bytes) -> None:
    entry = _entry(Outcome(0, status, {}, body))

    seen = _seen(entry)
    if status >= 400:
        assert seen.is_failure()
    elif seen.is_failure():
        assert isinstance(json.loads(entry["body"])["error"], dict)
    if seen.is_failure():
        assert seen.error().body() is not None
