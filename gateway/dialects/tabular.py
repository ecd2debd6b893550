"""Outcomes as CSV (RFC 4180), a row each; no spreadsheet takes a cell for a formula (PROMISES S16). Pure."""

import csv
import io

from msgspec import Raw

from gateway.batch.model import Outcome
from gateway.dialects.native import embedded

_LIVE = ("=", "+", "-", "@", "\t", "\r")
COLUMNS = ("id", "status", "error", "result", "encoding")


class CsvWriter:
    """`id,status,error,result,encoding`: `error` is a problem's slug, `result` the body as text, JSON as it came."""

    media_type = "text/csv"

    def first(self) -> bytes:
        return _row(*COLUMNS)

    def piece(self, id_: str, outcome: Outcome) -> bytes:
        failure = outcome.failure
        slug = failure.slug if failure is not None else "" if outcome.status < 400 else "upstream-error"
        if failure is not None:
            return _row(id_, str(outcome.status), slug, failure.detail, "text")
        if not outcome.body:
            return _row(id_, str(outcome.status), slug, "", "")
        body, encoding = embedded(outcome)
        text = outcome.body.decode("utf-8") if isinstance(body, Raw) else body
        return _row(id_, str(outcome.status), slug, text, encoding if isinstance(encoding, str) else "json")


def _row(*cells: str) -> bytes:
    line = io.StringIO()
    csv.writer(line).writerow([defused(cell) for cell in cells])
    return line.getvalue().encode("utf-8")


def defused(cell: str) -> str:
    """A cell that a spreadsheet shows and never runs: an apostrophe goes before what would begin a formula."""
    return f"'{cell}" if cell.startswith(_LIVE) else cell
