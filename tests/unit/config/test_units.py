"""Durations, sizes and rates: both ways, and the cure for each way of getting them wrong."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.config import units
from gateway.config.units import Rate, UnitError


@given(st.integers(0, 3650 * 86_400_000))
def test_a_rendered_duration_reads_back_as_itself(ms: int) -> None:
    assert units.parse_duration(units.render_duration(ms / 1000)) == ms / 1000


@given(st.integers(0, 999_999_999_999))
def test_a_rendered_size_reads_back_as_itself(size_bytes: int) -> None:
    assert units.parse_size(units.render_size(size_bytes)) == size_bytes


@given(st.integers(1, 999_999_999), st.sampled_from([1_000_000, 60_000_000, 3_600_000_000]))
def test_a_rendered_rate_reads_back_as_itself(tokens: int, per_us: int) -> None:
    rate = Rate(tokens, per_us)

    assert units.parse_rate(units.render_rate(rate)) == rate


@given(st.text() | st.integers() | st.floats() | st.booleans() | st.none())
def test_whatever_is_written_is_understood_or_refused_with_a_cure(written: object) -> None:
    for parse in (units.parse_duration, units.parse_size, units.parse_rate):
        assert any(word in _said(parse, written) for word in ("write", "such as", "at most", "understood"))


def _said(parse: Callable[[object], object], written: object) -> str:
    try:
        parse(written)
    except UnitError as error:
        return str(error)
    return "understood"


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("250ms", 0.25), ("30s", 30.0), ("5m", 300.0), ("1h30m", 5400.0), ("29d", 2_505_600.0), ("0s", 0.0)],
)
def test_a_duration_is_seconds(text: str, seconds: float) -> None:
    assert units.parse_duration(text) == seconds


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(90.0, "90s"), (119.0, "119s"), (120.0, "2m"), (5400.0, "1h30m"), (1.5, "1s500ms"), (0.25, "250ms")],
)
def test_a_duration_is_rendered_as_people_write_it(seconds: float, text: str) -> None:
    assert units.render_duration(seconds) == text


@pytest.mark.parametrize(
    ("text", "size_bytes"),
    [("512B", 512), ("64KiB", 65_536), ("10MiB", 10_485_760), ("10MB", 10_000_000), ("1KB", 1000)],
)
def test_a_size_is_bytes_binary_or_decimal(text: str, size_bytes: int) -> None:
    assert units.parse_size(text) == size_bytes


@pytest.mark.parametrize(("size_bytes", "text"), [(65_536, "64KiB"), (10_000_000, "10MB"), (1001, "1001B"), (0, "0B")])
def test_a_size_is_rendered_in_the_largest_whole_unit(size_bytes: int, text: str) -> None:
    assert units.render_size(size_bytes) == text


@pytest.mark.parametrize(
    ("text", "rate"),
    [("500/s", Rate(500, 10**6)), ("1000/min", Rate(1000, 60 * 10**6)), ("10/h", Rate(10, 3600 * 10**6))],
)
def test_a_rate_is_tokens_per_microseconds(text: str, rate: Rate) -> None:
    assert units.parse_rate(text) == rate


@pytest.mark.parametrize(
    ("written", "cure"),
    [
        (30, "write 30s"),
        ("30", "write 30s"),
        (5000, "write 5000s or 5000ms"),
        ("30sec", "write 30s"),
        ("5 minutes", "write 5m"),
        ("30m1h", "such as"),
        ("1.5s", "such as"),
        ("-5s", "such as"),
        ("", "such as"),
        ("30s\n", "such as"),
        ("٣s", "such as"),
        ("3651d", "at most 3650d"),
        (True, "such as"),
    ],
)
def test_a_duration_that_is_none_is_answered_with_its_cure(written: object, cure: str) -> None:
    with pytest.raises(UnitError, match=cure):
        units.parse_duration(written)


@pytest.mark.parametrize(
    ("written", "cure"),
    [
        (10, "write 10MiB"),
        (10_485_760, "write 10MiB"),
        ("10M", "write 10MiB"),
        ("10mb", "write 10MB"),
        ("10Mib", "write 10MiB"),
        ("x", "such as"),
        (1.5, "such as"),
    ],
)
def test_a_size_that_is_none_is_answered_with_its_cure(written: object, cure: str) -> None:
    with pytest.raises(UnitError, match=cure):
        units.parse_size(written)


@pytest.mark.parametrize(
    ("written", "cure"),
    [
        (100, "write 100/s"),
        ("100/sec", "write 100/s"),
        ("5/m", "write 5/min"),
        ("9/hours", "write 9/h"),
        ("0/s", "at least 1"),
    ],
)
def test_a_rate_that_is_none_is_answered_with_its_cure(written: object, cure: str) -> None:
    with pytest.raises(UnitError, match=cure):
        units.parse_rate(written)
