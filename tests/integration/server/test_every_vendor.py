"""What holds for every vendor's dialect alike: it is there where it is configured and as large as that says, reads its
envelopes in whatever pieces they come, and its refusals name the request."""

import json
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.integration.asynchronous.calls import ALICE, keeping
from tests.integration.server.api import Api
from tests.integration.server.gateways import Gateway
from tests.integration.server.wire import Answer, Wire, get, post, request

_JSON = ("Content-Type", "application/json")
_BOUND = "multipart/%s; boundary=b"


class Vendor(NamedTuple):
    """One dialect: where its envelopes go unless configured, elsewhere, and at most two calls in one; an envelope of so
    many calls; the status of one too many; the field with the id of a request, and whether errors hold it."""

    path: str
    elsewhere: str
    moved: str
    few: str
    content_type: str
    envelope: Callable[[int], bytes]
    too_many: int
    id_field: str = "X-Request-Id"
    id_in_body: bool = True


def _google(count: int) -> bytes:
    return b"--b\nContent-Type: application/http\n\nGET /a HTTP/1.1\n\n\n" * count + b"--b--\n"


def _facebook(count: int) -> bytes:
    return json.dumps({"batch": [{"method": "GET", "relative_url": "a"}] * count, "access_token": "T"}).encode()


def _graph(count: int) -> bytes:
    requests = [{"id": str(number), "method": "GET", "url": "/a"} for number in range(count)]
    return json.dumps({"requests": requests}).encode()


def _anthropic(count: int) -> bytes:
    return json.dumps({"requests": [{"custom_id": str(number), "params": {}} for number in range(count)]}).encode()


def _openai(count: int) -> bytes:
    """A file: what makes it a batch is another call. It is too large, not too many."""
    line = b'{"custom_id":"a","method":"POST","url":"/v1/x","body":{}}\n'
    part = b'--b\r\nContent-Disposition: form-data; name="%b"\r\n\r\n%b\r\n'
    return part % (b'file"; filename="f', line * count) + part % (b"purpose", b"batch") + b"--b--\r\n"


_VENDORS = {
    "google": Vendor(
        "/batch/x", "/g/x", "path: /g", "operations_max: 2", _BOUND % "mixed", _google, 413, id_in_body=False
    ),
    "facebook": Vendor("/v26.0/", "/v27.0/", "operations_max: 50", "operations_max: 2", _JSON[1], _facebook, 400),
    "graph": Vendor("/v1.0/$batch", "/v1.0/$b", "path: /$b", "operations_max: 2", _JSON[1], _graph, 400),
    "anthropic": Vendor(
        "/v1/messages/batches", "/b", "path: /b", "operations_max: 2", _JSON[1], _anthropic, 413, "request-id"
    ),
    "openai": Vendor(
        "/v1/files", "/o/files", "base: /o", "file_max: 150B", _BOUND % "form-data", _openai, 413, "x-request-id", False
    ),
}  # fmt: skip


@pytest.fixture(params=_VENDORS)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def vendor(name: str) -> Vendor:
    return _VENDORS[name]


@pytest.fixture
async def api() -> AsyncIterator[Api]:
    async with Api() as running:
        yield running


@asynccontextmanager
async def speaking(api: Api, folder: Path, name: str, section: str = "", **flags: object) -> AsyncIterator[Gateway]:
    async with keeping(api.url, folder, f"dialects: {{{name}: {{{section}}}}}", **flags) as running:
        yield running


async def send(running: Gateway, vendor: Vendor, path: str, count: int, *fields: tuple[str, str]) -> Answer:
    return await post(running.port, path, vendor.envelope(count), ("Content-Type", vendor.content_type), ALICE, *fields)


def is_the_apis(answered: Answer) -> bool:
    """Whether it passed through: every answer of the gateway's own may not be stored."""
    return answered.status == 200 and answered.header("Cache-Control") is None


