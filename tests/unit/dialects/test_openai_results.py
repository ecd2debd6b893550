"""Outcomes as lines of the output and the error file."""

import json
from typing import Any

import pytest

from gateway.batch.model import Failure, Outcome
from gateway.dialects.openai_results import line_of

_JSON = {"Content-Type": "application/json"}


def _line(outcome: Outcome) -> dict[str, Any]:
    written = line_of("x", "op", outcome, "output" if outcome.succeeded else "errors")
    assert written.endswith(b"\n")
    assert written.count(b"\n") == 1
    assert line_of("x", "op", outcome, "errors" if outcome.succeeded else "output") == b""
    found: dict[str, Any] = json.loads(written)
    return found


@pytest.mark.parametrize(
    ("outcome", "status", "body"),
    [
        (Outcome(0, 200, _JSON, b'{"a":\r\n1}'), 200, {"a": 1}),
        (Outcome(0, 200, {"Content-Type": "text/plain"}, b"text\n"), 200, "text\n"),
        (Outcome(0, 200, {}, b"\xff\x00"), 200, "/wA="),
        (Outcome(0, 204), 204, None),
        (Outcome(0, 429, _JSON, b'{"error":{}}'), 429, {"error": {}}),
    ],
)
def test_an_answer_is_a_response_without_an_error(outcome: Outcome, status: int, body: object) -> None:
    line = _line(outcome)

    assert line == {
        "id": "batch_req_x_0",
        "custom_id": "op",
        "response": {"status_code": status, "request_id": "x.op", "body": body},
        "error": None,
    }


def test_the_upstreams_own_request_id_is_told() -> None:
    assert _line(Outcome(0, 200, {"X-Request-Id": "up"}))["response"]["request_id"] == "up"


@pytest.mark.parametrize(
    ("slug", "code"),
    [
        ("expired", "batch_expired"),
        ("cancelled", "batch_cancelled"),
        ("upstream-timeout", "request_timeout"),
        ("outcome-unknown", "request_timeout"),
    ],
)
def test_what_has_no_answer_has_an_error_instead(slug: str, code: str) -> None:
    line = _line(Outcome(0, 504, failure=Failure(slug, "words")))

    assert (line["response"], line["error"]["code"]) == (None, code)


def test_the_gateways_own_words_read_as_a_response() -> None:
    line = _line(Outcome(0, 502, failure=Failure("upstream-response-too-large", "words")))

    assert line["error"] is None
    assert line["response"]["status_code"] == 502
    assert line["response"]["body"]["error"] == {
        "message": "words",
        "type": "server_error",
        "param": None,
        "code": "upstream_response_too_large",
    }
