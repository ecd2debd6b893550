"""POST /batch: every member of the contract's synchronous answer (CONTRACT 2)."""

import asyncio
import base64
import gzip
import json
from typing import Any
from xml.etree import ElementTree as Xml

import pytest

from tests.fakes.machine import Stopwatch
from tests.integration.server.api import Api, Talk, after, answer, chunked, hang
from tests.integration.server.gateways import Gateway, gateway
from tests.integration.server.wire import Answer, Wire, post_batch, request


def operations(*paths: str) -> dict[str, Any]:
    return {"operations": [{"method": "GET", "path": path} for path in paths]}


async def result_of(plain: Gateway, path: str) -> tuple[dict[str, Any], bytes]:
    """The one result of a batch of one GET, and the bytes that it came in."""
    answered = await post_batch(plain.port, operations(path))
    assert answered.status == 207
    return answered.json()["results"][0], answered.body


async def test_a_success_has_id_status_headers_and_result_and_nothing_else(api: Api, plain: Gateway) -> None:
    api.on("/users", answer(201, b'{"id":7}', ("Location", "/users/7")))

    answered = await post_batch(
        plain.port, {"operations": [{"id": "op1", "method": "POST", "path": "/users", "body": {}}]}
    )

    headers = {"Location": "/users/7", "Content-Type": "application/json", "Content-Length": "8"}
    assert answered.json() == {
        "results": [{"id": "op1", "status": 201, "headers": headers, "result": {"id": 7}}],
        "summary": {"total": 1, "succeeded": 1, "failed": 0},
    }


async def test_an_upstreams_refusal_is_an_error_of_origin_upstream_with_its_body(api: Api, plain: Gateway) -> None:
    api.on("/users", answer(404, b'{"message":"no"}'))

    result, _ = await result_of(plain, "/users")

    assert "result" not in result
    assert result["error"] == {
        "type": "/batch/problems/upstream-error",
        "title": "Upstream error",
        "status": 404,
        "origin": "upstream",
        "body": {"message": "no"},
    }


async def test_a_failure_of_the_gateways_own_is_an_error_of_origin_gateway(api: Api, plain: Gateway) -> None:
    async def vanish(talk: Talk) -> None:
        await talk.request.read()
        talk.writer.close()

    api.on("/users", vanish)

    answered = await post_batch(plain.port, {"operations": [{"method": "POST", "path": "/users", "body": 1}]})

    result = answered.json()["results"][0]
    assert result["status"] == 502
    assert result["headers"] == {}
    assert result["error"]["type"] == "/batch/problems/outcome-unknown"
    assert {name: result["error"][name] for name in ("status", "origin", "retryable")} == {
        "status": 502,
        "origin": "gateway",
        "retryable": False,
    }
    assert answered.json()["summary"] == {"total": 1, "succeeded": 0, "failed": 1, "unknown": 1}


async def test_the_head_of_a_207_is_as_the_contract_says(plain: Gateway) -> None:
    answered = await post_batch(plain.port, operations("/a", "/b"))

    assert (answered.status, answered.reason) == (207, "Multi-Status")
    assert answered.header("Content-Type") == "application/json"
    assert answered.header("Batch-Summary") == "total=2, succeeded=2, failed=0"
    assert answered.header("Cache-Control") == "no-store"
    assert answered.header("X-Content-Type-Options") == "nosniff"
    assert answered.header("X-Request-Id")
    assert answered.header("Date")


async def test_results_stand_in_the_order_of_the_operations_however_they_finish(api: Api, plain: Gateway) -> None:
    released = asyncio.Event()

    async def first(talk: Talk) -> None:
        await talk.send(answer(200, b'"quick"'))
        released.set()

    api.on("/slow", after(released, answer(200, b'"slow"')))
    api.on("/quick", first)

    answered = await post_batch(plain.port, operations("/slow", "/quick"))

    assert [result["result"] for result in answered.json()["results"]] == ["slow", "quick"]
    assert [result["id"] for result in answered.json()["results"]] == ["0", "1"]


