"""A wall clock that jumps while its process runs; the monotonic one goes on (clock.c, put before the C library)."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

_SOURCE = Path(__file__).with_name("clock.c")


class Clock:
    """Of every process that is started behind `prefix`."""

    def __init__(self, folder: Path) -> None:
        library = folder / "clock.so"
        compiler = shutil.which("gcc")
        if compiler is None:
            pytest.skip("gcc is missing: apt-get install gcc libc6-dev")
        subprocess.run([compiler, "-O1", "-shared", "-fPIC", "-o", library, _SOURCE], check=True)
        self._offset = os.open(folder / "offset", os.O_RDWR | os.O_CREAT)
        self.prefix = ("env", f"LD_PRELOAD={library}", f"CLOCK_OFFSET={folder / 'offset'}")
        self.jump(0)

    def jump(self, by_s: int) -> None:
        """From now on the clock is so far ahead of the machine's."""
        os.pwrite(self._offset, b"%+020d" % by_s, 0)
