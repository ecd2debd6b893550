"""Microsoft Graph's JSON batches, which are those of OData 4.01 (WIRE 6): `POST <service root>/$batch`.

- What is before `$batch` in the path is the service root; relative URLs continue it.
- An entry names the entries that it waits for: only such as stand before it. It runs once all of them were answered
  2xx, and is 424 otherwise.
- Ids are unique whatever their case (Graph), so they are found whatever their case.
- A caller who prefers so (`respond-async`) is answered at a monitor, once the batch has run.
- No references: `$ops.` means nothing here, and `$<id>` of OData is refused rather than sent.
"""

import re
from collections.abc import Container, Mapping, Sequence
from typing import Literal, NamedTuple, cast

import msgspec

from gateway.batch.model import Batch, Operation, Outcome
from gateway.batch.validation import Rules, Violation, order_of, violations
from gateway.dialects import graph_answer
from gateway.dialects.graph_entries import (
    Entry,
    EntryError,
    body_of,
    entries_of,
    entry_id,
    fields_of,
    is_there,
    operation_id,
    origin_of,
    target_of,
)
from gateway.dialects.graph_monitor import GraphMonitors
from gateway.dialects.port import Call, EnvelopeLimits, LaterDialect, Page, Read
from gateway.errors import GatewayError, quoted

_ID_BYTES_MAX = 128
_STOPS = re.compile(r'(?:^|,)\s*(?:odata\.)?continue-on-error\s*=\s*"?false"?\s*(?=[,;]|$)', re.IGNORECASE)
_ENTITY = re.compile(r"\$([^/?]+)")
_SDK = "kiota-python/"  # msgraph-core's transport, in User-Agent


class _Base(NamedTuple):
    """What the URLs of one envelope continue, and the hosts that they may name."""

    root: str
    slash_root: str
    origins: frozenset[str]


class MicrosoftGraph:
    """POST of JSON at `path`, or at `path` below any service root, such as `/v1.0/$batch`.

    `bodies`: how answers hold bodies; `auto` is base64 for msgraph-core. `slash`: whether a URL with a slash in front
    begins at the host, as in OData, or at the service root, as Graph means it.
    """

    name = "graph"

    def __init__(
        self,
        *,
        path: str,
        operations_max: int,
        origins: Sequence[str],
        bodies: Literal["object", "base64", "auto"],
        slash: Literal["host", "root"],
        rules: Rules,
    ) -> None:
        self._endings = (path, path.replace("$", "%24"))
        self._limits = EnvelopeLimits(operations_max)
        self._origins = frozenset(map(origin_of, origins))
        self._bodies = bodies
        self._slash = slash
        self._rules = rules
        self.later: LaterDialect = GraphMonitors(self._endings)

    def reads(self, call: Call) -> bool:
        """A `$batch` in multipart, as OData 4.0 had it, is none: it passes through."""
        essence = call.content_type.partition(";")[0].strip().lower()
        return call.method == "POST" and call.path.endswith(self._endings) and essence in ("application/json", "")

    def parse(self, call: Call) -> Read:
        entries = entries_of(call.body, self._limits)
        found: list[Violation] = []
        places = _places(entries, found)
        base = self._base(call)
        operations = [self._operation(index, entry, base, places, found) for index, entry in enumerate(entries)]
        found += [
            each._replace(member="url") if each.member == "path" else each
            for each in violations(operations, self._rules)
            if each.member != "id"  # judged by Graph's rule
        ]
        parents = [_parents(index, entry, places, found) for index, entry in enumerate(entries)]
        if found:
            raise graph_answer.invalid(found)
        unsent = _unsent(entries, parents)
        stops = _STOPS.search(call.prefer) is not None
        in_base64 = self._bodies == "base64" or (self._bodies == "auto" and _SDK in call.agent)
        memo = graph_answer.Memo(unsent, in_base64, stops)
        return Read(_batch(operations, parents, unsent, stops=stops), memo)

    def answer(self, read: Read, outcomes: Sequence[Outcome]) -> Page:
        memo = cast(graph_answer.Memo, read.memo)
        entries, answered = graph_answer.Entries(memo), list[graph_answer.Answered]()
        for operation, outcome in zip(read.batch.operations, outcomes, strict=True):
            answered += entries.of(entry_id(operation.id), outcome)
        return graph_answer.page([*answered, *entries.unsent()], graph_answer.applied(memo))

    def refusal(self, error: GatewayError, request_id: str) -> Page:
        return graph_answer.refusal(error, request_id)

    def _base(self, call: Call) -> _Base:
        root = call.path.removesuffix(next(each for each in self._endings if call.path.endswith(each)))
        own = {origin_of(f"{scheme}://{call.host}") for scheme in ("http", "https")}
        return _Base(root, root if self._slash == "root" else "", self._origins | own)

    def _operation(
        self, index: int, entry: Entry, base: _Base, places: Mapping[str, int], found: list[Violation]
    ) -> Operation:
        """The entry as an operation; what is wrong with it goes to `found`."""
        id_, method = operation_id(entry.id), entry.method.upper()
        if is_there(entry.atomicityGroup):
            detail = "the API behind this gateway cannot undo calls; leave atomicityGroup out"
            found.append(Violation(index, "atomicityGroup", "BadRequest", detail))
        try:
            target = self._target(entry.url, base, places)
            has_body = is_there(entry.body)
            fields = fields_of(entry.headers or {}, has_body=has_body)
            if not has_body:
                return Operation(id_, method, target, fields)
            body, implied = body_of(entry.body, fields)  # type: ignore[arg-type]  # it is there
            return Operation(id_, method, target, fields + implied, body, True)
        except EntryError as error:
            found.append(Violation(index, error.member, "BadRequest", error.detail))
            return Operation(id_, "GET", "/")

    def _target(self, url: str, base: _Base, places: Mapping[str, int]) -> str:
        entity = _ENTITY.match(url)
        if entity is not None and entity[1].lower() in places:
            raise EntryError("url", f"{quoted(url)} refers to another request's entity, which is not done here")
        target = target_of(url, origins=base.origins, root=base.root, slash_root=base.slash_root)
        if target.partition("?")[0].endswith(self._endings):
            raise EntryError("url", f"{quoted(url)} is a batch; a batch cannot hold a batch")
        return target


