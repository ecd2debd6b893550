"""Every violation of a batch at once, before anything is sent or charged.

What is judged here is true of every dialect: a dialect reads its wire format into operations and turns the violations
back into its own words and pointers.
"""

import re
from collections.abc import Callable, Sequence, Set
from dataclasses import dataclass
from operator import attrgetter
from typing import NamedTuple

from gateway.batch.model import METHODS, Fields, Operation
from gateway.batch.ordering import Graph, graph_of
from gateway.batch.paths import are_plain, decoded, refusal
from gateway.batch.references import BadReferenceError, has_literal, may_refer, opaque, references_of
from gateway.errors import quoted

VIOLATIONS_MAX = 100

_AT_ONE_LOOK = 1000  # operations: an expression remembers every line that it has matched
_ID_CHARACTERS_MAX = 128
_ID = re.compile(rf"[A-Za-z0-9._~-]{{1,{_ID_CHARACTERS_MAX}}}")
_OF_IDS = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._~-"
_METHODS = frozenset(METHODS)
_METHOD, _ID_OF, _TARGET = attrgetter("method"), attrgetter("id"), attrgetter("target")
_CURES = {  # of a path that is refused
    "control": "write a space as %20, and leave control characters out",
    "illegal-character": "percent-encode what is not plain",
    "non-ascii": "percent-encode its UTF-8",
}
_WITHOUT_BODY = frozenset({"GET", "HEAD"})  # RFC 9110 9.3.1: content has no meaning there, and servers disagree

FieldsRule = Callable[[Fields], Sequence[tuple[str, str]]]


class Violation(NamedTuple):
    """What is wrong with one member of one operation: `code` for machines, `detail` with the cure."""

    position: int
    member: str
    code: str
    detail: str


@dataclass(frozen=True, slots=True)
class Rules:
    """What the configuration allows. `own_paths` are the gateway's; `fields_rule` judges an operation's own fields."""

    own_paths: tuple[str, ...]
    body_bytes_max: int
    fields_rule: FieldsRule


def violations(operations: Sequence[Operation], rules: Rules) -> list[Violation]:
    """All violations in order; a few above `VIOLATIONS_MAX` at most, so that a caller can tell that more exist."""
    judged = _Judged(rules)
    found: list[Violation] = []
    are_plain = _are_plain(operations, rules.own_paths)
    judge = judged.rest_of if are_plain else judged.whole_of
    for index, operation in enumerate(operations):
        if are_plain and not operation.fields and not operation.has_body and operation.timeout_s is None:
            continue
        found += judge(index, operation)
        if len(found) > VIOLATIONS_MAX:
            break
    return found


def order_of(
    operations: Sequence[Operation], *, fails_from: int = 400, refers: bool = True
) -> tuple[Graph | None, list[Violation]]:
    """Who waits for whom, by `dependsOn` or, where the batch `refers`, by a reference, and what of it cannot be; None
    where nobody waits, and nothing is to be resolved."""
    ids = [operation.id for operation in operations]
    known, parents, literal = frozenset(ids), [], False
    found: list[Violation] = []
    for index, operation in enumerate(operations):
        names = list(operation.depends_on)
        if refers and may_refer(operation):
            try:
                names += [reference.id for reference in references_of(operation, known)]
            except BadReferenceError as error:
                found += [
                    Violation(index, each, "dependency-invalid", detail) for each, detail in error.members.items()
                ]
            literal = literal or has_literal(operation)
        parents.append(names)
    if not any(parents) and not found and not literal:
        return None, []
    graph, tangles = graph_of(ids, parents)
    found += [
        Violation(position, "dependsOn", "dependency-invalid", f"{quoted(parent)}: {detail}")
        for position, parent, detail in tangles
    ]
    return graph._replace(fails_from=fails_from, refers=refers), found


def _are_plain(operations: Sequence[Operation], own_paths: tuple[str, ...]) -> bool:
    """The quick look that nearly every batch passes whole: one at all ids, and at many targets.

    It may only be stricter than the look at each operation.
    """
    ids = set(map(_ID_OF, operations))
    return (
        set(map(_METHOD, operations)) <= _METHODS
        and len(ids) == len(operations)
        and _are_ids(ids)
        and all(
            are_plain([*map(_TARGET, operations[start : start + _AT_ONE_LOOK])], without=own_paths)
            for start in range(0, len(operations), _AT_ONE_LOOK)
        )
    )


