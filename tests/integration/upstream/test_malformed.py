"""Answers that break HTTP: each ends as a problem of its own exchange, and never touches the answer of the next."""

import pytest

from gateway.upstream.address import PoolLimits
from tests.fakes.asking import Asking, slug_of
from tests.fakes.upstream import Answer, ScriptedUpstream, Then, in_turn, plain

ONE = PoolLimits(connections_max=1)
OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
STOLEN = plain(b"stolen")


def with_field(line: bytes) -> bytes:
    return OK + line + b"\r\nContent-Length: 2\r\n\r\nhi"


MALFORMED = {
    "no HTTP": b"SSH-2.0-OpenSSH_9.2\r\n",
    "no version": b"HTTP 200 OK\r\n\r\n",
    "HTTP/0.9": b"HTTP/0.9 200 OK\r\nContent-Length: 0\r\n\r\n",
    "version 2.0": b"HTTP/2.0 200 OK\r\nContent-Length: 0\r\n\r\n",
    "version 2.0 kept alive": b"HTTP/2.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 0\r\n\r\n",
    "300 fields": OK + b"X-A: 1\r\n" * 300 + b"Content-Length: 0\r\n\r\n",
    "version 1.2": b"HTTP/1.2 200 OK\r\nContent-Length: 0\r\n\r\n",
    "version in lower case": b"http/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
    "no status": b"HTTP/1.1 \r\nContent-Length: 0\r\n\r\n",
    "status of two digits": b"HTTP/1.1 20 OK\r\nContent-Length: 0\r\n\r\n",
    "status of four digits": b"HTTP/1.1 2000 OK\r\nContent-Length: 0\r\n\r\n",
    "status of letters": b"HTTP/1.1 abc OK\r\nContent-Length: 0\r\n\r\n",
    "status 000": b"HTTP/1.1 000 OK\r\nContent-Length: 0\r\n\r\n",
    "status 099": b"HTTP/1.1 099 OK\r\nContent-Length: 0\r\n\r\n",
    "status 600": b"HTTP/1.1 600 OK\r\nContent-Length: 0\r\n\r\n",
    "status 999": b"HTTP/1.1 999 OK\r\nContent-Length: 0\r\n\r\n",
    "negative status": b"HTTP/1.1 -200 OK\r\nContent-Length: 0\r\n\r\n",
    "NUL in the reason": b"HTTP/1.1 200 O\x00K\r\nContent-Length: 0\r\n\r\n",
    "control in the reason": b"HTTP/1.1 200 O\x01K\r\nContent-Length: 0\r\n\r\n",
    "CR in the reason": b"HTTP/1.1 200 O\rK\r\nContent-Length: 0\r\n\r\n",
    "lines end in LF": b"HTTP/1.1 200 OK\nContent-Length: 2\n\nhi",
    "one line ends in LF": OK + b"X-A: 1\nContent-Length: 2\r\n\r\nhi",
    "lines end in CR": b"HTTP/1.1 200 OK\rContent-Length: 2\r\rhi",
    "folded field": with_field(b"X-A: 1\r\n 2"),
    "field without a colon": with_field(b"X-A"),
    "field without a name": with_field(b": 1"),
    "space before the colon": with_field(b"X-A : 1"),
    "space in a name": with_field(b"X A: 1"),
    "control in a name": with_field(b"X\x01A: 1"),
    "NUL in a value": with_field(b"X-A: \x00"),
    "control in a value": with_field(b"X-A: \x01"),
    "CR in a value": with_field(b"X-A: 1\r2"),
    "DEL in a value": with_field(b"X-A: \x7f"),
    "first line begins with a space": b" HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
    "negative length": OK + b"Content-Length: -1\r\n\r\n",
    "signed length": OK + b"Content-Length: +2\r\n\r\nhi",
    "hexadecimal length": OK + b"Content-Length: 0x2\r\n\r\nhi",
    "length of letters": OK + b"Content-Length: two\r\n\r\nhi",
    "empty length": OK + b"Content-Length: \r\n\r\nhi",
    "length with a point": OK + b"Content-Length: 2.0\r\n\r\nhi",
    "length above 64 bits": OK + b"Content-Length: 99999999999999999999\r\n\r\n",
    "two lengths": OK + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\nhi!",
    "two equal lengths": OK + b"Content-Length: 2\r\nContent-Length: 2\r\n\r\nhi",
    "list of lengths": OK + b"Content-Length: 2, 2\r\n\r\nhi",
    "length and chunks": OK + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunks and length": OK + b"Transfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n0\r\n\r\n",
    "unknown coding": OK + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "identity coding": OK + b"Transfer-Encoding: identity\r\n\r\nhi",
    "gzip coding alone": OK + b"Transfer-Encoding: gzip\r\n\r\nhi",
    "gzip before chunked": OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
    "chunked before gzip": OK + b"Transfer-Encoding: chunked, gzip\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
    "chunked twice": OK + b"Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
    "chunked in two fields": OK + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "quoted chunked": OK + b'Transfer-Encoding: "chunked"\r\n\r\n0\r\n\r\n',
    "chunk size of letters": CHUNKED + b"xyz\r\nhi\r\n0\r\n\r\n",
    "negative chunk size": CHUNKED + b"-2\r\nhi\r\n0\r\n\r\n",
    "chunk size with 0x": CHUNKED + b"0x2\r\nhi\r\n0\r\n\r\n",
    "chunk size above 64 bits": CHUNKED + b"fffffffffffffffff\r\nhi\r\n0\r\n\r\n",
    "empty chunk size": CHUNKED + b"\r\nhi\r\n0\r\n\r\n",
    "space before a chunk size": CHUNKED + b" 2\r\nhi\r\n0\r\n\r\n",
    "chunk size ends in LF": CHUNKED + b"2\nhi\r\n0\r\n\r\n",
    "chunk longer than its size": CHUNKED + b"2\r\nhi!\r\n0\r\n\r\n",
    "chunk ends in LF": CHUNKED + b"2\r\nhi\n0\r\n\r\n",
    "control in a chunk extension": CHUNKED + b"2;\x01\r\nhi\r\n0\r\n\r\n",
    "CR in a chunk extension": CHUNKED + b"2;a\rb\r\nhi\r\n0\r\n\r\n",
    "trailer without a colon": CHUNKED + b"0\r\nX-A\r\n\r\n",
    "control in a trailer": CHUNKED + b"0\r\nX-A: \x01\r\n\r\n",
    "257 trailers": CHUNKED + b"0\r\n" + b"X-A: 1\r\n" * 257 + b"\r\n",
    "101 unasked": b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n" + STOLEN,
    "101 without an Upgrade": b"HTTP/1.1 101 Switching Protocols\r\n\r\n" + STOLEN,
    "11 interim answers": b"HTTP/1.1 103 Early Hints\r\n\r\n" * 11 + plain(b"hi"),
    "1000 interim answers": b"HTTP/1.1 100 Continue\r\n\r\n" * 1000 + plain(b"hi"),
}


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("name", MALFORMED)
async def test_a_malformed_answer_is_a_problem_and_the_next_answer_is_right(name: str, method: str) -> None:
    script = in_turn(Answer([MALFORMED[name]], Then.HANG))
    async with ScriptedUpstream(script) as upstream, Asking(upstream.address, ONE) as client:
        first = await client.ask(method, "/first")
        following = await client.ask("GET", "/next")

    assert (first.status, slug_of(first), first.body) == (502, "upstream-malformed", b"")
    assert (following.status, following.body) == (200, b"GET /next")
    assert [request.target for request in upstream.requests] == ["/first", "/next"]


