"""How much of the machine the tests had: what its host gives to others makes latencies that say nothing of us."""

from pathlib import Path

import pytest

STOLEN_MAX = 0.05  # of what wanted to run


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


def _spent() -> tuple[float, float]:
    """Ticks since boot in which something ran here, and in which something would have."""
    user, nice, system, _, _, irq, softirq, stolen, *_ = map(
        float, Path("/proc/stat").read_text(encoding="ascii").partition("\n")[0].split()[1:]
    )
    return user + nice + system + irq + softirq, stolen
