"""What the bench says: a Markdown table, the same table in the README, and every round as JSON."""

import json
import os
import platform
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from tests.bench.closed_loop import Sample
from tests.bench.processes import NotMeasuredError
from tests.bench.rows import Fixed, Row, Side, Target
from tests.bench.verdict import Verdict, judge, span

HEAD = (
    "| work | gateway | peer | ratio | target | met | gateway: /s, p50, p99 | peer: /s, p50, p99 |",
    "| --- | --- | --- | --- | --- | --- | --- | --- |",
)
BETWEEN_MARKERS = re.compile(r"(?<=<!-- bench -->\n).*?(?=<!-- /bench -->)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Measured:
    """A row's rounds by side, and why a side has none."""

    row: Row
    samples: dict[str, list[Sample]] = field(default_factory=dict)
    failures: dict[str, NotMeasuredError] = field(default_factory=dict)

    def values(self, side: Side | Fixed) -> list[float]:
        """The compared figure, by round."""
        return [side.value] if isinstance(side, Fixed) else [sample.value for sample in self.samples[side.label]]

    def ratio(self, target: Target) -> float | None:
        """Median against median, unless a side was not measured."""
        if self.row.gateway.label in self.failures or target.peer.label in self.failures:
            return None
        return median(self.values(self.row.gateway)) / median(self.values(target.peer))

    def verdict(self, target: Target) -> Verdict:
        """A side that is broken misses its target; one that lacks a tool does not."""
        if (ratio := self.ratio(target)) is not None:
            return judge(ratio, target.at_most)
        broken = any(failure.broken for failure in self.failures.values())
        return Verdict.MISSED if broken else Verdict.UNKNOWN


def table(measured: Iterable[Measured]) -> str:
    """A line for each target of each row, as Markdown."""
    return "\n".join([*HEAD, *(line(one, target) for one in measured for target in one.row.targets)]) + "\n"


def line(measured: Measured, target: Target) -> str:
    """The row's title and the gateway's figures stand on its first line only."""
    ratio, first = measured.ratio(target), target is measured.row.targets[0]
    cells = (
        measured.row.title if first else "",
        figure(measured, measured.row.gateway) if first else "",
        f"{target.peer.label} {figure(measured, target.peer)}",
        "–" if ratio is None else f"{ratio:.2f}",
        "–" if target.at_most is None else f"≤ {target.at_most:g}",
        measured.verdict(target).value,
        aside(measured, measured.row.gateway) if first else "",
        aside(measured, target.peer),
    )
    return f"| {' | '.join(cells)} |"


def figure(measured: Measured, side: Side | Fixed) -> str:
    """The median with minimum and maximum, or why there is none."""
    if failure := measured.failures.get(side.label):
        return f"not measured: {failure}".replace("|", "/")
    values = span(measured.values(side))
    middle = f"{rounded(values.median)} {measured.row.unit}"
    return middle if isinstance(side, Fixed) else f"{middle} ({rounded(values.least)}–{rounded(values.most)})"


def aside(measured: Measured, side: Side | Fixed) -> str:
    """Throughput and latency, where they were seen."""
    samples = measured.samples.get(side.label, [])
    if not samples or samples[0].p50_ms is None:
        return ""
    per_s = [sample.per_s for sample in samples if sample.per_s is not None]
    latencies = [
        f"{rounded(median(each))} ms"
        for each in ([s.p50_ms for s in samples if s.p50_ms], [s.p99_ms for s in samples if s.p99_ms])
    ]
    return ", ".join([*([f"{median(per_s):,.0f}"] if per_s else []), *latencies])


def rounded(value: float) -> str:
    """Three digits are more than a noisy machine can give."""
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


def document(measured: Iterable[Measured], rounds: int, seconds: int) -> dict[str, Any]:
    """Everything seen, and where."""
    return {
        "machine": {"cores": os.cpu_count(), "kernel": platform.release(), "python": platform.python_version()},
        "rounds": rounds,
        "seconds": seconds,
        "rows": [entry(one) for one in measured],
    }


def entry(measured: Measured) -> dict[str, Any]:
    """One row: every round of every side, and each target's verdict."""
    return {
        "name": measured.row.name,
        "title": measured.row.title,
        "unit": measured.row.unit,
        "gateway": measured.row.gateway.label,
        "rounds": {label: [asdict(sample) for sample in samples] for label, samples in measured.samples.items()},
        "not_measured": {label: str(failure) for label, failure in measured.failures.items()},
        "targets": [
            {
                "peer": target.peer.label,
                "ratio": measured.ratio(target),
                "at_most": target.at_most,
                "met": measured.verdict(target).value,
            }
            for target in measured.row.targets
        ],
    }


def write_json(file: Path, content: dict[str, Any]) -> None:
    """Indented, so that a change can be read as a difference."""
    file.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n")


def write_readme(file: Path, text: str) -> bool:
    """Replace what stands between the markers; whether there were any."""
    before = file.read_text()
    after, count = BETWEEN_MARKERS.subn(lambda _: text, before)
    if count:
        file.write_text(after)
    return bool(count)
