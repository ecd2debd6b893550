"""A caller's bytes into requests: however they are cut, the same requests; and limits that hold exactly."""

import asyncio
from collections.abc import Sequence
from typing import NamedTuple

import pytest
from aiohttp import EMPTY_PAYLOAD
from aiohttp.base_protocol import BaseProtocol
from aiohttp.web_protocol import _ErrInfo
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import GatewayError
from gateway.server import reading
from gateway.server.heads import HeadLimits, Heads
from gateway.server.reading import CHUNKS_MAX, MESSAGES_MAX, Body, RequestReader
from tests.integration.edge import generated
from tests.strategies import LAW

LIMITS = HeadLimits(line_bytes_max=8192, field_bytes_max=16384, fields_max=256, head_bytes_max=65536)
GET = b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n"
HEAD = ("method", "path", "version", "raw_headers", "should_close", "upgrade", "chunked")  # of aiohttp's message
CHUNKED = b"POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"


class Read(NamedTuple):
    """One request as it was read. `ended`: its body is whole; None where its framing broke."""

    head: tuple[object, ...]
    body: bytes
    ended: bool | None
    trailers: tuple[tuple[bytes, bytes], ...]


class Caller:
    """One connection, without a socket: what is fed, and what was read of it."""

    def __init__(self) -> None:
        loop = asyncio.new_event_loop()
        protocol = BaseProtocol(loop)
        self.reader = RequestReader(protocol, loop, Heads(LIMITS))
        protocol._parser = self.reader  # type: ignore[assignment]  # it stands where aiohttp's parser would
        self.problem: str | None = None
        self.tail: bytes | None = None  # what came behind an upgrade
        self._messages: list[tuple[tuple[object, ...], object]] = []
        loop.close()

    def feed(self, data: bytes) -> None:
        """As much as there is of it, in as many goes as it takes; each request is served at once."""
        self.feed_once(data)
        while self.reader.has_more:
            self.feed_once(b"")

    def feed_once(self, data: bytes) -> None:
        messages, upgraded, tail = self.reader.feed_data(data)
        for message, content in messages:
            if isinstance(message, _ErrInfo):
                assert isinstance(message.exc, GatewayError)
                self.problem = message.exc.problem.slug
            else:
                self._messages.append((tuple(getattr(message, name) for name in HEAD), content))
                self.reader.message_consumed()
        if upgraded:
            self.tail = tail

    @property
    def requests(self) -> list[Read]:
        return [_read(head, content) for head, content in self._messages]

    @property
    def content(self) -> Body:
        """The body of the last request."""
        content = self._messages[-1][1]
        assert isinstance(content, Body)
        return content


def _read(head: tuple[object, ...], content: object) -> Read:
    if not isinstance(content, Body):
        return Read(head, b"", True, ())
    if content.exception() is not None:
        return Read(head, b"", None, ())
    body = content.read_nowait(-1)
    return Read(head, body, content.is_eof(), tuple(content.trailers))


def read(data: bytes, places: Sequence[int] = ()) -> tuple[list[Read], str | None, bytes]:
    """All that is read of `data`, cut at `places`: requests, the problem behind them, and the tail of an upgrade."""
    caller = Caller()
    cuts = sorted({place % (len(data) + 1) for place in places})
    for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True):
        caller.feed(data[start:end])
    return caller.requests, caller.problem, caller.tail or b""


seeds = st.integers(0, 100_000)
cuts = st.lists(st.integers(0, 1 << 20), max_size=12)


def legal(seed: int) -> bytes:
    """A request that is made from a seed."""
    return generated.request(seed).data


@LAW
@given(st.lists(seeds, min_size=1, max_size=4), cuts)
def test_however_requests_are_cut_they_are_the_same(numbers: list[int], places: list[int]) -> None:
    data = b"".join(map(legal, numbers))
    requests, problem, tail = read(data, places)

    assert (requests, problem, tail) == read(data)
    assert problem is None
    assert requests == [request for number in numbers for request in read(legal(number))[0]]
    assert all(request.ended for request in requests)


@LAW
@given(seeds, st.integers(0, 1 << 20))
def test_what_is_taken_for_a_whole_request_is_that_request(number: int, place: int) -> None:
    data, caller = legal(number), Caller()
    cut = data[: place % (len(data) + 1)]
    for piece in (cut, data, data + GET, GET + data):
        whole, requests = caller.reader.whole(piece), read(piece)[0]
        if whole is not None:
            head, body = whole
            (request,) = requests
            made = caller.reader.message(head)
            assert (tuple(getattr(made, name) for name in HEAD), body) == request[:2]
    if whole is None and len(requests) == 1:
        assert requests[0].head[-1] or requests[0].head[2] != (1, 1) or data.startswith(b"\r\n") or requests[0].head[5]


