"""Starts a worker's process, kills it after a while, starts the next one; gathers the evidence when all is quiet."""

import contextlib
import json
import os
import random
import select
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from tests.faults.killing.broken import POISON
from tests.faults.killing.checker import Evidence, Kept, Seen
from tests.faults.killing.life import PACE, acknowledged
from tests.faults.killing.plan import Plan
from tests.faults.killing.received import NAME, receipts_in

_START_S = 30.0
_ROOT = Path(__file__).resolve().parents[3]


class Loop(NamedTuple):
    """A run: at most `kills` of them, each after a life of `life_s` (least, most) from when it was ready.

    Then one life that stands still (SIGSTOP) `stalls` times for `stall_s`, and lives on to the end within `end_s`.
    """

    plan: Plan
    kills: int
    life_s: tuple[float, float]
    latency_ms: int = 10
    end_s: float = 60.0
    seed: int = 1
    stalls: int = 0
    stall_s: float = 0.0
    lease_s: float = 15.0
    quiet_s: float = PACE.quiet_s


def run(loop: Loop, folder: Path, broken: str = "") -> Evidence:
    """The evidence of a whole run."""
    folder.mkdir(mode=0o700, exist_ok=True)
    chance = random.Random(loop.seed)
    upstream = _started("upstream", [str(folder / NAME), str(loop.latency_ms)], {})
    try:
        port = _line(upstream)
        arguments = [str(folder), port, *map(str, loop.plan)]
        env = {"BROKEN": broken, "LEASE_S": str(loop.lease_s), "QUIET_S": str(loop.quiet_s)}
        kills = 0
        while kills < loop.kills and _killed(arguments, env, chance.uniform(*loop.life_s)):
            kills += 1
        if not (folder / "outcomes").exists():
            _last_life(arguments, env, loop, chance)
    finally:
        _end(upstream)
    return _evidence(loop.plan, folder, kills)


def run_crashing(plan: Plan, folder: Path, broken: str, crashes_max: int) -> Evidence:
    """Lives that nobody kills follow on one another until all is done; those that crashed count as kills."""
    folder.mkdir(mode=0o700, exist_ok=True)
    upstream = _started("upstream", [str(folder / NAME), "5"], {})
    crashes = 0
    try:
        arguments = [str(folder), _line(upstream), *map(str, plan)]
        while not (folder / "outcomes").exists() and crashes <= crashes_max:
            life = _started("life", arguments, {"BROKEN": broken, "QUIET_S": "0.5"})
            crashes += life.wait(_START_S) != 0
            _end(life)
    finally:
        _end(upstream)
    return _evidence(plan, folder, crashes)._replace(guilty=frozenset({int(POISON)}))


def _killed(arguments: Sequence[str], env: dict[str, str], life_s: float) -> bool:
    """One life; False where it ended by itself before it could be killed."""
    life = _started("life", arguments, env)
    try:
        _line(life)
        life.wait(life_s)
    except subprocess.TimeoutExpired:
        return True
    finally:
        _end(life)
    return False


def _last_life(arguments: Sequence[str], env: dict[str, str], loop: Loop, chance: random.Random) -> None:
    """Nobody kills it; what it has not told by the end of its time, the evidence lacks."""
    life = _started("life", arguments, env)
    _line(life)
    for _ in range(loop.stalls):
        time.sleep(chance.uniform(*loop.life_s))
        life.send_signal(signal.SIGSTOP)
        time.sleep(loop.stall_s)
        life.send_signal(signal.SIGCONT)
    with contextlib.suppress(subprocess.TimeoutExpired):
        life.wait(loop.end_s)
    _end(life)


def _end(process: "subprocess.Popen[str]") -> None:
    """SIGKILL, where it still runs."""
    process.kill()
    process.wait()
    if process.stdout is not None:
        process.stdout.close()


def _started(module: str, arguments: Sequence[str], env: dict[str, str]) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", f"tests.faults.killing.{module}", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        cwd=_ROOT,
        env={**os.environ, **env},
    )


def _line(process: "subprocess.Popen[str]") -> str:
    """The first line that it prints."""
    assert process.stdout is not None
    readable, _, _ = select.select([process.stdout], [], [], _START_S)
    line = process.stdout.readline().strip() if readable else ""
    assert line, "it did not start"
    return line


def _evidence(plan: Plan, folder: Path, kills: int) -> Evidence:
    told = json.loads((folder / "outcomes").read_text()) if (folder / "outcomes").exists() else {}
    progress: dict[str, list[Seen]] = {}
    for line in (folder / "progress").read_text().splitlines():
        if line.endswith("]"):  # the last line of a life may be cut off
            id_, *seen = json.loads(line)
            progress.setdefault(id_, []).append(Seen(*seen))
    return Evidence(
        plan,
        kills,
        PACE.in_flight_max,
        acknowledged(folder),
        {id_: state for id_, (state, _) in told.items()},
        {id_: [Kept(*kept) for kept in outcomes] for id_, (_, outcomes) in told.items()},
        receipts_in(folder),
        progress,
    )


def summary(evidence: Evidence, began_s: float) -> str:
    """The figures of a run, in words."""
    outcomes = [kept for found in evidence.outcomes.values() for kept in found]
    slugs = [kept.slug for kept in outcomes]
    return (
        f"{evidence.kills} kills, {len(outcomes)} operations, {len(evidence.receipts)} received, "
        f"{slugs.count('outcome-unknown')} unknown, {slugs.count('quarantined')} quarantined, "
        f"{slugs.count('dependency-failed')} not sent, {slugs.count('cancelled')} cancelled, "
        f"{sum(map(len, evidence.progress.values()))} looks at progress, {time.monotonic() - began_s:.0f} s"
    )