@pytest.mark.parametrize("name", MALFORMED)
async def test_a_malformed_answer_on_a_used_connection_is_as_malformed(name: str) -> None:
    script = in_turn(plain(b"before"), Answer([MALFORMED[name]], Then.HANG))
    async with ScriptedUpstream(script) as upstream, Asking(upstream.address, ONE) as client:
        await client.ask("GET", "/before")
        first = await client.ask("POST", "/first")
        following = await client.ask("GET", "/next")

    assert slug_of(first) == "upstream-malformed"
    assert following.body == b"GET /next"


@pytest.mark.parametrize("name", MALFORMED)
async def test_a_malformed_answer_in_single_bytes_is_as_malformed(name: str) -> None:
    answer = MALFORMED[name]
    parts = [answer[i : i + 1] for i in range(min(len(answer), 600))] + [answer[600:]]
    script = in_turn(Answer(parts, Then.HANG))
    async with ScriptedUpstream(script) as upstream, Asking(upstream.address, ONE) as client:
        first = await client.ask("GET", "/first")
        following = await client.ask("GET", "/next")

    assert slug_of(first) == "upstream-malformed"
    assert (following.status, following.body) == (200, b"GET /next")


ACCEPTED = {
    "RTSP, which llhttp does not tell apart": (b"RTSP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nhi", b"OK"),
    "obs-text in the reason": (b"HTTP/1.1 200 \xff\xfe\r\nContent-Length: 2\r\n\r\nhi", b"\xff\xfe"),
    "obs-text in a value": (with_field(b"X-A: \xff\xfe"), b"OK"),
    "tab in a value": (with_field(b"X-A: 1\t2"), b"OK"),
    "empty value": (with_field(b"X-A:"), b"OK"),
    "name with an underscore": (with_field(b"X_A: 1"), b"OK"),
    "empty lines before the answer": (b"\r\n\r\n" + with_field(b"X-A: 1"), b"OK"),
    "long reason": (b"HTTP/1.1 200 " + b"x" * 1000 + b"\r\nContent-Length: 2\r\n\r\nhi", b"x" * 1000),
    "unnamed status": (b"HTTP/1.1 299 OK\r\nContent-Length: 2\r\n\r\nhi", b"OK"),
    "length with leading zeros": (OK + b"Content-Length: 0002\r\n\r\nhi", b"OK"),
    "256 fields": (OK + b"X-A: 1\r\n" * 255 + b"Content-Length: 2\r\n\r\nhi", b"OK"),
    "256 trailers": (CHUNKED + b"2\r\nhi\r\n0\r\n" + b"X-A: 1\r\n" * 256 + b"\r\n", b"OK"),
    "chunked in capitals": (OK + b"Transfer-Encoding: CHUNKED\r\n\r\n2\r\nhi\r\n0\r\n\r\n", b"OK"),
}


