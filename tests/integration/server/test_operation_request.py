"""What the upstream sees of an operation: its body as written, its headers, and what it inherits (CONTRACT 2)."""

import base64
import json
import re
from typing import Any

import pytest

from tests.integration.server.api import Api
from tests.integration.server.gateways import Gateway, gateway
from tests.integration.server.wire import post_batch, without_replica

POST = {"method": "POST", "path": "/x"}


def one(**members: Any) -> dict[str, Any]:
    return {"operations": [POST | members]}


async def sent(api: Api, plain: Gateway, envelope: object, *fields: tuple[str, str]) -> None:
    answered = await post_batch(plain.port, envelope, *fields)
    assert answered.status == 207, answered.body


@pytest.mark.parametrize(
    "text",
    [
        b'{"a":1}',
        b'{ "a" :\t1.0 ,\n "b" : [ ] }',
        b"123456789012345678901234567890",
        b"1e400",
        b"-0.00",
        b'{"a":1,"a":2}',
        b'"\\u00e9\\/\\ud83d\\ude00\\n"',
        '"ä"'.encode(),
        b"null",
        b"false",
        b'""',
    ],
)
async def test_a_json_body_goes_out_as_the_bytes_that_the_caller_wrote(api: Api, plain: Gateway, text: bytes) -> None:
    await sent(api, plain, b'{"operations":[{"method":"POST","path":"/x","body":' + text + b" }]}")

    assert api.last.body == text
    assert api.last.header("Content-Type") == "application/json"
    assert api.last.header("Content-Length") == str(len(text))


@pytest.mark.parametrize("media_type", ["application/json; charset=utf-8", "application/merge-patch+json"])
async def test_a_body_of_a_json_type_stays_json_text(api: Api, plain: Gateway, media_type: str) -> None:
    await sent(api, plain, one(headers={"content-type": media_type}, body="text"))

    assert api.last.body == b'"text"'
    assert api.last.header("Content-Type") == media_type


async def test_a_string_of_another_type_goes_out_as_its_text(api: Api, plain: Gateway) -> None:
    await sent(api, plain, one(headers={"Content-Type": "text/csv"}, body='a,"ä"\r\n'))

    assert api.last.body == 'a,"ä"\r\n'.encode()
    assert api.last.header("Content-Type") == "text/csv"


@pytest.mark.parametrize("headers", [{}, {"Content-Type": "image/png"}, {"Content-Type": "application/json"}])
async def test_base64_goes_out_as_its_bytes(api: Api, plain: Gateway, headers: dict[str, str]) -> None:
    body = bytes(range(256))

    await sent(api, plain, one(headers=headers, body=base64.b64encode(body).decode(), bodyEncoding="base64"))

    assert api.last.body == body
    assert api.last.header("Content-Type") == headers.get("Content-Type", "application/octet-stream")


@pytest.mark.parametrize(
    ("method", "length"), [("POST", "0"), ("PUT", "0"), ("PATCH", "0"), ("GET", None), ("DELETE", None)]
)
async def test_without_a_body_only_methods_that_expect_one_say_length_zero(
    api: Api, plain: Gateway, method: str, length: str | None
) -> None:
    await sent(api, plain, {"operations": [{"method": method, "path": "/x"}]})

    assert api.last.header("Content-Length") == length
    assert api.last.header("Content-Type") is None
    assert api.last.body == b""


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
async def test_each_of_the_seven_methods_is_sent_with_its_target_as_written(
    api: Api, plain: Gateway, method: str
) -> None:
    target = "/a%20b/(c)?q=%2F;'<>&x=[1]"

    await sent(api, plain, {"operations": [{"method": method, "path": target}]})

    assert (api.last.method, api.last.target, api.last.version) == (method, target, "HTTP/1.1")


