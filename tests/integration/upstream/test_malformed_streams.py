"""Answers that break HTTP, streamed as forwarded requests are: as first or second answer, whole or in single bytes.

The second answer of a connection is where answers are taken without llhttp (`upstream.plain`), so heads that differ
from a plain one by a byte come there too.
"""

import random
from contextlib import suppress

import httptools
import pytest

from gateway.upstream.stream import StreamedExchange, UpstreamError
from tests.fakes.asking import Asking
from tests.fakes.upstream import Answer, ScriptedUpstream, Then, in_turn, plain
from tests.integration.server.gateways import gateway
from tests.integration.server.wire import Wire, request
from tests.integration.upstream.test_malformed import CHUNKED, MALFORMED, ONE
from tests.integration.upstream.test_stream import begin, head_of, rest_of

MUTANTS = 500
PLAIN = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nX-A: b\r\nContent-Length: 5\r\n\r\n"


async def read(exchange: StreamedExchange) -> tuple[str, bytes]:
    """How the exchange ended, `whole` or its failure's slug, and its body."""
    try:
        while not exchange.has_head:
            exchange.interims = []
            await exchange.arrival()
        return "whole", await rest_of(exchange)
    except UpstreamError as error:
        return error.failure.slug, b""


@pytest.mark.parametrize("name", MALFORMED)
@pytest.mark.parametrize("warm", [False, True])
@pytest.mark.parametrize("bytewise", [False, True])
async def test_a_malformed_answer_ends_its_own_stream_only(name: str, warm: bool, bytewise: bool) -> None:
    said = MALFORMED[name]
    parts = [said[i : i + 1] for i in range(min(len(said), 600))] + [said[600:]] if bytewise else [said]
    script = in_turn(*([plain(b"before")] if warm else []), Answer(parts, Then.HANG))
    async with ScriptedUpstream(script) as upstream, Asking(upstream.address, ONE) as client:
        before = await read(begin(client)) if warm else ("whole", b"before")
        broken = await read(begin(client, "POST"))
        following = await client.ask("GET", "/next")

    assert before == ("whole", b"before")
    assert broken == ("upstream-malformed", b"")
    assert (following.status, following.body) == (200, b"GET /next")


@pytest.mark.parametrize("name", MALFORMED)
async def test_a_forwarded_request_meets_it_as_a_502(name: str) -> None:
    """As second answer of a connection; the caller stays connected, and the next answer is the right one."""
    script = in_turn(plain(b"before"), Answer([MALFORMED[name]], Then.HANG))
    async with (
        ScriptedUpstream(script) as upstream,
        gateway(f"http://127.0.0.1:{upstream.port}") as running,
        await Wire.open(running.port) as wire,
    ):
        answers = []
        for method in ("GET", "POST", "GET"):
            await wire.send(request(method, "/x", [("Content-Length", "0")]))
            answers.append(await wire.answer(method))

    assert [answered.status for answered in answers] == [200, 502, 200]
    assert answers[1].header("X-Gateway-Error") == answers[1].slug == "upstream-malformed"
    assert [answers[0].body, answers[2].body] == [b"before", b"GET /x"]


@pytest.mark.parametrize("name", [name for name in MALFORMED if MALFORMED[name].startswith(CHUNKED)])
async def test_an_answer_that_breaks_once_it_has_begun_is_not_made_whole(name: str) -> None:
    said = Answer([CHUNKED + b"2\r\nhi\r\n", MALFORMED[name].removeprefix(CHUNKED)], Then.HANG)
    async with ScriptedUpstream(in_turn(said)) as upstream, Asking(upstream.address, ONE) as client:
        exchange = begin(client)
        await head_of(exchange)
        begun = b"".join(exchange.taken())
        ended = await read(exchange)
        following = await client.ask("GET", "/next")

    assert begun[:2] == b"hi" or ended[0] == "upstream-malformed"
    assert ended[0] == "upstream-malformed"
    assert following.body == b"GET /next"


class _Llhttp:
    """What a parser of its own makes of an answer: its first message; `status` 0 where its head is none."""

    def __init__(self, data: bytes) -> None:
        self.fields: list[tuple[bytes, bytes]] = []
        self.body = b""
        self.status = 0
        self._is_over = False
        self._parser = httptools.HttpResponseParser(self)
        with suppress(httptools.HttpParserError):
            self._parser.feed_data(data)

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self.status:
            self.fields.append((name, value.strip(b" \t")))

    def on_headers_complete(self) -> None:
        self.status = self.status or self._parser.get_status_code()

    def on_body(self, data: bytes) -> None:
        if not self._is_over:
            self.body += data

    def on_message_complete(self) -> None:
        self._is_over = True


def mutant(chance: random.Random) -> bytes:
    """A plain head with a byte or two changed, put in or left out; its body follows."""
    head = bytearray(PLAIN)
    for _ in range(chance.choice((1, 1, 1, 2, 3))):
        at = chance.randrange(len(head))
        byte = chance.choice(b"\r\n\x00\x01\t :;,-+0159azAZ_\x7f\x80\xff")
        match chance.choice(("change", "insert", "leave out", "repeat")):
            case "change":
                head[at] = byte
            case "insert":
                head.insert(at, byte)
            case "leave out":
                del head[at]
            case _:
                line = chance.choice(
                    (b"Content-Length: 5\r\n", b"content-length: 6\r\n", b"Transfer-Encoding: chunked\r\n")
                )
                head[17:17] = line
    return bytes(head) + b"hello"


@pytest.mark.parametrize("part", range(10))
async def test_a_head_near_a_plain_one_means_what_it_means_to_llhttp_or_is_refused(part: int) -> None:
    """Each as second answer of a connection: never another status, field or body than llhttp's own, never a mix."""
    chance = random.Random(part)
    said = [mutant(chance) for _ in range(MUTANTS // 10)]
    script = in_turn(*[turn for each in said for turn in (plain(b"before"), Answer([each], Then.CLOSE))])
    differing = []
    async with ScriptedUpstream(script) as upstream, Asking(upstream.address, ONE) as client:
        for each in said:
            before = await client.ask("GET", "/before")  # which may be repeated: the last connection is closing
            asked = await client.ask("POST", "/mutant")
            assert before.body == b"before"
            theirs = _Llhttp(each)
            taken = asked.failure is None
            ours = (asked.status, [(name, value.strip(b" \t")) for name, value in asked.fields], asked.body)
            if taken and ours != (theirs.status, theirs.fields, theirs.body):
                differing.append((each, ours))
        following = await client.ask("GET", "/next")

    assert differing == []
    assert following.body == b"GET /next"
