"""Every metric of the gateway (EXPERIENCE 9): plain counts that are cheap to raise, exposed by prometheus_client.

Counting is on the hot path: a dict and an integer cost a tenth of a labelled prometheus_client child with its lock, and
one process with one loop needs no lock. Labels never come from callers: routes are templates, methods the known seven.
"""

import platform
from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import repeat

from prometheus_client import CollectorRegistry
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

SERIES_MAX = 2000  # PROMISES S13, over all metrics; one metric may hold an eighth of it
_SERIES_OF_ONE_MAX = SERIES_MAX // 8

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
OVERHEAD_SECONDS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0)
AGES_SECONDS = (1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0, 14400.0, 43200.0, 86400.0)
SIZES = (1.0, 2.0, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0, 1000.0)

Labels = tuple[str, ...]


class Counter(Collector):
    """A number that grows, one for each tuple of labels."""

    def __init__(self, name: str, help_: str, labels: Labels) -> None:
        self._family = (f"batch_gateway_{name}", help_, labels)
        self._counts: dict[Labels, float] = {} if labels else {(): 0}  # so that its first increase is seen as one

    def add(self, labels: Labels, amount: float = 1) -> None:
        counts = self._counts
        if labels not in counts and len(counts) >= _SERIES_OF_ONE_MAX:
            labels = ("_other",) * len(labels)
        counts[labels] = counts.get(labels, 0) + amount

    def value(self, *labels: str) -> float:
        return self._counts.get(labels, 0)

    def collect(self) -> Iterable[Metric]:
        name, help_, names = self._family
        family = CounterMetricFamily(name, help_, labels=names)
        for labels, count in self._counts.items():
            family.add_metric(labels, count)
        yield family


class Histogram(Collector):
    """How values are distributed over `bounds`, for each tuple of labels."""

    def __init__(self, name: str, help_: str, labels: Labels, bounds: Sequence[float]) -> None:
        self._family = (f"batch_gateway_{name}", help_, labels)
        self._bounds = bounds
        self._spreads: dict[Labels, list[float]] = {}  # a count for each bound, one above them all, then the sum

    def observe(self, labels: Labels, value: float) -> None:
        spread = self._spread(labels)
        spread[bisect_left(self._bounds, value)] += 1
        spread[-1] += value

    def observe_all(self, labels: Labels, values: Sequence[float]) -> None:
        """Many values under the same labels."""
        spread = self._spread(labels)
        for place in map(bisect_left, repeat(self._bounds), values):
            spread[place] += 1
        spread[-1] += sum(values)

    def _spread(self, labels: Labels) -> list[float]:
        spread = self._spreads.get(labels)
        if spread is None:
            if len(self._spreads) * (len(self._bounds) + 3) >= _SERIES_OF_ONE_MAX:
                labels = ("_other",) * len(labels)
            spread = self._spreads.setdefault(labels, [0.0] * (len(self._bounds) + 2))
        return spread

    def collect(self) -> Iterable[Metric]:
        name, help_, names = self._family
        family = HistogramMetricFamily(name, help_, labels=names)
        for labels, spread in self._spreads.items():
            total, buckets = 0.0, []
            for bound, count in zip((*map(str, self._bounds), "+Inf"), spread, strict=False):
                total += count
                buckets.append((bound, total))
            family.add_metric(labels, buckets, spread[-1])
        yield family


class Gauge(Collector):
    """A value that is asked for when it is looked at."""

    def __init__(self, name: str, help_: str, read: Callable[[], float]) -> None:
        self._family = (f"batch_gateway_{name}", help_)
        self._read = read

    def collect(self) -> Iterable[Metric]:
        name, help_ = self._family
        yield GaugeMetricFamily(name, help_, value=self._read())


class StateGauge(Collector):
    """How many of something are in each state, asked for when it is looked at."""

    def __init__(self, name: str, help_: str, read: Callable[[], Mapping[str, float]]) -> None:
        self._family = (f"batch_gateway_{name}", help_)
        self._read = read

    def collect(self) -> Iterable[Metric]:
        name, help_ = self._family
        family = GaugeMetricFamily(name, help_, labels=("state",))
        for state, count in self._read().items():
            family.add_metric((state,), count)
        yield family