async def test_a_dialect_is_there_where_it_is_configured_and_nowhere_else(
    api: Api, tmp_path: Path, name: str, vendor: Vendor
) -> None:
    async with keeping(api.url, tmp_path, "batch: {path: /own}") as without:
        passed = await send(without, vendor, vendor.path, 1)
    async with speaking(api, tmp_path, name, batch__path="/own") as running:
        spoken = await send(running, vendor, vendor.path, 1)
    async with speaking(api, tmp_path, name, vendor.moved, batch__path="/own") as running:
        moved = await send(running, vendor, vendor.elsewhere, 1)
        left = await send(running, vendor, vendor.path, 1)

    assert is_the_apis(passed)
    assert [each.status for each in (spoken, moved)] == [200, 200]
    assert not any(map(is_the_apis, (spoken, moved)))
    assert is_the_apis(left) is (name != "facebook")  # whose clients have no path to be configured


async def test_a_dialect_takes_no_more_than_is_configured(api: Api, tmp_path: Path, name: str, vendor: Vendor) -> None:
    async with speaking(api, tmp_path, name, vendor.few) as running:
        refused = await send(running, vendor, vendor.path, 3)
        before = len(api.received)
        taken = await send(running, vendor, vendor.path, 2)

    assert (refused.status, before) == (vendor.too_many, 0)
    assert refused.header("X-Gateway-Error") is not None
    assert taken.status == 200


@pytest.mark.parametrize("size", [1, 7, 1000])
async def test_an_envelope_is_the_same_in_whatever_pieces_it_comes(
    api: Api, tmp_path: Path, name: str, vendor: Vendor, size: int
) -> None:
    body = vendor.envelope(2)
    fields = [("Content-Type", vendor.content_type), ALICE]
    async with speaking(api, tmp_path, name) as running, await Wire.open(running.port) as wire:
        whole = await send(running, vendor, vendor.path, 2)
        await wire.send(request("POST", vendor.path, [*fields, ("Transfer-Encoding", "chunked")]))
        for start in range(0, len(body), size):
            piece = body[start : start + size]
            await wire.send(b"%x\r\n%b\r\n" % (len(piece), piece))
        await wire.send(b"0\r\n\r\n")
        in_pieces = await wire.answer("POST")

    assert (in_pieces.status, without_what_is_made_up(in_pieces.body)) == (200, without_what_is_made_up(whole.body))


def without_what_is_made_up(body: bytes) -> bytes:
    """Without boundaries, ids and times."""
    return re.sub(rb"[a-z2-7]{40}|(?<=--)batch_\w+|_at\": ?(\d+|\"[^\"]+\")", b"", body)


async def test_a_refusal_has_the_request_s_own_id(api: Api, tmp_path: Path, name: str, vendor: Vendor) -> None:
    async with speaking(api, tmp_path, name) as running:
        refused = await post(
            running.port, vendor.path, b'{"batch":"', ("Content-Type", vendor.content_type), ("X-Request-Id", "mine-7")
        )

    assert 400 <= refused.status < 500
    assert refused.headers(vendor.id_field) == ["mine-7"]
    assert (b'"mine-7"' in refused.body) is vendor.id_in_body


async def test_a_refusal_of_a_request_without_an_id_has_that_of_the_log(
    api: Api, tmp_path: Path, name: str, vendor: Vendor, capfd: pytest.CaptureFixture[str]
) -> None:
    async with speaking(api, tmp_path, name, vendor.few, log__access=True, log__format="json") as running:
        refused = await send(running, vendor, vendor.path, 3, ("X-Request-Id", "no id"))
    logged = [json.loads(line) for line in capfd.readouterr().err.splitlines()]

    id_ = refused.header(vendor.id_field) or ""
    assert re.fullmatch("[0-9a-f]{32}", id_)
    assert (id_.encode() in refused.body) is vendor.id_in_body
    told = [line["batch_id"] for line in logged if line["event"] == "refused"]
    assert told == ([] if name == "openai" else [id_])  # an upload is no envelope


async def test_a_refusal_of_a_batch_on_record_has_an_id_as_well(api: Api, tmp_path: Path) -> None:
    for name, path in (
        ("anthropic", "/v1/messages/batches/msgbatch_x"),
        ("openai", "/v1/batches/batch_x"),
        ("graph", "/$batch/monitors/x"),
    ):
        async with speaking(api, tmp_path, name) as running:
            refused = await get(running.port, path, ALICE, ("X-Request-Id", "mine-7"))

        assert refused.status == 404
        assert refused.headers(_VENDORS[name].id_field) == ["mine-7"]
