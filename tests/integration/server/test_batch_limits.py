"""Limits are exact at n-1, n and n+1 (PROMISES L1), and nothing of a refused envelope reaches the upstream (X5)."""

import json
import random
from typing import Any

import pytest

from tests.integration.server.api import Api
from tests.integration.server.gateways import Gateway, gateway
from tests.integration.server.wire import Answer, Wire, ask, post_batch, request

JSON = ("Content-Type", "application/json")


def gets(count: int) -> dict[str, Any]:
    return {"operations": [{"method": "GET", "path": "/x"}] * count}


@pytest.mark.parametrize(("count", "status"), [(99, 207), (100, 207), (101, 413), (1000, 413), (1001, 413)])
async def test_a_synchronous_batch_holds_up_to_100_operations(
    api: Api, plain: Gateway, count: int, status: int
) -> None:
    answered = await post_batch(plain.port, gets(count))

    assert answered.status == status
    assert len(api.received) == (count if status == 207 else 0)
    if status == 413:
        most = 100
        assert answered.slug == "too-many-operations"
        assert answered.json()["max"] == most
        assert answered.header("X-Limit-Operations") == str(most)


@pytest.mark.parametrize(("count", "status"), [(999, 207), (1000, 207), (1001, 413)])
async def test_an_envelope_holds_up_to_1000_operations(api: Api, count: int, status: int) -> None:
    async with gateway(api.url, batch__sync_operations_max=1000) as running:
        answered = await post_batch(running.port, gets(count))

    assert answered.status == status
    assert len(api.received) == (count if status == 207 else 0)


BODY_MAX = 64 * 1024


def envelope_of(size: int) -> bytes:
    head = b'{"operations":[{"method":"GET","path":"/x"}]'
    return head + b" " * (size - len(head) - 1) + b"}"


def in_chunks(body: bytes, size: int) -> bytes:
    pieces = [body[start : start + size] for start in range(0, len(body), size)]
    head = request("POST", "/batch", [JSON, ("Transfer-Encoding", "chunked")])
    return head + b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"


@pytest.mark.parametrize("chunk", [0, 1000, BODY_MAX + 1])
@pytest.mark.parametrize(("extra", "status"), [(-1, 207), (0, 207), (1, 413)])
async def test_an_envelope_holds_its_limit_of_bytes(api: Api, chunk: int, extra: int, status: int) -> None:
    body = envelope_of(BODY_MAX + extra)
    data = in_chunks(body, chunk) if chunk else request("POST", "/batch", [JSON], body)

    async with gateway(api.url, batch__body_max="64KiB", batch__operation_body_max="64KiB") as running:
        answered = await ask(running.port, data)

    assert answered.status == status
    if status == 413:
        assert answered.slug == "envelope-too-large"
        assert answered.header("X-Limit-Bytes") == str(BODY_MAX)
        assert answered.header("Connection") == "close"
        assert api.received == []


@pytest.mark.parametrize(("extra", "status"), [(0, 207), (1, 413)])
async def test_the_default_limit_is_10_mebibytes(plain: Gateway, extra: int, status: int) -> None:
    answered = await post_batch(plain.port, envelope_of((10 << 20) + extra))

    assert answered.status == status


async def test_a_length_above_the_limit_is_refused_before_the_body_is_read(plain: Gateway) -> None:
    async with await Wire.open(plain.port) as wire:
        await wire.send(request("POST", "/batch", [JSON, ("Content-Length", str((10 << 20) + 1))]))
        answered = await wire.answer()

    assert answered.status == 413
    assert answered.header("Connection") == "close"


async def test_an_endless_body_is_refused_soon_after_the_limit(plain: Gateway) -> None:
    piece = b"10000\r\n" + b" " * 65536 + b"\r\n"
    async with await Wire.open(plain.port) as wire:
        await wire.send(request("POST", "/batch", [JSON, ("Transfer-Encoding", "chunked")]))
        for _ in range(162):  # 10 MiB and 128 KiB
            await wire.send(piece)
        answered = await wire.answer()

    assert (answered.status, answered.slug) == (413, "envelope-too-large")


