"""File, environment and flags to one configuration, or to everything that is wrong with them."""

import hashlib
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TextIO

from pydantic import ValidationError

from gateway.config import effective as in_force
from gateway.config.document import read_document
from gateway.config.draft import draft_of
from gateway.config.model import Config
from gateway.config.overrides import read_environment, read_flags
from gateway.config.problem import ConfigError, Problem, dotted
from gateway.config.refusals import refusals
from gateway.config.route_rules import route_findings
from gateway.config.rules import Finding, findings
from gateway.config.tree import NOWHERE, Node, Place, find, nearest, overlay, plain

STANDARD_INPUT = Path("-")
# A configuration is written by hand; anything larger is the wrong file, or /dev/zero.
_FILE_BYTES_MAX = 1024 * 1024
_NAMES_OF_FILES = frozenset({"fromFile", "ca_file", "client_cert", "client_key", "keys_file"})


@dataclass(frozen=True, slots=True)
class Loaded:
    """A configuration, where each of its values comes from, and a hash to tell it from others (secrets left out).

    `files` are all that it was read from, secrets and certificates among them, as `contents_of` gives them.
    """

    config: Config
    sources: Mapping[str, str]
    path: Path | None
    digest: str
    files: Mapping[Path, str | None]


def load(
    path: Path | None, environ: Mapping[str, str], flags: Mapping[str, object], stdin: TextIO | None = None
) -> Loaded:
    """The configuration in force: flag over environment over file over default.

    `path` `-` reads `stdin`; `flags` maps dotted paths ("upstream.url") to values, None for a flag that was not given.
    Raises ConfigError with every problem at once.
    """
    own = () if path is None or path == STANDARD_INPUT else (path,)
    files = contents_of(own)  # before it is read: a change in between is then seen as one
    file, problems = _read_file(path, stdin)
    environment, unknown = read_environment(environ)
    problems = [*problems, *unknown]
    if file is None:
        raise ConfigError(problems, files)
    tree = overlay(overlay(file, environment), read_flags(flags))
    files |= contents_of(_named_files(tree))
    config, refused = _validate(tree, environ)
    problems = _in_order([*problems, *refused, *_broken_rules(tree, refused)])
    if problems or config is None:
        raise ConfigError(problems, files)
    sources = MappingProxyType(in_force.sources_of(config, tree))
    return Loaded(config, sources, path, in_force.digest_of(config), MappingProxyType(files))


def effective(loaded: Loaded) -> str:
    """The configuration in force as YAML, a `# source` behind each value, secrets as [hidden]."""
    return in_force.render(loaded.config, loaded.sources)


def contents_of(files: Iterable[Path]) -> dict[Path, str | None]:
    """A hash of each file's content, None where there is none that can be read."""
    return {file: _content(file) for file in files}


def _content(file: Path) -> str | None:
    try:
        if not file.is_file():  # a pipe would wait for its other end
            return None
        with file.open("rb") as opened:
            return hashlib.sha256(opened.read(_FILE_BYTES_MAX + 1)).hexdigest()
    except (OSError, ValueError):  # ValueError: no path at all, as with a NUL in it
        return None


def _named_files(node: Node, name: str = "") -> Iterator[Path]:
    """The files that values name: secrets, certificates, keys."""
    if isinstance(node.value, Mapping):
        for key, child in node.value.items():
            yield from _named_files(child, key)
    elif isinstance(node.value, tuple):
        for child in node.value:
            yield from _named_files(child)
    elif name in _NAMES_OF_FILES and isinstance(node.value, str):
        yield Path(node.value)


def _read_file(path: Path | None, stdin: TextIO | None) -> tuple[Node | None, Iterable[Problem]]:
    if path is None:
        return Node({}, NOWHERE), ()
    name = "<stdin>" if path == STANDARD_INPUT else str(path)
    try:
        text = _text(path, stdin)
    except UnicodeDecodeError:
        return None, [Place(name).problem((), "is not UTF-8 text", "syntax")]
    except FileNotFoundError:
        cure = "name another with --config, or leave it out and give --upstream URL"
        return None, [Place(name).problem((), f"no such file; {cure}", "missing-file")]
    except OSError as error:
        return None, [Place(name).problem((), f"cannot be read: {error.strerror}", "missing-file")]
    if len(text) > _FILE_BYTES_MAX:
        return None, [Place(name).problem((), "larger than 1MiB; is this the right file?", "too-large")]
    return read_document(text, name)


def _text(path: Path, stdin: TextIO | None) -> str:
    if path == STANDARD_INPUT:
        return (stdin or sys.stdin).read(_FILE_BYTES_MAX + 1)
    with path.open(encoding="utf-8-sig") as file:
        return file.read(_FILE_BYTES_MAX + 1)


def _validate(tree: Node, environ: Mapping[str, str]) -> tuple[Config | None, list[Problem]]:
    try:
        return Config.model_validate(plain(tree), context={"environ": environ}), []
    except ValidationError as error:
        return None, list(refusals(error, tree))


def _broken_rules(tree: Node, refused: list[Problem]) -> list[Problem]:
    draft = draft_of(plain(tree))
    wrong = {problem.path for problem in refused}
    found = [*findings(draft), *route_findings(draft, tree)]
    return [_placed(each, tree) for each in found if not _is_echo(each, wrong)]


def _is_echo(finding: Finding, wrong: set[str]) -> bool:
    """A rule about a setting that is itself wrong says nothing: it was checked on a default in its place."""
    above = (path[:length] for path in (finding.path, *finding.about) for length in range(1, len(path) + 1))
    within = tuple(f"{dotted(path)}{mark}" for path in finding.about for mark in ".[")
    return not wrong.isdisjoint(map(dotted, above)) or any(path.startswith(within) for path in wrong)


def _placed(finding: Finding, tree: Node) -> Problem:
    """At the first of its settings that was given at all: the other one may be a default."""
    given = (path for path in (finding.path, *finding.about) if find(tree, path) is not None)
    node = nearest(tree, next(given, finding.path))
    return node.place.problem(finding.path, finding.message, finding.code)


def _in_order(problems: list[Problem]) -> list[Problem]:
    """As the eye reads the file, then variables and flags; nothing twice."""
    return sorted(
        dict.fromkeys(problems), key=lambda each: (each.line is None, each.line or 0, each.column or 0, each.file)
    )