@pytest.mark.parametrize("name", ACCEPTED)
async def test_an_odd_but_harmless_answer_is_taken(name: str) -> None:
    answer, reason = ACCEPTED[name]
    async with ScriptedUpstream(in_turn(answer)) as upstream, Asking(upstream.address, ONE) as client:
        first = await client.ask("GET", "/first")
        following = await client.ask("GET", "/next")

    assert (slug_of(first), first.reason, first.body) == (None, reason, b"hi")
    assert following.body == b"GET /next"


SURPLUS = {
    "a whole answer": STOLEN,
    "half an answer": b"HTTP/1.1 200 OK\r\nContent-Le",
    "one letter": b"H",
    "an empty line": b"\r\n",
    "garbage": b"\x00\x01\x02",
    "a last chunk": b"0\r\n\r\n",
}


@pytest.mark.parametrize("name", SURPLUS)
async def test_surplus_behind_an_answer_never_becomes_the_next_answer(name: str) -> None:
    script = in_turn(plain(b"first") + SURPLUS[name])
    async with ScriptedUpstream(script) as upstream, Asking(upstream.address, ONE) as client:
        first = await client.ask("POST", "/first")
        following = await client.ask("POST", "/next")

    assert (first.body, following.body) == (b"first", b"POST /next")
    assert upstream.connections == 2 or name == "an empty line"  # which llhttp skips: nothing can come of it


@pytest.mark.parametrize("fields", [b"Content-Length: 5\r\n", b"Transfer-Encoding: chunked\r\n", b""])
@pytest.mark.parametrize("surplus", [b"hello", b"5\r\nhello\r\n0\r\n\r\n", STOLEN])
async def test_a_body_behind_an_answer_to_head_never_becomes_the_next_answer(fields: bytes, surplus: bytes) -> None:
    script = in_turn(OK + fields + b"\r\n" + surplus)
    async with ScriptedUpstream(script) as upstream, Asking(upstream.address, ONE) as client:
        first = await client.ask("HEAD", "/first")
        following = await client.ask("GET", "/next")

    assert (first.status, first.body) == (200, b"")
    assert following.body == b"GET /next"
    assert upstream.connections == 2