INHERITED = {
    "Authorization": "Bearer t",
    "Cookie": "a=1; b=2",
    "Accept": "application/json",
    "Accept-Language": "de",
    "User-Agent": "test",
    "X-Api-Key": "k",
    "X-Custom": "v",
    "Origin": "https://a.test",
    "If-None-Match": '"1"',
    "Cache-Control": "no-cache",
}
NOT_INHERITED = {
    "Content-Encoding": "identity",
    "Content-Language": "de",
    "Content-MD5": "x",
    "Idempotency-Key": "k-1",
    "Prefer": "respond-async",
    "Connection": "keep-alive",
    "Keep-Alive": "timeout=5",
    "TE": "trailers",
    "Proxy-Authorization": "Basic x",
    "Upgrade": "h2c",
    "Forwarded": "for=1.2.3.4",
    "X-Forwarded-For": "1.2.3.4",
    "X-Forwarded-Proto": "https",
    "X-Forwarded-Host": "evil.test",
    "Via": "1.0 evil",
}


async def test_the_outer_requests_end_to_end_headers_are_inherited(api: Api, plain: Gateway) -> None:
    await sent(api, plain, {"operations": [{"method": "GET", "path": "/x"}]}, *INHERITED.items())

    assert {name: api.last.header(name) for name in INHERITED} == INHERITED
    assert api.last.header("Host") == "api.test"


async def test_what_is_about_the_envelope_or_the_connection_or_vouched_for_is_not_inherited(
    api: Api, plain: Gateway
) -> None:
    await sent(api, plain, {"operations": [{"method": "GET", "path": "/x"}]}, *NOT_INHERITED.items())

    ours = {
        "X-Forwarded-For": "127.0.0.1",
        "X-Forwarded-Proto": "http",
        "X-Forwarded-Host": "api.test",
        "Via": "1.1 batch-gateway",
    }
    seen = dict(without_replica(api.last.fields))
    assert {name: seen.get(name) for name in NOT_INHERITED} == dict.fromkeys(NOT_INHERITED) | ours


async def test_an_expected_continue_is_given_and_not_inherited(api: Api, plain: Gateway) -> None:
    answered = await post_batch(
        plain.port, {"operations": [{"method": "GET", "path": "/x"}]}, ("Expect", "100-continue")
    )

    assert [interim.status for interim in answered.interims] == [100]
    assert answered.status == 207
    assert api.last.header("Expect") is None


async def test_repeated_outer_headers_are_all_inherited_in_order(api: Api, plain: Gateway) -> None:
    await sent(api, plain, {"operations": [{"method": "GET", "path": "/x"}]}, ("X-A", "1"), ("x-a", "2"))

    assert [field for field in api.last.fields if field[0].lower() == "x-a"] == [("X-A", "1"), ("x-a", "2")]


async def test_an_operations_own_header_replaces_the_inherited_one(api: Api, plain: Gateway) -> None:
    own = {"X-Custom": "own", "accept": ["text/csv", "text/plain"], "If-Match": '"2"'}

    await sent(api, plain, {"operations": [{"method": "GET", "path": "/x", "headers": own}]}, *INHERITED.items())

    assert api.last.header("X-Custom") == "own"
    assert api.last.header("Accept") == "text/csv, text/plain"
    assert api.last.header("If-Match") == '"2"'
    assert api.last.header("Cookie") == INHERITED["Cookie"]


@pytest.mark.parametrize(
    ("name", "code"),
    [
        *[
            (name, "header-not-allowed")
            for name in (
                "Host", "host", "HOST", "Connection", "Keep-Alive", "TE", "Trailer", "Transfer-Encoding",
                "transfer-ENCODING", "Upgrade", "Proxy-Authorization", "Proxy-Connection", "X-Forwarded-For",
                "x-forwarded-for", "X-Forwarded-Proto", "X-Forwarded-Host", "X-Forwarded-Prefix", "X-Forwarded-Port",
                "Forwarded", "Via", "via", "Content-Length", "Expect", "X_Forwarded_For", "A B", "A:", "", "Ä", "A\r\n",
                "A\x00",
            )
        ],
        *[(name, "per-op-credentials") for name in ("Authorization", "authorization", "Cookie", "COOKIE")],
    ],
)  # fmt: skip
async def test_an_operation_cannot_set_what_the_gateway_vouches_for(
    api: Api, plain: Gateway, name: str, code: str
) -> None:
    in_operation = await post_batch(plain.port, one(headers={name: "x"}))
    in_defaults = await post_batch(plain.port, one() | {"defaults": {"headers": {name: "x"}}})

    assert [answered.status for answered in (in_operation, in_defaults)] == [422, 422]
    assert in_operation.json()["errors"][0]["code"] == code
    assert in_operation.json()["errors"][0]["pointer"] == "/operations/0/headers"
    assert in_defaults.json()["errors"][0]["code"] == code
    assert api.received == []


