"""What properties are tried on: paths, JSON texts written in many ways, and envelopes whose parts are known."""

from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import NamedTuple

from hypothesis import settings
from hypothesis import strategies as st

from gateway.batch.validation import Rules
from gateway.dialects.port import EnvelopeLimits
from gateway.upstream.headers import refusals_in_operation

LAW = settings(max_examples=100, deadline=None, derandomize=True, database=None)
"""How every property is tried: the same examples on each run, however slow the machine."""

LIMITS = EnvelopeLimits()
RULES = Rules(("/batch",), 1 << 20, refusals_in_operation)

Space = Callable[[], str]

randoms = st.integers(0, 2**32).map(Random)
"""Seeded, so that what they choose costs hypothesis one draw."""

_segments = st.text("abzAZ09._~!$&'()*+,=:@-", min_size=1, max_size=8).filter(lambda text: text not in (".", ".."))
_queries = st.text("az09/?%._~;:@&=+\\[]{}|", max_size=12)
paths = st.builds(
    lambda segments, query, slash: "/" + "/".join(segments) + ("/" if slash and segments else "") + query,
    st.lists(_segments, max_size=5),
    st.just("") | _queries.map(lambda query: "?" + query),
    st.booleans(),
)
"""Targets that obey the grammar of PROMISES 4."""

targets = st.text("ab0./\\;#%?&=2eEfFcC5 \t\n\u00e9\uff0e", max_size=16).map(lambda text: "/" + text) | st.text(
    max_size=12
)
"""Targets that may or may not obey it, from the characters that confuse readers."""

ids = st.text("abcXYZ019._~-", min_size=1, max_size=127)

_numbers = st.sampled_from(
    ["0", "-0", "1", "1.0", "-1.50", "1e400", "1E-400", "18446744073709551616", "0.1e+10", "9" * 64]
)
_strings = st.sampled_from(
    [
        '""',
        '"a"',
        '"\\u0061"',
        '"\\/"',
        '"\\ud83d\\ude00"',
        '"\u00e9"',
        '"\\"{[,"',
        '"\\\\"',
        '"$ops"',
        '"\u2028"',
        '"\x7f"',
    ]
)
_leaves = st.sampled_from(["null", "true", "false"]) | _numbers | _strings


@st.composite
def _arrays(draw: st.DrawFn, inner: st.SearchStrategy[str]) -> str:
    space = draw(st.sampled_from(["", " ", "\n", "\t\r\n"]))
    return f"[{space}{f'{space},'.join(draw(st.lists(inner, max_size=4)))}{space}]"


@st.composite
def _objects(draw: st.DrawFn, inner: st.SearchStrategy[str]) -> str:
    space = draw(st.sampled_from(["", " ", "\n", "\t\r\n"]))
    names = st.sampled_from(['"a"', '"a"', '"\\u0061"', '"id"', '"path"', '"headers"', '""'])
    members = draw(st.lists(st.tuples(names, inner), max_size=4))
    return "{" + space + ",".join(f"{name}{space}:{value}" for name, value in members) + space + "}"


json_texts: st.SearchStrategy[str] = st.recursive(_leaves, lambda inner: _arrays(inner) | _objects(inner), max_leaves=8)
"""JSON values as somebody wrote them: numbers no double holds, escapes, inner duplicates, white space."""


@dataclass
class Members:
    """A JSON object before it is written; a name may stand twice."""

    pairs: "list[tuple[str, Node]]" = field(default_factory=list)


@dataclass
class Items:
    """A JSON array before it is written."""

    nodes: "list[Node]" = field(default_factory=list)


Node = str | Members | Items


def written(node: Node, space: Space, name: Callable[[str], str] = lambda text: f'"{text}"') -> str:
    """JSON text of `node`; a string is a value that is written already."""
    if isinstance(node, str):
        return node
    if isinstance(node, Items):
        inner = ",".join(f"{space()}{written(each, space, name)}{space()}" for each in node.nodes)
        return f"[{inner or space()}]"
    members = (
        f"{space()}{name(key)}{space()}:{space()}{written(value, space, name)}{space()}" for key, value in node.pairs
    )
    return "{" + (",".join(members) or space()) + "}"


