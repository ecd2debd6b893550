"""How much of the machine the tests had: what its host gives to others makes latencies that say nothing of us."""

import asyncio
from pathlib import Path
from typing import Self

import pytest

STOLEN_MAX = 0.05  # of what wanted to run
_TICK_S = 0.005


class Machine:
    """Counts from when it is made, over all processors (proc_stat(5): `steal`)."""

    def __init__(self) -> None:
        self._began = _spent()

    @property
    def stolen(self) -> float:
        """The share of the time that this machine's processes would have run and its host ran others."""
        busy, stolen = (now - then for now, then in zip(_spent(), self._began, strict=True))
        return stolen / (busy + stolen) if stolen else 0.0

    def expect_all(self) -> None:
        """End the test, visibly, where its latencies are the host's. Call it when all else was asserted."""
        if self.stolen > STOLEN_MAX:
            pytest.skip(f"all but the latencies holds: the host took {self.stolen:.0%} of the time that was to be run")


class Stopwatch:
    """`took_s`: seconds from entering to leaving; `ran_s`: those in which this loop was given what it needed.

    A bound of some hundredths of a second says nothing where the processor was away for a whole one. Time in which a
    timer of this loop was overdue counts as away; code under test that holds the loop up would hide there, and is found
    by the tests that look at the longest turn of the loop.
    """

    took_s = 0.0
    ran_s = 0.0

    def __enter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        self._began_s = self._due_s = self._loop.time()
        self._away_s = 0.0
        self._tick()
        return self

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()
        self._look()
        self.took_s = self._loop.time() - self._began_s
        self.ran_s = self.took_s - self._away_s

    def _tick(self) -> None:
        self._look()
        self._due_s = self._loop.time() + _TICK_S
        self._timer = self._loop.call_at(self._due_s, self._tick)

    def _look(self) -> None:
        late_s = self._loop.time() - self._due_s
        if late_s > _TICK_S:
            self._away_s += late_s


def _spent() -> tuple[float, float]:
    """Ticks since boot in which something ran here, and in which something would have."""
    user, nice, system, _, _, irq, softirq, stolen, *_ = map(
        float, Path("/proc/stat").read_text(encoding="ascii").partition("\n")[0].split()[1:]
    )
    return user + nice + system + irq + softirq, stolen