@pytest.mark.parametrize("value", ["a\r\nX-Evil: 1", "a\nb", "a\rb", "a\x00b", "a\x1bb", "a\x7fb", "ä", "\u2028"])
async def test_no_control_character_reaches_a_header(api: Api, plain: Gateway, value: str) -> None:
    answered = await post_batch(plain.port, one(headers={"X-A": value}))

    assert answered.status == 422
    assert answered.json()["errors"][0]["code"] == "header-not-allowed"
    assert api.received == []


async def test_operations_may_bring_credentials_where_the_configuration_says_so(api: Api) -> None:
    async with gateway(api.url, batch__operation_credentials=True) as running:
        answered = await post_batch(
            running.port, one(headers={"Authorization": "Bearer own"}), ("Authorization", "Bearer outer")
        )

    assert answered.status == 207
    assert [value for name, value in api.last.fields if name.lower() == "authorization"] == ["Bearer own"]


async def test_each_operation_carries_the_callers_trace_with_a_span_of_its_own(api: Api, plain: Gateway) -> None:
    trace, parent = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
    envelope = {"operations": [{"id": f"op{number}", "method": "GET", "path": "/x"} for number in range(3)]}

    await sent(api, plain, envelope, ("traceparent", f"00-{trace}-{parent}-01"), ("tracestate", "a=b"))

    parents = [received.header("traceparent") or "" for received in api.received]
    spans = {re.fullmatch(rf"00-{trace}-([0-9a-f]{{16}})-01", each)[1] for each in parents}  # type: ignore[index]
    assert len(spans) == 3
    assert parent not in spans
    assert {received.header("tracestate") for received in api.received} == {"a=b"}


@pytest.mark.parametrize(
    "said", ["", "00-" + "0" * 32 + "-b7ad6b7169203331-01", "ff-" + "a" * 32 + "-" + "b" * 16 + "-01", "x"]
)
async def test_without_a_good_trace_a_new_one_begins(api: Api, plain: Gateway, said: str) -> None:
    fields = [("traceparent", said)] if said else []

    await sent(api, plain, {"operations": [{"method": "GET", "path": "/x"}] * 2}, *fields)

    traces = {(received.header("traceparent") or "")[3:35] for received in api.received}
    assert len(traces) == 1
    assert re.fullmatch(r"(?!0{32})[0-9a-f]{32}", traces.pop())


async def test_each_operation_is_named_by_batch_and_operation(api: Api, plain: Gateway) -> None:
    envelope = {"operations": [{"id": id_, "method": "GET", "path": "/x"} for id_ in ("a", "b")]}

    await sent(api, plain, envelope, ("X-Request-Id", "outer-1"))

    ids = sorted((received.header("X-Request-Id") or "").split(".") for received in api.received)
    assert [operation for _, operation in ids] == ["a", "b"]
    assert len({batch for batch, _ in ids}) == 1
    assert re.fullmatch(r"[0-9a-f]{32}", ids[0][0])


async def test_the_answer_repeats_the_callers_request_id_where_it_is_a_plain_word(plain: Gateway) -> None:
    envelope = {"operations": [{"method": "GET", "path": "/x"}]}

    kept = await post_batch(plain.port, envelope, ("X-Request-Id", "outer-1"))
    made = await post_batch(plain.port, envelope, ("X-Request-Id", "<script>"))

    assert kept.header("X-Request-Id") == "outer-1"
    assert re.fullmatch(r"[0-9a-f]{32}", made.header("X-Request-Id") or "")


async def test_a_redirect_is_an_outcome_and_never_followed(api: Api, plain: Gateway) -> None:
    api.on("/x", b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n")

    answered = await post_batch(plain.port, json.dumps(one()).encode())

    assert answered.json()["results"][0]["status"] == 302
    assert len(api.received) == 1
