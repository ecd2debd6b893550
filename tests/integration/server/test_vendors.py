"""A vendor's dialect at the front door: admitted, run and counted like a native batch, and refused in its own shape."""

import asyncio
import json
import re

import pytest

from tests.integration.server.api import Api, after, answer, hang
from tests.integration.server.gateways import Gateway, gateway
from tests.integration.server.wire import Answer, Wire, ask, get, post, post_batch, request

SPOKEN = "dialects: {google: {}}"
TYPE = ("Content-Type", "multipart/mixed; boundary=b")


def envelope(*lines: str) -> bytes:
    parts = "".join(f"--b\nContent-Type: application/http\n\n{line} HTTP/1.1\n\n\n" for line in lines)
    return f"{parts}--b--\n".encode()


async def send(running: Gateway, *lines: str, path: str = "/batch/things/v1", fields: tuple[str, str] = TYPE) -> Answer:
    return await post(running.port, path, envelope(*lines), fields)


def statuses(answered: Answer) -> list[int]:
    return [int(found) for found in re.findall(rb"HTTP/1\.1 (\d{3}) ", answered.body)]


async def test_an_envelope_is_run_and_all_else_passes_through(api: Api) -> None:
    async with gateway(api.url, SPOKEN + "\nbatch: {path: /own}") as running:
        ran = await send(running, "GET /a", "GET /b")
        passed = await post(running.port, "/batch/things/v1", b"{}")
        gotten = await get(running.port, "/batch/things/v1", TYPE)

    assert (ran.status, statuses(ran)) == (200, [200, 200])
    assert (ran.header("Cache-Control"), ran.header("Content-Length")) == ("no-store", str(len(ran.body)))
    assert [each.json()["target"] for each in (passed, gotten)] == ["/batch/things/v1"] * 2
    assert api.targets == ["/a", "/b", "/batch/things/v1", "/batch/things/v1"]


async def test_native_and_vendor_s_batches_share_a_path(api: Api) -> None:
    async with gateway(api.url, SPOKEN) as running:
        native = await post_batch(running.port, [{"method": "GET", "path": "/a"}])
        ran = await send(running, "GET /b", path="/batch")

    assert (native.status, ran.status) == (207, 200)


async def test_what_is_not_configured_is_not_spoken(plain: Gateway) -> None:
    answered = await send(plain, "GET /a", path="/batch")

    assert (answered.status, answered.slug) == (415, "unsupported-media-type")


async def test_the_outer_fields_are_inherited_and_a_part_s_own_win(api: Api) -> None:
    part = "GET /a HTTP/1.1\nAuthorization: own\nHost: www.googleapis.com\n"
    body = f"--b\nContent-Type: application/http\n\n{part}\n--b--".encode()
    async with gateway(api.url, SPOKEN) as running:
        await post(running.port, "/batch?key=k", body, TYPE, ("Authorization", "outer"), ("X-Trace", "t"))

    assert (api.last.header("Authorization"), api.last.header("X-Trace")) == ("own", "t")
    assert (api.last.target, api.last.header("Host")) == ("/a?key=k", "api.test")
    assert api.last.header("Content-Type") is None


async def test_a_dialect_s_path_is_none_for_an_operation_of_any_batch(api: Api) -> None:
    async with gateway(api.url, "dialects: {google: {path: /g}}") as running:
        native = await post_batch(running.port, [{"method": "POST", "path": "/g/drive/v3"}])
        ran = await send(running, "POST /batch", "POST /g", path="/g")

    assert native.json()["errors"][0]["code"] == "nested-batch"
    assert statuses(ran) == [400, 400]
    assert api.received == []


async def test_n_calls_take_n_tokens_in_one_step(api: Api) -> None:
    async with gateway(api.url, SPOKEN + "\nlimits: [{name: a, key: ip, rate: 1/h, burst: 3}]") as running:
        ran = await send(running, "GET /a", "GET /b")
        refused = await send(running, "GET /c", "GET /d")
        too_dear = await send(running, *["GET /e"] * 4)

    assert ran.header("RateLimit") is not None
    assert (refused.status, refused.json()["error"]["status"]) == (429, "RESOURCE_EXHAUSTED")
    assert refused.header("Retry-After") == "120"  # an hour would make clients give up
    assert too_dear.status == 413
    assert len(api.received) == 2