def _places(entries: Sequence[Entry], found: list[Violation]) -> dict[str, int]:
    """Where each id stands, ids in small letters."""
    places: dict[str, int] = {}
    for index, entry in enumerate(entries):
        if not 0 < len(operation_id(entry.id)) <= _ID_BYTES_MAX:
            detail = f"{quoted(entry.id)} is no id; use 1 to {_ID_BYTES_MAX} letters, digits or hyphens"
            found.append(Violation(index, "id", "BadRequest", detail))
        elif places.setdefault(entry.id.lower(), index) != index:
            detail = f"{quoted(entry.id)} is taken by an earlier request, whatever the case; ids are unique"
            found.append(Violation(index, "id", "BadRequest", detail))
    return places


def _parents(index: int, entry: Entry, places: Mapping[str, int], found: list[Violation]) -> list[int]:
    """Where those stand that the entry waits for."""
    parents = []
    for name in dict.fromkeys(entry.parents):
        place = places.get(name.lower())
        if place is None or place >= index:
            words = "names no request of this batch" if place is None else "does not stand before this request"
            found.append(Violation(index, "dependsOn", "BadRequest", f"{quoted(name)} {words}"))
        else:
            parents.append(place)
    return parents


def _unsent(entries: Sequence[Entry], parents: Sequence[Sequence[int]]) -> dict[int, tuple[str, str]]:
    """The ids of entries that cannot run, and why, by place: those with an `if`, which is 424 where it is not supported
    (OData JSON 4.01, 19.1), and those that wait for them."""
    unsent: dict[int, tuple[str, str]] = {}
    for index, entry in enumerate(entries):
        lost = next((parent for parent in parents[index] if parent in unsent), None)
        if is_there(entry.condition):
            unsent[index] = entry.id, "conditions (if) are not supported; not sent"
        elif lost is not None:
            unsent[index] = entry.id, f"{entries[lost].id[:64]} did not succeed, so this was not sent"
    return unsent


def _batch(
    operations: Sequence[Operation], parents: Sequence[Sequence[int]], unsent: Container[int], *, stops: bool
) -> Batch:
    """Those that can run. A child runs only if its parents were answered below 300."""
    kept = [
        msgspec.structs.replace(operation, depends_on=tuple(operations[parent].id for parent in parents[index]))
        if parents[index]
        else operation
        for index, operation in enumerate(operations)
        if index not in unsent
    ]
    graph, _ = order_of(kept, fails_from=300, refers=False)
    return Batch(kept, "halt" if stops else "continue", "/requests", graph)
