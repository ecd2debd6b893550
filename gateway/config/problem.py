"""What is wrong with a configuration: one value per problem, and the error that carries them all."""

import difflib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

KeyPath = tuple[str | int, ...]

_NAME = re.compile(r"[A-Za-z_$][A-Za-z0-9_$-]{0,39}")


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing to put right. `file` is a file, `environment NAME`, `flag --name`, or empty when nothing was given."""

    file: str
    line: int | None
    column: int | None
    path: str
    message: str
    code: str

    def __str__(self) -> str:
        place = self.file if self.line is None else f"{self.file}:{self.line}:{self.column}"
        return ": ".join(part for part in (place, self.path, self.message) if part)


class ConfigError(Exception):
    """The configuration cannot be used; `problems` holds everything that is wrong with it, in the order of the file.

    `files` are those that it was read from, as in `Loaded`: a change of one may mend it.
    """

    def __init__(self, problems: Iterable[Problem], files: Mapping[Path, str | None] | None = None) -> None:
        self.problems = tuple(problems)
        self.files = dict(files or {})
        super().__init__("\n".join(map(str, self.problems)))


def dotted(path: KeyPath) -> str:
    """`routes[0].path` of ("routes", 0, "path"); a key that is no name may be a stray secret, so it is left out."""
    steps = (f"[{step}]" if isinstance(step, int) else f".{shown(step)}" for step in path)
    return "".join(steps).removeprefix(".")


def shown(key: str) -> str:
    """The key if it looks like one, else a stand-in."""
    return key if _NAME.fullmatch(key) else "(no name)"


def did_you_mean(written: str, known: Iterable[str], cutoff: float = 0.6) -> str | None:
    """The known word nearest to the written one, if any is near."""
    by_fold = {word.casefold(): word for word in known}
    near = difflib.get_close_matches(written.casefold(), by_fold, n=1, cutoff=cutoff)
    return by_fold[near[0]] if near else None
