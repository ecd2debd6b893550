"""PROMISES X1: what comes through a batch is what comes directly, by the word of another HTTP client."""

import asyncio
import base64
import http.client
from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec
import pytest

from gateway.upstream.headers import canonical
from tests.integration.differential.generated import Asked, answer_by_hash, asked
from tests.integration.server.api import Api
from tests.integration.server.gateways import gateway
from tests.integration.server.wire import post_batch

OPERATIONS = 2000
BATCH = 100
HOP_BY_HOP = {"connection", "transfer-encoding", "keep-alive"}

Headers = dict[str, str | list[str]]


class Seen(NamedTuple):
    """What a caller sees of an answer."""

    status: int
    headers: Headers
    body: bytes


class _Error(msgspec.Struct):
    body: msgspec.Raw = msgspec.Raw(b"")
    encoding: str | None = None
    origin: str | None = None


class _Result(msgspec.Struct):
    id: str
    status: int
    headers: Headers
    result: msgspec.Raw = msgspec.Raw(b"")
    encoding: str | None = None
    error: _Error | None = None


class _Document(msgspec.Struct):
    results: list[_Result]
    summary: dict[str, int]


@pytest.mark.parametrize("pipelining", [1, 8])
async def test_two_thousand_operations_end_as_they_do_directly(pipelining: int) -> None:
    async with Api(answer_by_hash) as api, gateway(api.url, upstream__pipelining=pipelining) as running:
        first = 0 if pipelining == 1 else OPERATIONS
        requests = [asked(seed) for seed in range(first, first + OPERATIONS // pipelining)]
        batched: list[Seen] = []
        for at in range(0, len(requests), BATCH):
            batched += await through_batch(running.port, requests[at : at + BATCH])
        direct = await asyncio.to_thread(directly, api.port, requests)

    differing = [
        (request, ours, theirs)
        for request, ours, theirs in zip(requests, batched, direct, strict=True)
        if ours != theirs
    ]
    assert differing == []


async def through_batch(port: int, requests: Sequence[Asked]) -> list[Seen]:
    answered = await post_batch(port, b"[" + b",".join(request.wire for request in requests) + b"]")
    assert answered.status == 207, answered.body
    document = msgspec.json.decode(answered.body, type=_Document)
    failed = sum(result.status >= 400 for result in document.results)
    assert document.summary["failed"] == failed
    return [_seen(result) for result in document.results]


def directly(port: int, requests: Sequence[Asked]) -> list[Seen]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        return [_exchange(connection, request) for request in requests]
    finally:
        connection.close()


def _exchange(connection: http.client.HTTPConnection, request: Asked) -> Seen:
    connection.putrequest(request.method, request.target, skip_accept_encoding=True)
    for name, value in request.fields:
        connection.putheader(name, value)
    if request.body is not None:
        connection.putheader("Content-Length", str(len(request.body)))
    connection.endheaders(request.body)
    answer = connection.getresponse()
    headers: Headers = {}
    for name, value in answer.getheaders():
        if name.lower() not in HOP_BY_HOP:
            _add(headers, canonical(name), value)
    return Seen(answer.status, headers, answer.read().strip(b" \t\r\n"))


def _add(headers: Headers, name: str, value: str) -> None:
    earlier = headers.get(name)
    match earlier:
        case None:
            headers[name] = value
        case str():
            headers[name] = [earlier, value]
        case list():
            headers[name] = [*earlier, value]


def _seen(result: _Result) -> Seen:
    assert result.error is None or result.error.origin == "upstream", result
    holder: Any = result if result.error is None else result.error
    raw = result.result if result.error is None else result.error.body
    return Seen(result.status, result.headers, _bytes(raw, holder.encoding).strip(b" \t\r\n"))


def _bytes(raw: msgspec.Raw, encoding: str | None) -> bytes:
    """An embedded body as the bytes that the upstream sent, but for white space around JSON."""
    if encoding is None:
        return bytes(raw)
    text = msgspec.json.decode(raw, type=str)
    return text.encode() if encoding == "text" else base64.b64decode(text)
