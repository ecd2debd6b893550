"""Log lines: JSON for machines, text for people, and one a second for each cause."""

import json
import logging
from collections.abc import Iterator
from io import StringIO

import pytest
import structlog

from gateway.telemetry.logs import Throttle, configure


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    """Logging is set up for the whole process: put it back."""
    level = logging.getLogger("aiohttp").level
    yield
    structlog.reset_defaults()
    logging.getLogger("aiohttp").setLevel(level)


class _Terminal(StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("form", ["json", "auto"])
def test_a_line_for_machines_is_one_json_object_with_time_level_and_event(form: str) -> None:
    out = StringIO()

    configure("info", form, out).info("batch", total=3, words="a\nb")

    line = json.loads(out.getvalue())
    assert out.getvalue().count("\n") == 1
    assert (line["event"], line["level"], line["total"], line["words"]) == ("batch", "info", 3, "a\nb")
    assert line["ts"].endswith("Z")


@pytest.mark.parametrize(("form", "out"), [("pretty", StringIO()), ("auto", _Terminal())])
def test_a_line_for_people_is_text(form: str, out: StringIO) -> None:
    configure("info", form, out).info("batch", total=3)

    assert "batch" in out.getvalue()
    assert not out.getvalue().startswith("{")


def test_lines_below_the_level_are_left_out() -> None:
    out = StringIO()
    logger = configure("warning", "json", out)

    logger.info("quiet")
    logger.warning("loud")

    assert [json.loads(line)["event"] for line in out.getvalue().splitlines()] == ["loud"]


def test_an_exception_is_logged_with_its_traceback() -> None:
    out = StringIO()

    configure("info", "json", out).error("defect", exc_info=ValueError("why"))

    assert "ValueError: why" in json.loads(out.getvalue())["exception"]


def test_without_a_stream_lines_go_to_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    configure("info", "json").info("here")

    captured = capsys.readouterr()
    assert (captured.out, json.loads(captured.err)["event"]) == ("", "here")


def test_the_servers_own_tracebacks_are_silenced() -> None:
    configure("info", "json", StringIO())

    assert not logging.getLogger("aiohttp.server").isEnabledFor(logging.ERROR)


def test_a_cause_is_admitted_once_until_its_time_has_passed() -> None:
    throttle = Throttle(every_s=3600)

    assert [throttle.admits("a"), throttle.admits("a"), throttle.admits("b"), throttle.admits("a")] == [
        0,
        None,
        0,
        None,
    ]


def test_the_next_line_of_a_cause_counts_what_was_left_out() -> None:
    throttle = Throttle(every_s=0.001)
    throttle.admits("a")
    left_out = 0

    while (counted := throttle.admits("a")) is None:
        left_out += 1

    assert counted == left_out


def test_causes_without_end_are_forgotten() -> None:
    throttle = Throttle(every_s=3600)

    for number in range(10_000):
        throttle.admits(str(number))

    assert len(throttle._last) <= 256