@pytest.mark.parametrize(("levels", "status"), [(31, 207), (32, 207), (33, 400), (100_000, 400)])
async def test_an_envelope_nests_32_levels_deep(api: Api, plain: Gateway, levels: int, status: int) -> None:
    inner = levels - 3  # the envelope, the array, the operation
    body = b"[" * inner + b"]" * inner

    answered = await post_batch(plain.port, b'{"operations":[{"method":"POST","path":"/x","body":' + body + b"}]}")

    assert answered.status == status
    if status == 400:
        assert (answered.slug, answered.json()["limit"]) == ("json-too-complex", "depth")
        assert api.received == []
    else:
        assert api.last.body == body


@pytest.mark.parametrize(("extra", "status"), [(-1, 207), (0, 207), (1, 422)])
async def test_an_operations_body_holds_one_mebibyte(api: Api, plain: Gateway, extra: int, status: int) -> None:
    text = "x" * ((1 << 20) + extra)
    operation = {"method": "POST", "path": "/x", "headers": {"Content-Type": "text/plain"}, "body": text}

    answered = await post_batch(plain.port, {"operations": [operation]})

    assert answered.status == status
    if status == 422:
        assert answered.json()["errors"][0]["pointer"] == "/operations/0/body"
        assert api.received == []


@pytest.mark.parametrize(("length", "status"), [(1, 207), (127, 207), (128, 207), (129, 422), (0, 422)])
async def test_an_id_has_up_to_128_characters(plain: Gateway, length: int, status: int) -> None:
    answered = await post_batch(plain.port, {"operations": [{"id": "i" * length, "method": "GET", "path": "/x"}]})

    assert answered.status == status
    if status == 422:
        assert answered.json()["errors"][0]["code"] == "id"


@pytest.mark.parametrize(("count", "status"), [(63, 207), (64, 207), (65, 422)])
async def test_an_operation_has_up_to_64_header_fields(api: Api, plain: Gateway, count: int, status: int) -> None:
    headers = {f"X-{number}": "v" for number in range(count)}

    answered = await post_batch(plain.port, {"operations": [{"method": "GET", "path": "/x", "headers": headers}]})

    assert answered.status == status
    assert len(api.received) == (status == 207)


@pytest.mark.parametrize(("extra", "status"), [(-1, 207), (0, 207), (1, 422)])
async def test_an_operation_has_up_to_16_kibibytes_of_headers(plain: Gateway, extra: int, status: int) -> None:
    headers = {"X-A": "v" * (16384 - 3 + extra)}

    answered = await post_batch(plain.port, {"operations": [{"method": "GET", "path": "/x", "headers": headers}]})

    assert answered.status == status


@pytest.mark.parametrize(("length", "status"), [(4095, 207), (4096, 207), (4097, 422)])
async def test_a_path_has_up_to_4096_bytes(plain: Gateway, length: int, status: int) -> None:
    answered = await post_batch(plain.port, {"operations": [{"method": "GET", "path": "/" + "a" * (length - 1)}]})

    assert answered.status == status


# Validation.

