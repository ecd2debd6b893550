"""The command as a process of its own: started, waited for, ended with its parent."""

import ctypes
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Self

from tests.fakes.until import wait_until

WAIT_S = 120.0  # ends what hangs; a busy machine takes long to start a process
ROOT = Path(__file__).parents[3]
_LIBC = ctypes.CDLL(None, use_errno=True)
_PR_SET_PDEATHSIG = 1


def run(*arguments: str, environ: Mapping[str, str] | None = None, said: str = "") -> subprocess.CompletedProcess[str]:
    """One command from start to end, with a state folder of its own; `said` is its standard input."""
    with TemporaryDirectory() as state:
        return subprocess.run(
            [sys.executable, "-m", "gateway", *arguments], capture_output=True, text=True, input=said, timeout=WAIT_S,
            cwd=ROOT, env=_environ({"XDG_STATE_HOME": state} | dict(environ or {})), check=False,
        )  # fmt: skip


class Process:
    """A running command whose output goes to files of `folder`."""

    def __init__(self, folder: Path, arguments: Sequence[str], environ: Mapping[str, str] | None = None) -> None:
        self._out, self._err = folder / "stdout", folder / "stderr"
        with self._out.open("wb") as out, self._err.open("wb") as err:
            self.process = subprocess.Popen(
                arguments, stdin=subprocess.DEVNULL, stdout=out, stderr=err, cwd=ROOT,
                env=_environ({"XDG_STATE_HOME": str(folder / "state")} | dict(environ or {})),
                preexec_fn=_die_with_parent,
            )  # fmt: skip

    @classmethod
    def command(cls, folder: Path, *arguments: str, environ: Mapping[str, str] | None = None) -> Self:
        return cls.module(folder, "gateway", *arguments, environ=environ)

    @classmethod
    def module(cls, folder: Path, *arguments: str, environ: Mapping[str, str] | None = None) -> Self:
        """`python -m` with these arguments."""
        return cls(folder, [sys.executable, "-m", *arguments], environ)

    @property
    def out(self) -> str:
        return self._out.read_text()

    @property
    def err(self) -> str:
        return self._err.read_text()

    def said(self, word: str) -> str:
        """Wait until standard output holds `word`; all of it."""

        def is_said() -> bool:
            is_over = self.process.poll() is not None  # asked before what it wrote is read
            found = word in self.out and self.out.endswith("\n")
            assert found or not is_over, f"ended: {self.out!r} {self.err!r}"
            return found

        wait_until(is_said, WAIT_S)
        return self.out

    def ports(self) -> tuple[int, int]:
        """The traffic and the admin port of the ready line."""
        _, traffic, admin = self.said("ready ").split()
        return int(traffic.rpartition(":")[2]), int(admin.rpartition(":")[2])

    def listens(self, port: int) -> None:
        """Wait until it takes connections there."""

        def is_listening() -> bool:
            assert self.process.poll() is None, f"{self.process.args!r} did not start: {self.err}"
            with socket.socket() as probe:
                return probe.connect_ex(("127.0.0.1", port)) == 0

        wait_until(is_listening, WAIT_S)

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def ended(self) -> int:
        """Wait for the end; the exit code."""
        return self.process.wait(WAIT_S)

    def kill(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()


def _environ(more: dict[str, str]) -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("BATCH_GATEWAY__")} | more


def _die_with_parent() -> None:
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
