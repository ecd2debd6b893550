"""The request inside a part: whoever wrote its line ends, whatever its length says."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.dialects.google_parts import Inner, request_in
from gateway.dialects.multipart import PartError
from tests.strategies import LAW


@pytest.mark.parametrize(
    ("data", "inner"),
    [
        (b"GET /a HTTP/1.1\r\nAccept: x\r\n\r\n", Inner("GET", "/a", (("Accept", "x"),), b"")),
        (b"GET /a", Inner("GET", "/a", (), b"")),
        (b"\r\n\r\nGET /a HTTP/1.0\n\n\n", Inner("GET", "/a", (), b"")),
        (b"PUT /a HTTP/1.1\n\nbody\n\nmore", Inner("PUT", "/a", (), b"body\n\nmore")),
        (b"PUT /a HTTP/1.1\nContent-Length: 2\n\n\xc3\xa9\xc3\xa9", Inner("PUT", "/a", (), b"\xc3\xa9\xc3\xa9")),
        (b"PUT /a HTTP/1.1\nContent-Length: 1\n\n\n", Inner("PUT", "/a", (), b"\n")),
        (b"PUT /a HTTP/1.1\nContent-Length: 0\n\n\n", Inner("PUT", "/a", (), b"")),
        (b"PUT /a HTTP/1.1\nContent-Type: t/x\n\nb", Inner("PUT", "/a", (("Content-Type", "t/x"),), b"b")),
        (b"GET /a HTTP/1.1\nContent-Type: application/json\nMIME-Version: 1.0\n\n", Inner("GET", "/a", (), b"")),
    ],
)
def test_a_request_is_read_whoever_wrote_its_line_ends(data: bytes, inner: Inner) -> None:
    assert request_in(data, {}) == inner


def test_what_is_about_the_connection_the_part_or_the_gateway_does_not_travel() -> None:
    names = ["Host", "Accept-Encoding", "Connection", "X-Own", "TE", "Expect", "Content-Transfer-Encoding", "Via",
             "X-Forwarded-For", "Proxy-Authorization", "Content-Length"]  # fmt: skip
    head = "".join(f"{name}: {'x-own' if name == 'Connection' else '0'}\n" for name in names)

    inner = request_in(f"GET /a HTTP/1.1\n{head}Authorization: b\n\n".encode(), {})

    assert inner.fields == (("Authorization", "b"),)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\r\n",
        b"GET",
        b"GET  /a HTTP/1.1",
        b"GET /a b HTTP/1.1",
        b"GET /\xc3\xa9 HTTP/1.1",
        b"GET /a HTTP/1.1\n?\n",
    ],
)
def test_what_is_no_request_is_refused(data: bytes) -> None:
    with pytest.raises(PartError):
        request_in(data, {})


_PIECES = st.binary(max_size=30) | st.sampled_from([b"GET /a", b" HTTP/1.1", b"\r\n", b"\n", b"a: b"])


@LAW
@given(st.lists(_PIECES).map(b"".join))
def test_any_bytes_are_a_request_or_refused(data: bytes) -> None:
    with suppress(PartError):
        request_in(data, {})
