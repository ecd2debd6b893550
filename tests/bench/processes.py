"""Processes of the bench: started on one core, ended with their parent, and what the kernel says they cost."""

import ctypes
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

CORES = sorted(os.sched_getaffinity(0))
LOAD_CORE = CORES[0]  # the upstream, the load generator and the bench itself
MEASURED_CORE = CORES[-1]
READY_S = 15.0
STOP_S = 10.0
LIBC = ctypes.CDLL(None, use_errno=True)
PR_SET_PDEATHSIG = 1
TICKS_PER_S = os.sysconf("SC_CLK_TCK")


class NotMeasuredError(Exception):
    """A figure that cannot be had, and whether that is a fault or only a tool this machine lacks."""

    def __init__(self, reason: str, *, broken: bool = True) -> None:
        super().__init__(reason)
        self.broken = broken


@dataclass(frozen=True, slots=True)
class Running:
    """A started process that accepts connections at `url`."""

    process: subprocess.Popen[bytes]
    url: str
    ready_s: float  # from exec until it said, or showed, that it is ready
    folder: Path

    def stop(self) -> None:
        """Ask it to end, insist after a while."""
        self.process.terminate()
        try:
            self.process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def cpu_s(self) -> float:
        """User and system time so far, of the process and of its children (nginx works in one)."""
        return sum(cpu_s(pid) for pid in family(self.process.pid))

    def resident_mib(self) -> float:
        """Resident memory of the process and its children."""
        return sum(resident_mib(pid) for pid in family(self.process.pid))


def start(arguments: Sequence[str], log: Path, core: int, ready: Callable[[], str | None]) -> Running:
    """Start a process whose output goes to `log`, and wait until `ready` returns its address.

    The folder of `log` is where a gateway finds its state: never that of the machine. Bytecode is kept, as in the
    image: compiling the gateway takes as long as half a start.
    """
    started_s = time.monotonic()
    with log.open("wb") as output:
        process = subprocess.Popen(
            arguments, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, preexec_fn=preparation(core),
            env={**os.environ, "XDG_STATE_HOME": str(log.parent), "PYTHONDONTWRITEBYTECODE": ""},
        )  # fmt: skip
    try:
        url = wait_until_ready(process, log, ready)
    except BaseException:
        process.kill()
        process.wait()
        raise
    return Running(process, url, time.monotonic() - started_s, log.parent)


def wait_until_ready(process: subprocess.Popen[bytes], log: Path, ready: Callable[[], str | None]) -> str:
    """Poll every 2 ms: nothing against a start of half a second."""
    deadline_s = time.monotonic() + READY_S
    while time.monotonic() < deadline_s:
        if url := ready():
            return url
        if process.poll() is not None:
            break
        time.sleep(0.002)
    said = log.read_text(errors="replace").strip().splitlines()[-1:] or ["it said nothing"]
    raise NotMeasuredError(f"did not start: {said[0][:120]}")


def run(arguments: Sequence[str], timeout_s: float) -> str:
    """Run a program beside the upstream until it ends; its standard output."""
    try:
        done = subprocess.run(
            arguments, capture_output=True, text=True, timeout=timeout_s, preexec_fn=preparation(LOAD_CORE), check=False
        )
    except subprocess.TimeoutExpired:
        raise NotMeasuredError(f"{arguments[0]} took more than {timeout_s:.0f} s") from None
    if done.returncode:
        raise NotMeasuredError(f"{arguments[0]} failed: {(done.stderr or done.stdout).strip()[:120]}")
    return done.stdout


def preparation(core: int) -> Callable[[], None]:
    """What a child does before exec: stay on one core, die with the parent, leave Ctrl-C to it."""
    parent = os.getpid()

    def prepare() -> None:
        LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:  # it died between fork and prctl
            os._exit(1)
        os.setsid()
        os.sched_setaffinity(0, {core})

    return prepare


def require(*programs: str) -> None:
    """Name what this machine lacks."""
    if missing := [program for program in programs if not shutil.which(program)]:
        raise NotMeasuredError(f"{' and '.join(missing)} missing", broken=False)


def family(pid: int) -> list[int]:
    """A process and its living descendants."""
    children = [
        int(child) for file in Path(f"/proc/{pid}/task").glob("*/children") for child in file.read_text().split()
    ]
    return [pid, *(member for child in children for member in family(child))]


def cpu_s(pid: int) -> float:
    """User and system time of one process, all threads, in steps of a tick."""
    return parse_cpu_s(Path(f"/proc/{pid}/stat").read_text())


def parse_cpu_s(stat: str) -> float:
    """Fields 14 and 15 of proc(5) stat; the name before them may hold blanks and brackets."""
    fields = stat.rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_PER_S


def resident_mib(pid: int) -> float:
    """Resident memory of one process."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20
