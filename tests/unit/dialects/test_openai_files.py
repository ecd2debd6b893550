"""OpenAI's files: what an upload says, the objects, lists, and the result files of a batch."""

import json
from typing import Any

import pytest

from gateway.dialects.on_record import File
from gateway.dialects.openai import OpenAI
from gateway.dialects.port import EnvelopeError
from tests.unit.dialects.test_openai import ID, SPOKEN, parsed
from tests.unit.dialects.test_openai_answer import record

_FILES = SPOKEN.files
_UPLOADS = [File(letter * 40, f"{letter}.jsonl", 7, 100, 900) for letter in "cba"]


def _listed(query: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(_FILES.listed(_UPLOADS, query).body)
    return document


def test_an_upload_is_an_object() -> None:
    assert json.loads(_FILES.shown(_UPLOADS[0]).body) == {
        "id": f"file-{'c' * 40}",
        "object": "file",
        "bytes": 7,
        "created_at": 100,
        "filename": "c.jsonl",
        "purpose": "batch",
        "status": "processed",
        "status_details": None,
        "expires_at": 900,
    }


@pytest.mark.parametrize(
    ("query", "letters", "has_more"),
    [
        ("", "cba", False),
        ("purpose=batch&limit=2", "cb", True),
        ("order=asc&limit=2", "ab", True),
        (f"after=file-{'b' * 40}", "a", False),
        (f"after=file-{'b' * 40}&order=asc", "c", False),
        ("purpose=assistants", "", False),
    ],
)
def test_a_list_holds_what_was_asked_for(query: str, letters: str, has_more: bool) -> None:
    page = _listed(query)

    assert [each["filename"][0] for each in page["data"]] == list(letters)
    assert page["has_more"] is has_more


@pytest.mark.parametrize(("query", "param"), [("limit=0", "limit"), ("limit=10001", "limit"), ("after=x", "after")])
def test_a_list_that_cannot_be_is_refused_by_its_parameter(query: str, param: str) -> None:
    with pytest.raises(EnvelopeError) as refused:
        _listed(query)

    assert refused.value.members["param"] == param


@pytest.mark.parametrize(
    ("fields", "life_s"),
    [
        ({}, 864_000),
        ({"expires_after[anchor]": "created_at", "expires_after[seconds]": "3600"}, 3600),
        ({"expires_after[seconds]": "2592000"}, 864_000),
    ],
)
def test_an_upload_says_how_long_it_lives_and_never_longer_than_configured(
    fields: dict[str, str], life_s: float
) -> None:
    assert _FILES.life_s({"purpose": "batch"} | fields) == life_s


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({}, "purpose"),
        ({"purpose": "assistants"}, "purpose"),
        ({"purpose": "batch", "expires_after[seconds]": "3599"}, "expires_after[seconds]"),
        ({"purpose": "batch", "expires_after[seconds]": "x"}, "expires_after[seconds]"),
        (
            {"purpose": "batch", "expires_after[seconds]": "3600", "expires_after[anchor]": "now"},
            "expires_after[anchor]",
        ),
    ],
)
def test_what_is_wrong_with_an_upload_is_told_by_its_field(fields: dict[str, str], param: str) -> None:
    with pytest.raises(EnvelopeError) as refused:
        _FILES.life_s(fields)

    assert (refused.value.status, refused.value.members["param"]) == (400, param)


def test_a_result_file_goes_as_ordered_and_never_after_its_batch() -> None:
    ordered = parsed(output_expires_after={"anchor": "created_at", "seconds": 3600}).memo

    plain = _FILES.result(record("completed", kept_until_ms=10_000_000), "output")
    sooner = _FILES.result(record("completed", kept_until_ms=10_000_000, memo=ordered), "errors")

    assert plain == File(ID, f"batch_{ID}_output.jsonl", 0, 20, 10_000, "output")
    assert sooner is not None
    assert sooner.expires_s == 3620
    document = json.loads(_FILES.shown(sooner).body)
    assert (document["id"], document["purpose"]) == (f"file-errors-{ID}", "batch_output")


def test_a_batch_that_runs_has_no_result_file() -> None:
    assert _FILES.result(record("processing"), "output") is None


def test_the_lines_of_an_order_are_for_its_endpoint() -> None:
    spoken: OpenAI = SPOKEN
    lines = spoken.files.lines(parsed())
    lines.feed(b'{"custom_id":"a","method":"POST","url":"/v1/x","body":{}}')

    order = lines.end()

    assert order.batch is not None
    assert [each.target for each in order.batch.operations] == ["/v1/x"]
    assert (order.file_id, order.memo) == (ID, parsed().memo)
