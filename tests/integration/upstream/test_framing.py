"""Where an answer ends, in every way that RFC 9112 6.3 knows, and that the next answer begins right there."""

import asyncio

import pytest

from gateway.upstream.address import PoolLimits
from gateway.upstream.exchange import Exchange
from tests.fakes.asking import Asking, slug_of
from tests.fakes.upstream import Answer, Received, Script, ScriptedUpstream, Then, echo, in_turn, plain

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
ONE = PoolLimits(connections_max=1)


async def first_and_next(
    answer: Answer | bytes, method: str = "GET", *, rest: Script = echo
) -> tuple[Exchange, Exchange, ScriptedUpstream]:
    """The exchange that gets `answer`, and the one after it on the same pool."""
    async with ScriptedUpstream(in_turn(answer, rest=rest)) as upstream, Asking(upstream.address, ONE) as client:
        first = await client.ask(method, "/first")
        following = await client.ask("GET", "/next")
    return first, following, upstream


async def test_a_content_length_ends_the_body() -> None:
    first, following, upstream = await first_and_next(plain(b"hello", fields=b"X-A: 1\r\nX-A: 2\r\n"))

    assert (first.status, first.reason, first.body, first.attempt) == (200, b"OK", b"hello", 1)
    assert list(first.fields) == [(b"X-A", b"1"), (b"X-A", b"2"), (b"Content-Length", b"5")]
    assert following.body == b"GET /next"
    assert upstream.connections == 1


async def test_a_body_of_one_mebibyte_arrives_whole() -> None:
    body = bytes(range(256)) * 4096

    first, following, _ = await first_and_next(plain(body))

    assert first.body == body
    assert following.body == b"GET /next"


@pytest.mark.parametrize(
    ("coded", "body"),
    [
        (b"5\r\nhello\r\n0\r\n\r\n", b"hello"),
        (b"0\r\n\r\n", b""),
        (b"".join(b"1\r\n%c\r\n" % byte for byte in b"hello") + b"0\r\n\r\n", b"hello"),
        (b"5;a=b;c\r\nhello\r\n0;last\r\n\r\n", b"hello"),
        (b'5;q="x"\r\nhello\r\n0\r\n\r\n', b"hello"),
        (b"00005\r\nhello\r\n000\r\n\r\n", b"hello"),
        (b"5\r\nhello\r\n0\r\nX-Sum: 1\r\nX-Other: 2\r\n\r\n", b"hello"),
        (b"A\r\n0123456789\r\na\r\n0123456789\r\n0\r\n\r\n", b"01234567890123456789"),
    ],
)
async def test_a_last_chunk_ends_the_body(coded: bytes, body: bytes) -> None:
    first, following, upstream = await first_and_next(CHUNKED + coded)

    assert (first.status, first.body) == (200, body)
    assert not any(name == b"X-Sum" for name, _ in first.fields)
    assert following.body == b"GET /next"
    assert upstream.connections == 1


async def test_the_end_of_the_connection_ends_a_body_without_a_length() -> None:
    parts = [b"HTTP/1.1 200 OK\r\n\r\nhel", b"lo"]

    first, following, upstream = await first_and_next(Answer(parts, Then.CLOSE))

    assert (first.status, first.body) == (200, b"hello")
    assert following.body == b"GET /next"
    assert upstream.connections == 2


async def test_an_until_close_answer_without_a_body_is_an_answer() -> None:
    first, _, _ = await first_and_next(Answer([b"HTTP/1.0 200 OK\r\n\r\n"], Then.CLOSE))

    assert (first.status, first.body, slug_of(first)) == (200, b"", None)


async def test_a_reset_never_ends_an_until_close_body() -> None:
    sent = Answer([b"HTTP/1.1 200 OK\r\n\r\nhal"], Then.RESET)

    first, _, _ = await first_and_next(sent, "POST")

    assert slug_of(first) == "outcome-unknown"


@pytest.mark.parametrize(
    "fields",
    [
        b"Content-Length: 5\r\n",
        b"Transfer-Encoding: chunked\r\n",
        b"",
        b"Content-Length: 5\r\nKeep-Alive: timeout=5\r\nConnection: keep-alive\r\n",
    ],
)
async def test_an_answer_to_head_ends_with_its_head(fields: bytes) -> None:
    first, following, upstream = await first_and_next(b"HTTP/1.1 200 OK\r\n%b\r\n" % fields, "HEAD")

    assert (first.status, first.body) == (200, b"")
    assert following.body == b"GET /next"
    assert upstream.connections == 1