@pytest.mark.parametrize("name", SURPLUS)
async def test_bytes_on_an_idle_connection_poison_it(name: str) -> None:
    patient = PoolLimits(connections_max=1, idle_timeout_s=60)
    async with ScriptedUpstream() as upstream, Asking(upstream.address, patient) as client:
        await client.ask("POST", "/first")
        await upstream.write(1, SURPLUS[name])
        await upstream.until(lambda: upstream.open == 0)
        following = await client.ask("POST", "/next")

    assert following.body == b"POST /next"
    assert upstream.connections == 2


async def test_300_fields_are_too_many() -> None:
    script = in_turn(Answer([OK + b"X-A: 1\r\n" * 300 + b"Content-Length: 0\r\n\r\n"], Then.HANG))
    async with ScriptedUpstream(script) as upstream, Asking(upstream.address, ONE) as client:
        first = await client.ask("GET")
        following = await client.ask("GET", "/next")

    assert slug_of(first) == "upstream-malformed"
    assert following.body == b"GET /next"


@pytest.mark.parametrize("segment_bytes", [1000, 200_000])
@pytest.mark.parametrize("head", [b"X-A: %b\r\n" % (b"x" * 100_000), b"X-A: %b\r\n" % (b"x" * 990) * 100])
async def test_a_head_of_100_kib_is_too_large_however_it_is_cut(segment_bytes: int, head: bytes) -> None:
    answer = OK + head + b"Content-Length: 0\r\n\r\n"
    parts = [answer[i : i + segment_bytes] for i in range(0, len(answer), segment_bytes)]
    script = in_turn(Answer(parts, Then.HANG))
    async with ScriptedUpstream(script) as upstream, Asking(upstream.address, ONE) as client:
        first = await client.ask("GET")
        following = await client.ask("GET", "/next")

    assert slug_of(first) == "upstream-malformed"
    assert following.body == b"GET /next"


@pytest.mark.parametrize("segment_bytes", [1000, 200_000])
async def test_a_head_of_60_kib_and_a_large_body_are_taken_however_they_are_cut(segment_bytes: int) -> None:
    answer = plain(b"x" * 300_000, fields=b"X-A: %b\r\n" % (b"x" * 60_000))
    parts = [answer[i : i + segment_bytes] for i in range(0, len(answer), segment_bytes)]
    async with ScriptedUpstream(in_turn(Answer(parts))) as upstream, Asking(upstream.address, ONE) as client:
        first = await client.ask("GET")
        following = await client.ask("GET", "/next")

    assert len(first.body) == 300_000
    assert following.body == b"GET /next"


@pytest.mark.parametrize("endless", [b"0\r\nX-Trailer: ", b"2;", b"2\r\nhi\r\n5;"])
async def test_endless_trailers_and_chunk_extensions_are_cut_off(endless: bytes) -> None:
    script = in_turn(Answer([CHUNKED + endless, *([b"x" * 10_000] * 200)], Then.HANG))
    async with ScriptedUpstream(script) as upstream, Asking(upstream.address, ONE) as client:
        first = await client.ask("GET")
        following = await client.ask("GET", "/next")

    assert slug_of(first) == "upstream-malformed"
    assert following.body == b"GET /next"


@pytest.mark.parametrize(
    "answer",
    [
        plain(b"x" * 1001),
        CHUNKED + b"3e9\r\n" + b"x" * 1001 + b"\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 1001,
    ],
)
async def test_a_body_above_the_cap_is_refused_and_one_at_the_cap_is_not(answer: bytes) -> None:
    fitting = answer.replace(b"1001", b"1000").replace(b"3e9", b"3e8").replace(b"x" * 1001, b"x" * 1000)
    script = in_turn(Answer([answer], Then.CLOSE), Answer([fitting], Then.CLOSE))
    async with ScriptedUpstream(script) as upstream, Asking(upstream.address, ONE) as client:
        first = await client.ask("POST", answer_bytes_max=1000)
        second = await client.ask("POST", answer_bytes_max=1000)

    assert (first.status, slug_of(first), first.body) == (502, "upstream-response-too-large", b"")
    assert second.body == b"x" * 1000
