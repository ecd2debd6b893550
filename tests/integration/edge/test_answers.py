"""PROMISES P2: three thousand answers reach the caller as they do without the gateway, but for this table.

| what differs | why |
| --- | --- |
| the version is HTTP/1.1 | each connection speaks its own (RFC 9110 2.5) |
| hop-by-hop fields, `Connection` and what it names stay behind; `Trailer` goes along | RFC 9110 7.6.1 |
| `Via` is added at the end, and `Date` where there is none | RFC 9110 7.6.3, 6.6.1 |
| a body that ended with the connection comes in chunks | so that its end is seen; `Transfer-Encoding` stands last |
| chunks are cut anew, their extensions end | RFC 9112 7.1.1: of one hop |
| 204 without Content-Length | RFC 9110 8.6 |
| blanks around a value are one blank before it | RFC 9112 5.1 |
"""

import asyncio
import random
from dataclasses import replace

import pytest

from tests.integration.edge import generated
from tests.integration.edge.raw import Caller, Field, Seen
from tests.integration.server.api import Api, Talk
from tests.integration.server.gateways import gateway

ANSWERS = 3000
METHODS = ("GET", "GET", "GET", "HEAD", "POST")
HOP_BY_HOP = {
    b"connection", b"keep-alive", b"proxy-authenticate", b"proxy-authorization", b"proxy-connection", b"te",
    b"transfer-encoding", b"upgrade",
}  # fmt: skip


async def test_three_thousand_answers_arrive_as_they_do_directly() -> None:
    async with Api(_answer_by_target) as api, gateway(api.url) as running:
        callers = [(Caller(api.port), Caller(running.port)) for _ in range(4)]
        differing = await asyncio.gather(*[_differing(*pair, seeds) for pair, seeds in _shared(callers)])
        for pair in callers:
            await asyncio.gather(*[caller.close() for caller in pair])

    assert [found for each in differing for found in each][:3] == []


def _shared(callers: list[tuple[Caller, Caller]]) -> list[tuple[tuple[Caller, Caller], range]]:
    return [(pair, range(start, ANSWERS, len(callers))) for start, pair in enumerate(callers)]


async def _differing(directly: Caller, through: Caller, seeds: range) -> list[tuple[int, Seen, Seen]]:
    found = []
    for seed in seeds:
        method = METHODS[seed % len(METHODS)]
        data = f"{method} /{seed} HTTP/1.1\r\nHost: api.test\r\nContent-Length: 0\r\n\r\n".encode()
        direct, passed = await directly.ask(data, method), await through.ask(data, method)
        if without_ours(passed, direct) != expected(direct, method):
            found.append((seed, expected(direct, method), without_ours(passed, direct)))
    return found


async def _answer_by_target(talk: Talk) -> None:
    said = generated.answer(int(talk.request.target[1:]), talk.request.method)
    await _write(talk, said.segments, ends=said.ends)


async def _write(talk: Talk, segments: tuple[bytes, ...], *, ends: bool) -> None:
    for segment in segments:
        await talk.send(segment)
        for _ in range(3):
            await asyncio.sleep(0)  # a turn of the loop: the other side reads it as a segment of its own
    if ends:
        talk.writer.close()


def expected(direct: Seen, method: str) -> Seen:
    """What the table makes of an answer."""
    coded = bool(direct.header(b"transfer-encoding")) or direct.ends == "close"
    fields = _end_to_end(direct.fields)
    if direct.status == 204:
        fields = [field for field in fields if field[0].lower() != b"content-length"]
    fields += [(b"Transfer-Encoding", b"chunked")] if coded else []
    interims = tuple(replace(each, fields=tuple(_end_to_end(each.fields))) for each in direct.interims)
    ends = "chunks" if direct.ends == "close" else direct.ends
    return replace(direct, version=b"HTTP/1.1", fields=tuple(fields), ends=ends, interims=interims)


def _end_to_end(fields: tuple[Field, ...]) -> list[Field]:
    named = {
        option.strip().lower()
        for name, value in fields
        if name.lower() == b"connection"
        for option in value.split(b",")
    }
    return [field for field in fields if field[0].lower() not in HOP_BY_HOP | named]


def without_ours(passed: Seen, direct: Seen) -> Seen:
    """`passed` without what the gateway adds: Via always, Date where there was none. Both must be there."""
    fields = list(passed.fields)
    at = max(index for index, (name, _) in enumerate(fields) if name == b"Via")
    assert fields.pop(at)[1] == b"1.1 batch-gateway"
    if not direct.header(b"date"):
        assert fields.pop(at)[0] == b"Date"
    return replace(passed, fields=tuple(fields))


SAMPLES = {
    "length": b"HTTP/1.1 200 OK\r\nX-A: 1\r\nContent-Length: 5\r\n\r\nhello",
    "chunks": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"3;e=1\r\nhel\r\n2\r\nlo\r\n0;e\r\nX-T: 1\r\nx-t: 2\r\n\r\n",
    "close": b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nhello",
    "interims": b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early\r\nLink: a\r\n\r\n"
    b"HTTP/1.1 200 \r\nContent-Length: 1\r\n\r\nx",
    "204": b"HTTP/1.1 204 None\r\nETag: 1\r\n\r\n",
    "304": b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n",
    "empty": b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n",
    "1.0": b"HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n\r\nhello",
}


@pytest.mark.parametrize("name", SAMPLES)
@pytest.mark.parametrize("warm", [False, True])
async def test_an_answer_is_the_same_wherever_it_is_cut(name: str, warm: bool) -> None:
    """At every place, in two segments; on a new connection, and on one where plain answers went before."""
    sample, ends = SAMPLES[name], name in ("close", "1.0")

    async def cut_at(talk: Talk) -> None:
        at = int(talk.request.target[1:])
        if at < 0:
            await talk.send(b"HTTP/1.1 200 OK\r\nX-A: 1\r\nContent-Length: 2\r\n\r\nhi")
            return
        await _write(talk, tuple(piece for piece in (sample[:at], sample[at:]) if piece), ends=ends)

    async with Api(cut_at) as api, gateway(api.url) as running:
        directly, through = Caller(api.port), Caller(running.port)
        direct = await directly.ask(_get(0), "GET")
        seen = []
        for at in range(len(sample)):
            if warm:
                await through.ask(_get(-1), "GET")
            seen.append(await through.ask(_get(at), "GET"))
        await asyncio.gather(directly.close(), through.close())

    whole = expected(direct, "GET")
    assert [at for at, passed in enumerate(seen) if without_ours(passed, direct) != whole] == []


def _get(number: int) -> bytes:
    return b"GET /%d HTTP/1.1\r\nHost: api.test\r\n\r\n" % number


async def test_an_old_caller_gets_what_it_can_read() -> None:
    """HTTP/1.0 knows no chunks and no 1xx: the body ends with the connection, interim answers are left out."""
    chance = random.Random(5)
    body = chance.randbytes(5000)
    said = b"HTTP/1.1 103 Early\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + generated.chunks(
        chance, body
    )

    async def speak(talk: Talk) -> None:
        await talk.send(said)

    async with Api(speak) as api, gateway(api.url) as running:
        caller = Caller(running.port)
        seen = await caller.ask(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", "GET")
        await caller.close()

    assert (seen.body, seen.ends, seen.interims) == (body, "close", ())
    assert seen.header(b"connection") == [b"close"]