class Metrics:
    """All metrics of one process, in a registry of their own."""

    def __init__(self, version: str) -> None:
        self.registry = CollectorRegistry(auto_describe=False)
        self._of_requests()
        self._of_the_ledger()
        self.loop_lag_seconds = self._histogram("event_loop_lag_seconds", "How late a timer fires.", OVERHEAD_SECONDS)
        info = GaugeMetricFamily("batch_gateway_build_info", "Facts of the build.", labels=("version", "python"))
        info.add_metric((version, platform.python_version()), 1)
        self.registry.register(_Constant(info))

    def _of_requests(self) -> None:
        self.envelopes = self._counter("envelopes", "Envelopes by how they ended.", "dialect", "mode", "outcome")
        self.envelope_operations = self._histogram(
            "envelope_operations", "Operations in an envelope.", SIZES, "dialect"
        )
        self.envelope_seconds = self._histogram(
            "envelope_duration_seconds", "From the request to its answer.", SECONDS, "dialect", "mode"
        )
        self.overhead_seconds = self._histogram(
            "overhead_seconds",
            "That time less the time of running the operations and reading the body.",
            OVERHEAD_SECONDS,
            "dialect",
        )
        self.operations = self._counter("operations", "Operations by outcome.", "dialect", "route", "method", "outcome")
        self.operation_seconds = self._histogram(
            "operation_duration_seconds", "Upstream time of an operation.", SECONDS, "route"
        )
        self.forwarded = self._counter(
            "forwarded_requests", "Requests that are no batch.", "route", "method", "code_class"
        )
        self.forwarded_seconds = self._histogram(
            "forwarded_duration_seconds", "Time of a request that is no batch.", SECONDS, "route"
        )
        self.attempts = self._counter("upstream_attempts", "Every send, retries included.", "route", "result")
        self.retries_refused = self._counter(
            "upstream_retries_refused", "Repeats that the retry law allowed and the retry budget did not."
        )
        self.shed = self._counter("shed", "Requests, envelopes and answers given up for want of room.", "reason")
        self.tokens_taken = self._counter("tokens_taken", "Cost granted, by the limit's name.", "bucket")
        self.tokens_denied = self._counter("tokens_denied", "Cost refused, by the limit's name.", "bucket")
        self.replays = self._counter("idempotent_replays", "Operations and envelopes answered from what a key keeps.")

    def _of_the_ledger(self) -> None:
        self.lease_rescues = self._counter("lease_rescues", "Slices taken over from a lost worker.")
        self.ledger_losses = self._counter(
            "ledger_losses", "Times that the shared ledger was found to have lost acknowledged changes of a batch."
        )
        self.operations_quarantined = self._counter(
            "operations_quarantined", "Operations set aside because workers died while running them."
        )
        self.ledger_seconds = self._histogram(
            "ledger_call_duration_seconds", "Time of a call to the ledger.", SECONDS, "call"
        )
        self.batch_age_seconds = self._histogram(
            "batch_age_seconds", "Of batches on record, from acceptance to end.", AGES_SECONDS, "dialect"
        )

    def gauge(self, name: str, help_: str, read: Callable[[], float]) -> None:
        """Expose `read()` under `name`."""
        self.registry.register(Gauge(name, help_, read))

    def states(self, name: str, help_: str, read: Callable[[], Mapping[str, float]]) -> None:
        """Expose `read()` under `name`, by the label `state`."""
        self.registry.register(StateGauge(name, help_, read))

    def _counter(self, name: str, help_: str, *labels: str) -> Counter:
        counter = Counter(name, help_, labels)
        self.registry.register(counter)
        return counter

    def _histogram(self, name: str, help_: str, bounds: Sequence[float], *labels: str) -> Histogram:
        histogram = Histogram(name, help_, labels, bounds)
        self.registry.register(histogram)
        return histogram


class _Constant(Collector):
    def __init__(self, family: Metric) -> None:
        self._family = family

    def collect(self) -> Iterable[Metric]:
        yield self._family
