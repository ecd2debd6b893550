"""A configuration before it is understood: values that know their place, and how one source lies over another."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from gateway.config.problem import KeyPath, Problem, dotted

Scalar = str | int | float | bool | None

_SECRET_KEYS = frozenset({"value", "fromEnv", "fromFile"})


@dataclass(frozen=True, slots=True)
class Place:
    """Where something was written: a file with line and column, a variable, a flag."""

    source: str
    line: int | None = None
    column: int | None = None

    def __str__(self) -> str:
        return self.source if self.line is None else f"{self.source}:{self.line}:{self.column}"

    def problem(self, path: KeyPath, message: str, code: str) -> Problem:
        return Problem(self.source, self.line, self.column, dotted(path), message, code)


NOWHERE = Place("")


@dataclass(frozen=True, slots=True)
class Node:
    """A value, where it stands, and where its key stands (nothing for an element of a list)."""

    value: "Mapping[str, Node] | tuple[Node, ...] | Scalar"
    place: Place
    key: Place | None = None

    def child(self, step: str | int) -> "Node | None":
        if isinstance(self.value, Mapping):
            return self.value.get(str(step))
        if isinstance(self.value, tuple) and isinstance(step, int) and step < len(self.value):
            return self.value[step]
        return None


def find(node: Node, path: KeyPath) -> Node | None:
    """The node at the path, or None."""
    for step in path:
        child = node.child(step)
        if child is None:
            return None
        node = child
    return node


def nearest(node: Node, path: KeyPath) -> Node:
    """The node at the path, or the deepest one on the way to it."""
    for step in path:
        child = node.child(step)
        if child is None:
            return node
        node = child
    return node


def plain(node: Node) -> object:
    """The values alone: dict, list and scalars."""
    if isinstance(node.value, Mapping):
        return {key: plain(child) for key, child in node.value.items()}
    if isinstance(node.value, tuple):
        return [plain(child) for child in node.value]
    return node.value


def overlay(below: Node, above: Node) -> Node:
    """Two sources as one: maps are merged key by key, anything else is taken from above."""
    return _merged(below, above, is_one_source=False)


def join(tree: Node, more: Node) -> Node:
    """Two parts of one source as one tree."""
    return _merged(tree, more, is_one_source=True)


def _merged(below: Node, above: Node, *, is_one_source: bool) -> Node:
    if not isinstance(below.value, Mapping) or not isinstance(above.value, Mapping):
        return above
    if not is_one_source and _is_secret(below.value) and _is_secret(above.value):
        return above  # a secret has exactly one origin: the upper source's, while two in one source are a mistake
    merged = dict(below.value)
    for key, child in above.value.items():
        merged[key] = _merged(merged[key], child, is_one_source=is_one_source) if key in merged else child
    return replace(below, value=merged)


def branch(path: KeyPath, leaf: Node) -> Node:
    """A tree of nothing but the leaf at its path, as one variable or one flag gives it."""
    for step in reversed(path):
        leaf = Node({str(step): replace(leaf, key=leaf.place)}, leaf.place, leaf.place)
    return leaf


def _is_secret(keys: Mapping[str, Node]) -> bool:
    return bool(keys) and keys.keys() <= _SECRET_KEYS