@pytest.mark.parametrize(
    ("data", "status", "slug"),
    [
        (request("POST", "/batch", [TYPE], b"junk"), 400, "invalid-envelope"),
        (request("POST", "/batch", [TYPE], envelope(*["GET /a"] * 6)), 413, "too-many-operations"),
        (request("POST", "/batch", [TYPE], b"x" * 2049), 413, "envelope-too-large"),
        (request("POST", "/batch", [TYPE, ("Content-Encoding", "gzip")], b"x"), 415, "unsupported-encoding"),
        (request("POST", "/batch", [TYPE, ("Expect", "x")], b"x"), 417, "expectation-failed"),
        (request("POST", "/batch", [TYPE], b"x", host="a/b"), 400, "bad-host"),
    ],
    ids=["junk", "too many", "too large", "gzip", "expect", "host"],
)
async def test_every_refusal_is_in_the_vendor_s_shape(api: Api, data: bytes, status: int, slug: str) -> None:
    settings = "dialects: {google: {operations_max: 5}}\nbatch: {body_max: 2KiB, operation_body_max: 1KiB}"
    async with gateway(api.url, settings) as running:
        refused = await ask(running.port, data)

    assert (refused.status, refused.header("X-Gateway-Error")) == (status, slug)
    assert refused.header("Content-Type") == "application/json; charset=UTF-8"
    assert refused.json()["error"]["code"] == status
    assert refused.header("X-Request-Id")
    assert api.received == []


async def test_a_batch_whose_time_is_up_tells_what_became_of_each_call(api: Api) -> None:
    api.on("/slow", hang)
    async with gateway(api.url, SPOKEN + "\nbatch: {sync_timeout: 100ms, concurrency: 1}") as running:
        answered = await send(running, "GET /a", "POST /slow", "GET /b")

    assert (answered.status, statuses(answered)) == (200, [200, 504, 504])


async def test_partial_failures_are_each_in_their_place(api: Api) -> None:
    api.on("/gone", answer(404, b'{"error":{"code":404}}'))
    api.on("/empty", answer(204))
    async with gateway(api.url, SPOKEN) as running:
        answered = await send(running, "GET /gone", "GET /a//b", "DELETE /empty", "GET /a")

    assert statuses(answered) == [404, 400, 204, 200]


async def test_a_batch_is_counted_and_logged_under_its_dialect(api: Api, capfd: pytest.CaptureFixture[str]) -> None:
    async with gateway(api.url, SPOKEN, log__access=True, log__format="json") as running:
        await send(running, "GET /a", "GET /b")
        await post(running.port, "/batch", b"junk", TYPE)
        metrics = (await get(running.admin_port, "/metrics")).body.decode()
        info = (await ask(running.admin_port, request("GET", "/info", host="127.0.0.1"))).json()
    lines = [json.loads(line) for line in capfd.readouterr().err.splitlines()]

    assert 'batch_gateway_envelopes_total{dialect="google",mode="sync",outcome="all_ok"} 1' in metrics
    assert 'batch_gateway_envelopes_total{dialect="google",mode="sync",outcome="rejected"} 1' in metrics
    assert re.search(r'operations_total\{.*dialect="google".*\} 2', metrics)
    assert [line["event"] for line in lines if line.get("dialect") == "google"] == ["batch", "refused"]
    assert info["dialects"] == ["native", "google"]


@pytest.mark.parametrize("size", [1, 7, 64])
async def test_an_envelope_may_come_in_any_chunks(api: Api, size: int) -> None:
    body = envelope("GET /a", "GET /b")
    chunks = [body[start : start + size] for start in range(0, len(body), size)]
    async with gateway(api.url, SPOKEN) as running, await Wire.open(running.port) as wire:
        await wire.send(request("POST", "/batch", [TYPE, ("Transfer-Encoding", "chunked")]))
        for chunk in [*chunks, b""]:
            await wire.send(b"%x\r\n%b\r\n" % (len(chunk), chunk))
        answered = await wire.answer("POST")

    assert statuses(answered) == [200, 200]


async def test_the_same_bytes_again_are_another_batch(api: Api) -> None:
    async with gateway(api.url, SPOKEN) as running:
        answered = [await send(running, "POST /a", "POST /b") for _ in range(2)]

    assert [statuses(each) for each in answered] == [[200, 200]] * 2
    assert sorted(api.targets) == ["/a", "/a", "/b", "/b"]


async def test_a_batch_that_runs_while_the_gateway_drains_is_answered_and_its_connection_closed(api: Api) -> None:
    going = asyncio.Event()

    api.on("/slow", after(going, answer(200, b"{}")))
    async with gateway(api.url, SPOKEN) as running:
        sending = asyncio.create_task(send(running, "GET /slow", "GET /a"))
        await api.until(2)
        draining = asyncio.create_task(running.app.drain())
        await asyncio.sleep(0)
        going.set()
        answered = await sending

        assert await draining

    assert (answered.header("Connection"), statuses(answered)) == ("close", [200, 200])
