"""A Google batch's answer: read back by the standard library's parser, as Google's client does."""

import json
from email.message import Message
from email.parser import BytesParser
from hashlib import blake2b

import pytest

from gateway.batch.model import Failure, Outcome
from gateway.dialects import google_answer
from gateway.dialects.google_answer import Answered
from gateway.errors import PROBLEMS, GatewayError


def _parts(*answers: tuple[str | None, Answered]) -> list[Message]:
    page = google_answer.page(answers, b"seed")
    message = BytesParser().parsebytes(b"Content-Type: " + dict(page.fields)[b"Content-Type"] + b"\r\n\r\n" + page.body)
    assert message.defects == []
    payload = message.get_payload()
    assert isinstance(payload, list)
    return [part for part in payload if isinstance(part, Message)]


def _inner(answered: Answered) -> tuple[str, Message]:
    """The status line, and the head and body behind it."""
    (part,) = _parts((None, answered))
    content = part.get_payload(decode=True)
    assert isinstance(content, bytes)
    line, _, rest = content.partition(b"\r\n")
    return line.decode(), BytesParser().parsebytes(rest)


def test_parts_stand_in_order_under_the_ids_that_the_client_gave() -> None:
    parts = _parts(("<a + 1>", Outcome(0, 200)), (None, Outcome(1, 200)), ("plain", Outcome(2, 200)))

    assert [part["Content-ID"] for part in parts] == ["<response-a + 1>", None, "response-plain"]
    assert {part.get_content_type() for part in parts} == {"application/http"}


def test_an_answer_has_its_status_its_fields_and_its_bytes() -> None:
    headers: dict[str, str | list[str]] = {"Content-Type": "text/plain", "Set-Cookie": ["a=1", "b=2"]}
    headers["Content-Length"] = "99"

    line, message = _inner(Outcome(0, 203, headers, "é\r\n\r\nend\n".encode()))

    assert line == "HTTP/1.1 203 Non-Authoritative Information"
    assert message.items() == [
        ("Content-Type", "text/plain"), ("Set-Cookie", "a=1"), ("Set-Cookie", "b=2"), ("Content-Length", "10"),
    ]  # fmt: skip
    assert message.get_payload(decode=True) == "é\r\n\r\nend\n".encode()


@pytest.mark.parametrize("status", [204, 304, 599])
def test_even_an_empty_answer_has_a_reason_s_space_and_one_field(status: int) -> None:
    line, message = _inner(Outcome(0, status))

    assert line.startswith(f"HTTP/1.1 {status} ")
    assert message.items() == [("Content-Length", "0")]


def test_bytes_that_are_no_utf8_come_as_base64() -> None:
    _, message = _inner(Outcome(0, 200, {"Content-Type": "image/png"}, b"\x89PNG\xff"))

    assert message.get_payload() == "iVBOR/8="
    assert message["Content-Transfer-Encoding"] == "base64"
    assert message.get_payload(decode=True) == b"\x89PNG\xff"


@pytest.mark.parametrize(("said", "shown"), [("Ã©", "é"), ("é", "é"), ("plain", "plain")])
def test_the_whole_answer_is_utf8_whatever_a_field_was_written_in(said: str, shown: str) -> None:
    page = google_answer.page([("<é>", Outcome(0, 200, {"X-Name": said}))], b"")

    assert f"X-Name: {shown}\r\n" in page.body.decode("utf-8")


@pytest.mark.parametrize(
    ("slug", "status", "word"),
    [
        ("batch-deadline", 504, "DEADLINE_EXCEEDED"),
        ("outcome-unknown", 504, "DEADLINE_EXCEEDED"),
        ("upstream-timeout", 504, "DEADLINE_EXCEEDED"),
        ("upstream-connect", 503, "UNAVAILABLE"),
        ("overloaded", 503, "UNAVAILABLE"),
        ("rate-limited", 429, "RESOURCE_EXHAUSTED"),
        ("route-not-allowed", 403, "PERMISSION_DENIED"),
        ("credential-refused", 401, "UNAUTHENTICATED"),
        ("upstream-response-too-large", 502, "INTERNAL"),
        ("response-budget-exceeded", 502, "INTERNAL"),
        ("dependency-failed", 424, "INVALID_ARGUMENT"),
    ],
)
def test_what_has_no_answer_is_an_error_in_google_s_words(slug: str, status: int, word: str) -> None:
    failure = Failure(slug, "why", members={"retryAfter": 500})

    line, message = _inner(Outcome(0, PROBLEMS[slug].status, failure=failure))

    error = json.loads(str(message.get_payload()))["error"]
    assert line.startswith(f"HTTP/1.1 {status} ")
    assert (error["code"], error["message"], error["status"]) == (status, "why", word)
    assert error["errors"][0].keys() == {"message", "domain", "reason"}
    assert message["Retry-After"] == "120"  # clients give up above some minutes


def test_a_call_that_was_not_sent_is_an_error_in_its_place() -> None:
    line, message = _inner((400, "no request"))

    assert line == "HTTP/1.1 400 Bad Request"
    assert json.loads(str(message.get_payload()))["error"]["message"] == "no request"
    assert message["Retry-After"] is None


def test_a_failure_that_tells_no_time_has_no_retry_after() -> None:
    _, message = _inner(Outcome(0, 502, failure=Failure("upstream-malformed", "why")))

    assert message["Retry-After"] is None


def test_a_boundary_that_stands_in_a_body_is_not_used() -> None:
    first = b"batch_" + blake2b(b"seed", digest_size=12).hexdigest().encode()

    page = google_answer.page([(None, Outcome(0, 200, {}, b"--" + first + b"--"))], b"seed")

    assert dict(page.fields)[b"Content-Type"] != b"multipart/mixed; boundary=" + first
    assert len(_parts((None, Outcome(0, 200, {}, b"--" + first + b"--")))) == 1


def test_a_refusal_is_one_error_for_all() -> None:
    page = google_answer.refusal(GatewayError("too-many-operations", "too many"))

    assert page.status == 413
    assert json.loads(page.body) == {
        "error": {
            "code": 413,
            "message": "too many",
            "status": "INVALID_ARGUMENT",
            "errors": [{"message": "too many", "domain": "global", "reason": "uploadTooLarge"}],
        }
    }
