"""pydantic's errors as problems: where each stands, what is wrong in our words, and the cure."""

import re
from collections.abc import Iterator, Mapping

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from gateway.config.overrides import FLAGS, NOT_BUILT, NOT_BUILT_MESSAGE, variable
from gateway.config.problem import KeyPath, Problem, did_you_mean, dotted
from gateway.config.secret import SecretReference
from gateway.config.section import EMPTY
from gateway.config.shape import Keys, at
from gateway.config.tree import Node, find, nearest
from gateway.config.units import UnitError

_WRONG_TYPE = {
    "model_type": "must be a map of settings",
    "dict_type": "must be a map of settings",
    "mapping_type": "must be a map of settings",
    "tuple_type": "must be a list, such as [a, b]",
    "int_type": "must be a whole number",
    "string_type": "must be text; put it in quotes",
    "string_unicode": "must be text that can be written as UTF-8",
}
_OUT_OF_RANGE = {"greater_than_equal": "must be at least {ge}", "less_than_equal": "must be at most {le}"}
_YES_AND_NO = {"yes": "true", "on": "true", "1": "true", "no": "false", "off": "false", "0": "false"}


def refusals(error: ValidationError, tree: Node) -> Iterator[Problem]:
    """One problem per error, in pydantic's order. No message holds the value that was refused."""
    for details in error.errors(include_url=False, include_input=False):
        if details["type"] != "default_factory_not_called":  # only echoes another error of the same section
            yield _problem(details, tree)


def missing_message(path: KeyPath) -> str:
    """The message for a setting without a default, naming every place that can give it."""
    flag = FLAGS.get(dotted(path))
    if any(isinstance(step, int) for step in path):
        return "missing; every entry of this list needs it"
    return f"missing; give it in the file{f', as {flag} URL' if flag else ''} or as {variable(path)}"


def _problem(details: ErrorDetails, tree: Node) -> Problem:
    path: KeyPath = details["loc"]
    node = nearest(tree, path)
    written = find(tree, path)
    if details["type"] == "extra_forbidden":
        return _unknown_key(path, node)
    if details["type"] == "missing":
        return (node.key or node.place).problem(path, missing_message(path), "missing")
    if written is not None and written.value is None:
        return node.place.problem(path, EMPTY, "empty")
    return node.place.problem(path, *_said(details, path, written.value if written else None))


def _said(details: ErrorDetails, path: KeyPath, written: object) -> tuple[str, str]:
    """Message and code of an error about a value that is there."""
    kind, context = details["type"], details.get("ctx", {})
    if kind in _OUT_OF_RANGE:
        return _OUT_OF_RANGE[kind].format_map(context), "out-of-range"
    if kind == "bool_type":
        cure = _YES_AND_NO.get(str(written).casefold())
        return "must be true or false" + (f"; write {cure}" if cure else ""), "wrong-type"
    if kind == "int_type" and isinstance(written, str) and written.isdecimal():
        return "must be a whole number; take the quotes away", "wrong-type"
    if kind == "literal_error":
        return _choice(str(context["expected"]), written), "choice"
    if kind == "value_error":
        return str(context["error"]), "unit" if isinstance(context["error"], UnitError) else "invalid"
    if _is_secret(path):
        return "must be a map with exactly one of value, fromEnv and fromFile", "wrong-type"
    return _WRONG_TYPE.get(kind, "cannot be used here"), "wrong-type"


def _choice(expected: str, written: object) -> str:
    words = re.findall("'([^']*)'", expected)
    near = did_you_mean(written, words) if isinstance(written, str) else None
    said = "must be one of " + ", ".join(words) if words else f"must be {expected}"
    return said + (f', did you mean "{near}"?' if near else "")


def _unknown_key(path: KeyPath, node: Node) -> Problem:
    *above, last = path
    key, place = str(last), node.key or node.place
    if not above and key in NOT_BUILT:
        return place.problem(path, NOT_BUILT_MESSAGE, "not-built")
    section = at(tuple(above))
    known: Mapping[str, object] = section.each if isinstance(section, Keys) else {}
    near = did_you_mean(key, known)
    if near:
        # The part behind a colon was meant as the value: `token:s3cret` in a flow map is one long key.
        return place.problem(path, f'unknown key, did you mean "{near}"?', "unknown-key")
    hint = f"unknown key; known here: {', '.join(known)}"
    if ":" in key:
        hint = "unknown key; write a space after the colon"
    is_named = not _is_secret(tuple(above)) and ":" not in key
    return place.problem(path if is_named else (*above, ""), hint, "unknown-key")


def _is_secret(path: KeyPath) -> bool:
    section = at(path)
    return isinstance(section, Keys) and section.model is SecretReference
