"""YAML text to a tree of placed values.

- `on`, `yes`, `1:30`, `0777` and dates stay text: only true and false are booleans, only decimal numbers are numbers.
- A key given twice is a problem. Anchors, aliases and `<<` work; depth and the values after expansion are bounded.
- No message repeats a value, because the value may be a secret in the wrong place.
"""

import re

import yaml
from yaml.nodes import MappingNode, ScalarNode, SequenceNode

from gateway.config.problem import KeyPath, Problem
from gateway.config.tree import Node, Place, Scalar

_TAG = "tag:yaml.org,2002:"
_DEPTH_MAX = 32
# Some thousands of routes; a billion laughs stop here.
_VALUES_MAX = 50_000


class _Loader(yaml.SafeLoader):
    """Composes only; its resolvers are YAML 1.2's, and fewer."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012 - PyYAML's own way


_Loader.add_implicit_resolver(f"{_TAG}bool", re.compile(r"^(?:true|false)$"), list("tf"))
_Loader.add_implicit_resolver(f"{_TAG}int", re.compile(r"^[-+]?(?:0|[1-9][0-9]{0,17})$"), list("-+0123456789"))
_Loader.add_implicit_resolver(
    f"{_TAG}float",
    re.compile(r"^[-+]?(?:0|[1-9][0-9]{0,17})(?:\.[0-9]+)?(?:[eE][-+]?[0-9]{1,3})?$"),
    list("-+0123456789"),
)
_Loader.add_implicit_resolver(f"{_TAG}null", re.compile(r"^(?:~|null|)$"), ["~", "n", ""])
_Loader.add_implicit_resolver(f"{_TAG}merge", re.compile(r"^<<$"), ["<"])


def read_document(text: str, file: str) -> tuple[Node | None, tuple[Problem, ...]]:
    """The document's tree (None when it is no YAML at all) and what is wrong with its form."""
    try:
        root = _compose(text)
        if root is None:
            return Node({}, Place(file, 1, 1)), ()
        builder = _Builder(file)
        node = builder.build(root, (), 0)
    except yaml.MarkedYAMLError as error:
        return None, (_syntax(error, file),)
    except yaml.reader.ReaderError as error:
        return None, (_unreadable(error, text, file),)
    except _BoundError as error:
        return None, (error.place.problem(error.path, str(error), "too-large"),)
    except RecursionError:
        return None, (Place(file, 1, 1).problem((), f"nested deeper than {_DEPTH_MAX} levels", "too-large"),)
    if not isinstance(node.value, dict):
        return None, (
            node.place.problem((), "the file must be a map of sections, such as upstream: {url: ...}", "wrong-type"),
        )
    return node, tuple(builder.problems)


def _compose(text: str) -> yaml.Node | None:
    loader = _Loader(text)
    try:
        root: yaml.Node | None = loader.get_single_node()
    finally:
        loader.dispose()
    return root


class _BoundError(Exception):
    """The document grows beyond a bound when its aliases are followed."""

    def __init__(self, place: Place, path: KeyPath, message: str) -> None:
        super().__init__(message)
        self.place = place
        self.path = path


