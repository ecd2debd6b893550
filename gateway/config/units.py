"""Durations, sizes and rates, from the text an operator writes to numbers and back. Pure.

- A duration is whole numbers with `d h m s ms`, largest first: `250ms`, `30s`, `1h30m`. Kept as float seconds.
- A size is one whole number with `B`, a binary unit (`KiB MiB GiB`) or a decimal one (`kB MB GB`). Kept as int bytes.
- A rate is whole tokens per `s`, `min` or `h`: `100/s`. Kept as a `Rate`.
- A bare number is never guessed at: the error names the unit that was likely meant.
"""

import re
from dataclasses import dataclass

# Loose about order on purpose: Helm 3 checks schemas with Go's regular expressions, which know no lookahead.
DURATION_PATTERN = r"^([0-9]{1,9}(d|h|m|s|ms))+$"
SIZE_PATTERN = r"^[0-9]{1,12}(B|KiB|MiB|GiB|kB|KB|MB|GB)$"
RATE_PATTERN = r"^[1-9][0-9]{0,8}/(s|min|h)$"

_DURATION_MS = {"d": 86_400_000, "h": 3_600_000, "m": 60_000, "s": 1_000, "ms": 1}
_DURATION = re.compile("".join(rf"(?:([0-9]{{1,9}}){unit})?" for unit in _DURATION_MS))
# Beyond ten years a float of seconds could no longer be rendered back to the exact millisecond for long.
_DURATION_MS_MAX = 3_650 * _DURATION_MS["d"]
_SIZE_BYTES = {"GiB": 2**30, "GB": 10**9, "MiB": 2**20, "MB": 10**6, "KiB": 2**10, "kB": 10**3, "B": 1}
_RATE_US = {"s": 1_000_000, "min": 60_000_000, "h": 3_600_000_000}
_NUMBER_AND_WORD = re.compile(r"([0-9]{1,9})\s*(/?)\s*([A-Za-z]+)")

# What people write who know another tool; only ever used to word the cure.
_DURATION_WORDS = {
    "sec": "s",
    "second": "s",
    "min": "m",
    "minute": "m",
    "hr": "h",
    "hour": "h",
    "day": "d",
    "msec": "ms",
}
_SIZE_WORDS = {"k": "KiB", "m": "MiB", "g": "GiB"} | {unit.casefold(): unit for unit in _SIZE_BYTES}
_RATE_WORDS = {"sec": "s", "second": "s", "m": "min", "minute": "min", "hr": "h", "hour": "h"}


class UnitError(ValueError):
    """The text is no duration, size or rate; the message says what to write instead."""


@dataclass(frozen=True, slots=True)
class Rate:
    """So many tokens in each stretch of so many microseconds."""

    tokens: int
    per_us: int


def parse_duration(written: object) -> float:
    """Seconds of `30s`. Raises UnitError."""
    match = _DURATION.fullmatch(written) if isinstance(written, str) and written else None
    if match is None:
        raise UnitError(_duration_cure(written))
    ms = sum(int(count) * each for count, each in zip(match.groups(), _DURATION_MS.values(), strict=True) if count)
    if ms > _DURATION_MS_MAX:
        raise UnitError("must be at most 3650d")
    return ms / 1000


def render_duration(seconds: float) -> str:
    """`30s` of 30.0. Up to two minutes stay in seconds: people write 90s, not 1m30s."""
    ms = round(seconds * 1000)
    if ms % 1000 == 0 and ms < 120_000:
        return f"{ms // 1000}s"
    parts = []
    for unit, each in _DURATION_MS.items():
        count, ms = divmod(ms, each)
        parts += [f"{count}{unit}"] if count else []
    return "".join(parts)


def parse_size(written: object) -> int:
    """Bytes of `10MiB`. Raises UnitError."""
    match = re.fullmatch(SIZE_PATTERN, written) if isinstance(written, str) else None
    if match is None or not isinstance(written, str):
        raise UnitError(_size_cure(written))
    unit = match[1]
    return int(written.removesuffix(unit)) * _SIZE_BYTES["kB" if unit == "KB" else unit]


def render_size(size_bytes: int) -> str:
    """`10MiB` of 10485760: the largest unit that divides it whole."""
    unit = next(unit for unit, each in _SIZE_BYTES.items() if size_bytes % each == 0 and (size_bytes or each == 1))
    return f"{size_bytes // _SIZE_BYTES[unit]}{unit}"


def parse_rate(written: object) -> Rate:
    """Rate of `100/s`. Raises UnitError."""
    match = re.fullmatch(RATE_PATTERN, written) if isinstance(written, str) else None
    if match is None or not isinstance(written, str):
        raise UnitError(_rate_cure(written))
    tokens, _, unit = written.partition("/")
    return Rate(int(tokens), _RATE_US[unit])


def render_rate(rate: Rate) -> str:
    """`100/s` of Rate(100, 1000000)."""
    unit = next(unit for unit, per_us in _RATE_US.items() if per_us == rate.per_us)
    return f"{rate.tokens}/{unit}"


def _duration_cure(written: object) -> str:
    if (number := _bare_number(written)) is not None:
        # Nobody waits a thousand seconds by default: four digits are milliseconds from another tool's file.
        return f"a unit is missing: write {number}s" + (f" or {number}ms" if number >= 1000 else "")
    if (split := _split(written)) and (unit := _DURATION_WORDS.get(_singular(split[2]))):
        return f"unknown unit: write {split[0]}{unit}"
    return "must be a duration in whole numbers, such as 250ms, 30s, 5m or 1h30m"


def _size_cure(written: object) -> str:
    if (number := _bare_number(written)) is not None:
        likely = f"{number}MiB" if number < 1024 else render_size(number)
        return f"a unit is missing: write {likely}"
    if (split := _split(written)) and (unit := _SIZE_WORDS.get(split[2].casefold())):
        return f"unknown unit: write {split[0]}{unit}"
    return "must be a size in whole numbers, such as 512B, 64KiB, 10MiB or 10MB"


def _rate_cure(written: object) -> str:
    if (number := _bare_number(written)) is not None:
        return f"a unit is missing: write {number}/s"
    if (split := _split(written)) and split[1] and (unit := _RATE_WORDS.get(_singular(split[2]))):
        return f"unknown unit: write {split[0]}/{unit}"
    return "must be a rate in whole tokens, at least 1, such as 500/s, 1000/min or 10/h"


def _bare_number(written: object) -> int | None:
    text = str(written) if isinstance(written, str | int) and not isinstance(written, bool) else ""
    return int(text) if re.fullmatch("[0-9]{1,9}", text) else None


def _split(written: object) -> tuple[str, str, str] | None:
    match = _NUMBER_AND_WORD.fullmatch(written) if isinstance(written, str) else None
    return (match[1], match[2], match[3]) if match else None


def _singular(word: str) -> str:
    return word.casefold().removesuffix("s") if len(word) > 1 else word.casefold()
