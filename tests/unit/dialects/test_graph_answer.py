"""Outcomes as entries of a Graph answer: bodies that its clients read, and errors in Graph's shape."""

import base64
import json
from typing import Any

import pytest

from gateway.batch.model import Failure, Outcome
from gateway.batch.validation import VIOLATIONS_MAX, Violation
from gateway.dialects import graph_answer
from gateway.errors import GatewayError

JSON = {"Content-Type": "application/json;odata.metadata=minimal"}


def shown(outcome: Outcome, *, in_base64: bool = False) -> Any:
    page = graph_answer.page([graph_answer.answered("x", outcome, in_base64=in_base64)])
    assert page.status == 200
    assert page.fields == [(b"Content-Type", b"application/json")]
    return json.loads(page.body)["responses"][0]


@pytest.mark.parametrize(
    ("headers", "body", "written"),
    [
        (JSON, b'{"a":[1]}', {"a": [1]}),
        (JSON, b"[1]", [1]),
        (JSON, b"{broken", "e2Jyb2tlbg=="),
        (JSON | {"Content-Encoding": "gzip"}, b"{}", "e30="),
        ({"Content-Type": "text/html; charset=utf-8"}, "<p>é".encode(), "<p>é"),
        ({"Content-Type": "text/plain"}, b"\xff", "/w=="),
        ({"Content-Type": "text/plain", "Content-Encoding": "br"}, b"x", "eA=="),
        ({"Content-Type": "image/png"}, b"\xff\xfe", "//4="),
        ({"Content-Type": "application/xml"}, b"<a/>", "PGEvPg=="),
        ({"Content-Type": ["text/plain", "text/html"]}, b"x", "eA=="),
        ({}, b"x", "eA=="),
    ],
)
def test_a_body_is_json_text_or_base64_by_its_type(
    headers: dict[str, str | list[str]], body: bytes, written: object
) -> None:
    assert shown(Outcome(0, 200, headers, body))["body"] == written


def test_every_body_is_in_base64_where_that_was_asked_for() -> None:
    entry = shown(Outcome(0, 200, JSON, b'{"a":"\xc3\xbf?>"}'), in_base64=True)
    failed = shown(Outcome(0, 502, failure=Failure("upstream-connect", "refused")), in_base64=True)

    assert base64.b64decode(entry["body"], validate=True) == b'{"a":"\xc3\xbf?>"}'
    assert json.loads(base64.b64decode(failed["body"]))["error"]["code"] == "BadGateway"


def test_an_answer_without_a_body_has_no_member_for_it_and_repeated_fields_are_one_string() -> None:
    outcome = Outcome(0, 204, {"Vary": ["a", "b"], "ETag": '"1"'})

    assert shown(outcome) == {"id": "x", "status": 204, "headers": {"Vary": "a, b", "ETag": '"1"'}}


@pytest.mark.parametrize(
    ("status", "failure", "written"),
    [
        (502, Failure("outcome-unknown", "who knows"), (504, "GatewayTimeout")),
        (408, Failure("batch-deadline", "too late"), (504, "GatewayTimeout")),
        (507, Failure("response-budget-exceeded", "too large"), (502, "BadGateway")),
        (409, Failure("cancelled", "cancelled"), (503, "ServiceUnavailable")),
        (410, Failure("expired", "expired"), (504, "GatewayTimeout")),
        (424, Failure("dependency-failed", "no"), (424, "FailedDependency")),
        (403, Failure("route-not-allowed", "no"), (403, "Forbidden")),
    ],
)
def test_a_failure_has_the_status_that_graph_would_give(
    status: int, failure: Failure, written: tuple[int, str]
) -> None:
    entry = shown(Outcome(0, status, failure=failure))

    assert (entry["status"], entry["body"]["error"]["code"]) == written
    assert entry["body"]["error"]["message"] == failure.detail
    assert entry["headers"] == {"Content-Type": "application/json"}


def test_what_was_stopped_is_told_in_words_of_odata() -> None:
    entry = shown(Outcome(1, 424, failure=Failure("halted", "onFailure is halt")))

    assert entry["body"]["error"]["message"] == "an earlier request failed and continue-on-error is false; not sent"


@pytest.mark.parametrize(("wait_s", "said"), [(7, "7"), (4000, "120")])
def test_a_throttled_entry_says_when_to_come_back(wait_s: int, said: str) -> None:
    entry = shown(Outcome(0, 429, failure=Failure("rate-limited", "later", members={"retryAfter": wait_s})))

    assert (entry["status"], entry["headers"]["Retry-After"]) == (429, said)


def test_a_refusal_is_an_error_of_graph() -> None:
    page = graph_answer.refusal(GatewayError("rate-limited", "wait"), "r-1")

    assert (page.status, page.fields) == (429, [(b"Content-Type", b"application/json")])
    assert json.loads(page.body) == {
        "error": {"code": "TooManyRequests", "message": "wait", "innerError": {"request-id": "r-1"}}
    }


def test_every_violation_is_told_in_order_and_not_more_than_fit() -> None:
    found = [Violation(position, "url", "x", f"no {position}") for position in reversed(range(VIOLATIONS_MAX + 1))]

    page = graph_answer.refusal(graph_answer.invalid(found), "r")

    error = json.loads(page.body)["error"]
    assert (page.status, error["code"]) == (400, "BadRequest")
    assert error["message"].startswith("requests/0/url: no 0")
    assert len(error["details"]) == VIOLATIONS_MAX
    assert error["details"][1] == {"code": "BadRequest", "message": "no 1", "target": "requests/1/url"}
