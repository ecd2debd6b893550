"""What is wrong with the shape of a native envelope: every member of every operation, with a JSON Pointer (RFC 6901).

msgspec stops at the first error; this slow path runs only after it has, and looks at each member on its own.
"""

import difflib
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

import msgspec
from msgspec import Raw

from gateway.batch.validation import VIOLATIONS_MAX, Violation
from gateway.dialects.port import EnvelopeError
from gateway.errors import quoted

_WORDS: Mapping[Any, str] = {
    str: "a string",
    dict[str, str | list[str]]: "an object of strings, or of arrays of strings",
    Raw: "any JSON value",
    float: "a number of seconds",
    list[str]: "an array of ids",
}
_MEMBERS: Mapping[str, Any] = {
    "id": str,
    "method": str,
    "path": str,
    "headers": dict[str, str | list[str]],
    "body": Raw,
    "bodyEncoding": str,
    "timeoutSeconds": float,
    "dependsOn": list[str],
    "idempotencyKey": str,
}
_TOP = ("operations", "defaults", "onFailure", "priority", "notBefore")


class ShapeError(Exception):
    """One member of an operation has a form that cannot be read."""

    def __init__(self, member: str, code: str, detail: str) -> None:
        super().__init__(detail)
        self.member, self.code, self.detail = member, code, detail


def cleaned(data: bytes) -> tuple[list[Violation], bytes]:
    """What has the wrong shape in `data`, and the envelope without it, so that the rest can be judged as well.

    `data` is valid JSON. An envelope that holds no operations at all raises `EnvelopeError` at once.
    """
    found: list[Violation] = []
    top = _object_of(data)
    if top is None:
        top = {"operations": Raw(data)}
    strangers = islice((name for name in top if name not in _TOP), VIOLATIONS_MAX + 1)
    found.extend(Violation(-1, _escaped(name), "unknown-member", _unknown(name, _TOP)) for name in strangers)
    kept: dict[str, Any] = {}
    if "defaults" in top:
        kept["defaults"] = _good_members(top["defaults"], ("headers", "method"), -1, "defaults", found)
    kept |= {name: top[name] for name in ("priority", "notBefore") if name in top}  # judged where they are read
    if (on_failure := top.get("onFailure")) is not None:
        if bytes(on_failure) in (b'"continue"', b'"halt"'):
            kept["onFailure"] = on_failure
        else:
            found.append(Violation(-1, "onFailure", "type", 'write "continue" or "halt"'))
    kept["operations"] = _operations_of(top.get("operations"), found)
    return found, msgspec.json.encode(kept)


def invalid(found: Sequence[Violation], pointer: str, ids: Sequence[str]) -> EnvelopeError:
    """422 with every violation, at most `VIOLATIONS_MAX`; `ids` are the operations' own."""
    errors = [
        {
            "pointer": _pointer(violation, pointer),
            **({"id": ids[violation.position][:64]} if 0 <= violation.position < len(ids) else {}),
            "code": violation.code,
            "detail": violation.detail,
        }
        for violation in found[:VIOLATIONS_MAX]
    ]
    members: dict[str, Any] = {"errors": errors}
    if len(found) > VIOLATIONS_MAX:
        members["truncated"] = True
    count = f"{VIOLATIONS_MAX} or more" if len(found) > VIOLATIONS_MAX else str(len(found))
    return EnvelopeError("validation-failed", f"{count} found; nothing was sent and nothing charged", members=members)


def levels(decoded: Any) -> Iterator[tuple[str, Any]]:
    """The objects of an envelope whose members must be unique, each with its pointer; bodies are not among them."""
    operations, pointer = decoded, ""
    if hasattr(decoded, "get"):
        yield "", decoded
        defaults = decoded.get("defaults")
        if defaults is not None:
            yield "/defaults", defaults
            yield "/defaults/headers", defaults.get("headers")
        operations, pointer = decoded.get("operations"), "/operations"
    for index, operation in enumerate(operations):
        yield f"{pointer}/{index}", operation
        yield f"{pointer}/{index}/headers", operation.get("headers")


def _object_of(raw: bytes | Raw) -> dict[str, Raw] | None:
    try:
        return msgspec.json.decode(raw, type=dict[str, Raw])
    except msgspec.ValidationError:
        return None


def _operations_of(raw: Raw | None, found: list[Violation]) -> list[dict[str, Raw]]:
    if raw is None:
        raise invalid([*found, Violation(-1, "operations", "missing", "send an array of operations")], "", [])
    try:
        operations = msgspec.json.decode(raw, type=list[Raw])
    except msgspec.ValidationError:
        raise invalid([*found, Violation(-1, "operations", "type", "operations is an array")], "", []) from None
    good: list[dict[str, Raw]] = []
    for index, operation in enumerate(operations):
        if len(found) > VIOLATIONS_MAX:  # what follows would not be shown: it counts, and must cost nothing more
            return good + [{}] * (len(operations) - index)
        good.append(_good_members(operation, tuple(_MEMBERS), index, "", found))
    return good


def _good_members(raw: Raw, known: Sequence[str], index: int, at: str, found: list[Violation]) -> dict[str, Raw]:
    members = _object_of(raw)
    if members is None:
        found.append(Violation(index, at, "type", f"{at or 'an operation'} is an object with {', '.join(known)}"))
        return {}
    good = {}
    for name, value in members.items():
        wrong = _of_member(name, value) if name in known else ("unknown-member", _unknown(name, known))
        if wrong is None:
            good[name] = value
        else:
            found.append(Violation(index, f"{at}/{_escaped(name)}" if at else _escaped(name), *wrong))
            if len(found) > VIOLATIONS_MAX:
                break
    return good


def _of_member(name: str, value: Raw) -> tuple[str, str] | None:
    if name == "bodyEncoding" and bytes(value) != b'"base64"':
        return "type", 'bodyEncoding is "base64" or absent'
    try:
        msgspec.json.decode(value, type=_MEMBERS[name])
    except msgspec.ValidationError:
        return "type", f"{name} is {_WORDS[_MEMBERS[name]]}"
    return None


def _unknown(name: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(name[:64], known, 1)
    cure = f"did you mean {near[0]}?" if near else f"use {', '.join(known)}"
    return f"{quoted(name)} is unknown; {cure}"


def _pointer(violation: Violation, pointer: str) -> str:
    at = pointer if violation.position < 0 else f"{pointer}/{violation.position}"
    if violation.position < 0 and violation.member:
        return f"/{violation.member}"
    return f"{at}/{violation.member}" if violation.member else at


def _escaped(name: str) -> str:
    return name[:64].replace("~", "~0").replace("/", "~1")
