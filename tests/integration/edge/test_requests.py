"""PROMISES P1: three thousand requests reach the upstream as they do without the gateway, but for this table.

| what differs | why |
| --- | --- |
| the version is HTTP/1.1 | each connection speaks its own (RFC 9110 2.5) |
| hop-by-hop fields and `Connection` stay behind, `Trailer` goes along with a chunked body | RFC 9110 7.6.1 |
| what the gateway vouches for is its own and stands last, also against `_` for `-` | PROMISES S5 |
| `Transfer-Encoding: chunked` stands last; chunks are cut anew, their extensions end | RFC 9112 7.1.1: of one hop |
| trailers that would frame, route, vouch or log in stay behind | RFC 9110 6.5.1 |
| blanks around a value are one blank before it | RFC 9112 5.1: they are no part of it |
| a request of HTTP/1.0 without Host gets the upstream's | RFC 9112 3.2: HTTP/1.1 cannot go without |
"""

import asyncio
import random
from collections.abc import Sequence

from tests.fakes.until import PATIENCE_S
from tests.integration.edge import generated
from tests.integration.edge.raw import answer
from tests.integration.server.api import Api, Received, Talk
from tests.integration.server.api import answer as said
from tests.integration.server.gateways import gateway
from tests.integration.server.wire import without_replica

REQUESTS = 3000
TOGETHER = 10  # requests that one caller pipelines, at most
CALLERS = 4

HOP_BY_HOP = {"connection", "keep-alive", "proxy-authorization", "proxy-connection", "te", "trailer", "upgrade"}
VOUCHED = {"forwarded", "via", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto"}
NOT_TRAILING = {"authorization", "cookie", "content-encoding", "content-type", "host"}
RESPELLED = {"x_forwarded_for", "content_length", "transfer_encoding"}

Fields = list[tuple[str, str]]


async def test_three_thousand_requests_arrive_as_they_do_directly() -> None:
    requests = [generated.request(seed) for seed in range(REQUESTS)]
    async with Api(_acknowledge) as api, gateway(api.url) as running:
        await send_all(api.port, requests)
        direct = _by_seed(api.received)
        api.received.clear()
        await send_all(running.port, requests)
        through = _by_seed(api.received)
        own_host = f"127.0.0.1:{api.port}"

    assert len(direct) == REQUESTS
    differing = [
        (seed, _shown(direct[seed], expected(direct[seed], own_host)), _shown(through.get(seed), None))
        for seed in direct
        if _shown(direct[seed], expected(direct[seed], own_host)) != _shown(through.get(seed), None)
    ]
    assert differing[:3] == []


def expected(direct: Received, own_host: str) -> Fields:
    """The head's fields that the table allows for this request."""
    chunked = direct.header("Transfer-Encoding") is not None
    dropped = HOP_BY_HOP | VOUCHED | RESPELLED | {"transfer-encoding"} - ({"trailer"} if chunked else set())
    dropped -= {"trailer"} if chunked else set()
    kept = [(name, value) for name, value in direct.fields if name.lower() not in dropped]
    host = direct.header("Host")
    if host is None:
        kept.insert(0, ("Host", own_host))
    ours = [("X-Forwarded-For", "127.0.0.1"), ("X-Forwarded-Proto", "http")]
    ours += [] if host is None else [("X-Forwarded-Host", host)]
    return [*kept, *ours, ("Via", "1.1 batch-gateway"), *([("Transfer-Encoding", "chunked")] if chunked else [])]


async def send_all(port: int, requests: Sequence[generated.Request]) -> None:
    """Each caller pipelines a few requests on a connection, in segments that know nothing of them."""
    runs = list(_runs(requests))
    await asyncio.gather(*[_callers(port, runs[start::CALLERS]) for start in range(CALLERS)])


async def _callers(port: int, runs: Sequence[Sequence[generated.Request]]) -> None:
    for run in runs:
        chance = random.Random(run[0].seed)
        async with asyncio.timeout(PATIENCE_S):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            for segment in generated.cut(b"".join(request.data for request in run), chance):
                writer.write(segment)
                await asyncio.sleep(0)
            answers = [await answer(reader, request.method) for request in run]
            writer.close()
        assert [seen.status for seen in answers] == [200] * len(run), [seen.body for seen in answers]
        assert [seen.header(b"x-answers") for seen in answers] == [[b"%d" % request.seed] for request in run]


def _runs(requests: Sequence[generated.Request]) -> Sequence[Sequence[generated.Request]]:
    runs: list[list[generated.Request]] = [[]]
    for request in requests:
        runs[-1].append(request)
        if request.ends or len(runs[-1]) == TOGETHER:
            runs.append([])
    return [run for run in runs if run]


async def _acknowledge(talk: Talk) -> None:
    await talk.request.read()
    seed = talk.request.header("X-Seed") or ""
    body = b"" if talk.request.method == "HEAD" else b"{}"
    await talk.send(said(200, body, ("X-Answers", seed)))


def _by_seed(received: Sequence[Received]) -> dict[str, Received]:
    found = {request.header("X-Seed") or "": request for request in received}
    assert len(found) == len(received)  # none came twice
    return found


def _shown(request: Received | None, fields: Fields | None) -> object:
    """All that is compared; `fields` in place of the request's own."""
    if request is None:
        return None
    shown = without_replica(request.fields) if fields is None else fields
    trailers = [(name, value.strip(" \t")) for name, _, value in (line.partition(":") for line in request.trailers)]
    if fields is not None:
        trailers = [
            field for field in trailers if field[0].lower() not in HOP_BY_HOP | VOUCHED | RESPELLED | NOT_TRAILING
        ]
    return request.method, request.target, shown, request.body, trailers