@pytest.mark.parametrize(
    "head", [b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 5\r\n\r\n", b"HTTP/1.0 200 OK\r\n\r\n"]
)
async def test_a_head_answer_that_ends_the_connection_ends_it(head: bytes) -> None:
    first, following, upstream = await first_and_next(head, "HEAD")

    assert first.status == 200
    assert following.body == b"GET /next"
    assert upstream.connections == 2


@pytest.mark.parametrize("status", [b"204 No Content", b"304 Not Modified"])
@pytest.mark.parametrize("fields", [b"", b"Content-Length: 5\r\n", b"Transfer-Encoding: chunked\r\n"])
async def test_204_and_304_have_no_body_whatever_their_fields_say(status: bytes, fields: bytes) -> None:
    first, following, upstream = await first_and_next(b"HTTP/1.1 %b\r\n%b\r\n" % (status, fields))

    assert (first.status, first.body) == (int(status[:3]), b"")
    assert following.body == b"GET /next"
    assert upstream.connections == 1


async def test_interim_answers_precede_the_answer_and_stay_out_of_it() -> None:
    early = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"

    first, following, upstream = await first_and_next(early + plain(b"late"))

    assert (first.status, first.reason, first.body) == (200, b"OK", b"late")
    assert not any(name == b"Link" for name, _ in first.fields)
    assert following.body == b"GET /next"
    assert upstream.connections == 1


async def test_an_answer_to_head_may_have_interim_answers() -> None:
    early = b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"

    first, following, _ = await first_and_next(early, "HEAD")

    assert (first.status, first.body) == (200, b"")
    assert following.body == b"GET /next"


@pytest.mark.parametrize(("interims", "slug"), [(10, None), (11, "upstream-malformed")])
async def test_ten_interim_answers_are_taken_and_an_eleventh_is_not(interims: int, slug: str | None) -> None:
    first, following, _ = await first_and_next(b"HTTP/1.1 103 Early Hints\r\n\r\n" * interims + plain(b"late"))

    assert slug_of(first) == slug
    assert following.body == b"GET /next"


async def test_an_upgrade_that_nobody_asked_for_is_refused() -> None:
    switched = b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\nbytes"

    first, following, _ = await first_and_next(switched)

    assert slug_of(first) == "upstream-malformed"
    assert following.body == b"GET /next"


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nhi",
        b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nhi",
        b"HTTP/1.1 200 OK\r\nConnection: x, Close\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
    ],
)
async def test_a_connection_that_the_upstream_means_to_close_is_not_used_again(answer: bytes) -> None:
    first, following, upstream = await first_and_next(answer)

    assert first.body == b"hi"
    assert following.body == b"GET /next"
    assert upstream.connections == 2


async def test_http_1_0_with_keep_alive_is_used_again() -> None:
    answer = b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nhi"

    _, following, upstream = await first_and_next(answer)

    assert following.body == b"GET /next"
    assert upstream.connections == 1


@pytest.mark.parametrize(
    "answer",
    [
        plain(b"hello", fields=b"X-Name: some value\r\n"),
        CHUNKED + b"3;x=y\r\nhel\r\n2\r\nlo\r\n0\r\nX-Sum: 1\r\n\r\n",
        b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + plain(b"hello"),
    ],
)
async def test_an_answer_cut_at_any_byte_is_the_same_answer(answer: bytes) -> None:
    def script(request: Received) -> Answer:
        cut = int(request.target[1:])
        return Answer([answer[:cut], answer[cut:]]) if cut else Answer([answer[i : i + 1] for i in range(len(answer))])

    async with ScriptedUpstream(script) as upstream, Asking(upstream.address, ONE) as client:
        exchanges = [await client.ask("GET", f"/{cut}") for cut in range(len(answer))]

    assert {(exchange.status, exchange.reason, exchange.body) for exchange in exchanges} == {(200, b"OK", b"hello")}
    assert len({tuple(exchange.fields) for exchange in exchanges}) == 1
    assert upstream.connections == 1


@pytest.mark.parametrize("line", [b"HTTP/1.1 200 \r\n", b"HTTP/1.1 200\r\n"])
async def test_an_answer_without_a_reason_does_not_borrow_the_one_before(line: bytes) -> None:
    script = in_turn(plain(b"", b"200 Fine"), line + b"Content-Length: 0\r\n\r\n")
    async with ScriptedUpstream(script) as upstream, Asking(upstream.address, ONE) as client:
        first = await client.ask()
        second = await client.ask()

    assert first.reason == b"Fine"
    assert (second.status, second.reason) == (200, b"")


async def test_a_request_body_arrives_as_it_was_given() -> None:
    body = bytes(range(256)) * 4096
    async with ScriptedUpstream() as upstream, Asking(upstream.address) as client:
        await client.ask("POST", "/", body)

    assert upstream.requests[0].body == body


async def test_many_exchanges_at_once_get_their_own_answers() -> None:
    async with ScriptedUpstream() as upstream, Asking(upstream.address, PoolLimits(connections_max=8)) as client:
        exchanges = await asyncio.gather(*(client.ask("GET", f"/{number}") for number in range(300)))

    assert [exchange.body for exchange in exchanges] == [b"GET /%d" % number for number in range(300)]
    assert upstream.connections == 8
