"""What references find in the outcomes of earlier operations: each answer is read once, and all is bounded. Pure.

An operation of 1 MiB holds thousands of references, and an answer has 10 MiB: what they find is counted as often as it
is asked for before anything is put together, and so is what a JSONPath looks at.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any, NamedTuple

import msgspec
from jsonpointer import EndOfList, JsonPointer, JsonPointerException

from gateway.batch.jsonpath import found_at, steps_of
from gateway.batch.model import Outcome
from gateway.errors import quoted

LOOKS_MAX = 1_000_000  # values that the JSONPaths of one operation pass by

# A number stays what the upstream wrote: 1.0, 1e400, and one with more digits than a float holds.
_DOCUMENT = msgspec.json.Decoder(float_hook=Decimal)
_ENCODER = msgspec.json.Encoder(decimal_format="number")
_NO_DOCUMENT = (msgspec.DecodeError, UnicodeDecodeError, RecursionError, ArithmeticError)
_NOTHING = EndOfList([])


class Reference(NamedTuple):
    """One expression: `part` of the outcome of the operation `id`; `at` is a pointer, a JSONPath or a field name."""

    id: str
    part: str
    at: str = ""


class UnresolvedError(Exception):
    """An expression that finds nothing in the outcome that it names, or too much."""


Lookup = Callable[[str], Outcome]


def findings(references: Iterable[Reference], lookup: Lookup, bytes_max: int) -> Mapping[Reference, bytes]:
    """What each finds, as JSON. Raises `UnresolvedError`, also where all of them come to more than `bytes_max`."""
    counts = Counter(references)
    asked: dict[str, list[Reference]] = {}
    for reference in counts:
        asked.setdefault(reference.id, []).append(reference)
    found: dict[Reference, bytes] = {}
    left, looks = bytes_max, LOOKS_MAX

    def looked(values: int) -> None:
        nonlocal looks
        looks -= values
        if looks < 0:
            raise UnresolvedError(f"the paths look at more than {LOOKS_MAX} values")

    for id_, all_of_it in asked.items():
        outcome = lookup(id_)
        document = _document(outcome.body) if any(part in ("body", "path") for _, part, _ in all_of_it) else None
        for reference in all_of_it:
            found[reference] = _ENCODER.encode(_value(reference, outcome, document, looked))
            left -= len(found[reference]) * counts[reference]
            if left < 0:
                raise UnresolvedError(f"what was found comes to more than {bytes_max} bytes")
    return found


def text_of(found: bytes) -> str:
    """What stands inside a string for a value: a string as it is, anything else as JSON."""
    return msgspec.json.decode(found, type=str) if found.startswith(b'"') else found.decode()


def _document(body: bytes) -> Any:
    try:
        return _DOCUMENT.decode(body)
    except _NO_DOCUMENT:
        return _NOTHING


def _value(reference: Reference, outcome: Outcome, document: Any, looked: Callable[[int], None]) -> Any:
    match reference.part:
        case "status":
            return outcome.status
        case "header":
            return _header(reference.at, outcome.headers)
        case "path":
            values = () if document is _NOTHING else found_at(document, steps_of(reference.at) or (), looked)
            return _joined(values) if values else _missing(reference)
    try:
        value = document if document is _NOTHING else JsonPointer(reference.at).resolve(document)
    except JsonPointerException:
        value = _NOTHING
    # An `EndOfList` is also what `-` names, the place behind the last (RFC 6901 4).
    return _missing(reference) if isinstance(value, EndOfList) else value


def _missing(reference: Reference) -> Any:
    at = quoted(reference.at) if reference.at else "its root"
    raise UnresolvedError(f"the body of {reference.id[:64]} has nothing at {at}")


def _joined(values: Sequence[Any]) -> Any:
    """One value as it is, a list and several values as texts between commas."""
    if len(values) == 1:
        values = values[0] if isinstance(values[0], list) else values
    return values[0] if len(values) == 1 else ",".join([text_of(_ENCODER.encode(value)) for value in values])


def _header(name: str, headers: Mapping[str, str | list[str]]) -> str:
    for own, value in headers.items():
        if own.lower() == name.lower():
            return value if isinstance(value, str) else ", ".join(value)
    raise UnresolvedError(f"the answer has no field {name[:64]}")
