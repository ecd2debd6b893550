"""Outcomes as CSV."""

import csv
import io

import pytest

from gateway.batch.model import Failure, Outcome
from gateway.dialects.tabular import COLUMNS, CsvWriter, defused

_JSON = {"Content-Type": "application/json"}


def _row(outcome: Outcome) -> list[str]:
    text = CsvWriter().piece("-op", outcome).decode()
    return next(csv.reader(io.StringIO(text)))


def test_the_first_row_names_the_columns() -> None:
    assert CsvWriter().first().decode() == ",".join(COLUMNS) + "\r\n"


@pytest.mark.parametrize(
    ("outcome", "row"),
    [
        (Outcome(0, 200, _JSON, b'{"a": [1,\n 2]}'), ["200", "", '{"a": [1,\n 2]}', "json"]),
        (Outcome(0, 204), ["204", "", "", ""]),
        (Outcome(0, 404), ["404", "upstream-error", "", ""]),
        (Outcome(0, 200, {"Content-Type": "text/plain"}, b'say "x", y'), ["200", "", 'say "x", y', "text"]),
        (Outcome(0, 200, {}, b"\xff\x00"), ["200", "", "/wA=", "base64"]),
        (Outcome(0, 410, failure=Failure("expired", "too late")), ["410", "expired", "too late", "text"]),
    ],
    ids=["json", "empty", "error", "text", "bytes", "failure"],
)
def test_an_outcome_is_one_row(outcome: Outcome, row: list[str]) -> None:
    assert _row(outcome) == ["'-op", *row]


@pytest.mark.parametrize("cell", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1"])
def test_a_cell_that_would_be_a_formula_is_text(cell: str) -> None:
    assert defused(cell) == f"'{cell}"


@pytest.mark.parametrize("cell", ["", "1-1", "a=b", " =1"])
def test_any_other_cell_stays_as_it_is(cell: str) -> None:
    assert defused(cell) == cell