def _are_ids(ids: Set[str]) -> bool:
    text = "".join(ids)
    return (
        text.isascii()
        and not text.encode().translate(None, _OF_IDS)
        and "" not in ids
        and (len(text) <= _ID_CHARACTERS_MAX or len(max(ids, key=len)) <= _ID_CHARACTERS_MAX)
    )


class _Judged:
    """Judges operations one by one; remembers ids, and verdicts on fields, which most operations of a batch share."""

    def __init__(self, rules: Rules) -> None:
        self._rules = rules
        self._seen: set[str] = set()
        self._fields: dict[Fields, Sequence[tuple[str, str]]] = {(): ()}

    def whole_of(self, index: int, operation: Operation) -> list[Violation]:
        judged = (
            ("id", _of_id(operation.id, self._seen)),
            ("method", _of_method(operation.method)),
            ("path", wrong_target(operation.target, self._rules.own_paths)),
        )
        self._seen.add(operation.id)
        return [Violation(index, member, *wrong) for member, wrong in judged if wrong] + list(
            self.rest_of(index, operation)
        )

    def rest_of(self, index: int, operation: Operation) -> Sequence[Violation]:
        """What is not looked at by `_are_plain`."""
        judged = (
            ("body", wrong_body(operation, self._rules.body_bytes_max)),
            ("timeoutSeconds", _of_timeout(operation.timeout_s)),
        )
        found = [Violation(index, member, *wrong) for member, wrong in judged if wrong]
        fields = self._of_fields(operation.fields)
        return [*(Violation(index, "headers", *wrong) for wrong in fields), *found] if fields else found

    def _of_fields(self, fields: Fields) -> Sequence[tuple[str, str]]:
        if fields not in self._fields:
            self._fields[fields] = self._rules.fields_rule(fields)
        return self._fields[fields]


def _of_id(id_: str, seen: set[str]) -> tuple[str, str] | None:
    if not _ID.fullmatch(id_):
        return "id", f"{quoted(id_)} is not an id; use 1 to 128 of A-Z a-z 0-9 . _ ~ -"
    return ("id", f"{quoted(id_)} is taken by an earlier operation; ids are unique") if id_ in seen else None


def _of_method(method: str) -> tuple[str, str] | None:
    if method in _METHODS:
        return None
    if not method:
        return "missing", f"write a method: {', '.join(METHODS)}"
    upper = method.upper()
    cure = f"write {upper}" if upper in _METHODS else f"use one of {', '.join(METHODS)}"
    return "method", f"{quoted(method)} is not a method; {cure}"


def wrong_target(target: str, own_paths: tuple[str, ...]) -> tuple[str, str] | None:
    """Why an operation may not go there: a code of PROMISES D.2 and a detail with the cure."""
    if not target:
        return "missing", "write the path that the operation goes to"
    target = opaque(target)  # what a reference becomes is judged once it is known
    reason = refusal(target)
    if reason is not None:
        cure = _CURES.get(reason, "write a path that begins with one slash and is plain")
        return "path-ambiguous", f"{reason}: {quoted(target)}; {cure}"
    path = decoded(target.partition("?")[0])
    if any(path == own or path.startswith(own + "/") for own in own_paths):
        return "nested-batch", f"{quoted(target)} is the gateway's own path; a batch cannot hold a batch"
    return None


def wrong_body(operation: Operation, body_bytes_max: int) -> tuple[str, str] | None:
    """Why an operation may not carry its body: a code and a detail with the cure."""
    if not operation.has_body:
        return None
    if operation.method in _WITHOUT_BODY:
        return "body-not-allowed", f"{operation.method} carries no body; leave it out or use another method"
    if len(operation.body) > body_bytes_max:
        return "body-too-large", f"{len(operation.body)} bytes; at most {body_bytes_max}"
    return None


def _of_timeout(timeout_s: float | None) -> tuple[str, str] | None:
    if timeout_s is None or 0 < timeout_s <= 86400:
        return None
    return "timeout", "write a number of seconds above 0 and at most 86400"
