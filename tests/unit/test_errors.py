"""The table of problems, and how input may be quoted."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import PROBLEMS, GatewayError, quoted
from tests.strategies import LAW


@pytest.mark.parametrize("slug", sorted(PROBLEMS))
def test_a_problem_has_a_plain_slug_an_error_status_and_words(slug: str) -> None:
    problem = PROBLEMS[slug]

    assert problem.slug == slug
    assert re.fullmatch(r"[a-z]+(-[a-z]+)*", slug)
    assert 400 <= problem.status < 600
    assert problem.title
    assert problem.cure.endswith(".")


@pytest.mark.parametrize(
    ("slug", "status"),
    [
        ("malformed-http", 400), ("ambiguous-framing", 400), ("http-version", 505), ("bad-host", 400),
        ("bad-target", 400),
        ("method-not-supported", 501), ("target-too-long", 414), ("headers-too-large", 431), ("request-timeout", 408),
        ("envelope-too-large", 413), ("length-required", 411), ("expectation-failed", 417),
        ("unsupported-encoding", 415),
        ("overloaded", 503), ("method-not-allowed", 405), ("unsupported-media-type", 415),
        ("not-acceptable", 406), ("invalid-json", 400), ("duplicate-key", 400), ("json-too-complex", 400),
        ("validation-failed", 422), ("too-many-operations", 413), ("rate-limited", 429),
        ("cost-exceeds-capacity", 413), ("route-not-allowed", 403), ("route-not-batchable", 403),
        ("upstream-connect", 502),
        ("upstream-tls", 502), ("outcome-unknown", 502), ("upstream-reset", 502), ("upstream-timeout", 504),
        ("upstream-malformed", 502), ("upstream-response-too-large", 502), ("response-budget-exceeded", 507),
        ("halted", 424), ("batch-deadline", 408), ("loop-detected", 508),
    ],
)  # fmt: skip
def test_a_slug_has_the_status_that_the_promises_give_it(slug: str, status: int) -> None:
    assert PROBLEMS[slug].status == status


def test_an_error_takes_status_and_words_from_the_table() -> None:
    error = GatewayError("rate-limited")

    assert (error.status, error.detail, error.close) == (429, PROBLEMS["rate-limited"].cure, False)
    assert (error.headers, error.members) == ({}, {})


def test_an_error_may_say_more_than_the_table() -> None:
    error = GatewayError("rate-limited", "wait", status=503, headers={"A": "b"}, members={"m": 1}, close=True)

    assert (error.status, error.detail, error.close) == (503, "wait", True)
    assert (error.headers, error.members) == ({"A": "b"}, {"m": 1})
    assert str(error) == "rate-limited: wait"


def test_a_slug_outside_the_table_is_a_defect() -> None:
    with pytest.raises(KeyError):
        GatewayError("no-such-slug")


@LAW
@given(st.text(max_size=200), st.integers(8, 64))
def test_quoted_input_is_short_printable_ascii(text: str, length_max: int) -> None:
    shown = quoted(text, length_max)

    assert shown.isascii()
    assert shown.isprintable()
    assert len(shown) <= length_max + 2


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a", '"a"'),
        ("a\nb", '"a\\nb"'),
        ("\u00e9", '"\\xe9"'),
        ("x" * 64, '"' + "x" * 64 + '"'),
        ("x" * 65, '"' + "x" * 61 + '..."'),
    ],
)
def test_input_is_quoted_escaped_and_cut(text: str, shown: str) -> None:
    assert quoted(text) == shown
