"""A dialect that only a body can tell: its batches run, and all else passes through with every byte of its body."""

import json
from collections.abc import AsyncIterator
from urllib.parse import urlencode

import pytest

from tests.integration.server.api import Api
from tests.integration.server.gateways import Gateway, gateway
from tests.integration.server.wire import Wire, ask, get, post

FORM = ("Content-Type", "application/x-www-form-urlencoded")
BATCH = urlencode({"batch": json.dumps([{"method": "GET", "relative_url": "a"}])}).encode()


@pytest.fixture
async def running(api: Api) -> AsyncIterator[Gateway]:
    async with gateway(
        api.url, "dialects: {facebook: {}}\nbatch: {body_max: 64KiB, operation_body_max: 32KiB}"
    ) as started:
        yield started


@pytest.mark.parametrize("path", ["/", "/v26.0", "/v26.0/", "/me", "/v26.0/me"])
async def test_a_batch_is_run_wherever_it_may_stand(api: Api, running: Gateway, path: str) -> None:
    answered = await post(running.port, path, BATCH, FORM)

    assert [entry["code"] for entry in answered.json()] == [200]
    assert api.targets == ["/v26.0/a" if path.startswith("/v") else "/a"]


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("application/x-www-form-urlencoded", b"name=batch&x=%zz"),
        ("application/json", b'{"name": "batch", "batch": null}'),
        ("application/json", b'{"a": 1, "batch": [' + b"1" * 70_000),
        ("multipart/form-data; boundary=b", b"--b\r\nContent-Disposition: form-data; name=x\r\n\r\nbatch\r\n"),
        (
            "multipart/form-data; boundary=b",
            b"--b\r\nContent-Disposition: form-data; name=x\r\n\r\n" + b"batch" * 90_000,
        ),
        ("application/json", b""),
    ],
    ids=["form", "json", "long json", "broken parts", "long parts", "nothing"],
)
@pytest.mark.parametrize("chunked", [False, True], ids=["by length", "chunked"])
async def test_what_holds_no_batch_passes_through_with_its_body(
    api: Api, running: Gateway, content_type: str, body: bytes, chunked: bool
) -> None:
    framing = "Transfer-Encoding: chunked" if chunked else f"Content-Length: {len(body)}"
    sent = b"".join(b"%x\r\n%b\r\n" % (len(each), each) for each in (body[:50_000], body[50_000:]) if each)
    whole = sent + b"0\r\nX-Trailer: t\r\n\r\n" if chunked else body
    head = f"POST /v26.0/?a=b HTTP/1.1\r\nHost: h\r\nContent-Type: {content_type}\r\n{framing}\r\n\r\n".encode()

    answered = await ask(running.port, head + whole)

    assert answered.status == 200
    assert (api.last.target, api.last.header("Content-Type"), api.last.body) == ("/v26.0/?a=b", content_type, body)
    assert api.last.trailers == (["X-Trailer: t"] if chunked else ())


async def test_a_body_that_comes_in_pieces_passes_through_in_order(api: Api, running: Gateway) -> None:
    pieces = [bytes([65 + number]) * 30_000 for number in range(8)]
    head = b"POST / HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\nContent-Length: 240000\r\n\r\n"

    async with await Wire.open(running.port) as wire:
        await wire.send(head)
        for piece in pieces:
            await wire.send(piece)
            await get(running.admin_port, "/livez")  # behind it, so that each is a read of its own
        answered = await wire.answer()

    assert (answered.status, api.last.body) == (200, b"".join(pieces))


@pytest.mark.parametrize("body", [BATCH, b"name=value"])
async def test_a_caller_who_waits_for_it_is_told_to_send_the_body(api: Api, running: Gateway, body: bytes) -> None:
    fields = f"Content-Type: {FORM[1]}\r\nContent-Length: {len(body)}\r\nExpect: 100-continue\r\n"
    async with await Wire.open(running.port) as wire:
        await wire.send(f"POST / HTTP/1.1\r\nHost: h\r\n{fields}\r\n".encode())
        invited = await wire.head()
        await wire.send(body)
        answered = await wire.answer()

    assert (invited.status, answered.status) == (100, 200)
    assert len(api.received) == 1


@pytest.mark.parametrize(
    ("body", "fields", "status", "slug"),
    [
        (BATCH + b"&x=" + b"y" * 66_000, [], 413, "envelope-too-large"),
        (b"batch=%5B" + b"1" * 66_000, [], 413, "envelope-too-large"),
        (b"batch=%5B", [], 400, "invalid-json"),
        (BATCH, [("Content-Encoding", "gzip")], 415, "unsupported-encoding"),
    ],
)
async def test_a_batch_that_cannot_be_read_is_refused_in_facebook_s_shape(
    api: Api, running: Gateway, body: bytes, fields: list[tuple[str, str]], status: int, slug: str
) -> None:
    answered = await post(running.port, "/v26.0/", body, FORM, *fields)

    assert (answered.status, answered.header("X-Gateway-Error")) == (status, slug)
    assert answered.header("Content-Type") == "application/json; charset=utf-8"
    assert answered.json()["error"]["fbtrace_id"] == answered.header("X-Request-Id")
    assert api.received == []


async def test_a_refusal_of_what_passes_through_is_the_gateway_s_own(api: Api) -> None:
    settings = "dialects: {facebook: {}}\nlimits: [{name: one, key: global, rate: 1/h, burst: 1}]"
    async with gateway(api.url, settings) as running:
        answers = [await post(running.port, "/", b"name=value", FORM) for _ in range(2)]

    assert [answered.status for answered in answers] == [200, 429]
    assert answers[1].header("Content-Type") == "application/problem+json"


async def test_a_refused_token_of_its_own_does_not_stop_the_others(api: Api) -> None:
    api.on("/a", b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n")
    entries = [{"method": "GET", "relative_url": "a?access_token=own"}, *[{"method": "GET", "relative_url": "b"}] * 20]
    async with gateway(api.url, "dialects: {facebook: {}}\nbatch: {concurrency: 1}") as running:
        answered = await post(
            running.port, "/?access_token=T", urlencode({"batch": json.dumps(entries)}).encode(), FORM
        )

    assert [entry["code"] for entry in answered.json()] == [401] + [200] * 20


async def test_results_of_earlier_entries_go_into_later_ones(api: Api, running: Gateway) -> None:
    body = b'{"data": [{"id": 7}, {"id": "x y"}]}'
    api.on("/friends", b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
    entries = [
        {"method": "GET", "relative_url": "friends", "name": "f"},
        {"method": "GET", "relative_url": "?ids={result=f:$.data.*.id}"},
        {"method": "POST", "relative_url": "p", "body": "a=1&ids=%7Bresult%3Df%3A%24.data%5B%2A%5D.id%7D"},
        {"method": "GET", "relative_url": "{result=f:$.nothing}"},
    ]

    answered = await post(running.port, "/", urlencode({"batch": json.dumps(entries)}).encode(), FORM)

    assert [entry and entry["code"] for entry in answered.json()] == [None, 200, 200, 424]
    assert sorted(api.targets) == ["/?ids=7%2Cx%20y", "/friends", "/p"]
    assert {received.body for received in api.received} == {b"", b"a=1&ids=7%2Cx%20y"}
