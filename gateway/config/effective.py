"""The configuration in force, as the YAML that would give it, each value with its source; secrets stay hidden."""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping

import yaml

from gateway.config.model import Config
from gateway.config.problem import KeyPath, dotted
from gateway.config.tree import Node, find

DEFAULT = "default"

# Safe characters, and nothing that our own reader takes for a number.
_PLAIN = re.compile(r"(?![0-9]+(?:\.[0-9]+)?(?:[eE]-?[0-9]+)?$)[A-Za-z0-9/][A-Za-z0-9_./:+-]*(?<!:)")
_BROAD = yaml.resolver.Resolver()


def dump(config: Config) -> dict[str, object]:
    """The configuration in the file's words: units as text, secrets hidden, what is absent left out."""
    return config.model_dump(mode="json", exclude_none=True, by_alias=True)


def digest_of(config: Config) -> str:
    """Twelve hex digits of the dump. Secrets are left out: a hash of a weak one could be guessed at."""
    return hashlib.sha256(json.dumps(dump(config), sort_keys=True).encode()).hexdigest()[:12]


def sources_of(config: Config, tree: Node) -> dict[str, str]:
    """Where each value comes from, by its dotted path."""
    return {dotted(path): _source(path, tree) for path, _ in _values(dump(config), ())}


def render(config: Config, sources: Mapping[str, str]) -> str:
    """The YAML text."""
    return "".join(f"{line}\n" for line in _lines(dump(config), (), sources, 0))


def _values(value: object, path: KeyPath) -> Iterator[tuple[KeyPath, object]]:
    match value:
        case dict() if value:
            for key, each in value.items():
                yield from _values(each, (*path, key))
        case list() if not _is_flow(value):
            for index, each in enumerate(value):
                yield from _values(each, (*path, index))
        case _:
            yield path, value


def _is_flow(value: object) -> bool:
    """Lists of words stand on one line and have one source; so does everything empty."""
    return not value or (isinstance(value, list) and not any(isinstance(each, dict) for each in value))


def _source(path: KeyPath, tree: Node) -> str:
    node = find(tree, path)
    if node is None:
        return DEFAULT
    if isinstance(node.value, Mapping) and node.value:
        node = next(iter(node.value.values()))  # a secret is shown as one value: its source is its only key's
    return str(node.place) or DEFAULT


def _lines(value: Mapping[str, object], path: KeyPath, sources: Mapping[str, str], depth: int) -> Iterator[str]:
    indent = "  " * depth
    for key, each in value.items():
        inner = (*path, key)
        if isinstance(each, dict) and each:
            yield f"{indent}{key}:"
            yield from _lines(each, inner, sources, depth + 1)
        elif isinstance(each, list) and not _is_flow(each):
            yield f"{indent}{key}:"
            yield from _element_lines(each, inner, sources, depth + 1)
        else:
            yield f"{indent}{key}: {_written(each)}  # {sources[dotted(inner)]}"


def _element_lines(elements: list[object], path: KeyPath, sources: Mapping[str, str], depth: int) -> Iterator[str]:
    for index, element in enumerate(elements):
        lines = list(_lines(element, (*path, index), sources, depth + 1)) if isinstance(element, dict) else []
        # The dash takes the place of the first line's last two spaces.
        yield "  " * depth + "- " + lines[0].lstrip()
        yield from lines[1:]


def _written(value: object) -> str:
    match value:
        case list():
            return f"[{', '.join(map(_written, value))}]"
        case str() if _is_plain(value):
            return value
    return json.dumps(value)


def _is_plain(text: str) -> bool:
    """Text that every YAML reader, also one of version 1.1, takes for text without quotes."""
    resolved = _BROAD.resolve(yaml.ScalarNode, text, (True, False))  # type: ignore[no-untyped-call]  # not in the stubs
    return bool(_PLAIN.fullmatch(text)) and resolved == "tag:yaml.org,2002:str"