@pytest.mark.parametrize("status", [200, 500])
async def test_an_executed_batch_is_207_when_all_succeeded_and_when_all_failed(
    api: Api, plain: Gateway, status: int
) -> None:
    api.on("/x", answer(status, b"{}"))

    answered = await post_batch(plain.port, operations("/x", "/x"))

    assert answered.status == 207
    assert answered.json()["summary"]["failed"] == (0 if status == 200 else 2)


@pytest.mark.parametrize(
    "text",
    [
        b'{"a":1}',
        b' { "a" :\t1.0,\n"b":[ ] } ',
        b"123456789012345678901234567890",
        b"1e400",
        b"-0.0",
        b'{"a":1,"a":2}',
        b'"\\u00e9\\/\\ud83d\\ude00"',
        '"ä"'.encode(),
        b"null",
        b"[" * 40 + b"]" * 40,
    ],
)
async def test_a_json_body_is_embedded_byte_for_byte(api: Api, plain: Gateway, text: bytes) -> None:
    api.on("/x", answer(200, text))

    _, raw = await result_of(plain, "/x")

    assert b'"result":' + text in raw
    assert b'"encoding"' not in raw


@pytest.mark.parametrize("media_type", ["application/problem+json", "application/JSON; charset=utf-8", "text/x+json"])
async def test_a_plus_json_body_is_embedded_as_json(api: Api, plain: Gateway, media_type: str) -> None:
    api.on("/x", answer(200, b"[1]", ("Content-Type", media_type)))

    result, _ = await result_of(plain, "/x")

    assert result["result"] == [1]


@pytest.mark.parametrize(
    ("media_type", "body", "expected", "encoding"),
    [
        ("text/plain", "grüß\x00".encode(), "grüß\x00", "text"),
        ("application/json", b"{broken", "{broken", "text"),
        ("application/json", b'{"a":NaN}', '{"a":NaN}', "text"),
        ("application/json", b"1 2", "1 2", "text"),
        ("text/html", b'{"a":1}', '{"a":1}', "text"),
        ("image/png", b"\x89PNG\xff", base64.b64encode(b"\x89PNG\xff").decode(), "base64"),
        ("application/json", b'"\xff"', base64.b64encode(b'"\xff"').decode(), "base64"),
    ],
)
async def test_other_bodies_are_text_where_they_are_utf_8_else_base64(
    api: Api, plain: Gateway, media_type: str, body: bytes, expected: str, encoding: str
) -> None:
    api.on("/x", answer(200, body, ("Content-Type", media_type)))

    result, _ = await result_of(plain, "/x")

    assert (result["result"], result["encoding"]) == (expected, encoding)


@pytest.mark.parametrize("status", [200, 404])
async def test_an_empty_body_has_no_member(api: Api, plain: Gateway, status: int) -> None:
    api.on("/x", answer(status))

    result, _ = await result_of(plain, "/x")

    assert "result" not in result
    assert "encoding" not in result
    assert "body" not in result.get("error", {})


async def test_a_204_has_no_body_member(api: Api, plain: Gateway) -> None:
    api.on("/x", answer(204))

    result, _ = await result_of(plain, "/x")

    assert result == {"id": "0", "status": 204, "headers": {}}


async def test_a_compressed_answer_is_never_inflated(api: Api, plain: Gateway) -> None:
    body = gzip.compress(b'{"a":1}')
    api.on("/x", answer(200, body, ("Content-Encoding", "gzip")))

    result, _ = await result_of(plain, "/x")

    assert base64.b64decode(result["result"]) == body
    assert result["encoding"] == "base64"
    assert result["headers"]["Content-Encoding"] == "gzip"


