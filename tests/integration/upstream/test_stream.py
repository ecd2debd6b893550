"""Exchanges whose bodies stream both ways, as forwarded requests do: bounded, early, late, broken off and upgraded."""

import asyncio
import contextlib

import pytest

from gateway.batch.retry import is_repeatable
from gateway.upstream.address import Address, PoolLimits
from gateway.upstream.stream import BUFFER_BYTES, StreamedExchange, UpstreamError
from tests.fakes.asking import Asking, request_bytes
from tests.fakes.until import PATIENCE_S
from tests.fakes.upstream import Answer, Received, ScriptedUpstream, Then, in_turn, plain

ONE = PoolLimits(connections_max=1)
MEBIBYTE = 1 << 20
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


def begin(
    client: Asking,
    method: str = "GET",
    *,
    fields: bytes = b"",
    has_body: bool = False,
    upgrades: bool = False,
    timeout_s: float = 5,
) -> StreamedExchange:
    """A streamed exchange, submitted; the body is up to the test."""
    loop = asyncio.get_running_loop()
    exchange = StreamedExchange(
        method=method,
        request=request_bytes(method, "/streamed", fields=fields) if not has_body else _head(method, fields),
        upgrades=upgrades,
        deadline_s=loop.time() + timeout_s,
        repeatable=is_repeatable(method, route_idempotent=False),
        loop=loop,
        requested=not has_body,
    )
    client.pool.submit(exchange, loop.time())
    return exchange


def _head(method: str, fields: bytes) -> bytes:
    return b"%b /streamed HTTP/1.1\r\nHost: up\r\n%b\r\n" % (method.encode(), fields)


async def head_of(exchange: StreamedExchange) -> None:
    while not exchange.has_head:
        await exchange.arrival()


async def rest_of(exchange: StreamedExchange) -> bytes:
    """The body to its end, read as fast as it comes."""
    body = b""
    while True:
        body += b"".join(exchange.taken())
        if exchange.ended:
            return body
        await exchange.arrival()


async def test_an_answer_comes_in_parts_as_they_arrive() -> None:
    going = asyncio.Event()
    script = in_turn(Answer([CHUNKED + b"5\r\nfirst\r\n", b"6\r\nsecond\r\n0\r\nX-Sum: 1\r\n\r\n"], between=going))
    async with ScriptedUpstream(script) as upstream, Asking(upstream.address, ONE) as client:
        exchange = begin(client)
        await head_of(exchange)
        first = b"".join(exchange.taken())
        going.set()
        rest = await rest_of(exchange)
        following = await client.ask()

    assert (exchange.status, first, rest) == (200, b"first", b"second")
    assert list(exchange.trailers) == [(b"X-Sum", b"1")]
    assert (following.status, upstream.connections) == (200, 1)


