"""Metrics count right, expose what Prometheus reads, and never grow without end."""

from itertools import product

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from gateway.telemetry.metrics import SERIES_MAX, Counter, Histogram, Metrics
from tests.strategies import LAW


def _samples(metrics: Metrics) -> dict[tuple[str, ...], float]:
    families = text_string_to_metric_families(generate_latest(metrics.registry).decode())
    return {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in families
        for sample in family.samples
    }


def test_a_counter_counts_for_each_tuple_of_labels() -> None:
    metrics = Metrics("1.0")
    metrics.tokens_taken.add(("a",), 3)
    metrics.tokens_taken.add(("a",))
    metrics.tokens_taken.add(("b",))

    samples = _samples(metrics)

    assert samples["batch_gateway_tokens_taken_total", "a"] == 4 == metrics.tokens_taken.value("a")
    assert samples["batch_gateway_tokens_taken_total", "b"] == 1
    assert metrics.tokens_taken.value("c") == 0


@LAW
@given(st.lists(st.floats(0, 20, allow_nan=False), max_size=30))
def test_a_histogram_counts_each_value_once_in_each_bound_that_holds_it(values: list[float]) -> None:
    metrics = Metrics("1.0")
    for value in values:
        metrics.operation_seconds.observe(("r",), value)

    samples = _samples(metrics)

    name = "batch_gateway_operation_duration_seconds"
    if values:
        assert samples[f"{name}_count", "r"] == len(values)
        assert abs(samples[f"{name}_sum", "r"] - sum(values)) < 1e-6
        assert samples[f"{name}_bucket", "0.25", "r"] == sum(value <= 0.25 for value in values)
        assert samples[f"{name}_bucket", "+Inf", "r"] == len(values)


def test_a_gauge_is_asked_when_it_is_looked_at() -> None:
    metrics, level = Metrics("1.0"), [1.0]
    metrics.gauge("connections", "Open connections.", lambda: level[0])

    level[0] = 7.0

    assert _samples(metrics)["batch_gateway_connections",] == 7.0


def test_the_build_is_named() -> None:
    assert any(key[0] == "batch_gateway_build_info" and "1.2.3" in key for key in _samples(Metrics("1.2.3")))


def test_a_counter_without_end_of_labels_counts_the_rest_as_other() -> None:
    counter = Counter("c", "Help.", ("route",))

    for number in range(SERIES_MAX):
        counter.add((f"/{number}",))

    (family,) = counter.collect()
    assert len(family.samples) <= SERIES_MAX // 5 + 1
    assert sum(sample.value for sample in family.samples) == SERIES_MAX


def test_a_histogram_without_end_of_labels_observes_the_rest_as_other() -> None:
    histogram = Histogram("h", "Help.", ("route",), (1.0, 2.0))

    for number in range(SERIES_MAX):
        histogram.observe((f"/{number}",), 1)

    (family,) = histogram.collect()
    assert len(family.samples) <= SERIES_MAX // 5 + 5
    assert sum(sample.value for sample in family.samples if sample.name == "batch_gateway_h_count") == SERIES_MAX


def _flooded() -> Metrics:
    """Metrics of a table of 1000 routes on which everything has happened."""
    metrics = Metrics("1.0")
    for route, method, outcome in product((f"/r{n}" for n in range(1000)), ("GET", "POST"), ("ok", "unknown")):
        metrics.operations.add(("native", route, method, outcome))
        metrics.forwarded.add((route, method, "2xx"))
        metrics.attempts.add((route, outcome))
        metrics.operation_seconds.observe((route,), 1)
        metrics.forwarded_seconds.observe((route,), 1)
    return metrics


def test_a_thousand_routes_make_no_more_series_than_promised() -> None:
    assert len(_samples(_flooded())) <= SERIES_MAX
