"""Environment variables and flags as trees, in the words of the file.

`BATCH_GATEWAY__UPSTREAM__URL` is `upstream.url`. The double underscore after the prefix matters: for a Service named
batch-gateway, Kubernetes sets `BATCH_GATEWAY_PORT=tcp://...` in every pod, and that is not for us.
"""

import json
import re
from collections.abc import Mapping

from gateway.config.problem import KeyPath, Problem, did_you_mean
from gateway.config.shape import Elements, Entries, Keys, Leaf, Shape, at, leaves, shape
from gateway.config.tree import NOWHERE, Node, Place, branch, join

PREFIX = "BATCH_GATEWAY__"
# Sections of the contract that later work adds: known words, so not a misspelling.
NOT_BUILT = frozenset({"imports"})
NOT_BUILT_MESSAGE = "not built yet; see README, Not yet"

FLAGS = {
    "upstream.url": "--upstream",
    "listen.host": "--listen",
    "listen.port": "--listen",
    "admin.host": "--admin",
    "admin.port": "--admin",
    "async.ledger": "--ledger",
}


def read_environment(environ: Mapping[str, str]) -> tuple[Node, tuple[Problem, ...]]:
    """All variables with our prefix as one tree, and those that mean nothing."""
    tree, problems = Node({}, NOWHERE), []
    # The shorter name first: a whole section as JSON lies under its single keys.
    for name in sorted(
        (name for name in environ if name.startswith(PREFIX)), key=lambda name: (name.count("__"), name)
    ):
        place = Place(f"environment {name}")
        path = _path(name)
        kind = at(path) if path else None
        if kind is None:
            problems.append(_unknown(name, place))
            continue
        try:
            tree = join(tree, branch(path, _read(environ[name], kind, place)))
        except ValueError as error:
            problems.append(place.problem(path, str(error), "wrong-type"))
    return tree, tuple(problems)


def read_flags(flags: Mapping[str, object]) -> Node:
    """The flags that were given as one tree. Raises LookupError for a path that the configuration does not have."""
    tree = Node({}, NOWHERE)
    for dotted_path, value in flags.items():
        if value is None:
            continue
        path = tuple(dotted_path.split("."))
        kind = at(path)
        if kind is None:
            raise LookupError(f"no such setting: {dotted_path}")
        place = Place(f"flag {FLAGS.get(dotted_path, f'--{dotted_path}')}")
        leaf = Node(value, place) if isinstance(value, bool | int) else _read(str(value), kind, place)
        tree = join(tree, branch(path, leaf))
    return tree


def variable(path: KeyPath) -> str:
    """Name of the variable that sets the path."""
    return PREFIX + "__".join(str(step).upper() for step in path)


def _path(name: str) -> KeyPath:
    """The path that a variable's name means, its steps in the file's spelling where there is one."""
    path: KeyPath = ()
    for step in name.removeprefix(PREFIX).lower().split("__"):
        kind = at(path)
        if isinstance(kind, Elements):
            return ()  # an element of a list has no variable of its own
        known = kind.each if isinstance(kind, Keys) else {}
        path = (*path, next((key for key in known if key.lower() == step), step))
    return path


def _unknown(name: str, place: Place) -> Problem:
    first, *rest = name.removeprefix(PREFIX).lower().split("__")
    if first in NOT_BUILT:
        return place.problem((first,), NOT_BUILT_MESSAGE, "not-built")
    if isinstance(shape().each.get(first), Elements) and rest:
        return place.problem((first,), f"a list has one variable, {variable((first,))}, and is JSON", "unknown-key")
    near = did_you_mean(name, map(variable, leaves()), cutoff=0.8)
    hint = f', did you mean "{near}"?' if near else "; see `batch-gateway config schema` for the names"
    return place.problem((), "unknown variable" + hint, "unknown-key")


def _read(text: str, kind: Shape, place: Place) -> Node:
    if text == "":
        raise ValueError("is empty; give a value or unset the variable")
    if not isinstance(kind, Leaf):
        return _placed(_from_json(text, kind), place)
    if int in kind.kinds and re.fullmatch(r"-?[0-9]{1,18}", text):
        return Node(int(text), place)
    if bool in kind.kinds and text in ("true", "false"):
        return Node(text == "true", place)
    return Node(text, place)


def _from_json(text: str, kind: Keys | Entries | Elements) -> object:
    example = '["X-Api-Key"]' if isinstance(kind, Elements) else '{"key": "value"}'
    try:
        return json.loads(text, object_pairs_hook=_without_duplicates, parse_constant=_no_constant)
    except json.JSONDecodeError as error:
        raise ValueError(f"must be JSON, such as {example}; character {error.pos + 1} is wrong") from None
    except RecursionError:
        raise ValueError("must be JSON that is not nested so deeply") from None


def _without_duplicates(pairs: list[tuple[str, object]]) -> dict[str, object]:
    if len(dict(pairs)) < len(pairs):
        raise ValueError("has a key twice in one JSON object; keep one")
    return dict(pairs)


def _no_constant(name: str) -> object:
    raise ValueError("holds a number that JSON does not have")


def _placed(value: object, place: Place) -> Node:
    if isinstance(value, dict):
        return Node({key: Node(_placed(each, place).value, place, place) for key, each in value.items()}, place)
    if isinstance(value, list):
        return Node(tuple(_placed(each, place) for each in value), place)
    return Node(value if isinstance(value, str | int | float | bool) else None, place)
