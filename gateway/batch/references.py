"""References to earlier outcomes in a path, a header value, a key or a JSON body (CONTRACT 4). Pure.

    $ops.<id>.response.body#/json/pointer       the whole string: replaced by the JSON value
    /users/{$ops.<id>.response.header.X-Id}     inside a string: replaced by its text, percent-encoded in a path
    {$ops.<id>.response.body$.data[*].id}       by JSONPath: the texts of all that it finds, joined by commas
    $ops.<id>.response.status · $$ops.          the status · a literal `$ops.`

Pointers are RFC 6901 in the fragment form of OpenAPI's runtime expressions, without percent-encoding. In a form
(`application/x-www-form-urlencoded`) those in braces are expressions, percent-encoded as in a path.
"""

import re
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from typing import cast
from urllib.parse import quote

import msgspec

from gateway.batch.findings import Lookup, Reference, UnresolvedError, findings, text_of
from gateway.batch.jsonpath import steps_of
from gateway.batch.model import Operation
from gateway.errors import quoted

MARK = "$ops."
_LITERAL = "$$ops."
_ID_LENGTH_MAX = 128
_CURE = "is no reference; write $ops.<id of this batch>.response with .body#/pointer, .header.Name or .status"
_INSIDE = re.compile(r"\{(\$ops\.[^{}]*)\}")
_PARTS = re.compile(
    r"body(?:#(?P<pointer>(?:/.*)?)|(?P<path>\$.*))?|header\.(?P<header>[!#$%&'*+.^_`|~0-9A-Za-z-]+)|status", re.S
)
_STRING = re.compile(rb'"(?:[^"\\]|\\.)*+"(?P<name>\s*:)?', re.S)
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


class BadReferenceError(Exception):
    """Expressions that cannot be read, or name no operation of the batch: by member, what is wrong with its first."""

    def __init__(self, members: Mapping[str, str]) -> None:
        super().__init__(", ".join(members))
        self.members = members


def may_refer(operation: Operation) -> bool:
    """Whether the operation may hold a reference: a quick look that never misses one."""
    return (
        MARK in operation.target
        or MARK in operation.key
        or any(MARK in value for _, value in operation.fields)
        or b"$ops." in operation.body
        or b"\\u" in operation.body
    )


def references_of(operation: Operation, known: Container[str]) -> Sequence[Reference]:
    """Every reference of the operation. Raises `BadReferenceError` with every member that holds a wrong one."""
    found: list[Reference] = []
    wrong: dict[str, str] = {}
    for member, text in _texts(operation):
        for expression in _pieces(text):
            reference = _read(expression, known)
            if reference is not None:
                found.append(reference)
            elif member not in wrong:
                wrong[member] = f"{quoted(expression)} {_CURE}"
    if wrong:
        raise BadReferenceError(wrong)
    return found


def has_literal(operation: Operation) -> bool:
    """Whether a string begins with `$$ops.`, which is resolved too: to `$ops.`."""
    return any(text.startswith(_LITERAL) for _, text in _texts(operation))


def opaque(target: str) -> str:
    """The target with each expression as a plain word, to judge and route what surrounds it; a whole one is `/`."""
    if target.startswith(MARK):
        return "/"
    return _INSIDE.sub("x", target) if MARK in target else target


def resolved(operation: Operation, known: Container[str], lookup: Lookup, bytes_max: int) -> Operation:
    """The operation with every reference in its place. Raises `UnresolvedError`, also where what they find comes to
    more than `bytes_max`.

    What became of it is not judged here: it must be looked at as any operation is.
    """
    found = findings(references_of(operation, known), lookup, bytes_max)

    def value_of(expression: str) -> bytes:
        return found[cast(Reference, _read(expression, known))]

    def changed(text: str) -> bytes | None:
        if text.startswith(MARK):
            return value_of(text)
        filled = _filled(text, value_of, str)
        return None if filled == text else msgspec.json.encode(filled)

    target = _filled(operation.target, value_of, lambda text: quote(text, safe=""))
    key = _filled(operation.key, value_of, str)
    fields = tuple((name, _as_field(_filled(value, value_of, str))) for name, value in operation.fields)
    body = _form_filled(operation.body, value_of) if _is_form(operation) else _with_strings(operation, changed)
    return msgspec.structs.replace(operation, target=target, fields=fields, body=body, key=key)


