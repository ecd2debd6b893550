"""Microsoft Graph's JSON batches, which are those of OData 4.01 (WIRE 6): `POST <service root>/$batch`.

- What is before `$batch` in the path is the service root; relative URLs continue it.
- An entry names the entries that it waits for: only such as stand before it. It runs once all of them were answered
  2xx, and is 424 otherwise.
- Ids are unique whatever their case (Graph), so they are found whatever their case.
- No references: `$ops.` means nothing here, and `$<id>` of OData is refused rather than sent.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple, cast

from gateway.batch.model import Batch, Operation, Outcome
from gateway.batch.ordering import graph_of
from gateway.batch.validation import Rules, Violation, violations
from gateway.dialects import graph_answer
from gateway.dialects.graph_entries import (
    Entry,
    EntryError,
    body_of,
    entries_of,
    fields_of,
    is_there,
    operation_id,
    origin_of,
    target_of,
)
from gateway.dialects.port import Call, EnvelopeLimits, Page, Read
from gateway.errors import GatewayError, quoted

_ID_BYTES_MAX = 128
_STOPS = re.compile(r'(?:^|,)\s*(?:odata\.)?continue-on-error\s*=\s*"?false"?\s*(?=[,;]|$)', re.IGNORECASE)
_ENTITY = re.compile(r"\$([^/?]+)")
_STOPPED = (b"Preference-Applied", b"continue-on-error=false")
_SDK = "kiota-python/"  # msgraph-core's transport, in User-Agent


class _Memo(NamedTuple):
    """The entries' own ids, why those that were not sent were not, by place, and how the answer is written."""

    ids: Sequence[str]
    unmet: Mapping[int, str]
    in_base64: bool
    stops: bool


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
        unmet = _unmet(entries, parents)
        stops = _STOPS.search(call.prefer) is not None
        in_base64 = self._bodies == "base64" or (self._bodies == "auto" and _SDK in call.agent)
        memo = _Memo([entry.id for entry in entries], unmet, in_base64, stops)
        return Read(_batch(operations, parents, unmet, stops=stops), memo)

    def answer(self, read: Read, outcomes: Sequence[Outcome]) -> Page:
        memo, rest = cast(_Memo, read.memo), iter(outcomes)
        entries = [
            graph_answer.unmet(id_, memo.unmet[index], in_base64=memo.in_base64)
            if index in memo.unmet
            else graph_answer.answered(id_, next(rest), in_base64=memo.in_base64)
            for index, id_ in enumerate(memo.ids)
        ]
        return graph_answer.page(entries, [_STOPPED] if memo.stops else [])

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


def _unmet(entries: Sequence[Entry], parents: Sequence[Sequence[int]]) -> dict[int, str]:
    """Why entries cannot run, by place: those with an `if`, which is 424 where it is not supported (OData JSON 4.01,
    19.1), and those that wait for them."""
    unmet: dict[int, str] = {}
    for index, entry in enumerate(entries):
        lost = next((parent for parent in parents[index] if parent in unmet), None)
        if is_there(entry.condition):
            unmet[index] = "conditions (if) are not supported; not sent"
        elif lost is not None:
            unmet[index] = f"{entries[lost].id[:64]} did not succeed, so this was not sent"
    return unmet


def _batch(
    operations: Sequence[Operation], parents: Sequence[Sequence[int]], unmet: Mapping[int, str], *, stops: bool
) -> Batch:
    """Those that can run. A child runs only if its parents were answered below 300."""
    kept = [index for index in range(len(operations)) if index not in unmet]
    graph = None
    if any(parents[index] for index in kept):
        ids = [operations[index].id for index in kept]
        names = [[operations[parent].id for parent in parents[index]] for index in kept]
        graph = graph_of(ids, names)[0]._replace(fails_from=300, refers=False)
    return Batch([operations[index] for index in kept], "halt" if stops else "continue", "/requests", graph)
