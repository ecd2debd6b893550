"""The upstream's log as it is read: `received`, and `received.answered` beside it (tests.faults.killing.upstream)."""

from pathlib import Path

from tests.faults.killing.checker import Receipt

NAME = "received"


def receipts_in(folder: Path) -> list[Receipt]:
    """What the upstream whose log is in `folder` has received so far."""
    log = folder / NAME
    lines = log.read_text().splitlines()
    answers = log.with_name(f"{NAME}.answered").read_text().splitlines()
    answered = {int(number): int(after) for number, after in map(str.split, answers)}
    requests = enumerate(map(str.split, lines), 1)
    return [Receipt(number, method, target, answered.get(number)) for number, (method, target) in requests]