BAD: list[tuple[dict[str, Any], str, str]] = [
    ({"id": "a b"}, "id", "id"),
    ({"method": "BREW"}, "method", "method"),
    ({"method": "get"}, "method", "method"),
    ({"method": 7}, "method", "type"),
    ({"path": "users"}, "path", "path-ambiguous"),
    ({"path": ""}, "path", "missing"),
    ({"path": "/a/../b"}, "path", "path-ambiguous"),
    ({"path": "//evil.test/x"}, "path", "path-ambiguous"),
    ({"path": "http://evil.test/x"}, "path", "path-ambiguous"),
    ({"path": "/a%2fb"}, "path", "path-ambiguous"),
    ({"path": "/a\\b"}, "path", "path-ambiguous"),
    ({"path": "/a;b"}, "path", "path-ambiguous"),
    ({"path": "/a\r\nX: y"}, "path", "path-ambiguous"),
    ({"path": "/ä"}, "path", "path-ambiguous"),
    ({"path": "/batch"}, "path", "nested-batch"),
    ({"path": "/batch/problems/x?y"}, "path", "nested-batch"),
    ({"path": "/%62atch"}, "path", "nested-batch"),
    ({"headers": {"Host": "evil"}}, "headers", "header-not-allowed"),
    ({"headers": ["X: y"]}, "headers", "type"),
    ({"headers": {"X": 1}}, "headers", "type"),
    ({"method": "GET", "body": 1}, "body", "body-not-allowed"),
    ({"body": "%%%", "bodyEncoding": "base64"}, "body", "body-not-allowed"),
    ({"body": "x", "bodyEncoding": "rot13"}, "bodyEncoding", "type"),
    ({"timeoutSeconds": 0}, "timeoutSeconds", "timeout"),
    ({"timeoutSeconds": -1}, "timeoutSeconds", "timeout"),
    ({"timeoutSeconds": 1e300}, "timeoutSeconds", "timeout"),
    ({"pth": "/x"}, "pth", "unknown-member"),
]


@pytest.mark.parametrize(("wrong", "member", "code"), BAD)
async def test_a_wrong_member_is_reported_with_pointer_id_code_and_cure(
    api: Api, plain: Gateway, wrong: dict[str, Any], member: str, code: str
) -> None:
    good = {"method": "POST", "path": "/x"}

    answered = await post_batch(plain.port, {"operations": [good, good | wrong]})

    assert (answered.status, answered.slug) == (422, "validation-failed")
    assert [(error["pointer"], error["code"]) for error in answered.json()["errors"]] == [
        (f"/operations/1/{member}", code)
    ]
    assert answered.json()["errors"][0]["id"] == wrong.get("id", "1")
    assert answered.json()["errors"][0]["detail"]
    assert api.received == []


@pytest.mark.parametrize("seed", range(12))
async def test_every_spoilt_operation_is_reported_and_nothing_is_sent(api: Api, plain: Gateway, seed: int) -> None:
    chance = random.Random(seed)
    operations: list[dict[str, Any]] = [{"method": "POST", "path": f"/{number}"} for number in range(100)]
    spoilt = sorted(chance.sample(range(100), chance.randint(1, 50)))
    expected = []
    for index in spoilt:
        wrong, member, code = chance.choice(BAD)
        if "id" in wrong:
            wrong = {"id": f"a b{index}"}
        operations[index] |= wrong
        expected.append((f"/operations/{index}/{member}", code))

    answered = await post_batch(plain.port, {"operations": operations})

    assert answered.status == 422
    assert [(error["pointer"], error["code"]) for error in answered.json()["errors"]] == expected
    assert "truncated" not in answered.json()
    assert api.received == []


async def test_a_timeout_that_is_no_number_is_reported(plain: Gateway) -> None:
    answered = await post_batch(plain.port, {"operations": [{"method": "GET", "path": "/x", "timeoutSeconds": "5"}]})

    assert [error["pointer"] for error in answered.json()["errors"]] == ["/operations/0/timeoutSeconds"]


async def test_one_operation_wrong_in_every_member_is_reported_in_every_member(plain: Gateway) -> None:
    wrong = {"id": "", "method": "X", "path": "x", "headers": {"Via": "1"}, "body": 1, "timeoutSeconds": 0}

    answered = await post_batch(plain.port, {"operations": [wrong]})

    members = {error["pointer"].rpartition("/")[2] for error in answered.json()["errors"]}
    assert members == {"id", "method", "path", "headers", "timeoutSeconds"}


async def test_at_most_100_violations_are_listed_and_the_rest_is_said_to_exist(plain: Gateway) -> None:
    answered = await post_batch(plain.port, {"operations": [{"method": "BREW", "path": "x"}] * 100})

    assert len(answered.json()["errors"]) == 100
    assert answered.json()["truncated"] is True


