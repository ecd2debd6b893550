"""A form read in any pieces."""

from contextlib import suppress
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.dialects.form import HEAD_BYTES_MAX, Form, boundary_of
from gateway.dialects.port import EnvelopeError

_FORM = (
    b"preamble\r\n--B\r\n"
    b'Content-Disposition: form-data; name="purpose"\r\n\r\nbatch\r\n--B \r\n'
    b'Content-Type: text/plain\r\ncontent-disposition: form-data; filename="a%22\\"b.jsonl"; name=file\r\n\r\n'
    b"one\r\n--Bother\r\n--\r\ntwo\r\r\n--B--\r\nepilogue\r\n--B\r\n"
)


def _read(data: bytes, *cuts: int) -> list[tuple[str, str | None, bytes]]:
    form, parts = Form(b"B"), []
    places = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    for start, end in pairwise(places):
        for piece in form.feed(data[start:end]):
            if piece.begins:
                parts.append((piece.name, piece.filename, piece.data))
            else:
                parts[-1] = (piece.name, piece.filename, parts[-1][2] + piece.data)
    assert form.is_whole
    return parts


@given(st.lists(st.integers(1, len(_FORM)), max_size=40), st.booleans())
def test_any_pieces_give_the_same_parts(cuts: list[int], bare: bool) -> None:
    data, end = (_FORM.replace(b"\r\n", b"\n"), b"\n") if bare else (_FORM, b"\r\n")

    assert _read(data, *cuts) == [
        ("purpose", None, b"batch"),
        ("file", 'a""b.jsonl', end.join([b"one", b"--Bother", b"--", b"two" if bare else b"two\r"])),
    ]


@given(st.binary(max_size=300).map(lambda data: data.replace(b"--B", b"")), st.integers(0, 300))
def test_content_comes_back_byte_for_byte(content: bytes, cut: int) -> None:
    data = b'--B\r\nContent-Disposition: form-data; name="file"\r\n\r\n' + content + b"\r\n--B--\r\n"

    assert _read(data, cut, cut + 60) == [("file", None, content)]


@given(st.lists(st.sampled_from([b"\n--B", b"--", b"\r", b"\n", b'Content-Disposition: x; name="a"', b"x"])))
def test_any_bytes_raise_nothing_but_the_dialects_error(pieces: list[bytes]) -> None:
    form = Form(b"B")
    found = []

    with suppress(EnvelopeError):
        for piece in pieces:
            found += form.feed(piece)

    assert sum(len(piece.data) for piece in found) <= sum(map(len, pieces))


@pytest.mark.parametrize(
    "data",
    [
        b"--B\r\nContent-Type: text/plain\r\n\r\n",
        b"--B\r\nContent-Disposition: form-data\r\n\r\n",
        b"--B\r\n\r\n",
        b"--B\r\n" + b"x" * (HEAD_BYTES_MAX + 1),
        b"--B" + b" " * (HEAD_BYTES_MAX + 1),
    ],
    ids=["no disposition", "no name", "no head", "a long head", "a long boundary"],
)
def test_what_is_no_form_is_refused(data: bytes) -> None:
    with pytest.raises(EnvelopeError):
        Form(b"B").feed(data)


@pytest.mark.parametrize("said", ["multipart/form-data; boundary=B", 'Multipart/Form-Data; x=y; Boundary="B"'])
def test_a_boundary_may_be_quoted(said: str) -> None:
    assert boundary_of(said) == b"B"


@pytest.mark.parametrize("said", ["", "multipart/form-data", "multipart/mixed; boundary=B", "application/json"])
def test_without_a_boundary_it_is_no_form(said: str) -> None:
    with pytest.raises(EnvelopeError):
        boundary_of(said)