async def test_a_chunked_answer_is_collected_whole(api: Api, plain: Gateway) -> None:
    api.on("/x", chunked(b"[1", b",", b"2]", fields=[("Content-Type", "application/json")]))

    result, _ = await result_of(plain, "/x")

    assert result["result"] == [1, 2]
    assert "Transfer-Encoding" not in result["headers"]


async def test_headers_have_the_usual_capitals_and_repeated_ones_are_arrays(api: Api, plain: Gateway) -> None:
    said = [
        ("etag", '"1"'),
        ("SET-COOKIE", "a=1"),
        ("set-cookie", "b=2"),
        ("x-rate-LIMIT", "5"),
        ("www-authenticate", "B"),
    ]
    api.on("/x", answer(200, b"", *said))

    result, _ = await result_of(plain, "/x")

    assert result["headers"] == {
        "ETag": '"1"',
        "Set-Cookie": ["a=1", "b=2"],
        "X-Rate-Limit": "5",
        "WWW-Authenticate": "B",
        "Content-Length": "0",
    }


async def test_hop_by_hop_headers_and_those_that_connection_names_are_dropped(api: Api, plain: Gateway) -> None:
    said = [
        ("Connection", "keep-alive, X-Internal"),
        ("Keep-Alive", "timeout=5"),
        ("X-Internal", "1"),
        ("Proxy-Authenticate", "B"),
        ("Upgrade", "h2c"),
        ("X-Kept", "1"),
    ]
    api.on("/x", answer(200, b"", *said))

    result, _ = await result_of(plain, "/x")

    assert result["headers"] == {"X-Kept": "1", "Content-Length": "0"}


async def test_defaults_fill_in_method_and_headers_and_an_operations_own_win(api: Api, plain: Gateway) -> None:
    envelope = {
        "operations": [
            {"path": "/a"},
            {"path": "/b", "method": "PUT", "headers": {"x-a": "own"}, "body": 1},
        ],
        "defaults": {"method": "DELETE", "headers": {"X-A": "default", "X-B": "both"}},
    }

    answered = await post_batch(plain.port, envelope)

    first, second = sorted(api.received, key=lambda received: received.target)
    assert answered.json()["summary"]["succeeded"] == 2
    assert (first.method, first.header("X-A"), first.header("X-B")) == ("DELETE", "default", "both")
    assert (second.method, second.header("X-A"), second.header("X-B")) == ("PUT", "own", "both")


async def test_a_bare_array_is_an_envelope(plain: Gateway) -> None:
    answered = await post_batch(plain.port, [{"method": "GET", "path": "/a"}])

    assert answered.status == 207
    assert answered.json()["summary"]["total"] == 1


async def test_an_operation_stops_at_its_own_timeout(api: Api, plain: Gateway) -> None:
    api.on("/hang", hang)
    envelope = {
        "operations": [
            {"id": "safe", "method": "GET", "path": "/hang", "timeoutSeconds": 0.2},
            {"id": "unsafe", "method": "POST", "path": "/hang", "timeoutSeconds": 0.2},
            {"id": "fine", "method": "GET", "path": "/fine"},
        ]
    }

    with Stopwatch() as watch:
        answered = await post_batch(plain.port, envelope)

    outcomes = {result["id"]: result for result in answered.json()["results"]}
    assert outcomes["safe"]["status"] == 504
    assert outcomes["safe"]["error"]["type"].endswith("/upstream-timeout")
    assert outcomes["unsafe"]["error"]["type"].endswith("/outcome-unknown")
    assert outcomes["fine"]["status"] == 200
    assert watch.ran_s < 0.2 + 0.25 + 0.2  # PROMISES X12, and a slow machine


@pytest.mark.parametrize("fraction", [0.5, 1.5, 2])
async def test_seconds_of_a_timeout_may_be_a_fraction(plain: Gateway, fraction: float) -> None:
    answered = await post_batch(
        plain.port, {"operations": [{"method": "GET", "path": "/a", "timeoutSeconds": fraction}]}
    )

    assert answered.status == 207


