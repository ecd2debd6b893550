"""Uploads of a vendor's clients: whole forms only, within their limits, and nothing left of what was refused."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.integration.asynchronous.calls import ALICE, BOB, keeping
from tests.integration.server.api import Api
from tests.integration.server.gateways import Gateway, gateway
from tests.integration.server.wire import Answer, get, post

_SPOKEN = "dialects: {openai: {file_max: 1KiB, files_max: 2}}"
_FORM = ("Content-Type", "multipart/form-data; boundary=b")
_FILE = b'--b\r\nContent-Disposition: form-data; name="file"; filename="in.jsonl"\r\n\r\n%b\r\n'
_PURPOSE = b'--b\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nbatch\r\n'
_END = b"--b--\r\n"


@pytest.fixture
async def spoken(api: Api, tmp_path: Path) -> AsyncIterator[Gateway]:
    async with keeping(api.url, tmp_path, _SPOKEN, async__files_room="3KiB") as running:
        yield running


async def _upload(running: Gateway, body: bytes, *fields: tuple[str, str]) -> Answer:
    return await post(running.port, "/v1/files", body, *(fields or (_FORM, ALICE)))


def _kept(folder: Path) -> list[str]:
    return sorted(path.suffix for path in (folder / "ledger.db.files").rglob("*") if path.is_file())


@pytest.mark.parametrize(
    ("form", "fields", "status"),
    [
        (_PURPOSE + _END, (), 400),
        (_FILE % b"x" + _PURPOSE, (), 400),
        (_FILE % b"x" + _END, (), 400),
        (_FILE % b"x" + _FILE % b"y" + _PURPOSE + _END, (), 400),
        (b"no form at all", (), 400),
        (b"", (), 400),
        (_FILE % b"x" + _PURPOSE + _END, (("Content-Type", "application/json"), ALICE), 400),
        (_FILE % (b"x" * 1025) + _PURPOSE + _END, (), 413),
        (_FILE % b"x" + _PURPOSE + _END + b" " * 200_000, (), 413),
    ],
    ids=[
        "no file",
        "no end",
        "no purpose",
        "two files",
        "no form",
        "nothing",
        "no boundary",
        "large",
        "large around it",
    ],
)
async def test_what_is_no_upload_is_refused_in_the_vendors_shape_and_leaves_nothing(
    spoken: Gateway, tmp_path: Path, form: bytes, fields: tuple[tuple[str, str], ...], status: int
) -> None:
    refused = await _upload(spoken, form, *fields)

    assert (refused.status, refused.header("Content-Type")) == (status, "application/json")
    assert refused.json()["error"]["type"] == "invalid_request_error"
    assert _kept(tmp_path) == []
    assert (await get(spoken.port, "/v1/files", ALICE)).json()["data"] == []


async def test_a_caller_has_so_many_files_and_all_so_much_room(spoken: Gateway, tmp_path: Path) -> None:
    whole = _FILE % (b"x" * 900) + _PURPOSE + _END

    first, second, third = [await _upload(spoken, whole) for _ in range(3)]
    foreign = await get(spoken.port, f"/v1/files/{first.json()['id']}", BOB)

    assert (first.status, second.status, third.status) == (200, 200, 400)
    assert "delete some" in third.json()["error"]["message"]
    assert foreign.status == 404
    assert _kept(tmp_path) == [".about", ".about", ".data", ".data"]


async def test_an_upload_for_which_there_is_no_room_is_a_503_and_leaves_nothing(api: Api, tmp_path: Path) -> None:
    async with keeping(api.url, tmp_path, _SPOKEN, async__files_room="20B") as running:
        refused = await _upload(running, _FILE % b"x" + _PURPOSE + _END)

    assert (refused.status, refused.header("Retry-After")) == (503, "5")
    assert refused.json()["error"]["code"] == "ledger_unavailable"
    assert _kept(tmp_path) == []


async def test_files_need_an_embedded_ledger_and_say_so(api: Api) -> None:
    settings = f"{_SPOKEN}\nasync: {{key: {{value: 0123456789abcdef}}}}"
    async with gateway(api.url, settings, async__ledger="redis://127.0.0.1:1") as running:
        refused = await _upload(running, _FILE % b"x" + _PURPOSE + _END)
        passed = await get(running.port, "/v1/models")

    assert (refused.status, refused.json()["error"]["code"]) == (400, "async_disabled")
    assert "sqlite" in refused.json()["error"]["message"]
    assert passed.status == 200