async def test_the_second_of_two_equal_ids_is_the_wrong_one(plain: Gateway) -> None:
    operations = [{"id": "1", "method": "GET", "path": "/x"}, {"method": "GET", "path": "/x"}]

    answered = await post_batch(plain.port, {"operations": operations})

    assert [(error["pointer"], error["code"]) for error in answered.json()["errors"]] == [("/operations/1/id", "id")]


@pytest.mark.parametrize(
    ("envelope", "pointer"),
    [
        ({"operations": []}, "/operations"),
        ([], ""),
        ({}, "/operations"),
        ({"operations": {}}, "/operations"),
        ({"operations": None}, "/operations"),
        ({"operations": [1]}, "/operations/0"),
        ([None], "/0"),
        ({"operations": [{"method": "GET", "path": "/x"}], "onFailure": "explode"}, "/onFailure"),
        ({"operations": [{"method": "GET", "path": "/x"}], "defaults": 1}, "/defaults"),
        ({"operations": [{"method": "GET", "path": "/x"}], "defaults": {"method": 1}}, "/defaults/method"),
        ({"operations": [{"method": "GET", "path": "/x"}], "default": {}}, "/default"),
        ([{"method": "GET", "path": "x"}], "/0/path"),
        ("text", "/operations"),
        (7, "/operations"),
    ],
)
async def test_a_wrong_envelope_is_pointed_at(api: Api, plain: Gateway, envelope: object, pointer: str) -> None:
    answered = await post_batch(plain.port, envelope)

    assert (answered.status, answered.slug) == (422, "validation-failed")
    assert pointer in [error["pointer"] for error in answered.json()["errors"]]
    assert api.received == []


# Nothing echoes more than 64 escaped characters of input.

LONG = "\x1bäZ" * 500
ECHOING: list[tuple[str, Any]] = [
    ("method", {"operations": [{"method": LONG, "path": "/x"}]}),
    ("path", {"operations": [{"method": "GET", "path": LONG}]}),
    ("long good path", {"operations": [{"method": "GET", "path": "/batch/" + "Z" * 500}]}),
    ("member", {"operations": [{"method": "GET", "path": "/x", LONG: 1}]}),
    ("top member", {"operations": [{"method": "GET", "path": "/x"}], LONG: 1}),
    ("default", {"operations": [{"method": "GET", "path": "/x"}], "defaults": {LONG: 1}}),
    ("header name", {"operations": [{"method": "GET", "path": "/x", "headers": {LONG: "1"}}]}),
    ("good header name", {"operations": [{"method": "GET", "path": "/x", "headers": {"X-" + "Z" * 500: "ä"}}]}),
    ("header value", {"operations": [{"method": "GET", "path": "/x", "headers": {"Via": LONG}}]}),
    ("body", {"operations": [{"method": "GET", "path": "/x", "body": LONG}]}),
    ("base64", {"operations": [{"method": "POST", "path": "/x", "body": LONG, "bodyEncoding": "base64"}]}),
    ("encoding", {"operations": [{"method": "POST", "path": "/x", "body": "", "bodyEncoding": LONG}]}),
    ("onFailure", {"operations": [{"method": "GET", "path": "/x"}], "onFailure": LONG}),
]


def echoed(answered: Answer, character: str) -> int:
    """The most of one character of the input that any text of the document holds."""

    def texts(value: object) -> list[str]:
        if isinstance(value, dict):
            return [text for pair in value.items() for each in pair for text in texts(each)]
        return [text for each in value for text in texts(each)] if isinstance(value, list) else [str(value)]

    return max(text.count(character) for text in texts(answered.json()))


@pytest.mark.parametrize(("where", "envelope"), ECHOING)
async def test_no_refusal_echoes_more_than_64_characters(plain: Gateway, where: str, envelope: object) -> None:
    answered = await post_batch(plain.port, envelope)

    assert answered.status == 422, where
    assert echoed(answered, "Z") <= 64
    assert len(answered.body) < 1500


