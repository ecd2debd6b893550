"""Large batches: held in little memory from the envelope to the last result.

LARGE_BATCH=100000 runs the size that PERFORMANCE.md promises; the figures are printed.
"""

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import pytest

from tests.integration.asynchronous.large import Served, lines, served, wrong
from tests.integration.ledger.servers import server

T = TypeVar("T")
COUNT = int(os.environ.get("LARGE_BATCH", "10000"))
ANSWER_BYTES = 2048
PEAK_MIB = 150


@pytest.fixture(params=["sqlite", "redis"])
def ledger(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "sqlite":
        yield f"sqlite:{tmp_path}/ledger.db"
        return
    with server("redis") as running:
        yield running.url


def test_a_large_batch_comes_back_whole_and_takes_little_memory(
    ledger: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with served(tmp_path, ANSWER_BYTES, ledger) as gateway:
        figures = [f"{COUNT} operations on {ledger.partition(':')[0]}: idle {gateway.resident_mib} MiB"]
        batch = measured(figures, "accepted", gateway, lambda: gateway.submit(COUNT))
        final = measured(figures, "run", gateway, lambda: gateway.ended(batch))
        found = measured(figures, "read", gateway, lambda: read(gateway, batch))
        asked, peak_mib = gateway.asked(), gateway.peak_mib

    with capsys.disabled():
        print(f"\n{'; '.join(figures)}")
    assert (final["status"], final["succeeded"], final["total"]) == ("completed", COUNT, COUNT)
    assert found == (COUNT, [])
    assert asked == COUNT
    assert peak_mib < PEAK_MIB


def measured(figures: list[str], what: str, gateway: Served, act: Callable[[], T]) -> T:
    began_s, spent_s = time.monotonic(), gateway.cpu_s
    answer = act()
    took_s, us = time.monotonic() - began_s, (gateway.cpu_s - spent_s) / COUNT * 1e6
    figures.append(f"{what} in {took_s:.1f} s, {us:.0f} µs CPU an operation, peak {gateway.peak_mib} MiB")
    return answer


def read(gateway: Served, batch: str) -> tuple[int, list[int]]:
    """How many results there are, and the places of those that are not what the API has answered."""
    count, faults = 0, []
    for place, line in enumerate(lines(gateway.get(f"{batch}/results"))):
        count += 1
        if wrong(place, line, ANSWER_BYTES):
            faults.append(place)
    return count, faults
