"""A changed configuration takes effect without a restart, or is refused as a whole (EXPERIENCE 3).

Asked for by SIGHUP, by `POST /reload`, and by a change of any file that the configuration was read from. Files are
looked at, not watched: a stat of each once a second sees what editors do, kubelet's swap of `..data`, a Secret and a
network file system, where inotify needs a watch for each folder, misses some, and a thread of its own. A change counts
once the files have looked the same twice (a writer may be half way) and their content differs.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from time import time
from typing import NamedTuple

import structlog

from gateway.config import (
    ConfigError,
    Loaded,
    changed_keys,
    contents_of,
    under_listeners_of,
    waiting_for_restart,
)

PROBLEMS_SHOWN_MAX = 100


class Applied(NamedTuple):
    """In force: the keys that `changed`, and those that only a restart can change."""

    changed: Sequence[str]
    needs_restart: Sequence[str]


class Refused(NamedTuple):
    """The configuration before it stays in force; each problem begins with file:line:column."""

    problems: Sequence[str]


@dataclass(frozen=True, slots=True)
class Last:
    """The last attempt, and when one last succeeded; times are seconds since 1970."""

    told: Applied | Refused
    at_s: float
    success_at_s: float


class Reloader:
    """Reloads one at a time. `load` reads everything anew, `apply` makes a configuration the one in force.

    `in_force` and `logger` are asked each time, because a reload changes what they say.
    """

    def __init__(
        self,
        load: Callable[[], Loaded],
        apply: Callable[[Loaded], None],
        in_force: Callable[[], Loaded],
        logger: Callable[[], structlog.typing.FilteringBoundLogger],
    ) -> None:
        self._load = load
        self._apply = apply
        self._in_force = in_force
        self._logger = logger
        self._turn = asyncio.Lock()
        self._asked = asyncio.Event()
        self._files: Mapping[Path, str | None] = in_force().files
        self.last = Last(Applied((), ()), time(), time())

    def ask(self) -> None:
        """Reload soon; `run` does it."""
        self._asked.set()

    async def run(self) -> None:
        """Reload whenever that was asked for or a file has changed; until cancelled."""
        seen: object = None  # how the files looked the last time, and how they looked when they were last read
        read: object = None
        while True:
            interval_s = self._in_force().config.reload.interval
            with suppress(TimeoutError):
                async with asyncio.timeout(interval_s or None):
                    await self._asked.wait()
            if self._asked.is_set():
                self._asked.clear()
                await self.reload("signal")
                continue
            before, seen = seen, await asyncio.to_thread(_look, self._files)
            if seen == before and seen != read:
                read = seen
                if await asyncio.to_thread(contents_of, self._files) != self._files:
                    await self.reload("file")

    async def reload(self, trigger: str) -> Applied | Refused:
        """Read, judge and swap in. `trigger` is for the log."""
        async with self._turn:
            told = await self._reloaded()
        now_s = time()
        if isinstance(told, Applied):
            self.last = Last(told, now_s, now_s)
            self._logger().info(
                "reloaded", trigger=trigger, changed=told.changed, needs_restart=told.needs_restart,
                config_digest=self._in_force().digest,
            )  # fmt: skip
        else:
            self.last = Last(told, now_s, self.last.success_at_s)
            self._logger().error(
                "reload refused", trigger=trigger, problems=told.problems[:PROBLEMS_SHOWN_MAX],
                problems_total=len(told.problems), config_digest=self._in_force().digest,
                cure="the configuration before it stays in force; mend the file",
            )  # fmt: skip
        return told

    async def _reloaded(self) -> Applied | Refused:
        before = self._in_force()
        try:
            found = await asyncio.to_thread(self._load)
            self._files = found.files
            after = under_listeners_of(before, found)
            changed = changed_keys(before, after)
            if changed:
                self._apply(after)
        except ConfigError as error:
            self._files = error.files or self._files
            return Refused([str(problem) for problem in error.problems])
        except Exception as defect:  # a defect in reading must end neither the old configuration nor the watch
            self._logger().error("defect", listener="reload", exc_info=defect)
            return Refused([f"a defect of the gateway: {type(defect).__name__}; the log has it"])
        return Applied(changed, waiting_for_restart(before, found))


def _look(files: Mapping[Path, str | None]) -> object:
    """What a stat tells of each file, links followed: equal as long as nothing was written, replaced or swapped."""
    return [(file, _stat(file)) for file in files]


def _stat(file: Path) -> object:
    try:
        found = file.stat()
    except (OSError, ValueError):
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns
