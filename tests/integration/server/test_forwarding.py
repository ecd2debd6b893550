"""Everything that is no batch goes through as it came, and comes back as it was (CONTRACT 7, PROMISES P1 P2 P4)."""

import asyncio
import hashlib
import random
from collections.abc import AsyncIterator

import aiohttp
import pytest
from aiohttp import web

from tests.fakes.until import PATIENCE_S
from tests.integration.server.api import Api, Talk, answer, chunked
from tests.integration.server.gateways import Gateway, gateway
from tests.integration.server.wire import Wire, ask, get, post, request, without_replica

OURS = [("X-Forwarded-For", "127.0.0.1"), ("X-Forwarded-Proto", "http"), ("X-Forwarded-Host", "api.test")]
VIA = ("Via", "1.1 batch-gateway")


@pytest.mark.parametrize(
    "method", ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND", "BREW", "get", "M-1"]
)
async def test_each_method_passes(api: Api, plain: Gateway, method: str) -> None:
    answered = await ask(plain.port, request(method, "/x"), method)

    assert answered.status == 200
    assert api.last.method == method


@pytest.mark.parametrize(
    "target",
    [
        "/", "/a//b", "/a/../b", "/a/./b", "/%2e%2E/%2f", "/a;b=c", "/a?b?c", "/a?", "/?%zz", "/a\\b", "/a%00b",
        "/a?q=a+b%20c&&=", "/batchx", "/batch2/x", "/x/batch", "/(a)[b]{c}|d^e`", "/a?x=\"'<>", "/~a!$&'()*+,=:@",
    ],
)  # fmt: skip
async def test_the_target_passes_byte_for_byte(api: Api, plain: Gateway, target: str) -> None:
    answered = await get(plain.port, target)

    assert answered.status == 200
    assert api.last.target == target


async def test_request_headers_keep_order_case_and_duplicates_and_ours_come_last(api: Api, plain: Gateway) -> None:
    fields = [
        ("x-b", "2"),
        ("X-A", "1"),
        ("X-b", "3"),
        ("ACCEPT", "*/*"),
        ("x-empty", ""),
        ("Cookie", "a=1"),
        ("cookie", "b"),
    ]

    await ask(plain.port, request("GET", "/x", fields))

    assert without_replica(api.last.fields) == [("Host", "api.test"), *fields, *OURS, VIA]


async def test_answer_headers_keep_order_case_duplicates_and_reason(api: Api, plain: Gateway) -> None:
    fields = [("x-b", "2"), ("X-A", "1"), ("X-b", "3"), ("Set-Cookie", "a=1"), ("SET-cookie", "b=2"), ("Date", "then")]
    api.on("/x", answer(299, b"hi", *fields, ("Content-Type", "text/odd"), reason="Odd But True"))

    answered = await get(plain.port, "/x")

    assert (answered.status, answered.reason, answered.body) == (299, "Odd But True", b"hi")
    assert without_replica(answered.fields) == [*fields, ("Content-Type", "text/odd"), ("Content-Length", "2"), VIA]


@pytest.mark.parametrize("seed", range(40))
async def test_generated_headers_differ_by_nothing_but_ours(api: Api, plain: Gateway, seed: int) -> None:
    chance = random.Random(seed)
    letters = "abcXYZ019-_.!#$%&'*+^`|~"
    visible = "".join(map(chr, [*range(0x21, 0x7F), *range(0xA0, 0x100)]))
    fields = [
        (
            "X-" + "".join(chance.choices(letters, k=chance.randint(1, 20))),
            "".join(chance.choices(visible, k=chance.randint(0, 60))),
        )
        for _ in range(chance.randint(0, 40))
    ]
    api.on("/x", answer(200, b"{}", *fields))

    answered = await ask(plain.port, request("GET", "/x", fields))

    assert api.last.fields[1 : len(fields) + 1] == fields
    assert [*answered.fields][: len(fields)] == fields


async def test_hop_by_hop_headers_and_those_that_connection_names_stay_behind(api: Api, plain: Gateway) -> None:
    fields = [
        ("Connection", "X-Hop, keep-alive"), ("X-Hop", "1"), ("Keep-Alive", "timeout=9"), ("TE", "trailers"),
        ("Proxy-Authorization", "x"), ("Upgrade", "websocket"), ("X-Kept", "1"),
    ]  # fmt: skip
    api.on("/x", answer(200, b"", *fields))

    answered = await ask(plain.port, request("GET", "/x", fields))

    # A caller's Connection strips known hop-by-hop fields only (CVE-2024-45410); an upstream's strips what it names.
    assert without_replica(api.last.fields) == [("Host", "api.test"), ("X-Hop", "1"), ("X-Kept", "1"), *OURS, VIA]
    assert [field for field in without_replica(answered.fields) if field[0] != "Date"] == [
        ("X-Kept", "1"),
        ("Content-Length", "0"),
        VIA,
    ]


@pytest.mark.parametrize("name", ["Authorization", "Cookie", "Host", "X-Forwarded-For", "Content-Length", "Via"])
async def test_connection_cannot_strip_what_matters_to_trust(api: Api, plain: Gateway, name: str) -> None:
    fields = [("Authorization", "a"), ("Cookie", "c"), ("Connection", name)]

    await ask(plain.port, request("POST", "/x", fields, b"{}"))

    assert api.last.header("Authorization") == "a"
    assert api.last.header("Cookie") == "c"
    assert api.last.header("Host") == "api.test"
    assert api.last.header("X-Forwarded-For") == "127.0.0.1"
    assert (api.last.header("Via") or "").startswith("1.1 batch-gateway")
    assert api.last.body == b"{}"


@pytest.mark.parametrize(
    "name",
    [
        "X-Forwarded-For",
        "x-forwarded-for",
        "X-FORWARDED-PROTO",
        "X-Forwarded-Host",
        "Forwarded",
        "Via",
        "X_Forwarded_For",
    ],
)
async def test_a_client_cannot_set_what_the_gateway_vouches_for(api: Api, plain: Gateway, name: str) -> None:
    await ask(plain.port, request("GET", "/x", [(name, "evil"), (name, "evil")]))

    assert "evil" not in {value for _, value in api.last.fields}
    assert without_replica(api.last.fields) == [("Host", "api.test"), *OURS, VIA]


@pytest.mark.parametrize("body", [b"", b"{}", b"\x00\xff" * 1000])
async def test_a_body_with_a_length_keeps_it(api: Api, plain: Gateway, body: bytes) -> None:
    fields = [("Content-Length", "0")] if not body else []

    answered = await ask(plain.port, request("PUT", "/x", fields, body))

    assert answered.status == 200
    assert api.last.body == body
    assert api.last.header("Content-Length") == str(len(body))


async def test_a_chunked_body_stays_chunked(api: Api, plain: Gateway) -> None:
    head = request("POST", "/x", [("Transfer-Encoding", "chunked")])

    answered = await ask(plain.port, head + b"3;ext=1\r\nabc\r\n1\r\nd\r\n0\r\n\r\n")

    assert answered.status == 200
    assert api.last.body == b"abcd"
    assert api.last.header("Transfer-Encoding") == "chunked"
    assert api.last.header("Content-Length") is None


@pytest.mark.parametrize("framing", ["length", "chunked"])
async def test_eight_mebibytes_go_up_and_come_down_unharmed(api: Api, plain: Gateway, framing: str) -> None:
    body = random.Random(1).randbytes(8 << 20)

    async def give_back(talk: Talk) -> None:
        received = await talk.request.read()
        await talk.send(answer(200, received) if framing == "length" else chunked(received))

    api.on("/x", give_back)
    head = request("POST", "/x", [("Transfer-Encoding", "chunked")])
    pieces = b"".join(b"10000\r\n%b\r\n" % body[at : at + 65536] for at in range(0, len(body), 65536)) + b"0\r\n\r\n"

    async with await Wire.open(plain.port) as wire:
        sending = asyncio.create_task(
            wire.send(request("POST", "/x", (), body) if framing == "length" else head + pieces)
        )
        answered = await wire.answer()
        await sending

    assert hashlib.sha256(answered.body).digest() == hashlib.sha256(body).digest()


async def test_a_body_streams_up_as_it_comes(api: Api, plain: Gateway) -> None:
    seen: asyncio.Queue[bytes] = asyncio.Queue()

    async def read(talk: Talk) -> None:
        while piece := await talk.request.chunk():
            seen.put_nowait(piece)
        await talk.send(answer(200))

    api.on("/x", read)
    async with await Wire.open(plain.port) as wire, asyncio.timeout(PATIENCE_S):
        await wire.send(request("POST", "/x", [("Transfer-Encoding", "chunked")]))
        for piece in (b"one", b"two"):
            await wire.send(b"3\r\n%b\r\n" % piece)
            assert await seen.get() == piece  # it has arrived before the next is sent
        await wire.send(b"0\r\n\r\n")
        answered = await wire.answer()

    assert answered.status == 200


async def test_events_arrive_piece_by_piece(api: Api, plain: Gateway) -> None:
    told = asyncio.Event()

    async def events(talk: Talk) -> None:
        await talk.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
        for number in range(3):
            await talk.send(b"9\r\ndata: %d\n\n\r\n" % number)
            await told.wait()
            told.clear()
        await talk.send(b"0\r\n\r\n")

    api.on("/events", events)
    async with await Wire.open(plain.port) as wire, asyncio.timeout(PATIENCE_S):
        await wire.send(request("GET", "/events"))
        head = await wire.head()
        seen = []
        for _ in range(3):
            seen.append(await wire.chunk())
            told.set()
        last = await wire.chunk()

    assert head.header("Content-Type") == "text/event-stream"
    assert seen == [b"data: 0\n\n", b"data: 1\n\n", b"data: 2\n\n"]
    assert last == b""


async def test_trailers_of_an_answer_come_through(api: Api, plain: Gateway) -> None:
    api.on("/x", chunked(b"a", b"b", fields=[("Trailer", "X-Sum")], trailers=[("X-Sum", "1"), ("x-sum", "2")]))

    answered = await get(plain.port, "/x")

    assert answered.body == b"ab"
    assert answered.header("Trailer") == "X-Sum"
    assert [*answered.trailers] == [("X-Sum", "1"), ("x-sum", "2")]


@pytest.mark.parametrize("cut", [0, 9, 12, 15, 20])
async def test_trailers_of_a_request_go_through(api: Api, plain: Gateway, cut: int) -> None:
    head = request("POST", "/x", [("Transfer-Encoding", "chunked"), ("Trailer", "X-Sum")])
    body = b"1\r\na\r\n0\r\nX-Sum: 1\r\nx-sum:2 \r\n\r\n"

    async with await Wire.open(plain.port) as wire:
        await wire.send(head + body[:cut])
        if cut:
            await api.until(1)
        await wire.send(body[cut:])
        await wire.answer()

    assert (api.last.body, [*api.last.trailers]) == (b"a", ["X-Sum: 1", "x-sum: 2"])
    assert api.last.header("Trailer") == "X-Sum"


@pytest.mark.parametrize(
    "name",
    ["Host", "Content-Length", "Transfer-Encoding", "X-Forwarded-For", "Via", "via", "X_Forwarded_For", "Cookie"],
)
async def test_no_trailer_can_frame_route_vouch_or_log_in(api: Api, plain: Gateway, name: str) -> None:
    head = request("POST", "/x", [("Transfer-Encoding", "chunked")])

    await ask(plain.port, head + f"0\r\n{name}: evil\r\nX-Sum: 1\r\n\r\n".encode())

    assert [*api.last.trailers] == ["X-Sum: 1"]


async def test_a_trailer_is_never_a_field_of_the_next_request(api: Api, plain: Gateway) -> None:
    head = request("POST", "/x", [("Transfer-Encoding", "chunked")])

    async with await Wire.open(plain.port) as wire:
        await wire.send(head + b"1\r\na\r\n0\r\nX-User: admin\r\n\r\n" + request("GET", "/y"))
        await wire.answer()
        await wire.answer()

    assert api.targets == ["/x", "/y"]
    assert without_replica(api.last.fields) == [("Host", "api.test"), *OURS, VIA]


async def test_an_answer_that_ends_with_its_connection_is_whole(api: Api, plain: Gateway) -> None:
    async def until_close(talk: Talk) -> None:
        await talk.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\nuntil the end")
        talk.writer.close()

    api.on("/x", until_close)

    answered = await get(plain.port, "/x")

    assert answered.body == b"until the end"
    assert answered.header("Transfer-Encoding") == "chunked"


async def test_an_answer_that_breaks_off_is_not_made_whole(api: Api, plain: Gateway) -> None:
    async def break_off(talk: Talk) -> None:
        await talk.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")
        talk.writer.close()

    api.on("/x", break_off)

    with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
        await get(plain.port, "/x")


@pytest.mark.parametrize("framing", [("Content-Length", "42"), ("Transfer-Encoding", "chunked")])
async def test_an_answer_to_head_keeps_its_framing_and_has_no_body(
    api: Api, plain: Gateway, framing: tuple[str, str]
) -> None:
    api.on("/x", f"HTTP/1.1 200 OK\r\n{framing[0]}: {framing[1]}\r\nETag: 1\r\n\r\n".encode())

    async with await Wire.open(plain.port) as wire:
        await wire.send(request("HEAD", "/x") + request("GET", "/y"))
        head = await wire.answer("HEAD")
        second = await wire.answer()

    assert head.header(framing[0]) == framing[1]
    assert head.header("ETag") == "1"
    assert second.json()["target"] == "/y"


@pytest.mark.parametrize("status", [204, 304])
async def test_answers_that_have_no_body_end_with_their_head(api: Api, plain: Gateway, status: int) -> None:
    api.on("/x", answer(status, b"", ("ETag", "1")))

    async with await Wire.open(plain.port) as wire:
        await wire.send(request("GET", "/x") + request("GET", "/y"))
        first, second = await wire.answer(), await wire.answer()

    assert (first.status, first.header("ETag")) == (status, "1")
    assert first.header("Transfer-Encoding") is None
    assert second.json()["target"] == "/y"


