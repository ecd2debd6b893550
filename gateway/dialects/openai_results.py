"""Outcomes as the lines of OpenAI's two result files: what succeeded in one, all else in the other.

A request that surely never ran, or of which nobody knows, has no response; whatever else the gateway itself has to say
(throttled, unreachable, answer too large) reads as a response with an error body, as the upstream would have said it.
"""

from typing import Any

import msgspec

from gateway.batch.model import Outcome
from gateway.dialects.native import embedded
from gateway.dialects.on_record import Part
from gateway.dialects.openai_answer import error_type
from gateway.dialects.openai_lines import custom_id_of

_ENCODER = msgspec.json.Encoder()
_WITHOUT_ANSWER = {
    "expired": ("batch_expired", "This request could not be executed before the completion window expired."),
    "cancelled": ("batch_cancelled", "This request was not executed: the batch was cancelled."),
    "upstream-timeout": ("request_timeout", "No answer came in time."),
    "outcome-unknown": ("request_timeout", "No answer came in time; the request may have been executed."),
}


def line_of(batch_id: str, operation_id: str, outcome: Outcome, part: Part) -> bytes:
    """The outcome's line where it belongs to the file, else nothing."""
    if outcome.succeeded != (part == "output"):
        return b""
    response, error = _response_and_error(batch_id, operation_id, outcome)
    line = {
        "id": f"batch_req_{batch_id}_{outcome.index}",
        "custom_id": custom_id_of(operation_id),
        "response": response,
        "error": error,
    }
    # Only white space between the tokens of an embedded body can be a raw line end: dropping it changes no value.
    return _ENCODER.encode(line).replace(b"\n", b"").replace(b"\r", b"") + b"\n"


def _response_and_error(
    batch_id: str, operation_id: str, outcome: Outcome
) -> tuple[dict[str, Any] | None, dict[str, str] | None]:
    failure = outcome.failure
    if failure is not None and failure.slug in _WITHOUT_ANSWER:
        code, message = _WITHOUT_ANSWER[failure.slug]
        return None, {"code": code, "message": message}
    said = outcome.headers.get("X-Request-Id")
    response: dict[str, Any] = {
        "status_code": outcome.status,
        "request_id": said if isinstance(said, str) else f"{batch_id}.{operation_id}",
        "body": None,
    }
    if failure is not None:
        response["body"] = {
            "error": {
                "message": failure.detail,
                "type": error_type(outcome.status),
                "param": None,
                "code": failure.slug.replace("-", "_"),
            }
        }
    elif outcome.body:
        response["body"] = embedded(outcome)[0]
    return response, None