def _texts(operation: Operation) -> Iterator[tuple[str, str]]:
    """Every string that may hold an expression, with the member that it stands in."""
    yield "path", operation.target
    yield "idempotencyKey", operation.key
    for _, value in operation.fields:
        yield "headers", value
    if _is_form(operation):
        yield from (("body", found[0]) for found in _INSIDE.finditer(_form_text(operation.body)))
        return
    found: list[str] = []

    _with_strings(operation, found.append)
    yield from (("body", text) for text in found)


def _is_json(operation: Operation) -> bool:
    """A body that is neither JSON nor a form is the caller's bytes: nothing in it is an expression."""
    essence = _essence(operation)
    return operation.has_body and (essence == "application/json" or essence.endswith("+json"))


def _is_form(operation: Operation) -> bool:
    return operation.has_body and _essence(operation) == "application/x-www-form-urlencoded"


def _essence(operation: Operation) -> str:
    kind = next((value for name, value in operation.fields if name.lower() == "content-type"), "")
    return kind.partition(";")[0].strip().lower()


def _form_text(body: bytes) -> str:
    return body.decode("utf-8", "surrogateescape")  # any bytes, and the same ones again


def _form_filled(body: bytes, value_of: Callable[[str], bytes]) -> bytes:
    filled = _INSIDE.sub(lambda found: quote(text_of(value_of(found[1])), safe=""), _form_text(body))
    return filled.encode("utf-8", "surrogateescape")


def _with_strings(operation: Operation, change: Callable[[str], bytes | None]) -> bytes:
    """The body with those of its JSON strings changed that may hold an expression; every other byte stays, and so does
    a string that becomes None.

    Member names are no values, and stay.
    """
    if not _is_json(operation):
        return operation.body

    def changed(token: re.Match[bytes]) -> bytes:
        if token["name"] is not None or (b"$ops." not in token[0] and b"\\u" not in token[0]):
            return token[0]
        value = change(msgspec.json.decode(token[0], type=str))
        return token[0] if value is None else value

    return _STRING.sub(changed, operation.body)


def _pieces(text: str) -> Iterator[str]:
    """The expressions in a string: the whole of it, or those between braces."""
    if text.startswith(MARK):
        yield text
    elif MARK in text:
        for found in _INSIDE.finditer(text):
            yield found[1]


def _read(expression: str, known: Container[str]) -> Reference | None:
    """An id may hold dots, so the shortest id that is known is meant. None where it cannot be read."""
    body = expression[len(MARK) :]
    start = body.find(".response.")
    while 0 <= start <= _ID_LENGTH_MAX:
        parts = _PARTS.fullmatch(body, start + len(".response."))
        if parts and body[:start] in known:
            if (path := parts["path"]) is not None:
                return None if steps_of(path) is None else Reference(body[:start], "path", path)
            part = "header" if parts["header"] else "status" if parts[0] == "status" else "body"
            return Reference(body[:start], part, parts["header"] or parts["pointer"] or "")
        start = body.find(".response.", start + 1)
    return None


def _filled(text: str, value_of: Callable[[str], bytes], escape: Callable[[str], str]) -> str:
    if text.startswith(MARK):
        return text_of(value_of(text))
    if text.startswith(_LITERAL):
        return text[1:]
    if MARK not in text:
        return text
    return _INSIDE.sub(lambda found: escape(text_of(value_of(found[1]))), text)


def _as_field(value: str) -> str:
    if _CONTROL.search(value.replace("\t", "")):
        raise UnresolvedError("what was found holds a control character, which no header field may")
    return value
