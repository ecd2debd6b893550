"""What became of a Graph batch, and an error for all of it, in Graph's own shape (WIRE 6.2, 6.3, 9).

- An entry's body is JSON under a JSON type, a string under `text/*`, else base64 in the standard alphabet: that is what
  clients of Graph read. With `in_base64` every body is, for msgraph-core reads no other and is lost on a string.
- A status stands for what is known: 504 where time was up or the call may have run, 502 and 503 where it did not.
"""

from base64 import b64encode
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

import msgspec
from msgspec import UNSET, Raw

from gateway.batch.model import Failure, Outcome
from gateway.batch.validation import VIOLATIONS_MAX, Violation
from gateway.dialects import native
from gateway.dialects.port import EnvelopeError, Page
from gateway.errors import GatewayError

JSON_FIELD = (b"Content-Type", b"application/json")
_RETRY_AFTER_S_MAX = 120
_ENCODER = msgspec.json.Encoder()
_STATUSES: Mapping[str, int] = {
    "batch-deadline": 504,
    "cancelled": 503,
    "expired": 504,
    "outcome-unknown": 504,
    "response-budget-exceeded": 502,
}
_MESSAGES: Mapping[str, str] = {"halted": "an earlier request failed and continue-on-error is false; not sent"}
_OUTER_STATUSES: Mapping[str, int] = {"too-many-operations": 400, "validation-failed": 400}


class Memo(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """How an answer is written. `unsent`: by their place, the entries that are not operations; their ids, and why."""

    unsent: Mapping[int, tuple[str, str]]
    in_base64: bool
    stops: bool


class Answered(msgspec.Struct, omit_defaults=True, gc=False):
    """One entry of the answer; the order of the members is the order on the wire."""

    id: str
    status: int
    headers: Mapping[str, str]
    body: Any = UNSET


class Entries:
    """Gives the entries of an answer in the order of the requests, with those that were not sent where they stood."""

    def __init__(self, memo: Memo) -> None:
        self._memo = memo
        self._place = 0

    def of(self, id_: str, outcome: Outcome) -> list[Answered]:
        """The entry `id_`, behind those before it that were not sent."""
        found = [*self.unsent(), answered(id_, outcome, in_base64=self._memo.in_base64)]
        self._place += 1
        return found

    def unsent(self) -> list[Answered]:
        """Those that stand here and were not sent."""
        found = []
        while self._place in self._memo.unsent:
            id_, message = self._memo.unsent[self._place]
            found.append(unmet(id_, message, in_base64=self._memo.in_base64))
            self._place += 1
        return found


def applied(memo: Memo, *others: str) -> list[tuple[bytes, bytes]]:
    """`Preference-Applied` (RFC 7240 3); nothing where none was."""
    preferences = [*others, *(["continue-on-error=false"] if memo.stops else [])]
    return [(b"Preference-Applied", ", ".join(preferences).encode())] if preferences else []


def encoded(entry: Answered) -> bytes:
    return _ENCODER.encode(entry)


def page(answered: Sequence[Answered], fields: Sequence[tuple[bytes, bytes]] = ()) -> Page:
    """The whole answer."""
    return Page(200, [JSON_FIELD, *fields], _ENCODER.encode({"responses": answered}))


def answered(id_: str, outcome: Outcome, *, in_base64: bool) -> Answered:
    """What became of the entry `id_`."""
    if outcome.failure is not None:
        return _failed(id_, outcome.status, outcome.failure, in_base64=in_base64)
    headers = {
        name: ", ".join(values) if isinstance(values, list) else values for name, values in outcome.headers.items()
    }
    if not outcome.body:
        return Answered(id_, outcome.status, headers)
    return Answered(id_, outcome.status, headers, _encoded(outcome.body) if in_base64 else _body(outcome))


def unmet(id_: str, message: str, *, in_base64: bool) -> Answered:
    """424 for an entry that was not sent, for it asked for what is not done here."""
    return _failed(id_, 424, Failure("dependency-failed", message), in_base64=in_base64)


def refusal(error: GatewayError, request_id: str) -> Page:
    """An error for the whole envelope; each of several violations is in `details` (OData JSON 4.01, 21.1)."""
    status = _OUTER_STATUSES.get(error.problem.slug, error.status)
    more = {"details": details} if (details := error.members.get("details")) else {}
    document = _error(status, error.detail, more | {"innerError": {"request-id": request_id}})
    return Page(status, [JSON_FIELD], _ENCODER.encode(document))


def invalid(found: Sequence[Violation]) -> EnvelopeError:
    """400 with every violation, at most `VIOLATIONS_MAX`."""
    ordered = sorted(found, key=lambda violation: violation.position)[:VIOLATIONS_MAX]
    details = [
        {"code": "BadRequest", "message": each.detail, "target": f"requests/{each.position}/{each.member}"}
        for each in ordered
    ]
    first = ordered[0]
    count = "" if len(ordered) == 1 else f" ({len(ordered)} in all, see details)"
    detail = f"requests/{first.position}/{first.member}: {first.detail}{count}"
    return EnvelopeError("validation-failed", detail, members={"details": details})


def _failed(id_: str, status: int, failure: Failure, *, in_base64: bool) -> Answered:
    status = _STATUSES.get(failure.slug, status)
    headers = {"Content-Type": "application/json"}
    if isinstance(wait_s := failure.members.get("retryAfter"), int):
        headers["Retry-After"] = str(min(wait_s, _RETRY_AFTER_S_MAX))
    document = _error(status, _MESSAGES.get(failure.slug, failure.detail), {})
    return Answered(id_, status, headers, _encoded(_ENCODER.encode(document)) if in_base64 else document)


def _error(status: int, message: str, more: Mapping[str, Any]) -> dict[str, Any]:
    """`code` is the status's phrase as Graph writes it: `BadRequest`, `FailedDependency`."""
    return {"error": {"code": HTTPStatus(status).phrase.title().replace(" ", ""), "message": message, **more}}


def _body(outcome: Outcome) -> Raw | str:
    value, encoding = native.embedded(outcome)
    if encoding is UNSET:
        return value  # type: ignore[no-any-return]
    said = outcome.headers.get("Content-Type")
    essence = said.partition(";")[0].strip().lower() if isinstance(said, str) else ""
    is_text = encoding == "text" and essence.startswith("text/") and "Content-Encoding" not in outcome.headers
    return str(value) if is_text else _encoded(outcome.body)


def _encoded(body: bytes) -> str:
    return b64encode(body).decode("ascii")
