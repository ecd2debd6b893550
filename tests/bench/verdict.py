"""The arithmetic of the bench: medians and spans of rounds, ratios, and whether a target is met."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from statistics import median

TOLERANCE = 1.1  # a target missed by more than a tenth fails the run; machines are noisy


class Verdict(Enum):
    """How a ratio stands to its target."""

    MET = "yes"
    NEAR = "within a tenth"
    MISSED = "no"
    UNKNOWN = "–"  # nothing asked, or nothing measured


@dataclass(frozen=True, slots=True)
class Span:
    """Rounds of one figure."""

    median: float
    least: float
    most: float


def span(values: Sequence[float]) -> Span:
    """Median, minimum and maximum of at least one value."""
    return Span(median(values), min(values), max(values))


def judge(ratio: float, at_most: float | None) -> Verdict:
    """A ratio of costs: less is better."""
    if at_most is None:
        return Verdict.UNKNOWN
    if ratio <= at_most:
        return Verdict.MET
    return Verdict.NEAR if ratio <= at_most * TOLERANCE else Verdict.MISSED


def percentile(values: Sequence[float], percent: int) -> float:
    """The smallest value that is not below `percent` of all (nearest rank)."""
    ranked = sorted(values)
    return ranked[max(0, -(-len(ranked) * percent // 100) - 1)]