def test_nothing_is_whole_while_something_waits_or_after_something_broke() -> None:
    waiting, broken = Caller(), Caller()
    waiting.feed(GET[:5])
    broken.feed(b"no request\r\n\r\n")

    assert Caller().reader.whole(GET) is not None
    assert waiting.reader.whole(GET) is broken.reader.whole(GET) is None


@LAW
@given(seeds, st.binary(min_size=1, max_size=3), st.integers(0, 1 << 20), st.booleans(), cuts)
def test_however_broken_requests_are_cut_they_are_read_or_refused_alike(
    number: int, wrong: bytes, place: int, instead: bool, places: list[int]
) -> None:
    good = legal(number)
    place %= len(good)
    data = good[:place] + wrong + good[place + (len(wrong) if instead else 0) :] + GET

    cut, whole = read(data, places), read(data)

    assert cut[0] == whole[0]
    assert (cut[1] is None, cut[2]) == (whole[1] is None, whole[2])


@LAW
@given(st.binary(max_size=64) | st.text("GET /x HTTP1.\r\n:aH0;", max_size=64).map(str.encode), cuts)
def test_no_bytes_break_the_reader(data: bytes, places: list[int]) -> None:
    read(data, places)
    read(CHUNKED + data, places)


@pytest.mark.parametrize("size", [1, 2, 5])
def test_a_byte_at_a_time_is_read_like_all_at_once(size: int) -> None:
    data = legal(4) + CHUNKED + b"1;a=b\r\nx\r\n0\r\nX-Sum: 1\r\n\r\n" + GET

    assert read(data, list(range(0, len(data), size))) == read(data)


# Bodies.


def body_of(data: bytes) -> Read:
    (request,), problem, _ = read(data)
    assert problem is None
    return request


@pytest.mark.parametrize(
    ("written", "body"),
    [
        (b"0\r\n\r\n", b""),
        (b"1\r\na\r\n0\r\n\r\n", b"a"),
        (b"00A\r\n0123456789\r\n0\r\n\r\n", b"0123456789"),
        (b'2;a=b;c="d e"\r\n\r\n\r\n000;x\r\n\r\n', b"\r\n"),
    ],
)
def test_chunks_are_put_together(written: bytes, body: bytes) -> None:
    assert body_of(CHUNKED + written)[1:] == (body, True, ())


def test_trailers_are_the_bodys_and_nobody_elses() -> None:
    data = CHUNKED + b"0\r\nX-A: 1\r\nx-a:2\r\n\r\n"

    assert body_of(data).trailers == ((b"X-A", b"1"), (b"x-a", b"2"))
    assert read(data + GET)[0][1:] == read(GET)[0]


@pytest.mark.parametrize(
    "written",
    [
        b"1 \r\na\r\n", b" 1\r\na\r\n", b"0x1\r\na\r\n", b"+1\r\na\r\n", b"-1\r\na\r\n", b"g\r\n", b"\r\n", b"1\na\n",
        b"1\r\nab\r\n", b"1\r\na\n", b"1\r\na\rb", b"1;\x00\r\na\r\n", b"1;a\nb\r\na\r\n", b"1" * 16 + b"\r\n",
        b"0\r\nX-A : 1\r\n\r\n", b"0\r\n X-A: 1\r\n\r\n", b"0\r\nX-A\r\n\r\n", b"0\r\nX-A: \x00\r\n\r\n",
        b"1;" + b"a" * reading.CHUNK_LINE_BYTES_MAX, b"0\r\n" + b"X-A: 1\r\n" * 257 + b"\r\n",
        b"0\r\nX-A: " + b"a" * 65537,
    ],
)  # fmt: skip
def test_a_body_that_is_framed_wrongly_breaks_and_nothing_behind_it_is_read(written: bytes) -> None:
    caller = Caller()

    caller.feed(CHUNKED + written)
    caller.feed(GET)

    assert [request.ended for request in caller.requests] == [None]
    assert caller.reader.is_broken
    assert not caller.reader.has_begun


def test_the_longest_chunk_line_is_taken() -> None:
    line = b"1;" + b"a" * (reading.CHUNK_LINE_BYTES_MAX - 2)

    assert body_of(CHUNKED + line + b"\r\nx\r\n0\r\n\r\n").body == b"x"


def test_as_many_trailers_as_fields_are_taken() -> None:
    assert len(body_of(CHUNKED + b"0\r\n" + b"X-A: 1\r\n" * 256 + b"\r\n").trailers) == 256


