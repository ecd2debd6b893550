"""Results of a batch on record: order, forms, pages, what never ran, and what is not there yet or any more."""

import csv
import gzip
import io
import json
import zlib
from pathlib import Path

import pytest

from tests.fakes.until import until
from tests.integration.asynchronous.calls import Hold, call, ended, envelope, failing, keeping, results, submit
from tests.integration.server.api import Api, answer
from tests.integration.server.gateways import Gateway
from tests.integration.server.wire import get, post


async def test_results_stand_in_the_order_of_the_operations(api: Api, tmp_path: Path) -> None:
    async with keeping(api.url, tmp_path, async__slice=7) as running:
        batch_id = await submit(running.port, envelope(200))
        await ended(running.port, batch_id)
        found = await results(running.port, batch_id)

    assert [each["id"] for each in found] == [f"op{index}" for index in range(200)]
    assert {each["status"] for each in found} == {200}


async def test_a_body_comes_back_byte_for_byte(api: Api, plain: Gateway) -> None:
    body = b'{"big": 18446744073709551616, "n":1e400,  "twice": 1, "twice": 2}'
    api.on("/items/0", answer(200, body, ("ETag", '"x"')))

    batch_id = await submit(plain.port, envelope(1))
    await ended(plain.port, batch_id)
    answered = await get(plain.port, f"/batch/{batch_id}/results")

    assert b'"result":' + body in answered.body
    assert answered.header("Content-Type") == "application/x-ndjson"


async def test_json_is_one_document(plain: Gateway) -> None:
    batch_id = await submit(plain.port, envelope(3))
    await ended(plain.port, batch_id)

    answered = await get(plain.port, f"/batch/{batch_id}/results?format=json")

    document = answered.json()
    assert answered.header("Content-Type") == "application/json"
    assert [each["id"] for each in document["results"]] == ["op0", "op1", "op2"]
    assert (document["hasMore"], document["next"]) == (False, None)


async def test_csv_has_a_row_each_and_no_live_formula(api: Api, plain: Gateway) -> None:
    api.on("/items/0", answer(200, b"=HYPERLINK(1)", ("Content-Type", "text/plain")))
    api.on("/items/1", failing(404))
    batch_id = await submit(plain.port, envelope(3))
    await ended(plain.port, batch_id)

    answered = await get(plain.port, f"/batch/{batch_id}/results?format=csv")

    rows = list(csv.reader(io.StringIO(answered.body.decode())))
    assert answered.header("Content-Type") == "text/csv; charset=utf-8"
    assert answered.header("Content-Disposition") == f'attachment; filename="{batch_id}.csv"'
    assert rows[0] == ["id", "status", "error", "result", "encoding"]
    assert rows[1] == ["op0", "200", "", "'=HYPERLINK(1)", "text"]
    assert rows[2] == ["op1", "404", "upstream-error", '{"wrong": true}', "json"]
    assert json.loads(rows[3][3])["target"] == "/items/2"


@pytest.mark.parametrize("form", ["ndjson", "json", "csv"])
async def test_results_are_compressed_for_who_asks(plain: Gateway, form: str) -> None:
    batch_id = await submit(plain.port, envelope(120))
    await ended(plain.port, batch_id)
    target = f"/batch/{batch_id}/results?format={form}"

    whole = await get(plain.port, target)
    small = await get(plain.port, target, ("Accept-Encoding", "br, gzip;q=0.5"))
    refused = await get(plain.port, target, ("Accept-Encoding", "gzip;q=0"))

    assert small.header("Content-Encoding") == "gzip"
    assert small.header("Vary") == "Accept-Encoding"
    assert gzip.decompress(small.body) == whole.body
    assert len(small.body) < len(whole.body) / 4
    assert (refused.header("Content-Encoding"), refused.body) == (None, whole.body)
    with pytest.raises(zlib.error):
        zlib.decompress(whole.body)


async def test_pages_follow_each_other_to_the_end(plain: Gateway) -> None:
    batch_id = await submit(plain.port, envelope(120))
    await ended(plain.port, batch_id)

    target: str | None = f"/batch/{batch_id}/results?limit=50"
    pages = []
    while target is not None:
        answered = await get(plain.port, target)
        pages.append([json.loads(line)["id"] for line in answered.body.splitlines()])
        link = answered.header("Link")
        target = None if link is None else link.partition(">")[0].removeprefix("<")

    assert [len(page) for page in pages] == [50, 50, 20]
    assert [each for page in pages for each in page] == [f"op{index}" for index in range(120)]


