"""A Redis or Valkey whose clock only the test moves (frozen_clock.c)."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
import redis

from tests.contract.ledger.worlds import START_MS, Clock
from tests.contract.stores import running

_SOURCE = Path(__file__).with_name("frozen_clock.c")


class FrozenClock(Clock):
    """The time that stands in `file`. Once `server` is there, it has moved when the server says so: Valkey looks at its
    wall clock once a millisecond, by a clock that goes on."""

    server: "redis.Redis | None" = None

    def __init__(self, file: Path) -> None:
        self._file = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC)
        self.ms = START_MS

    def close(self) -> None:
        os.close(self._file)

    @property
    def ms(self) -> int:
        return self._ms

    @ms.setter
    def ms(self, value: int) -> None:
        self._ms = value
        os.pwrite(self._file, b"%d\n" % (value * 1000), 0)  # in place, and always of the same length
        while self.server is not None and self.server.time() != (value // 1000, value % 1000 * 1000):
            pass


@contextmanager
def frozen(store: str) -> Iterator[tuple[str, FrozenClock]]:
    """A server's URL and its clock; skips the test where there is no C compiler."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        pytest.skip("a C compiler is missing: apt-get install gcc libc6-dev")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        library = folder / "clock.so"
        subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", library, _SOURCE], check=True, timeout=60)
        clock = FrozenClock(folder / "clock")
        preloaded = ("env", f"LD_PRELOAD={library}", f"CLOCK_FILE={folder / 'clock'}")
        with (
            closing(clock),
            running(store, folder, prefix=preloaded) as (_, url),
            redis.Redis.from_url(url) as clock.server,
        ):
            yield url, clock