async def test_halt_sends_nothing_after_the_first_failure(api: Api) -> None:
    api.on("/bad", answer(500))
    envelope = operations("/ok", "/bad", "/never", "/never") | {"onFailure": "halt"}

    async with gateway(api.url, batch__concurrency=1) as running:
        answered = await post_batch(running.port, envelope)

    document = answered.json()
    assert api.targets == ["/ok", "/bad"]
    assert [result["status"] for result in document["results"]] == [200, 500, 424, 424]
    assert document["results"][2]["error"]["type"] == "/batch/problems/halted"
    assert document["summary"] == {"total": 4, "succeeded": 1, "failed": 3}


async def test_continue_sends_everything_despite_failures(api: Api, plain: Gateway) -> None:
    api.on("/bad", answer(500))

    answered = await post_batch(plain.port, operations("/bad", "/ok") | {"onFailure": "continue"})

    assert [result["status"] for result in answered.json()["results"]] == [500, 200]


async def test_no_more_than_the_configured_number_of_operations_run_at_once(api: Api) -> None:
    running_now = peak = 0
    reached = asyncio.Event()

    async def count(talk: Talk) -> None:
        nonlocal running_now, peak
        running_now += 1
        peak = max(peak, running_now)
        if running_now == 10:
            reached.set()
        await reached.wait()
        running_now -= 1
        await talk.send(answer(200))

    api.on("/x", count)

    async with gateway(api.url) as started:
        answered = await post_batch(started.port, operations(*["/x"] * 40))

    assert answered.json()["summary"]["succeeded"] == 40
    assert peak == 10


async def test_the_first_401_stops_the_rest_of_a_batch(api: Api) -> None:
    api.on("/login", answer(401))

    async with gateway(api.url, batch__concurrency=1) as running:
        answered = await post_batch(running.port, operations(*["/login"] * 20))

    assert len(api.received) == 1
    assert [result["status"] for result in answered.json()["results"]] == [401] * 20


async def test_an_answer_above_the_cap_is_said_to_have_run(api: Api) -> None:
    api.on("/big", answer(200, b"x" * 5000, ("Content-Type", "text/plain")))

    async with gateway(api.url, upstream__answer_max="4KiB") as running:
        answered = await post_batch(running.port, operations("/big", "/ok"))

    first, second = answered.json()["results"]
    assert (first["status"], first["error"]["executed"]) == (502, True)
    assert first["error"]["type"] == "/batch/problems/upstream-response-too-large"
    assert second["status"] == 200


async def test_answers_above_the_batchs_budget_are_507_and_keep_the_upstreams_status(api: Api) -> None:
    api.on("/big", answer(200, b"x" * 3000, ("Content-Type", "text/plain")))

    async with gateway(api.url, batch__answer_max="4KiB") as running:
        answered = await post_batch(running.port, operations("/big", "/big"))

    assert sorted(result["status"] for result in answered.json()["results"]) == [200, 507]
    refused = next(result["error"] for result in answered.json()["results"] if result["status"] == 507)
    assert refused["type"] == "/batch/problems/response-budget-exceeded"
    assert refused["upstreamStatus"] == 200


async def test_a_malformed_answer_is_a_502_that_ran(api: Api, plain: Gateway) -> None:
    api.on("/x", b"HTTP/1.1 2000 ?\r\n\r\n")

    result, _ = await result_of(plain, "/x")

    assert (result["status"], result["error"]["executed"]) == (502, True)
    assert result["error"]["type"] == "/batch/problems/upstream-malformed"


async def test_an_upstream_that_is_down_is_a_502_for_each_operation(api: Api) -> None:
    async with gateway("http://127.0.0.1:1") as running:
        answered = await post_batch(running.port, operations("/a", "/b"))

    assert [result["status"] for result in answered.json()["results"]] == [502, 502]
    assert answered.json()["results"][0]["error"]["type"] == "/batch/problems/upstream-connect"
    assert answered.json()["results"][0]["error"]["retryable"] is True