class _Builder:
    """Walks PyYAML's nodes once, counting values and collecting problems."""

    def __init__(self, file: str) -> None:
        self.problems: list[Problem] = []
        self._file = file
        self._values = 0

    def build(self, node: yaml.Node, path: KeyPath, depth: int) -> Node:
        place = self._place(node)
        self._count(place, path, depth)
        match node:
            case MappingNode():
                return Node(self._mapping(node, path, depth), place)
            case SequenceNode():
                elements = enumerate(node.value)
                return Node(tuple(self.build(each, (*path, index), depth + 1) for index, each in elements), place)
        return Node(self._scalar(node, place, path), place)

    def _mapping(self, node: MappingNode, path: KeyPath, depth: int) -> dict[str, Node]:
        built: dict[str, Node] = {}
        own: dict[str, Place] = {}
        for key, value, is_merged in self._pairs(node, path, depth):
            name, key_place = self._key(key, path), self._place(key)
            if not is_merged and name in own:
                message = f"given twice, first on line {own[name].line}; keep one"
                self.problems.append(key_place.problem((*path, name), message, "duplicate-key"))
                continue
            if not is_merged:
                own[name] = key_place
            child = self.build(value, (*path, name), depth + 1)
            built[name] = Node(child.value, child.place, key_place)
        return built

    def _pairs(self, node: MappingNode, path: KeyPath, depth: int) -> list[tuple[yaml.Node, yaml.Node, bool]]:
        """Merged pairs first, so that the map's own ones win."""
        # Every pair counts each time it is merged: a wide map in a long list of aliases grows as fast as laughs do.
        self._values += len(node.value)
        self._count(self._place(node), path, depth)
        merged: list[tuple[yaml.Node, yaml.Node, bool]] = []
        own: list[tuple[yaml.Node, yaml.Node, bool]] = []
        for key, value in node.value:
            if key.tag == f"{_TAG}merge":
                merged += self._merged(value, path, depth + 1)
            else:
                own.append((key, value, False))
        return merged + own

    def _merged(self, value: yaml.Node, path: KeyPath, depth: int) -> list[tuple[yaml.Node, yaml.Node, bool]]:
        maps = value.value if isinstance(value, SequenceNode) else [value]
        if not all(isinstance(each, MappingNode) for each in maps):
            self.problems.append(self._place(value).problem(path, "<< takes a map or a list of maps", "wrong-type"))
            return []
        # YAML's merge: of several maps the first has the last word.
        return [(key, inner, True) for each in reversed(maps) for key, inner, _ in self._pairs(each, path, depth)]

    def _key(self, key: yaml.Node, path: KeyPath) -> str:
        if isinstance(key, ScalarNode):
            return str(key.value)
        self.problems.append(self._place(key).problem(path, "a key must be a plain word", "wrong-type"))
        return ""

    def _scalar(self, node: yaml.Node, place: Place, path: KeyPath) -> Scalar:
        text = str(node.value)
        try:
            match node.tag.removeprefix(_TAG):
                case "str" | "merge":
                    return text
                case "int":
                    return int(text)
                case "float":
                    return float(text)
                case "null":
                    return None
                case "bool" if text in ("true", "false"):
                    return text == "true"
        except ValueError:
            pass
        self.problems.append(place.problem(path, "YAML tags (!...) have no meaning here; leave the tag out", "syntax"))
        return text

    def _count(self, place: Place, path: KeyPath, depth: int) -> None:
        self._values += 1
        if depth > _DEPTH_MAX:
            raise _BoundError(place, path[:4], f"nested deeper than {_DEPTH_MAX} levels, or an alias of itself")
        if self._values > _VALUES_MAX:
            raise _BoundError(place, path[:4], f"more than {_VALUES_MAX} values once its aliases are followed")

    def _place(self, node: yaml.Node) -> Place:
        return Place(self._file, node.start_mark.line + 1, node.start_mark.column + 1)


_CURES = {
    "expected ',' or '}', but got '{'": 'put a text that holds braces in quotes, as in "/users/{id}"',
    "mapping values are not allowed here": "put a text that holds ': ' in quotes, or mend the indentation",
    "found character '\\t' that cannot start any token": "indent with spaces",
    "could not find expected ':'": "a key needs ': ' after it",
    "found duplicate anchor": "give each anchor its own name",
    "expected a single document in the stream": "keep one, without a second ---",
}
# Where PyYAML's second half of a sentence says less than its first.
_HALVES = frozenset({"second occurrence", "but found another document"})


def _syntax(error: yaml.MarkedYAMLError, file: str) -> Problem:
    mark = error.problem_mark or error.context_mark
    place = Place(file, mark.line + 1, mark.column + 1) if mark else Place(file, 1, 1)
    said = (error.context if error.problem in _HALVES else error.problem) or "cannot be read"
    # PyYAML quotes the names of aliases and tags, which may be text that was meant to be a password.
    said = re.sub(r"(alias|anchor|handle) .*", r"\1", said)
    cure = _CURES.get(said)
    return place.problem((), f"not YAML: {said}" + (f"; {cure}" if cure else ""), "syntax")


def _unreadable(error: yaml.reader.ReaderError, text: str, file: str) -> Problem:
    before = text[: error.position]
    place = Place(file, before.count("\n") + 1, len(before) - (before.rfind("\n") + 1) + 1)
    return place.problem((), "not YAML: a control character; write it as an escape in double quotes", "syntax")