def test_what_was_read_of_a_body_can_be_given_back() -> None:
    caller = Caller()
    caller.feed(b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nab")
    body = caller.content
    first = body.read_nowait(-1)
    body.give_back(first)
    body.give_back(b"")
    caller.feed(b"cde")

    assert (first, body.read_nowait(-1), body.is_eof()) == (b"ab", b"abcde", True)


async def test_a_whole_body_is_read_as_any_other() -> None:
    reader = Caller().reader
    body = reader.body(b"abcde")
    assert reader.body(b"") is EMPTY_PAYLOAD
    assert isinstance(body, reading.Whole)

    seen = [
        body.is_eof(),
        body.at_eof(),
        body.read_nowait(2),
        await body.readany(),
        body.at_eof(),
        await body.readany(),
    ]
    body.give_back(b"xy")
    body.set_exception(ConnectionResetError())

    assert seen == [True, False, b"ab", b"cde", True, b""]
    assert (body.exception(), body.at_eof(), body.read_nowait()) == (None, False, b"xy")


# One go.


def test_many_small_chunks_are_read_in_several_goes() -> None:
    count = 3 * CHUNKS_MAX
    caller = Caller()

    caller.feed_once(CHUNKED + b"1\r\na\r\n" * count + b"0\r\n\r\n" + GET)
    goes = 1
    while caller.reader.has_more:
        assert not caller.reader.has_begun  # what waits is of the body
        caller.feed_once(b"")
        goes += 1

    first, second = caller.requests
    assert (first.body, first.ended, second.head[1]) == (b"a" * count, True, "/x")
    assert goes == 4


def test_chunks_that_fit_are_read_in_one_go() -> None:
    caller = Caller()

    caller.feed_once(CHUNKED + b"1\r\na\r\n" * (CHUNKS_MAX - 1) + b"0\r\n\r\n")

    assert not caller.reader.has_more
    assert caller.requests[0].ended


def test_a_caller_who_breaks_off_behind_many_chunks_has_nothing_more_to_say() -> None:
    caller = Caller()

    caller.feed_once(CHUNKED + b"1\r\na\r\n" * CHUNKS_MAX + b"evil")
    assert caller.reader.has_more
    caller.feed_once(b"")

    assert (caller.reader.is_broken, caller.reader.has_more) == (True, False)


# Requests behind each other.


def test_requests_that_nobody_serves_yet_wait_unread() -> None:
    caller = Caller()
    reader = caller.reader

    messages, _, _ = reader.feed_data(GET * (MESSAGES_MAX + 2))
    more, _, _ = reader.feed_data(b"")
    reader.message_consumed()
    next_one, _, _ = reader.feed_data(b"")

    assert [len(messages), len(more), len(next_one)] == [MESSAGES_MAX, 0, 1]
    assert reader.has_begun


def test_a_problem_comes_behind_the_requests_before_it_and_once() -> None:
    requests, problem, _ = read(GET + b"GET /\x00 HTTP/1.1\r\n\r\n" + GET)

    assert (len(requests), problem) == (1, "bad-target")


def test_empty_lines_before_a_request_are_nothing() -> None:
    caller = Caller()

    begun = []
    for piece in (b"\r\n\r\n", b"\r\n" + GET[:5], GET[5:]):
        caller.feed(piece)
        begun.append(caller.reader.has_begun)

    assert begun == [False, True, False]
    assert len(caller.requests) == 1


def test_what_comes_behind_an_upgrade_is_no_request_until_it_is_declined() -> None:
    upgrade = b"GET /ws HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n"
    caller = Caller()

    caller.feed(upgrade + b"\x81\x00frames")
    caller.reader.set_upgraded(False)
    caller.feed(GET)

    assert caller.tail == b"\x81\x00frames"
    assert [request.head[1] for request in caller.requests] == ["/ws", "/x"]


def test_a_body_stands_before_the_upgrade() -> None:
    upgrade = b"POST /ws HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: WebSocket\r\nContent-Length: 2\r\n\r\n"

    (request,), problem, tail = read(upgrade + b"abframes")

    assert (request.body, problem, tail) == (b"ab", None, b"frames")


def test_reading_is_never_paused_within_what_is_here() -> None:
    caller = Caller()
    caller.reader.pause_reading()
    caller.feed(GET)

    assert len(caller.requests) == 1


def test_a_body_is_awaited_until_its_last_byte() -> None:
    caller = Caller()

    awaited = []
    for piece in (GET, b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\n", b"abc", b"d"):
        caller.feed(piece)
        awaited.append(caller.reader.awaits_body)

    assert awaited == [False, True, True, False]
