"""Plain heads: whatever they accept, llhttp accepts with the same meaning; what is odd they leave alone."""

from collections import deque
from typing import Any

import msgspec
import pytest
from httptools import HttpResponseParser
from hypothesis import given
from hypothesis import strategies as st

from gateway.upstream.exchange import Exchange
from gateway.upstream.headers import Names, end_to_end, forwarded, is_head, rendered
from gateway.upstream.plain import Heads

PLAIN = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2"


class Read:
    """What llhttp makes of a head and its body."""

    def __init__(self, data: bytes) -> None:
        self.fields: list[tuple[bytes, bytes]] = []
        self.reason = self.body = b""
        self.ended = 0
        self.parser: Any = HttpResponseParser(self)
        self.parser.feed_data(data)

    def on_status(self, reason: bytes) -> None:
        self.reason += reason

    def on_header(self, name: bytes, value: bytes) -> None:
        self.fields.append((name, value))

    def on_body(self, data: bytes) -> None:
        self.body += data

    def on_message_complete(self) -> None:
        self.ended += 1
        self.keeps_alive = self.parser.should_keep_alive()


LINES = st.one_of(
    st.sampled_from(
        [
            b"Content-Type: text/plain",
            b"content-length: 5",
            b"Content-Length: 0",
            b"Content-Length:5",
            b"Content-Length: +5",
            b"Content-Length: 5, 5",
            b"Content_Length: 5",
            b"Connection: keep-alive",
            b"Connection: close",
            b"Connection: keep-alive, X",
            b"Transfer-Encoding: chunked",
            b"Keep-Alive: timeout=5",
            b"Upgrade: h2c",
            b"X: \xff\xfe",
            b"X:  two",
            b"X: trailing ",
            b"X :colon",
            b" folded",
            b"Empty:",
            b"Bare\rreturn: 1",
            b"Bare: a\nB: b",
        ]
    ),
    st.binary(max_size=12),
    st.from_regex(rb"\A[A-Za-z-]{1,8}: [ -~]{0,8}\Z"),
)
FIRST = st.sampled_from(
    [
        b"HTTP/1.1 200 OK",
        b"HTTP/1.1 404 ",
        b"HTTP/1.1 204 No Content",
        b"HTTP/1.0 200 OK",
        b"HTTP/1.1 099 X",
        b"\r\nHTTP/1.1 200 OK",
    ]
)


@given(FIRST, st.lists(LINES, max_size=5), st.booleans())
def test_what_is_plain_means_the_same_to_llhttp(first: bytes, lines: list[bytes], framed: bool) -> None:
    head = b"\r\n".join([first, *lines, *([b"Content-Length: 3"] if framed else [])])
    judged = Heads()[head]
    if judged is None:
        return
    body = b"x" * judged.length

    read = Read(head + b"\r\n\r\n" + body)

    assert (read.ended, read.body, read.reason) == (1, body, judged.reason)
    assert read.parser.get_status_code() == judged.status
    assert read.keeps_alive
    assert list(judged.fields) == read.fields
    assert judged.shown == end_to_end(read.fields, Names())
    assert is_head(judged.status, "1.1", judged.reason, read.fields)


@pytest.mark.parametrize(
    "head",
    [
        pytest.param(b"HTTP/1.1 204 No Content\r\nContent-Length: 2", id="no-body-allowed"),
        pytest.param(b"HTTP/1.1 304 Not Modified\r\nContent-Length: 2", id="not-modified"),
        pytest.param(b"HTTP/1.1 100 Continue\r\nContent-Length: 2", id="interim"),
        pytest.param(b"HTTP/1.0 200 OK\r\nContent-Length: 2", id="version"),
        pytest.param(b"HTTP/1.1 200 O\x01K\r\nContent-Length: 2", id="reason"),
        pytest.param(b"HTTP/1.1 200 OK\r\nX: y", id="no-length"),
        pytest.param(PLAIN + b"\r\nContent-Length: 2", id="two-lengths"),
        pytest.param(PLAIN + b"\r\nTransfer-Encoding: chunked", id="chunked"),
        pytest.param(PLAIN + b"\r\nConnection: close", id="close"),
        pytest.param(PLAIN + b"\r\nSet-Cookie: a\r\nSet-Cookie: b", id="repeated"),
        pytest.param(PLAIN + b"\r\n folded", id="fold"),
        pytest.param(PLAIN + b"\r\nX: a\x00b", id="control"),
        pytest.param(PLAIN + b"\r\nX: " + b"a" * 2048, id="long"),
        pytest.param(PLAIN + b"".join(b"\r\nX%d: y" % n for n in range(256)), id="many"),
    ],
)
def test_what_is_not_plain_is_left_to_llhttp(head: bytes) -> None:
    assert Heads()[head] is None


def test_what_is_passed_on_of_a_head_is_what_forwarding_it_field_by_field_comes_to() -> None:
    head = b"\r\n".join([PLAIN, b"date:now", b"Connection: keep-alive", b"X: two words", b"Empty:"])

    judged = Heads()[head]

    assert judged is not None
    assert judged.passed == PLAIN.split(b"\r\n")[0] + b"\r\n" + rendered(forwarded(judged.fields))


def test_a_head_without_a_date_is_not_passed_on_as_it_is() -> None:
    judged = Heads()[PLAIN]

    assert judged is not None
    assert judged.passed == b""


def test_memory_is_bounded() -> None:
    heads = Heads()

    for number in range(5000):
        assert heads[PLAIN + b"\r\nX-Request-Id: %d" % number] is not None

    assert len(heads) <= Heads.HEADS_MAX


class Streamed(Exchange, eq=False):
    """Notes what it is told."""

    told: list[tuple[bytes, bytes]] = msgspec.field(default_factory=list)

    def on_whole(self, body: bytes, passed: bytes) -> None:
        self.told.append((body, passed))


def exchange(**members: Any) -> Streamed:
    return Streamed(method="GET", request=b"", deadline_s=0.0, repeatable=True, done=lambda _: None, **members)


def test_whole_answers_are_taken_one_after_the_other_and_the_rest_is_left() -> None:
    first, second, third = exchange(), exchange(streamed=True), exchange()
    exchanges: deque[Exchange] = deque([first, second, third])
    answered: list[Exchange] = []
    data = (PLAIN + b"\r\n\r\n{}") * 2 + PLAIN + b"\r\n\r\n{"

    rest = Heads().take(data, exchanges, answered)

    assert rest == PLAIN + b"\r\n\r\n{"
    assert list(exchanges) == [third]
    assert answered == [first, second]
    assert (first.status, first.body, second.told) == (200, b"{}", [(b"{}", b"")])


def test_what_comes_behind_the_last_answer_is_left() -> None:
    answered: list[Exchange] = []

    assert Heads().take(PLAIN + b"\r\n\r\n{}HTTP", deque([exchange()]), answered) == b"HTTP"
    assert len(answered) == 1


@pytest.mark.parametrize(
    "members", [{"answer_bytes_max": 1}, {"requested": False}], ids=["above-its-cap", "still-being-sent"]
)
def test_what_must_be_watched_is_left(members: dict[str, Any]) -> None:
    data = PLAIN + b"\r\n\r\n{}"

    assert Heads().take(data, deque([exchange(**members)]), []) == data
