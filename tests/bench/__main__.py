"""`python -m tests.bench`: measure the rows, print the table, exit 1 where a target is missed by more than a tenth."""

import argparse
import os
import signal
import sys
import tempfile
from http.client import HTTPException
from pathlib import Path

from tests.bench.processes import LOAD_CORE, NotMeasuredError
from tests.bench.report import Measured, document, table, write_json, write_readme
from tests.bench.rows import ROWS, Row
from tests.bench.subjects import Stage
from tests.bench.verdict import Verdict

RESULTS = Path(__file__).with_name("results.json")
BUSY = 0.5  # somebody else takes half a core
README = Path(__file__).parents[2] / "README.md"


def main() -> int:
    """Run, report, judge."""
    options = arguments()
    rows = [row for row in ROWS if not options.only or row.name in options.only]
    if (busy := os.getloadavg()[0]) > BUSY:
        print(
            f"the machine is busy (load {busy:.1f}): figures will be too high, latencies most of all", file=sys.stderr
        )
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what was started is stopped
    os.sched_setaffinity(0, {LOAD_CORE})
    with tempfile.TemporaryDirectory(prefix="bench-") as folder, Stage(Path(folder), options.seconds) as stage:
        measured = [measure(row, stage, options.rounds) for row in rows]
    text = table(measured)
    print(text, end="")
    if not options.only:
        write_json(RESULTS, document(measured, options.rounds, options.seconds))
    if options.write_readme and not write_readme(README, text):
        print("README.md has no <!-- bench --> markers", file=sys.stderr)
    return int(any(one.verdict(target) is Verdict.MISSED for one in measured for target in one.row.targets))


def arguments() -> argparse.Namespace:
    """A part of the rows is for looking: it is written nowhere."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    names = [row.name for row in ROWS]
    parser.add_argument("--only", action="append", choices=names, metavar="NAME", help=", ".join(names))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=3, help="of load, each side and round")
    parser.add_argument("--write-readme", action="store_true", help="put the table between the markers of README.md")
    options = parser.parse_args()
    if options.only and options.write_readme:
        parser.error("--write-readme takes all rows")
    if options.rounds < 1 or options.seconds < 1:
        parser.error("at least one round of one second")
    return options


def measure(row: Row, stage: Stage, rounds: int) -> Measured:
    """All rounds of a row, its sides by turns: what disturbs the machine for a while disturbs them all."""
    measured = Measured(row)
    for number in range(rounds):
        for side in row.sides:
            if side.label in measured.failures:
                continue
            print(f"{row.name}: round {number + 1} of {rounds}, {side.label}", file=sys.stderr)
            try:
                measured.samples.setdefault(side.label, []).append(side.measure(stage, side.subject))
            except (NotMeasuredError, OSError, HTTPException) as error:
                failure = error if isinstance(error, NotMeasuredError) else NotMeasuredError(str(error))
                measured.failures[side.label] = failure
    return measured


if __name__ == "__main__":
    sys.exit(main())