@pytest.mark.parametrize("query", ["after=-1", "after=x", "limit=0", "limit=1e3", "format=xml", "after=9999999999"])
async def test_a_cursor_that_is_none_is_refused(plain: Gateway, query: str) -> None:
    batch_id = await submit(plain.port, envelope(1))
    await ended(plain.port, batch_id)

    answered = await get(plain.port, f"/batch/{batch_id}/results?{query}")

    assert (answered.status, answered.slug) == (400, "bad-cursor")


async def test_behind_the_last_operation_there_is_nothing(plain: Gateway) -> None:
    batch_id = await submit(plain.port, envelope(2))
    await ended(plain.port, batch_id)

    assert await results(plain.port, batch_id, "?after=2") == []


async def test_results_are_not_ready_while_it_runs_unless_partial_ones_will_do(api: Api, plain: Gateway) -> None:
    api.on("/items/1", hold := Hold())
    batch_id = await submit(plain.port, envelope(3))

    async def two_are_done() -> bool:
        return len(await results(plain.port, batch_id, "?partial=true")) == 2

    refused = await get(plain.port, f"/batch/{batch_id}/results")
    await until(two_are_done)
    found = await results(plain.port, batch_id, "?partial=true")
    hold.released.set()

    assert (refused.status, refused.slug) == (409, "results-not-ready")
    assert (refused.header("Retry-After"), refused.header("x-should-retry")) == ("1", "false")
    assert [each["id"] for each in found] == ["op0", "op2"]


async def test_what_was_cancelled_has_an_outcome_under_its_own_id(api: Api, tmp_path: Path) -> None:
    api.on("/items/0", hold := Hold())

    async with keeping(api.url, tmp_path, batch__concurrency=1, async__slices=1) as running:
        batch_id = await submit(running.port, envelope(120))
        await api.until(1)
        await post(running.port, f"/batch/{batch_id}/cancel", b"")
        hold.released.set()
        final = await ended(running.port, batch_id)
        found = await results(running.port, batch_id)

    assert final["status"] == "cancelled"
    assert final["succeeded"] + final["cancelled"] == final["completed"] == 120
    assert [each["id"] for each in found] == [f"op{index}" for index in range(120)]
    assert found[0]["status"] == 200
    last = found[-1]
    assert (last["status"], last["error"]["type"]) == (409, "/batch/problems/cancelled")


async def test_what_is_not_sent_in_time_expires(api: Api, tmp_path: Path) -> None:
    async with keeping(api.url, tmp_path, async__expiry="1s") as running:
        batch_id = await submit(running.port, envelope(2, notBefore=0.5))
        await post(running.port, f"/batch/{batch_id}/pause", b"")
        final = await ended(running.port, batch_id)
        found = await results(running.port, batch_id)

    assert (final["status"], final["expired"], final["completed"]) == ("expired", 2, 2)
    assert [(each["id"], each["status"]) for each in found] == [("op0", 410), ("op1", 410)]
    assert found[1]["error"]["type"] == "/batch/problems/expired"
    assert api.received == []


async def test_results_are_gone_after_their_time_and_their_owner_is_told(api: Api, tmp_path: Path) -> None:
    async with keeping(api.url, tmp_path, async__retention="1s") as running:
        batch_id = await submit(running.port, envelope(1))
        await ended(running.port, batch_id)

        async def is_gone() -> bool:
            return (await get(running.port, f"/batch/{batch_id}/status")).status == 410

        await until(is_gone)
        told = [await get(running.port, f"/batch/{batch_id}{verb}") for verb in ("", "/status", "/results")]
        foreign = await get(running.port, f"/batch/{batch_id}", ("Authorization", "x"))

    assert {(each.status, each.slug) for each in told} == {(410, "results-expired")}
    assert (foreign.status, foreign.slug) == (404, "batch-not-found")


async def test_a_head_has_no_body(plain: Gateway) -> None:
    batch_id = await submit(plain.port, envelope(1))
    await ended(plain.port, batch_id)

    answered = await call(plain.port, "HEAD", f"/batch/{batch_id}/results")

    assert (answered.status, answered.body) == (200, b"")