def compact() -> str:
    return ""


def spaces(random: Random) -> Space:
    return lambda: random.choice(["", "", " ", "\n", "\t \r\n"])


def escapes(random: Random) -> Callable[[str], str]:
    """Writes a name with some of its characters escaped."""
    return lambda text: '"' + "".join(f"\\u{ord(c):04x}" if random.random() < 0.2 else c for c in text) + '"'


class Envelope(NamedTuple):
    """A good envelope as a tree, and what each of its operations must be read as: id, method, path, JSON body."""

    tree: Members | Items
    expected: list[tuple[str, str, str, str | None]]

    @property
    def objects(self) -> list[Members]:
        """Each object whose members must be unique and that has one."""
        found: list[Members] = []
        operations: Node = self.tree
        if isinstance(self.tree, Members):
            named = dict(self.tree.pairs)
            operations, defaults = named["operations"], named.get("defaults")
            found += [self.tree, *(_with_headers(defaults) if isinstance(defaults, Members) else [])]
        if isinstance(operations, Items):
            found += [each for node in operations.nodes if isinstance(node, Members) for each in _with_headers(node)]
        return [members for members in found if members.pairs]


def _with_headers(members: Members) -> list[Members]:
    return [members, *(value for key, value in members.pairs if key == "headers" and isinstance(value, Members))]


_headers = st.dictionaries(
    st.sampled_from(["X-A", "x-b", "Accept", "If-Match"]),
    st.sampled_from(['"v"', '"\\u0076"', '["v","w"]', '""']),
    max_size=3,
).map(lambda headers: Members(list(headers.items())))


@st.composite
def envelopes(draw: st.DrawFn) -> Envelope:
    """Envelopes that must be taken, bare arrays among them, with members in any order."""
    nodes: list[Node] = []
    expected = []
    for index, own_id in enumerate(
        draw(st.lists(st.none() | ids, min_size=1, max_size=4, unique_by=lambda i: i or object()))
    ):
        body = draw(st.none() | json_texts)
        method = draw(st.sampled_from(["POST", "PUT", "PATCH", "DELETE"]))
        path = draw(paths.filter(lambda path: not path.startswith("/batch")))
        pairs: list[tuple[str, Node]] = [("method", f'"{method}"'), ("path", _quoted(path))]
        pairs += [("id", f'"i{own_id}"')] if own_id else []  # "i" keeps it from being another's index
        pairs += [("body", body)] if body is not None else []
        pairs += [("headers", draw(_headers))] if draw(st.booleans()) else []
        pairs += [("timeoutSeconds", "2.5e0")] if draw(st.booleans()) else []
        nodes.append(Members(draw(st.permutations(pairs))))
        expected.append((f"i{own_id}" if own_id else str(index), method, path, body))
    if draw(st.booleans()):
        return Envelope(Items(nodes), expected)
    top: list[tuple[str, Node]] = [("operations", Items(nodes))]
    top += [("onFailure", '"halt"')] if draw(st.booleans()) else []
    top += [("defaults", Members([("headers", draw(_headers)), ("method", '"GET"')]))] if draw(st.booleans()) else []
    return Envelope(Members(draw(st.permutations(top))), expected)


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def spoiled(data: bytes) -> st.SearchStrategy[bytes]:
    """`data` with a few bytes, or whole slices, taken out, doubled or replaced."""

    def spoil(random: Random) -> bytes:
        mended = bytearray(data)
        for _ in range(random.randrange(1, 5)):
            start = random.randrange(len(mended) + 1)
            end = min(len(mended), start + random.choice((0, 1, 2, 20, 1000)))
            middle = random.choice((b"", mended[start:end] * 2, random.randbytes(2), b"\n", b"\r", b"\x00", b"-"))
            mended[start:end] = middle
        return bytes(mended)

    return randoms.map(spoil)
