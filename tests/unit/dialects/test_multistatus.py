"""Outcomes as RFC 4918 XML that every reader can parse."""

import re
from xml.etree import ElementTree as Xml

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.batch.model import Failure, Outcome, summarize
from gateway.dialects.multistatus import XmlWriter
from gateway.errors import PROBLEMS
from tests.strategies import LAW, ids

_D = "{DAV:}"
_texts = st.text() | st.text("\x00\x0b\x1f\ud800\udfff\ufffe\uffff<&>]\"'\r\n\t", max_size=8)
_outcomes = st.builds(
    Outcome,
    st.just(0),
    st.integers(200, 599),
    st.just({}) | _texts.map(lambda text: {"Location": text}) | st.just({"Location": ["/a", "/b"]}),
    st.binary(max_size=4),
    st.none() | st.builds(Failure, st.sampled_from(sorted(PROBLEMS)), _texts),
)


def _root(ids_: list[str], outcomes: list[Outcome]) -> Xml.Element:
    return Xml.fromstring(XmlWriter().whole(ids_, outcomes, summarize(outcomes), "/batch"))


@LAW
@given(st.lists(st.tuples(ids, _outcomes), max_size=5, unique_by=lambda pair: pair[0]))
def test_the_document_parses_and_has_one_response_with_its_own_href_for_each_operation(
    pairs: list[tuple[str, Outcome]],
) -> None:
    root = _root([id_ for id_, _ in pairs], [outcome for _, outcome in pairs])

    hrefs = [response.findtext(f"{_D}href") for response in root.findall(f"{_D}response")]

    assert root.tag == f"{_D}multistatus"
    assert len(hrefs) == len(pairs) == len(set(hrefs))
    assert all(re.fullmatch(r"/batch\?operation=[A-Za-z0-9._~-]+", href or "") for href in hrefs)


@LAW
@given(_outcomes)
def test_each_response_has_a_status_line_of_its_own_outcome(outcome: Outcome) -> None:
    status = _root(["a"], [outcome]).findtext(f"{_D}response/{_D}status") or ""

    assert re.fullmatch(rf"HTTP/1\.1 {outcome.status} [ -~]*", status)


def test_responses_stand_in_the_order_of_the_operations() -> None:
    root = _root(["b", "a"], [Outcome(0, 200), Outcome(1, 404)])

    statuses = [each.text for each in root.iter(f"{_D}status")]

    assert statuses == ["HTTP/1.1 200 OK", "HTTP/1.1 404 Not Found"]
    assert root.findtext(f"{_D}responsedescription") == "1 of 2 succeeded"


def test_a_status_without_a_usual_reason_keeps_its_space() -> None:
    assert b"<D:status>HTTP/1.1 299 </D:status>" in XmlWriter().whole(["a"], [Outcome(0, 299)], summarize([]), "/batch")


@pytest.mark.parametrize(("status", "shown"), [(201, True), (301, True), (308, True), (200, False), (404, False)])
def test_a_location_is_shown_where_it_has_a_meaning(status: int, shown: bool) -> None:
    root = _root(["a"], [Outcome(0, status, {"Location": "/users/7"})])

    assert (root.findtext(f"{_D}response/{_D}location/{_D}href") == "/users/7") is shown


def test_a_failure_names_its_condition_and_says_it_in_words() -> None:
    root = _root(["a"], [Outcome(0, 502, failure=Failure("outcome-unknown", "lost\x00"))])

    assert [each.tag for each in root.find(f"{_D}response/{_D}error") or []] == ["outcome-unknown"]
    assert root.findtext(f"{_D}response/{_D}responsedescription") == "Outcome unknown: lost\ufffd"