async def test_interim_answers_come_through(api: Api, plain: Gateway) -> None:
    api.on("/x", b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\nLink: </b>\r\n\r\n" + answer(200, b"{}"))

    answered = await get(plain.port, "/x")

    (interim,) = answered.interims
    assert (interim.status, interim.reason, interim.headers("Link")) == (103, "Early Hints", ["</a>", "</b>"])
    assert answered.body == b"{}"


async def test_continue_is_the_upstreams_to_give(api: Api, plain: Gateway) -> None:
    async def read(talk: Talk) -> None:
        await talk.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        await talk.send(answer(200, await talk.request.read()))

    api.on("/x", read)
    async with await Wire.open(plain.port) as wire:
        await wire.send(request("POST", "/x", [("Expect", "100-continue"), ("Content-Length", "2")]))
        interim = await wire.head()
        await wire.send(b"ok")
        answered = await wire.answer()

    assert interim.status == 100
    assert answered.body == b"ok"
    assert api.last.header("Expect") == "100-continue"


async def test_a_refusal_in_place_of_continue_comes_at_once(api: Api, plain: Gateway) -> None:
    async def refuse(talk: Talk) -> None:
        await talk.send(answer(413, b"no"))
        talk.writer.close()

    api.on("/x", refuse)
    async with await Wire.open(plain.port) as wire:
        await wire.send(request("POST", "/x", [("Expect", "100-continue"), ("Content-Length", "9999")]))
        answered = await wire.answer()

    assert (answered.status, answered.body) == (413, b"no")


async def test_an_http_1_0_caller_gets_a_body_that_ends_with_the_connection(api: Api, plain: Gateway) -> None:
    api.on("/x", chunked(b"a", b"b"))

    async with await Wire.open(plain.port) as wire:
        await wire.send(b"GET /x HTTP/1.0\r\nHost: api.test\r\n\r\n")
        answered = await wire.answer()

    assert answered.body == b"ab"
    assert answered.header("Transfer-Encoding") is None
    assert answered.header("Connection") == "close"


async def test_requests_that_are_pipelined_are_answered_in_order(plain: Gateway) -> None:
    async with await Wire.open(plain.port) as wire:
        await wire.send(b"".join(request("GET", f"/{number}") for number in range(20)))
        targets = [(await wire.answer()).json()["target"] for _ in range(20)]

    assert targets == [f"/{number}" for number in range(20)]


# The gateway's own refusals of forwarded traffic (PROMISES D.6).


async def test_an_upstream_that_is_down_is_502() -> None:
    async with gateway("http://127.0.0.1:1") as running:
        answered = await get(running.port, "/x")

    assert (answered.status, answered.slug) == (502, "upstream-connect")
    assert answered.header("X-Gateway-Error") == "upstream-connect"
    assert answered.header("Content-Type") == "application/problem+json"


@pytest.mark.parametrize(
    "said",
    [
        b"garbage\r\n\r\n",
        b"HTTP/1.1 99 Low\r\n\r\n",
        b"HTTP/1.1 600 High\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/3.0 200 OK\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX-A: a\x00b\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX A: b\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n" * 12,
        b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 300 + b"Content-Length: 0\r\n\r\n",
    ],
)
async def test_an_answer_that_breaks_http_is_502(api: Api, plain: Gateway, said: bytes) -> None:
    api.on("/x", said)

    answered = await get(plain.port, "/x")
    after = await get(plain.port, "/y")

    assert (answered.status, answered.slug) == (502, "upstream-malformed")
    assert answered.header("X-Gateway-Error") == "upstream-malformed"
    assert after.json()["target"] == "/y"


async def test_bytes_behind_an_answer_never_reach_the_next_caller(api: Api, plain: Gateway) -> None:
    api.on("/x", answer(200, b"{}") + answer(200, b'"poison"'))

    first = await get(plain.port, "/x")
    others = [await get(plain.port, "/y") for _ in range(5)]

    assert first.body == b"{}"
    assert {other.json()["target"] for other in others} == {"/y"}


async def test_an_upstream_that_hangs_is_504(api: Api) -> None:
    async def hang(talk: Talk) -> None:
        await asyncio.Event().wait()

    api.on("/x", hang)
    async with gateway(api.url, upstream__timeout="200ms") as running:
        safe = await get(running.port, "/x")
        unsafe = await post(running.port, "/x", b"{}")

    assert (safe.status, safe.header("X-Gateway-Error")) == (504, "upstream-timeout")
    assert unsafe.status == 504
    assert [received.method for received in api.received] == ["GET", "POST"]


async def test_what_the_upstream_refuses_is_its_own_and_bears_no_mark_of_ours(api: Api, plain: Gateway) -> None:
    api.on("/x", answer(503, b"busy", ("Content-Type", "text/plain")))

    answered = await get(plain.port, "/x")

    assert (answered.status, answered.body) == (503, b"busy")
    assert answered.header("X-Gateway-Error") is None


# Upgrades.


@pytest.fixture
async def sockets() -> AsyncIterator[str]:
    """A WebSocket echo by somebody else's server."""

    async def echo(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse(max_msg_size=4 << 20, protocols=("chat",))
        await socket.prepare(request)
        async for message in socket:
            if message.type is aiohttp.WSMsgType.TEXT:
                if message.data.startswith("close "):
                    await socket.close(code=int(message.data[6:]), message=b"as told")
                    break
                await socket.send_str(message.data)
            else:
                await socket.send_bytes(message.data)
        return socket

    site = web.Application()
    site.router.add_get("/ws", echo)
    runner = web.AppRunner(site, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


async def test_a_websocket_echoes_text_and_bytes_up_to_a_mebibyte(sockets: str) -> None:
    large = random.Random(2).randbytes(1 << 20)

    async with gateway(sockets) as running, aiohttp.ClientSession() as session, asyncio.timeout(PATIENCE_S):
        url = f"http://127.0.0.1:{running.port}/ws"
        async with session.ws_connect(url, max_msg_size=4 << 20, protocols=("chat",)) as socket:
            await socket.send_str("grüß")
            assert await socket.receive_str() == "grüß"
            await socket.send_bytes(large)
            assert await socket.receive_bytes() == large
            await socket.ping(b"p")
            await socket.send_str("after")
            assert await socket.receive_str() == "after"
            assert socket.protocol == "chat"


@pytest.mark.parametrize("code", [1000, 1001, 1011, 4242])
async def test_close_codes_of_a_websocket_come_through(sockets: str, code: int) -> None:
    async with (
        gateway(sockets) as running,
        aiohttp.ClientSession() as session,
        asyncio.timeout(PATIENCE_S),
        session.ws_connect(f"http://127.0.0.1:{running.port}/ws") as socket,
    ):
        await socket.send_str(f"close {code}")
        message = await socket.receive()

    assert (message.type, message.data, message.extra) == (aiohttp.WSMsgType.CLOSE, code, "as told")


async def test_a_declined_upgrade_leaves_the_connection_clean(api: Api, plain: Gateway) -> None:
    api.on("/ws", answer(426, b"no"))
    upgrade = [
        ("Connection", "Upgrade"),
        ("Upgrade", "websocket"),
        ("Sec-WebSocket-Key", "x"),
        ("Sec-WebSocket-Version", "13"),
    ]

    async with await Wire.open(plain.port) as wire:
        await wire.send(request("GET", "/ws", upgrade))
        declined = await wire.answer()
        await wire.send(request("GET", "/y"))
        after = await wire.answer()

    assert (declined.status, declined.body) == (426, b"no")
    assert after.json()["target"] == "/y"
    assert api.targets == ["/ws", "/y"]
    assert api.received[0].header("Upgrade") == "websocket"


async def test_a_request_pipelined_behind_a_declined_upgrade_is_one_request(api: Api, plain: Gateway) -> None:
    api.on("/ws", answer(426, b"no"))
    upgrade = [
        ("Connection", "Upgrade"),
        ("Upgrade", "websocket"),
        ("Sec-WebSocket-Key", "x"),
        ("Sec-WebSocket-Version", "13"),
    ]

    async with await Wire.open(plain.port) as wire:
        await wire.send(request("GET", "/ws", upgrade) + request("GET", "/y"))
        declined = await wire.answer()
        after = await wire.answer()

    assert declined.status == 426
    assert after.json()["target"] == "/y"
    assert api.targets == ["/ws", "/y"]


async def test_the_batch_path_takes_no_upgrade(api: Api, plain: Gateway) -> None:
    upgrade = [
        ("Connection", "Upgrade"),
        ("Upgrade", "websocket"),
        ("Sec-WebSocket-Key", "x"),
        ("Sec-WebSocket-Version", "13"),
    ]

    async with await Wire.open(plain.port) as wire:
        await wire.send(request("GET", "/batch", upgrade))
        refused = await wire.answer()
        await wire.send(request("GET", "/y"))
        after = await wire.answer()

    assert (refused.status, after.status) == (405, 200)
    assert api.targets == ["/y"]