# The other forms.


async def test_ndjson_streams_each_result_as_it_finishes_and_the_summary_last(api: Api, plain: Gateway) -> None:
    released = asyncio.Event()

    api.on("/slow", after(released, answer(200, b'{\n "slow" : true\r\n}')))
    body = json.dumps(operations("/slow", "/quick")).encode()
    fields = [("Content-Type", "application/json"), ("Accept", "application/x-ndjson")]

    async with await Wire.open(plain.port) as wire:
        await wire.send(request("POST", "/batch", fields, body))
        head = await wire.head()
        first = await wire.chunk()
        released.set()
        rest = [await wire.chunk(), await wire.chunk(), await wire.chunk()]

    assert head.status == 207
    assert head.header("Content-Type") == "application/x-ndjson"
    assert json.loads(first)["id"] == "1"
    assert json.loads(rest[0]) == json.loads(rest[0]) | {"id": "0", "status": 200, "result": {"slow": True}}
    assert rest[0].count(b"\n") == 1
    assert json.loads(rest[1]) == {"summary": {"total": 2, "succeeded": 2, "failed": 0}}
    assert rest[2] == b""


async def test_xml_is_a_multistatus_with_a_status_for_each_operation(api: Api, plain: Gateway) -> None:
    api.on("/made", answer(201, b"", ("Location", "/made/1?a=1&b=2")))
    api.on("/bad", b"garbage\r\n\r\n")
    envelope = {"operations": [{"id": id_, "method": "GET", "path": f"/{id_}"} for id_ in ("made", "bad")]}

    answered = await post_batch(plain.port, envelope, ("Accept", "application/xml"))

    root = Xml.fromstring(answered.body)
    statuses = [status.text for status in root.iter("{DAV:}status")]
    assert answered.header("Content-Type") == 'application/xml; charset="utf-8"'
    assert root.tag == "{DAV:}multistatus"
    assert statuses == ["HTTP/1.1 201 Created", "HTTP/1.1 502 Bad Gateway"]
    assert [href.text for href in root.iter("{DAV:}href")] == [
        "/batch?operation=made",
        "/made/1?a=1&b=2",
        "/batch?operation=bad",
    ]
    assert root.find("{DAV:}response/{DAV:}error/upstream-malformed") is not None


@pytest.mark.parametrize(
    ("accept", "form"),
    [
        ((), "application/json"),
        (("*/*",), "application/json"),
        (("application/*",), "application/json"),
        (("text/html, application/json;q=0.5",), "application/json"),
        (("application/xml;q=0.5, application/x-ndjson;q=0.9",), "application/x-ndjson"),
        (("application/json;q=0, */*;q=0.1",), "application/x-ndjson"),
        (("text/xml",), "text/xml"),
        (("text/plain", "application/xml"), "application/xml"),
        (("APPLICATION/JSON ; q=1.0",), "application/json"),
        (("application/json, text/plain, */*",), "application/json"),
    ],
)
async def test_accept_chooses_the_form(plain: Gateway, accept: tuple[str, ...], form: str) -> None:
    answered = await post_batch(plain.port, operations("/a"), *(("Accept", value) for value in accept))

    assert answered.status == 207
    assert (answered.header("Content-Type") or "").partition(";")[0] == form


async def test_several_batches_on_one_connection_do_not_mix(plain: Gateway) -> None:
    envelopes = [json.dumps(operations(f"/{number}")).encode() for number in range(5)]
    async with await Wire.open(plain.port) as wire:
        for envelope in envelopes:  # pipelined
            await wire.send(request("POST", "/batch", [("Content-Type", "application/json")], envelope))
        answers: list[Answer] = [await wire.answer() for _ in envelopes]

    assert [each.json()["results"][0]["result"]["target"] for each in answers] == ["/0", "/1", "/2", "/3", "/4"]
