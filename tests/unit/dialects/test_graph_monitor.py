"""Graph's later answers: the same bytes as in place, written entry by entry, and the monitors that give them."""

import json
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.batch.model import Failure, Outcome
from gateway.dialects.graph import MicrosoftGraph
from gateway.dialects.port import Call, Page, Read
from tests.strategies import LAW
from tests.unit.dialects.test_graph import Entry, call, get, graph, read

JSON = {"Content-Type": "application/json"}
STOPS = "respond-async, continue-on-error=false"


def looked_at(path: str) -> Call:
    return Call("GET", path, "", "", b"")


def later(found: Read, outcomes: Sequence[Outcome], accept: str = "") -> Page:
    """What the monitor answers in the end, read back from what was kept of the envelope."""
    speech = graph().later
    pieces = speech.answer(speech.memo(found), accept)
    ids = [operation.id for operation in found.batch.operations]
    written = [pieces.piece(id_, outcome) for id_, outcome in zip(ids, outcomes, strict=True)]
    fields = [(b"Content-Type", pieces.content_type), *pieces.fields]
    return Page(200, fields, b"".join([pieces.first(), *written, pieces.last()]))


@pytest.mark.parametrize(
    ("path", "asked"),
    [
        ("/v1.0/$batch/monitors/abc", "abc"),
        ("/%24batch/monitors/a/b", "a/b"),
        ("/$batch/monitors/", ""),
        ("/v1.0/$batch", None),
        ("/v1.0/$batch/abc", None),
        ("/v1.0/monitors/abc", None),
        ("/v1.0/x$batch/monitors/abc", None),
    ],
)
def test_a_monitor_stands_below_the_batch(path: str, asked: str | None) -> None:
    assert graph().later.asked(looked_at(path)) == asked


@pytest.mark.parametrize(
    ("prefer", "applied"), [("respond-async", b"respond-async"), (STOPS, b"respond-async, continue-on-error=false")]
)
def test_a_batch_on_record_is_202_and_names_its_monitor(prefer: str, applied: bytes) -> None:
    asked = call(b"", path="/v1.0/%24batch")

    page = graph().later.accepted(asked, read(get("1"), prefer=prefer), "abc", "https://gw")

    assert (page.status, page.body) == (202, b"")
    assert page.fields == [
        (b"Location", b"https://gw/v1.0/%24batch/monitors/abc"),
        (b"Retry-After", b"1"),
        (b"Preference-Applied", applied),
    ]


def test_a_batch_that_runs_is_202_at_its_monitor_again() -> None:
    page = graph().later.pending(looked_at("/$batch/monitors/abc"), "http://gw:8207")

    assert (page.status, page.body) == (202, b"")
    assert page.fields == [(b"Location", b"http://gw:8207/$batch/monitors/abc"), (b"Retry-After", b"1")]


@pytest.mark.parametrize("accept", ["", "application/json", "*/*", "text/application/http, multipart/mixed"])
def test_the_result_says_that_it_is_one(accept: str) -> None:
    page = later(read(get("1"), prefer=STOPS), [Outcome(0, 204)], accept)

    assert page.fields == [
        (b"Content-Type", b"application/json"),
        (b"AsyncResult", b"200"),
        (b"Preference-Applied", b"continue-on-error=false"),
    ]
    assert page.body == b'{"responses":[{"id":"1","status":204,"headers":{}}]}'


def test_who_accepts_a_message_is_given_the_whole_one() -> None:
    page = later(read(get("1"), prefer=STOPS), [Outcome(0, 204)], "application/json;q=0.5, Application/HTTP; q=1")

    assert page.fields == [(b"Content-Type", b"application/http"), (b"AsyncResult", b"200")]
    assert page.body == (
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nPreference-Applied: continue-on-error=false\r\n\r\n"
        b'{"responses":[{"id":"1","status":204,"headers":{}}]}'
    )


def test_a_batch_of_which_only_some_was_run_again_has_an_answer_too() -> None:
    """As the native calls' retry makes one: what is kept of its envelope is that of the first."""
    found = read(get("1"), get("2"), get("3", **{"if": "x"}))
    speech = graph().later
    pieces = speech.answer(speech.memo(found), "")

    text = pieces.first() + pieces.piece("2", Outcome(0, 200)) + pieces.last()

    assert [each["id"] for each in json.loads(text)["responses"]] == ["2"]


_ids = st.text(st.characters(codec="utf-8"), min_size=1, max_size=8).filter(lambda text: len(text.encode()) <= 40)
_outcomes = st.one_of(
    st.builds(
        Outcome, st.just(0), st.integers(200, 599), st.just(JSON), st.sampled_from([b"", b"{}", b"[1]", b"\xff"])
    ),
    st.just(Outcome(0, 409, failure=Failure("cancelled", "cancelled"))),
    st.just(Outcome(0, 410, failure=Failure("expired", "expired"))),
)


@st.composite
def answered(draw: st.DrawFn) -> tuple[list[Entry], list[Outcome]]:
    """Entries, some with a condition that nobody meets, and an outcome for each that could run."""
    ids = draw(st.lists(_ids, min_size=1, max_size=6, unique_by=lambda text: text.lower()))
    entries = [get(id_, **({"if": "x"} if draw(st.booleans()) else {})) for id_ in ids]
    return entries, [draw(_outcomes) for entry in entries if "if" not in entry]


@LAW
@given(answered(), st.sampled_from(["", STOPS]), st.sampled_from(["object", "base64"]))
def test_a_later_answer_is_the_one_in_place(
    given_: tuple[list[Entry], list[Outcome]], prefer: str, bodies: str
) -> None:
    entries, outcomes = given_
    found = read(*entries, prefer=prefer, bodies=bodies)
    spoken: MicrosoftGraph = graph(bodies=bodies)

    page = later(found, outcomes)

    assert page.body == spoken.answer(found, outcomes).body
    assert [each["id"] for each in json.loads(page.body)["responses"]] == [entry["id"] for entry in entries]
