"""The lines of OpenAI's input file as operations, and every line that is none: read as they come, one at a time.

A `custom_id` may be any text; an operation's id may not, so those that are no ids are written in base64 behind a tilde.
"""

import base64
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import msgspec
from msgspec import UNSET, Raw, UnsetType

from gateway.batch.model import METHODS, Batch, Fields, Operation
from gateway.dialects.on_record import Order
from gateway.dialects.port import EnvelopeError
from gateway.dialects.strictness import check_members_once, check_structure
from gateway.errors import quoted

CUSTOM_ID_BYTES_MAX = 512

_PLAIN_ID = re.compile(r"[A-Za-z0-9._-][A-Za-z0-9._~-]{0,127}")
_JSON: Fields = (("Content-Type", "application/json"),)
_AROUND_BODY_BYTES = 64 * 1024  # of a line: what is not its body
_WITHOUT_BODY = frozenset({"GET", "HEAD"})
_MEMBERS = ("custom_id", "method", "url")


class Complaint(NamedTuple):
    """What is wrong with the input, in the vendor's members; `line` counts from 1, None for the whole file."""

    code: str
    message: str
    param: str | None = None
    line: int | None = None


@dataclass(frozen=True, slots=True)
class LineRules:
    """What lines must obey: how many they are, the largest body in bytes, nesting and values of one."""

    lines_max: int
    body_bytes_max: int
    depth_max: int = 32
    nodes_max: int = 1_000_000


class _Line(msgspec.Struct, gc=False):
    custom_id: str
    method: str
    url: str
    body: Raw | UnsetType = UNSET


_LINE = msgspec.json.Decoder(_Line)
_ANY = msgspec.json.Decoder(dict[str, Raw])
_ENCODER = msgspec.json.Encoder()


class InputLines:
    """Reads the file of one order, whose batch is for `endpoint`: `feed` its bytes, then `end`."""

    def __init__(self, order: Order, endpoint: str, rules: LineRules) -> None:
        self.is_over = False
        self._order = order
        self._endpoint = endpoint
        self._rules = rules
        self._operations: list[Operation] = []
        self._complaints: list[Complaint] = []
        self._line_bytes_max = rules.body_bytes_max + _AROUND_BODY_BYTES
        self._ids: set[str] = set()
        self._rest = b""
        self._number = self._filled = 0
        self._is_long = False

    def feed(self, data: bytes) -> None:
        *whole, rest = (self._rest + data).split(b"\n")
        for line in whole:
            self._take(line)
        self._is_long = self._is_long or len(rest) > self._line_bytes_max
        self._rest = b"" if self._is_long else rest

    def end(self, complaint: str = "") -> Order:
        if complaint:
            self._complaints.append(Complaint("invalid_input_file", complaint))
        elif self._rest or self._is_long:
            self._take(self._rest)
        if not self._filled and not complaint:
            self._complaints.append(Complaint("empty_file", "The input file holds no requests."))
        if self._complaints:
            return self._order._replace(why=msgspec.json.encode(self._complaints))
        return self._order._replace(batch=Batch(self._operations, pointer=""))

    def _take(self, line: bytes) -> None:
        self._number += 1
        is_long, self._is_long = self._is_long or len(line) > self._line_bytes_max, False
        if self.is_over or not (is_long or line.strip()):
            return
        self._filled += 1
        if self._filled > self._rules.lines_max:
            self.is_over = True
            self._complain("too_many_tasks", f"The input file holds more than {self._rules.lines_max} requests.", None)
            return
        if is_long:
            self._complain("request_too_large", f"A body may have {self._rules.body_bytes_max} bytes at most.", "body")
            return
        try:
            self._judge(_decoded(line, self._rules))
        except msgspec.ValidationError:
            self._complain_of_shape(line)
        except EnvelopeError as error:
            self._complain(error.problem.slug.replace("-", "_"), f"{error.detail}.", None)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            self._complain("invalid_json_line", "This line is not parseable as valid JSON.", None)

    def _judge(self, read: _Line) -> None:
        wrong = self._wrong(read)
        self._ids.add(read.custom_id)
        if wrong is not None:
            self._complain(*wrong)
            return
        body = b"" if read.body is UNSET else bytes(read.body)
        self._operations.append(
            Operation(
                operation_id(read.custom_id), read.method, read.url, _JSON if body else (), body, has_body=bool(body)
            )
        )

    def _wrong(self, read: _Line) -> tuple[str, str, str] | None:
        if not 0 < len(read.custom_id.encode()) <= CUSTOM_ID_BYTES_MAX:
            return "invalid_custom_id", f"A custom_id has 1 to {CUSTOM_ID_BYTES_MAX} bytes.", "custom_id"
        if read.custom_id in self._ids:
            words = f"The custom_id {quoted(read.custom_id)} is taken by an earlier line."
            return "duplicate_custom_id", words, "custom_id"
        if read.method not in METHODS:
            return "invalid_method", f"{quoted(read.method)} is not a method; use {', '.join(METHODS)}.", "method"
        if read.url != self._endpoint:
            return "url_mismatch", "The url of a request is the endpoint of its batch.", "url"
        if read.body is UNSET:
            missing = "missing_required_parameter", "Missing required parameter: 'body'.", "body"
            return missing if read.method == "POST" else None
        if read.method in _WITHOUT_BODY:
            return "invalid_body", f"{read.method} carries no body.", "body"
        if len(bytes(read.body)) > self._rules.body_bytes_max:
            return "request_too_large", f"A body may have {self._rules.body_bytes_max} bytes at most.", "body"
        return None

    def _complain_of_shape(self, line: bytes) -> None:
        """The line is JSON, and not a request: say what is missing, or is no text."""
        try:
            members: Mapping[str, Raw] = _ANY.decode(line)
        except msgspec.DecodeError:
            self._complain("invalid_json_line", "This line is not a JSON object.", None)
            return
        missing = next((name for name in _MEMBERS if name not in members), None)
        if missing is not None:
            self._complain("missing_required_parameter", f"Missing required parameter: '{missing}'.", missing)
            return
        wrong = next((name for name in _MEMBERS if not bytes(members[name]).startswith(b'"')), None)
        self._complain("invalid_type", f"{', '.join(_MEMBERS)} are strings.", wrong)

    def _complain(self, code: str, message: str, param: str | None) -> None:
        self._complaints.append(Complaint(code, message, param, None if code == "too_many_tasks" else self._number))


def _decoded(line: bytes, rules: LineRules) -> _Line:
    line.decode("utf-8")
    read = _LINE.decode(line)
    check_structure(line, depth_max=rules.depth_max, nodes_max=rules.nodes_max)
    check_members_once(line, _ENCODER.encode(read), lambda decoded: iter([("", decoded)]))
    return read


def operation_id(custom_id: str) -> str:
    """The operation's id for any `custom_id`; `custom_id_of` turns it back."""
    if _PLAIN_ID.fullmatch(custom_id):
        return custom_id
    return "~" + base64.urlsafe_b64encode(custom_id.encode()).decode().rstrip("=")


def custom_id_of(operation_id_: str) -> str:
    if not operation_id_.startswith("~"):
        return operation_id_
    encoded = operation_id_[1:]
    return base64.urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4)).decode()


def complaints_from_bytes(data: bytes) -> list[dict[str, Any]]:
    """As the vendor shows them. Raises `msgspec.DecodeError`."""
    return [each._asdict() for each in msgspec.json.decode(data, type=list[Complaint])]