async def test_an_id_that_is_too_long_is_not_repeated_whole(plain: Gateway) -> None:
    answered = await post_batch(plain.port, {"operations": [{"id": "Z" * 5000, "method": "GET", "path": "/x"}]})

    assert answered.status == 422
    assert echoed(answered, "Z") <= 64


async def test_a_duplicate_key_is_echoed_short(plain: Gateway) -> None:
    name = json.dumps("Z" * 500).encode()

    answered = await post_batch(
        plain.port,
        b'{"operations":[{"method":"GET","path":"/x","headers":{' + name + b':"1",' + name + b':"2"}}]}',
    )

    assert (answered.status, answered.slug) == (400, "duplicate-key")
    assert answered.json()["pointer"] == "/operations/0/headers"
    assert echoed(answered, "Z") <= 64


# JSON itself.


@pytest.mark.parametrize(
    ("body", "offset"),
    [
        (b"", 0),
        (b"   ", 0),
        (b"{", 1),
        (b'{"operations":[}', 15),
        (b'{"operations":[]} x', 18),
        (b"\xef\xbb\xbf{}", 0),
        ('{"operations":[]}'.encode("utf-16"), 0),
        (b'{"a":"\xff"}', 6),
        (b'{"a":"\xed\xa0\x80"}', 6),
        (b"NaN", 0),
        (b'{"operations":[{"method":"GET","path":"/x","timeoutSeconds":Infinity}]}', 60),
        (b"{'operations':[]}", 1),
        (b'{"operations":[],}', 17),
        (b'{"operations":[{"method":"POST","path":"/x","body":01}]}', 52),
        (b'{"operations":[{"method":"POST","path":"/x","body":"\t"}]}', 52),
        (b'{"operations":[{"method":7,"path":"/x"},{]}', 41),
    ],
)
async def test_broken_json_is_400_with_a_byte_offset(api: Api, plain: Gateway, body: bytes, offset: int) -> None:
    data = request("POST", "/batch", [JSON, *([] if body else [("Content-Length", "0")])], body)

    answered = await ask(plain.port, data)

    assert (answered.status, answered.slug) == (400, "invalid-json")
    assert abs(answered.json()["offset"] - offset) <= 1
    assert api.received == []


@pytest.mark.parametrize(
    ("body", "limit"),
    [
        (b'{"operations":[{"method":"POST","path":"/x","body":' + b"9" * 65 + b"}]}", "digits"),
        (b'{"operations":[{"method":"POST","path":"/x","body":[' + b"1," * 1_000_001 + b"1]}]}", "nodes"),
    ],
)
async def test_json_that_costs_too_much_is_refused_with_the_limit(plain: Gateway, body: bytes, limit: str) -> None:
    answered = await post_batch(plain.port, body)

    assert (answered.status, answered.slug, answered.json()["limit"]) == (400, "json-too-complex", limit)


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        (b'{"operations":[{"method":"GET","path":"/x"}],"operations":[]}', ""),
        (b'{"operations":[{"method":"GET","path":"/x","path":"/y"}]}', "/operations/0"),
        (b'[{"method":"GET","path":"/x","path":"/y"}]', "/0"),
        (b'{"operations":[{"method":"GET","path":"/x","headers":{"A":"1","A":"2"}}]}', "/operations/0/headers"),
        (b'{"operations":[{"method":"GET","path":"/x"}],"defaults":{"method":"GET","method":"PUT"}}', "/defaults"),
        (b'{"operations":[{"method":"GET","p\\u0061th":"/x","path":"/y"}]}', "/operations/0"),
    ],
)
async def test_a_member_named_twice_is_refused_with_its_place(
    api: Api, plain: Gateway, body: bytes, pointer: str
) -> None:
    answered = await post_batch(plain.port, body)

    assert (answered.status, answered.slug) in ((400, "duplicate-key"), (422, "validation-failed"))
    if answered.status == 400:
        assert answered.json()["pointer"] == pointer
    assert api.received == []