async def test_a_reader_that_does_not_read_stops_the_upstream() -> None:
    body_bytes = 16 * MEBIBYTE
    head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % body_bytes
    parts = [head, *([b"x" * 65536] * (body_bytes // 65536))]
    async with ScriptedUpstream(in_turn(Answer(parts))) as upstream, Asking(upstream.address, ONE) as client:
        exchange = begin(client)
        await head_of(exchange)
        written = -1
        while written < upstream.written:  # the upstream writes as long as anybody makes room
            written = upstream.written
            await asyncio.wait_for(client_turns(), PATIENCE_S)
        buffered, stopped_at = exchange.answer_bytes, upstream.written
        body = await rest_of(exchange)
        following = await client.ask()

    assert buffered <= BUFFER_BYTES + MEBIBYTE // 4
    assert stopped_at < body_bytes // 2
    assert body == b"x" * body_bytes
    assert following.status == 200


async def client_turns() -> None:
    for _ in range(200):
        await asyncio.sleep(0)


@pytest.mark.parametrize("body_bytes", [BUFFER_BYTES + 1, BUFFER_BYTES + 50_000, 2 * BUFFER_BYTES, MEBIBYTE])
async def test_an_answer_that_ends_while_its_reader_pauses_leaves_a_usable_connection(body_bytes: int) -> None:
    script = in_turn(plain(b"x" * body_bytes))
    async with ScriptedUpstream(script) as upstream, Asking(upstream.address, ONE) as client:
        exchange = begin(client)
        body = await rest_of(exchange)
        following = await client.ask("POST", "/next")

    assert len(body) == body_bytes
    assert following.body == b"POST /next"


async def test_an_answer_read_only_after_it_ended_leaves_a_usable_connection() -> None:
    body_bytes = BUFFER_BYTES + 100
    whole = plain(b"x" * body_bytes)
    script = in_turn(Answer([whole[:200_000], whole[200_000:]]))
    async with ScriptedUpstream(script) as upstream, Asking(upstream.address, ONE) as client:
        exchange = begin(client)
        async with asyncio.timeout(PATIENCE_S):
            while not exchange.ended:
                await client_turns()
        following = await client.ask("POST", "/next")
        body = await rest_of(exchange)

    assert len(body) == body_bytes
    assert following.body == b"POST /next"


async def test_a_body_written_before_there_is_a_connection_is_not_lost() -> None:
    async with ScriptedUpstream() as upstream, Asking(upstream.address, ONE) as client:
        exchange = begin(client, "POST", fields=b"Content-Length: 10\r\n", has_body=True)
        await exchange.write(b"01234")
        await exchange.write(b"56789")
        await exchange.finish_request()
        await rest_of(exchange)

    assert exchange.status == 200
    assert upstream.requests[0].body == b"0123456789"


async def test_a_last_chunk_written_before_there_is_a_connection_is_not_lost() -> None:
    async with ScriptedUpstream() as upstream, Asking(upstream.address, ONE) as client:
        exchange = begin(client, "POST", fields=b"Transfer-Encoding: chunked\r\n", has_body=True)
        await exchange.finish_request(b"0\r\n\r\n")
        await rest_of(exchange)

    assert exchange.status == 200
    assert upstream.requests[0].body == b""


async def test_who_waits_to_write_hears_when_there_is_no_connection(unused_tcp_port: int) -> None:
    async with Asking(Address("127.0.0.1", unused_tcp_port), ONE) as client:
        exchange = begin(client, "POST", fields=b"Content-Length: 10\r\n", has_body=True)
        async with asyncio.timeout(PATIENCE_S):
            await exchange.write(b"01234")
        with pytest.raises(UpstreamError) as caught:
            await exchange.arrival()

    assert caught.value.failure.slug == "upstream-connect"


async def test_an_upstream_that_does_not_read_stops_the_writer() -> None:
    async with (
        ScriptedUpstream(lambda _: Answer(then=Then.HANG), reads=False) as upstream,
        Asking(upstream.address, ONE) as client,
    ):
        exchange = begin(client, "POST", fields=b"Content-Length: %d\r\n" % (256 * MEBIBYTE), has_body=True)
        written = 0
        with contextlib.suppress(TimeoutError):
            while written < 256 * MEBIBYTE:
                async with asyncio.timeout(0.3):
                    await exchange.write(b"x" * 65536)
                written += 65536
        client.pool.withdraw(exchange)

    assert written < 64 * MEBIBYTE


async def test_a_large_body_arrives_whole_at_an_upstream_that_reads() -> None:
    parts = [b"%d" % (number % 10) * 65536 for number in range(128)]
    async with ScriptedUpstream() as upstream, Asking(upstream.address, ONE) as client:
        exchange = begin(client, "POST", fields=b"Content-Length: %d\r\n" % (128 * 65536), has_body=True)
        for part in parts:
            await exchange.write(part)
        await exchange.finish_request()
        await rest_of(exchange)

    assert upstream.requests[0].body == b"".join(parts)


async def test_an_early_answer_arrives_while_the_body_is_still_being_sent() -> None:
    early = in_turn(plain(b"no", b"413 Too Large"))
    async with (
        ScriptedUpstream(early, answers_early=True, reads=False) as upstream,
        Asking(upstream.address, ONE) as client,
    ):
        exchange = begin(client, "POST", fields=b"Content-Length: %d\r\n" % (64 * MEBIBYTE), has_body=True)
        async with asyncio.timeout(PATIENCE_S):
            while not exchange.ended:
                await exchange.write(b"x" * 65536)
                await asyncio.sleep(0)
        body = b"".join(exchange.taken())
        following = await client.ask("POST", "/next")

    assert (exchange.status, body) == (413, b"no")
    assert following.body == b"POST /next"
    assert upstream.connections == 2  # the first is in the middle of a request


async def test_interim_answers_arrive_before_the_answer() -> None:
    held = asyncio.Event()
    interim = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
    script = in_turn(Answer([interim, plain(b"late")], between=held))
    async with ScriptedUpstream(script) as upstream, Asking(upstream.address, ONE) as client:
        exchange = begin(client)
        await exchange.arrival()
        had_head, interims = exchange.has_head, exchange.interims
        exchange.interims = []
        held.set()
        body = await rest_of(exchange)

    assert not had_head
    assert interims == [(103, b"Early Hints", [(b"Link", b"</a>")])]
    assert (exchange.status, body) == (200, b"late")


async def test_an_answer_that_breaks_off_is_an_error_and_is_not_asked_for_again() -> None:
    broken = Answer([b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf"], Then.RESET)
    async with ScriptedUpstream(in_turn(broken)) as upstream, Asking(upstream.address, ONE) as client:
        exchange = begin(client)
        with pytest.raises(UpstreamError) as caught:
            await rest_of(exchange)

    assert caught.value.failure.slug == "upstream-reset"
    assert len(upstream.requests) == 1


async def test_the_deadline_bounds_the_head_and_not_the_body() -> None:
    held = asyncio.Event()
    script = in_turn(Answer([CHUNKED, b"2\r\nhi\r\n0\r\n\r\n"], between=held), Answer(then=Then.HANG))
    loop = asyncio.get_running_loop()
    async with ScriptedUpstream(script) as upstream, Asking(upstream.address, ONE) as client:
        slow = begin(client, timeout_s=1)
        await head_of(slow)
        loop.call_later(1.1, held.set)
        body = await rest_of(slow)
        silent = begin(client, timeout_s=0.1)
        with pytest.raises(UpstreamError) as caught:
            await head_of(silent)

    assert body == b"hi"
    assert (caught.value.status, caught.value.failure.slug) == (504, "upstream-timeout")


@pytest.mark.parametrize("answered", [False, True])
async def test_a_withdrawn_request_is_not_sent_again(answered: bool) -> None:
    held = asyncio.Event()
    parts = [b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf"] if answered else []
    script = in_turn(Answer(parts) if answered else Answer([plain()], after=held))
    async with ScriptedUpstream(script) as upstream, Asking(upstream.address, ONE) as client:
        exchange = begin(client)
        await upstream.until_requests(1)
        if answered:
            await head_of(exchange)
        client.pool.withdraw(exchange)
        held.set()
        await upstream.until(lambda: upstream.open == 0)
        following = await client.ask("GET", "/next")

    assert following.body == b"GET /next"
    assert [request.target for request in upstream.requests] == ["/streamed", "/next"]


async def test_a_tunnel_carries_bytes_both_ways_after_a_101() -> None:
    switched = b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n"
    said = asyncio.Event()

    def script(request: Received) -> Answer:
        return Answer([switched + b"\x00first", b"\xffsecond"], Then.CLOSE, between=said)

    async with ScriptedUpstream(script) as upstream, Asking(upstream.address, ONE) as client:
        exchange = begin(client, fields=b"Connection: upgrade\r\nUpgrade: x\r\n", upgrades=True)
        await head_of(exchange)
        first = b"".join(exchange.taken())
        await exchange.write(b"hello")
        said.set()
        rest = await rest_of(exchange)
        following = await client.ask("GET", "/next")

    assert (exchange.status, exchange.reason, first, rest) == (101, b"Switching Protocols", b"\x00first", b"\xffsecond")
    assert upstream.connections == 2
    assert following.attempt == 1


async def test_a_declined_upgrade_leaves_a_connection_for_the_next_request() -> None:
    declined = plain(b"no", fields=b"Connection: upgrade\r\nUpgrade: x\r\n")
    async with ScriptedUpstream(in_turn(declined)) as upstream, Asking(upstream.address, ONE) as client:
        exchange = begin(client, fields=b"Connection: upgrade\r\nUpgrade: x\r\n", upgrades=True)
        body = await rest_of(exchange)
        following = await client.ask("GET", "/next")

    assert (exchange.status, body) == (200, b"no")
    assert following.body == b"GET /next"
