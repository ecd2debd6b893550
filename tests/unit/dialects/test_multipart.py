"""Multipart bodies: CRLF or bare LF, whatever stands in them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.dialects.multipart import PartError, boundary_of, field_of, fields_of, head_of, parts_of
from gateway.dialects.port import EnvelopeError
from tests.strategies import LAW


@pytest.mark.parametrize(
    ("said", "boundary"),
    [
        ("multipart/mixed; boundary=abc", b"abc"),
        ('multipart/mixed; boundary="===============5=="', b"===============5=="),
        ("multipart/mixed; boundary===============5==", b"==============5=="),
        ('Multipart/Mixed ;charset=x; BOUNDARY="a b"', b"a b"),
        ('multipart/mixed; x="; boundary=wrong"; boundary=right', b"right"),
        (r'multipart/mixed; boundary="a\b"', b"ab"),
    ],
)
def test_a_boundary_is_found_quoted_or_not(said: str, boundary: bytes) -> None:
    assert boundary_of(said) == boundary


@pytest.mark.parametrize(
    "said",
    ["multipart/mixed", "multipart/mixed; boundary=", 'multipart/mixed; boundary="a "', "multipart/mixed; boundary=é",
     "multipart/mixed; boundary=" + "a" * 71, 'multipart/mixed; boundary="a', "multipart/mixed; bound=a"],
)  # fmt: skip
def test_a_content_type_without_a_usable_boundary_is_refused(said: str) -> None:
    with pytest.raises(EnvelopeError, match="boundary"):
        boundary_of(said)


@pytest.mark.parametrize(
    ("data", "parts"),
    [
        (b"--b\r\none\r\n--b\r\ntwo\r\n--b--\r\n", [b"one", b"two"]),
        (b"--b\none\n--b\ntwo\n--b--", [b"one", b"two"]),
        (b"preamble\r\n--b \t\r\none\r\n--b-- \r\nepilogue\r\n--b\r\n", [b"one"]),
        (b"--b\r\n--b\r\n\r\n--b--", [b"", b""]),
        (b"--b\r\none\r\n\r\n--b--", [b"one\r\n"]),
        (b"--b\none\r\n--b--", [b"one\r"]),  # where lines end in LF, a CR before one is the body's own
        (b"--b\r\none\n--b--", [b"one"]),
        (b"--b\nx --b\n--bc\n--b-\n--b--x\n--b--", [b"x --b\n--bc\n--b-\n--b--x"]),
        (b"--b--", []),
        (b"\n--b--", []),
    ],
)
def test_parts_end_where_a_delimiter_has_a_line_of_its_own(data: bytes, parts: list[bytes]) -> None:
    assert list(parts_of(data, b"b")) == parts


@pytest.mark.parametrize("data", [b"", b"one", b"--b\none", b"--b\none\n--b", b"--b\none\n--b\n", b"x--b--"])
def test_an_envelope_without_its_last_boundary_is_refused(data: bytes) -> None:
    with pytest.raises(EnvelopeError, match="not whole"):
        list(parts_of(data, b"b"))


@pytest.mark.parametrize(
    ("data", "head", "rest"),
    [
        (b"A: 1\r\nB: 2\r\n\r\nrest\r\n\r\n", b"A: 1\r\nB: 2", b"rest\r\n\r\n"),
        (b"A: 1\n\nrest", b"A: 1", b"rest"),
        (b"\r\nrest", b"", b"rest"),
        (b"\n\nrest", b"", b"\nrest"),
        (b"A: 1\r\n", b"A: 1\r\n", b""),
    ],
)
def test_a_head_ends_with_its_empty_line(data: bytes, head: bytes, rest: bytes) -> None:
    assert head_of(data) == (head, rest)


def test_a_folded_field_is_one_and_keeps_its_spaces() -> None:
    fields = fields_of(b"Content-Type: a/b\r\nContent-ID: <base +\r\n long id>  \r\n")

    assert fields == [(b"Content-Type", b"a/b"), (b"Content-ID", b"<base + long id>")]


@pytest.mark.parametrize("head", [b"no field", b" folded: first", b"two words: x", b": x", b"A: b\nB"])
def test_a_line_that_is_no_field_is_refused(head: bytes) -> None:
    with pytest.raises(PartError):
        fields_of(head)


def test_a_head_of_a_million_fields_is_refused_before_it_is_read() -> None:
    assert len(fields_of(b"a:\n" * 256)) == 256
    with pytest.raises(PartError, match="more than 256"):
        fields_of(b"a:\n" * 1_000_000)


def test_a_field_is_found_in_any_case() -> None:
    fields = [(b"content-id", b"1"), (b"Content-ID", b"2")]

    assert field_of(fields, b"content-id") == b"1"
    assert field_of(fields, b"content-type") is None


_TEXTS = st.binary(max_size=30) | st.sampled_from([b"--b", b"\r\n--b", b"\n--b\n", b"--b--", b"\r\n", b"\n", b"a: b"])


@LAW
@given(st.lists(st.lists(_TEXTS, max_size=6).map(b"".join), max_size=5), st.sampled_from([b"\r\n", b"\n"]))
def test_parts_come_back_as_they_were_written(parts: list[bytes], line_end: bytes) -> None:
    boundary = b"a-boundary-that-no-text-of-this-test-has"
    start = b"".join([b"--" + boundary + line_end + part + line_end for part in parts])

    assert list(parts_of(start + b"--" + boundary + b"--", boundary)) == parts


@LAW
@given(st.lists(_TEXTS, max_size=12).map(b"".join))
def test_any_bytes_are_parts_or_refused(data: bytes) -> None:
    try:
        for part in parts_of(data, b"b"):
            fields_of(head_of(part)[0])
    except (EnvelopeError, PartError):
        pass
