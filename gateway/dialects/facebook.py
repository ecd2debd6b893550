"""Facebook's Graph batches: `batch`, an array of requests, in a form, JSON or the query of POST / (WIRE 7).

- An entry that is no request, or that may not be sent, is answered 400 in its place; those that wait for it 424.
- The token of the envelope is given to every entry without one of its own.
- A POST that holds no `batch` is none: it passes through.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from hashlib import blake2b
from typing import Any, NamedTuple, cast
from urllib.parse import quote, urlencode

import msgspec

from gateway.batch.model import Batch, Operation, Outcome
from gateway.batch.ordering import Order, graph_of
from gateway.batch.validation import VIOLATIONS_MAX, Rules, violations
from gateway.dialects import facebook_answer
from gateway.dialects.facebook_entry import Around, EntryError, entry_of
from gateway.dialects.facebook_envelope import FORM, JSON, MULTIPART, File, Said, essence_of, read
from gateway.dialects.port import Call, EnvelopeError, Page, Read
from gateway.dialects.strictness import check_members_once, check_structure, check_syntax, check_text
from gateway.errors import GatewayError, quoted

DEPTH_MAX, NODES_MAX = 32, 100_000
GROWTH_MAX = 8
"""How much longer than the envelope its requests may be together, where several send the same file."""

_PATH = re.compile(r"(/v[0-9]{1,3}\.[0-9]{1,3}(?=/|\Z))?(?:/(?:me/?)?)?")
_WIRES = msgspec.json.Decoder(float_hook=float)  # 1e400 is JSON, and no number that an entry asks for
_FALSE = frozenset({"false", "0"})


class _Memo(NamedTuple):
    """What is wrong with entries that are not sent, by their place, and how the others are answered."""

    total: int
    wrong: dict[int, tuple[int, str]]
    omits: frozenset[int]
    with_headers: bool


class Facebook:
    """POST on `/`, `/v26.0/` or `/me`. At most `operations_max` entries; URLs may name one of `origins`."""

    name = "facebook"
    later = None

    def __init__(self, *, operations_max: int, origins: Sequence[str], rules: Rules) -> None:
        self._operations_max = operations_max
        self._origins = frozenset(origin.lower() for origin in origins)
        self._rules = rules

    def reads(self, call: Call) -> bool | None:
        if call.method != "POST" or not call.path or not _PATH.fullmatch(call.path):
            return False
        is_possible = essence_of(call.content_type) in (FORM, MULTIPART, JSON) or "batch=" in call.query
        return None if is_possible else False

    def parse(self, call: Call) -> Read | None:
        """The entries that can be sent as a batch, each under its place as id; the others stay in the memo."""
        said = read(call)
        if said is None:
            return None
        wires = self._entries(said.batch)
        memo = _Memo(len(wires), {}, frozenset(), said.include_headers.lower() not in _FALSE)
        around = self._around(call, said, wires)
        operations, has_own_token = [], False
        room = GROWTH_MAX * max(len(call.body), 1 << 16)
        for place, wire in enumerate(wires):
            try:
                entry = entry_of(place, wire, around)
            except EntryError as error:
                memo.wrong[place] = 400, str(error)
                continue
            operations.append(entry.operation)
            room -= len(entry.operation.body)
            if room < 0:
                detail = "the same files in so many entries are too much; send several batches"
                raise EnvelopeError("envelope-too-large", detail)
            has_own_token = has_own_token or entry.has_own_token
        self._judge(operations, memo)
        return Read(
            _batch(operations, memo, has_own_token=has_own_token), memo._replace(omits=_omits(wires, operations))
        )

    def answer(self, read: Read, outcomes: Sequence[Outcome]) -> Page:
        memo, left = cast(_Memo, read.memo), iter(outcomes)
        return facebook_answer.page(
            [
                facebook_answer.wrong(*memo.wrong[place], with_headers=memo.with_headers)
                if place in memo.wrong
                else facebook_answer.answered(next(left), with_headers=memo.with_headers, omits=place in memo.omits)
                for place in range(memo.total)
            ]
        )

    def refusal(self, error: GatewayError, request_id: str) -> Page:
        return facebook_answer.refusal(error, request_id)

    def _entries(self, data: bytes) -> Sequence[Any]:
        check_text(data)
        check_syntax(data)
        check_structure(data, depth_max=DEPTH_MAX, nodes_max=NODES_MAX)
        wires = _WIRES.decode(data)
        if not isinstance(wires, list) or not wires:
            raise EnvelopeError("invalid-envelope", "batch is a JSON array of at least one request")
        if len(wires) > self._operations_max:
            detail = f"Too many requests in batch message. Maximum batch size is {self._operations_max}"
            raise EnvelopeError("too-many-operations", detail, status=400)
        check_members_once(data, msgspec.json.encode(wires), _levels)
        return wires

    def _around(self, call: Call, said: Said, wires: Sequence[Any]) -> Around:
        version = cast(re.Match[str], _PATH.fullmatch(call.path))[1]
        tokens = {"access_token": said.access_token, "appsecret_proof": said.appsecret_proof}
        credentials = {name: value for name, value in tokens.items() if value and said.access_token}
        own = {f"{scheme}://{call.host.lower()}" for scheme in ("http", "https")}
        return Around(
            version or "",
            self._rules.own_paths,
            urlencode(credentials, quote_via=quote, safe=""),
            _places(wires),
            said.files,
            _boundary(call.body, said.files),
            self._origins | own,
        )

    def _judge(self, operations: Sequence[Operation], memo: _Memo) -> None:
        """Tell what is wrong with single entries, and with those that wait for them."""
        found = violations(operations, self._rules)
        if len(found) > VIOLATIONS_MAX:  # then not all of them were looked at
            raise EnvelopeError("invalid-envelope", f"more than {VIOLATIONS_MAX} entries are not such as can be sent")
        for violation in found:
            status = 413 if violation.code == "body-too-large" else 400
            place = int(operations[violation.position].id)
            memo.wrong.setdefault(place, (status, f"{violation.member}: {violation.detail}"))
        waits: list[Sequence[str]] = [()] * memo.total
        for operation in operations:
            waits[int(operation.id)] = operation.depends_on
        graph, tangles = graph_of([str(place) for place in range(memo.total)], waits)
        if tangles:
            raise EnvelopeError("invalid-envelope", f"entry {tangles[0].position}: {tangles[0].detail}")
        order = Order(graph)
        for place in list(memo.wrong):
            for child, parent in order.finished(place, succeeded=False):
                memo.wrong.setdefault(child, (424, f"entry {parent} was not sent, and this one waits for it"))


def _batch(operations: Sequence[Operation], memo: _Memo, *, has_own_token: bool) -> Batch:
    sent = [each for each in operations if int(each.id) not in memo.wrong]
    waits = [each.depends_on for each in sent]
    graph = graph_of([each.id for each in sent], waits)[0] if any(waits) else None
    return Batch(sent, pointer="", graph=graph, one_credential=not has_own_token)


def _places(wires: Sequence[Any]) -> Mapping[str, int]:
    """The places of the entries with a name. Raises `EnvelopeError` where two have the same."""
    places: dict[str, int] = {}
    for place, wire in enumerate(wires):
        name = wire.get("name") if isinstance(wire, dict) else None
        if isinstance(name, str) and name and places.setdefault(name, place) != place:
            raise EnvelopeError("invalid-envelope", f"the name {quoted(name)} stands twice; names are unique")
    return places


def _omits(wires: Sequence[Any], operations: Sequence[Operation]) -> frozenset[int]:
    """The entries whose success is not shown: as they say, else those with a name that another entry uses."""
    used = {int(parent) for operation in operations for parent in operation.depends_on}
    said = [wire.get("omit_response_on_success") if isinstance(wire, dict) else None for wire in wires]
    return frozenset(
        place for place, word in enumerate(said) if (place in used if word is None else str(word).lower() not in _FALSE)
    )


def _boundary(body: bytes, files: Mapping[str, File]) -> str:
    """A boundary that stands nowhere in the files; the same for the same envelope. Empty where there is no file."""
    boundary, seed = "", body
    while files and (not boundary or any(boundary.encode() in file.content for file in files.values())):
        seed = blake2b(seed, digest_size=16).digest()
        boundary = seed.hex()
    return boundary


def _levels(decoded: Any) -> Iterator[tuple[str, Any]]:
    return ((f"/{place}", entry) for place, entry in enumerate(decoded))
