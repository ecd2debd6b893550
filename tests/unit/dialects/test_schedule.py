"""When an asynchronous batch may begin, and which of a caller's goes first."""

import pytest
from msgspec import UNSET, Raw

from gateway.batch.model import AT_ONCE, Schedule
from gateway.batch.validation import Violation
from gateway.dialects.schedule import schedule_of


def test_nothing_said_is_at_once() -> None:
    found: list[Violation] = []

    schedule = schedule_of(UNSET, UNSET, found)

    assert (schedule, schedule.waits, found) == (AT_ONCE, False, [])


@pytest.mark.parametrize(
    ("priority", "not_before", "schedule"),
    [
        (b"0", b"90", Schedule(0, delay_s=90)),
        (b"9", b"1.5", Schedule(9, delay_s=1.5)),
        (b"5", b'"1970-01-01T00:01:40Z"', Schedule(5, not_before_s=100)),
        (b"5", b'"1970-01-01T01:01:40.5+01:00"', Schedule(5, not_before_s=100.5)),
    ],
)
def test_a_schedule_is_read(priority: bytes, not_before: bytes, schedule: Schedule) -> None:
    found: list[Violation] = []

    assert schedule_of(Raw(priority), Raw(not_before), found) == schedule
    assert (schedule.waits, found) == (True, [])


@pytest.mark.parametrize("written", [b"-1", b"10", b"1.5", b'"5"', b"null", b"true"])
def test_a_priority_that_is_none_is_told(written: bytes) -> None:
    found: list[Violation] = []

    schedule_of(Raw(written), UNSET, found)

    assert [(each.member, each.code) for each in found] == [("priority", "priority")]


@pytest.mark.parametrize(
    "written", [b"-1", b"1e300", b"null", b"[]", b'"soon"', b'"2030-01-01"', b'"2030-01-01T00:00:00"', b"true"]
)
def test_a_moment_that_is_none_is_told(written: bytes) -> None:
    found: list[Violation] = []

    schedule_of(UNSET, Raw(written), found)

    assert [(each.member, each.code) for each in found] == [("notBefore", "not-before")]
