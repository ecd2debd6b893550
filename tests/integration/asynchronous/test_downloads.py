"""Results of a batch that are much larger than what may be in memory: whole, compressed, by pages, read slowly.

DOWNLOAD_MIB=1024 is the size that PERFORMANCE.md promises.
"""

import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from threading import Event
from typing import NamedTuple

import pytest

from tests.integration.asynchronous.large import Served, lines, served, wrong

ANSWER_BYTES = 128 * 1024
COUNT = int(os.environ.get("DOWNLOAD_MIB", "128")) * (1 << 20) // ANSWER_BYTES
SLICE = 50  # of which a download holds one
GROWTH_MIB = 72  # a slice, and what the threads that open it keep for the next one
PAGE = 100


class Ended(NamedTuple):
    gateway: Served
    batch: str


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ended]:
    folder = tmp_path_factory.mktemp("downloads")
    kept = {"ledger": f"sqlite:{folder}/ledger.db", "key": {"value": "a secret of the tests"}, "slice": SLICE}
    with served(folder, ANSWER_BYTES, "", **{"async": kept}) as gateway:
        batch = gateway.submit(COUNT)
        assert gateway.ended(batch)["succeeded"] == COUNT
        yield Ended(gateway, batch)


@pytest.mark.parametrize("coding", ["identity", "gzip"])
def test_a_download_is_whole_and_takes_no_memory_for_its_size(
    ended: Ended, coding: str, capsys: pytest.CaptureFixture[str]
) -> None:
    began_s, before_mib = time.monotonic(), ended.gateway.resident_mib

    with watched(ended.gateway) as seen:
        answered = ended.gateway.get(f"{ended.batch}/results", **{"Accept-Encoding": coding})
        found = [wrong(place, line, ANSWER_BYTES) for place, line in enumerate(lines(answered))]

    with capsys.disabled():
        told = f"{time.monotonic() - began_s:.1f} s, {before_mib} MiB before, {max(seen)} MiB at most"
        print(f"\n{COUNT * ANSWER_BYTES >> 20} MiB of results, {coding}: {told}")
    assert answered.headers["Content-Encoding"] == (None if coding == "identity" else coding)
    assert (len(found), any(found)) == (COUNT, False)
    assert max(seen) - before_mib <= GROWTH_MIB


def test_pages_hold_what_they_say(ended: Ended) -> None:
    found: list[bool] = []
    target: str | None = f"{ended.batch}/results?limit={PAGE}"
    while target is not None:
        answered = ended.gateway.get(target)
        page = list(lines(answered))
        found += [wrong(place, line, ANSWER_BYTES) for place, line in enumerate(page, len(found))]
        assert len(page) == PAGE or len(found) == COUNT
        target = answered.headers["Link"] and answered.headers["Link"].partition(">")[0].removeprefix("<")
    inside = list(lines(ended.gateway.get(f"{ended.batch}/results?after=51&limit=2")))

    assert (len(found), any(found)) == (COUNT, False)
    assert [wrong(place, line, ANSWER_BYTES) for place, line in enumerate(inside, 51)] == [False, False]


def test_a_reader_that_stops_reading_takes_little_and_keeps_nobody_waiting(ended: Ended) -> None:
    before_mib = ended.gateway.resident_mib
    with watched(ended.gateway) as seen:
        answered = ended.gateway.get(f"{ended.batch}/results")
        with ended.gateway.another() as other:
            told = [other.call("GET", ended.batch)["status"] for _ in range(20)]
    found = [wrong(place, line, ANSWER_BYTES) for place, line in enumerate(lines(answered))]

    assert told == ["completed"] * 20
    assert (len(found), any(found)) == (COUNT, False)
    assert max(seen) - before_mib <= GROWTH_MIB


@contextmanager
def watched(gateway: Served) -> Iterator[list[int]]:
    """What the gateway holds in memory meanwhile, in MiB."""
    seen = [gateway.resident_mib]
    over = Event()

    def look() -> None:
        while not over.wait(0.02):
            seen.append(gateway.resident_mib)

    with ThreadPoolExecutor(1) as looking:
        looking.submit(look)
        try:
            yield seen
        finally:
            over.set()
            seen.append(gateway.resident_mib)
