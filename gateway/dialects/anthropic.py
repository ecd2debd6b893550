"""Anthropic's Message Batches (WIRE 3): each of `requests` is a POST upstream with its `params`.

`params` is nobody's business but the upstream's: it goes out byte for byte, and a bad one becomes an `errored` line.
All else that is wrong refuses the whole batch.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import parse_qsl, unquote

import msgspec
from msgspec import UNSET, Raw, UnsetType

from gateway.batch.model import Batch, Fields, Operation, Outcome
from gateway.batch.validation import Rules, violations
from gateway.dialects import anthropic_answer
from gateway.dialects.native import too_many
from gateway.dialects.on_record import Ask, Order, Part, Record, Verb, Window
from gateway.dialects.port import Call, EnvelopeError, EnvelopeLimits, Page
from gateway.dialects.strictness import check_members_once, check_structure, check_syntax, check_text
from gateway.errors import GatewayError, quoted

_CUSTOM_ID = re.compile(r"[a-zA-Z0-9_-]{1,64}")
_TOLD_MAX = 5  # mistakes that one refusal tells of
_LIMIT, _LIMIT_MAX = 20, 1000
_JSON_FIELDS: Fields = (("Content-Type", "application/json"),)

_OF_ALL: Mapping[str, Verb] = {"POST": "create", "GET": "list", "HEAD": "list"}
_OF_ONE: Mapping[str, Mapping[str, Verb]] = {
    "": {"GET": "view", "HEAD": "view", "DELETE": "delete"},
    "results": {"GET": "results", "HEAD": "results"},
    "cancel": {"POST": "cancel"},
}


class _Entry(msgspec.Struct, gc=False):
    custom_id: Any = UNSET
    params: Raw | UnsetType = UNSET


class _Envelope(msgspec.Struct, gc=False):
    requests: list[_Entry]


_ENVELOPE = msgspec.json.Decoder(_Envelope)
_ENCODER = msgspec.json.Encoder()


class Anthropic:
    """Speaks for the batches at `path`, whose requests go to `target`."""

    name = "anthropic"
    request_id_field = b"request-id"
    lines_type = b"application/x-jsonl"
    files = None

    def __init__(
        self,
        *,
        path: str,
        target: str,
        operations_max: int,
        body_max: int,
        depth_max: int,
        nodes_max: int,
        rules: Rules,
    ) -> None:
        self._batches = path
        self._target = target
        self._limits = EnvelopeLimits(operations_max, depth_max, nodes_max)
        self.body_bytes_max = body_max
        self._rules = rules

    def reads(self, call: Call) -> bool:
        return call.path == self._batches or call.path.startswith(f"{self._batches}/")

    def ask(self, call: Call) -> Ask:
        named, _, what = call.path.removeprefix(self._batches).removeprefix("/").partition("/")
        verbs = _OF_ONE.get(what) if named else _OF_ALL
        if verbs is None:
            raise GatewayError("not-found", f"nothing stands at {quoted(what)} of a batch; there is results and cancel")
        verb = verbs.get(call.method)
        if verb is None:
            raise GatewayError("method-not-allowed", headers={"Allow": ", ".join(verbs)})
        if verb == "list":
            return Ask(verb, window=_window(call.query))
        return Ask(verb, anthropic_answer.own_id(unquote(named)))

    def parse(self, call: Call) -> Order:
        entries = self._entries(call.body)
        if len(entries) > self._limits.operations_max:
            raise too_many(len(entries), self._limits.operations_max)
        wrong = list(_wrong(entries))
        if wrong:
            raise _invalid(wrong)
        operations = [
            Operation(entry.custom_id, "POST", self._target, _JSON_FIELDS, bytes(entry.params), has_body=True)  # type: ignore[arg-type]  # none is UNSET now
            for entry in entries
        ]
        judged = violations(operations, self._rules)
        if judged:
            raise _invalid([f"requests.{each.position}.params: {each.detail}" for each in judged])
        return Order(Batch(operations, pointer="/requests"))

    def shown(self, record: Record, origin: str) -> Page:
        return anthropic_answer.page(anthropic_answer.batch(record, origin + self._batches))

    def listed(self, records: Sequence[Record], origin: str, *, has_more: bool) -> Page:
        shown = [anthropic_answer.batch(record, origin + self._batches) for record in records]
        ids = [each["id"] for each in shown] or [None]
        document = {"data": shown, "has_more": has_more, "first_id": ids[0], "last_id": ids[-1]}
        return anthropic_answer.page(document)

    def deleted(self, ask: Ask) -> Page:
        return anthropic_answer.page({"id": anthropic_answer.shown_id(ask.id), "type": "message_batch_deleted"})

    def line(self, batch_id: str, id_: str, outcome: Outcome, part: Part) -> bytes:
        return anthropic_answer.line(id_, outcome)

    def refusal(self, error: GatewayError, request_id: str) -> Page:
        return anthropic_answer.refusal(error, request_id)

    def _entries(self, data: bytes) -> list[_Entry]:
        limits = self._limits
        check_text(data)
        check_syntax(data)
        check_structure(data, depth_max=limits.depth_max, nodes_max=limits.nodes_max)
        try:
            envelope = _ENVELOPE.decode(data)
        except msgspec.DecodeError as error:  # also a number beyond all bounds
            raise _invalid([str(error)]) from None
        check_members_once(data, _ENCODER.encode(envelope), _levels)
        return envelope.requests


def _wrong(entries: Sequence[_Entry]) -> Iterator[str]:
    """What the vendor's own rules refuse."""
    if not entries:
        yield "requests: no request is in it; send at least one"
    seen: set[str] = set()
    for index, entry in enumerate(entries):
        id_ = entry.custom_id
        if not isinstance(id_, str) or not _CUSTOM_ID.fullmatch(id_):
            yield f"requests.{index}.custom_id: write 1 to 64 of a-z A-Z 0-9 _ -"
        elif id_ in seen:
            yield f"requests.{index}.custom_id: {quoted(id_)} is taken by an earlier request; it must be unique"
        else:
            seen.add(id_)
        if entry.params is UNSET:
            yield f"requests.{index}.params: write the body of the request"


def _levels(decoded: Any) -> Iterator[tuple[str, Any]]:
    """The objects of an envelope whose members count: not those inside `params`."""
    yield "", decoded
    for index, entry in enumerate(decoded.get("requests")):
        yield f"/requests/{index}", entry


def _invalid(wrong: Sequence[str]) -> EnvelopeError:
    more = f"; and {len(wrong) - _TOLD_MAX} more" if len(wrong) > _TOLD_MAX else ""
    return EnvelopeError("validation-failed", "; ".join(wrong[:_TOLD_MAX]) + more)


def _window(query: str) -> Window:
    """Other parameters are ignored. Raises 400 `bad-cursor`."""
    said = dict(parse_qsl(query, keep_blank_values=True))
    limit = said.get("limit", str(_LIMIT))
    if not re.fullmatch("[0-9]{1,4}", limit) or not 1 <= int(limit) <= _LIMIT_MAX:
        raise GatewayError("bad-cursor", f"limit is {quoted(limit)}; write a whole number from 1 to {_LIMIT_MAX}")
    if "after_id" in said and "before_id" in said:
        raise GatewayError("bad-cursor", "after_id and before_id exclude each other")
    after, before = (_cursor(said, name) for name in ("after_id", "before_id"))
    return Window(int(limit), after, before)


def _cursor(said: Mapping[str, str], name: str) -> str | None:
    if name not in said:
        return None
    own = anthropic_answer.own_id(said[name])
    if not own:
        raise GatewayError("bad-cursor", f"{name} is {quoted(said[name])}; write the id of a batch")
    return own
