"""A batch that runs out of time, and a caller who goes away (PROMISES X11, X12)."""

import asyncio
import json
import struct
from socket import SO_LINGER, SOL_SOCKET
from typing import Any

import pytest

from tests.fakes.machine import Stopwatch
from tests.fakes.until import pass_by, until
from tests.integration.server.api import Api, after, answer, hang
from tests.integration.server.gateways import gateway
from tests.integration.server.wire import Wire, get, post_batch, request

JSON = ("Content-Type", "application/json")


def batch(*operations: tuple[str, str]) -> dict[str, Any]:
    return {"operations": [{"method": method, "path": path} for method, path in operations]}


async def test_a_batch_out_of_time_is_408_and_hides_nothing_that_happened(api: Api) -> None:
    api.on("/hang", hang)
    envelope = batch(("GET", "/done"), ("POST", "/hang"), ("GET", "/hang"), ("GET", "/never"))

    async with gateway(api.url, batch__sync_timeout="400ms", batch__concurrency=2) as running:
        with Stopwatch() as watch:
            answered = await post_batch(running.port, envelope)

    document = answered.json()
    assert (answered.status, answered.slug) == (408, "batch-deadline")
    assert answered.header("x-should-retry") == "false"
    assert answered.header("Content-Type") == "application/problem+json"
    assert [result["status"] for result in document["results"]] == [200, 504, 504, 408]
    assert [result.get("error", {}).get("type", "").rpartition("/")[2] for result in document["results"]] == [
        "",
        "outcome-unknown",
        "upstream-timeout",
        "batch-deadline",
    ]
    assert document["summary"] == {"total": 4, "succeeded": 1, "failed": 3, "unknown": 1}
    assert "/never" not in api.targets
    assert watch.ran_s <= 0.4 + 0.25 + 0.1


async def test_a_stream_out_of_time_still_ends_with_its_summary(api: Api) -> None:
    api.on("/hang", hang)
    envelope = batch(("GET", "/hang"), ("GET", "/ok"))

    async with gateway(api.url, batch__sync_timeout="300ms") as running:
        answered = await post_batch(running.port, envelope, ("Accept", "application/x-ndjson"))

    lines = [json.loads(line) for line in answered.body.splitlines()]
    assert answered.status == 207
    assert [line.get("status") for line in lines] == [200, 504, None]
    assert lines[-1] == {"summary": {"total": 2, "succeeded": 1, "failed": 1}}


async def test_a_batch_that_ends_before_its_deadline_is_207_though_one_of_its_operations_timed_out(api: Api) -> None:
    api.on("/hang", hang)
    envelope = {"operations": [{"method": "GET", "path": "/hang", "timeoutSeconds": 0.1}]}

    async with gateway(api.url) as running:
        answered = await post_batch(running.port, envelope)

    assert answered.status == 207


@pytest.mark.parametrize("how", ["close", "reset"])
@pytest.mark.parametrize("accept", ["application/json", "application/x-ndjson"])
async def test_a_caller_who_goes_away_stops_the_sends_and_one_line_tells_what_was_on_its_way(
    api: Api, how: str, accept: str, capfd: pytest.CaptureFixture[str]
) -> None:
    release = asyncio.Event()

    api.on("/x", after(release, answer(200)))
    body = json.dumps(batch(*[("POST", "/x")] * 60)).encode()

    async with gateway(api.url, log__access=True, log__format="json") as running:
        async with await Wire.open(running.port) as wire:
            await wire.send(request("POST", "/batch", [JSON, ("Accept", accept)], body))
            await api.until(10)
            if how == "reset":
                wire.writer.get_extra_info("socket").setsockopt(SOL_SOCKET, SO_LINGER, struct.pack("ii", 1, 0))
        await aborted(running.admin_port)
        release.set()
        await strays(running.admin_port, 10)

    logged = [json.loads(line) for line in capfd.readouterr().err.splitlines()]
    told = [line["operations_total"] for line in logged if line["event"] == "stray"]
    assert len(api.received) == 10
    assert told == [10]


@pytest.mark.parametrize("key", [{}, {"idempotencyKey": "k"}])
@pytest.mark.parametrize("accept", ["application/json", "application/x-ndjson"])
async def test_what_had_ended_when_its_caller_went_away_is_told_as_well(
    api: Api, accept: str, key: dict[str, str]
) -> None:
    release = asyncio.Event()
    api.on("/x", after(release, answer(200)))
    document = {"operations": [{"method": "POST", "path": "/now"} | key, {"method": "POST", "path": "/x"}]}

    async with gateway(api.url) as running:
        async with await Wire.open(running.port) as wire:
            fields = [JSON, ("Accept", accept)]
            await wire.send(request("POST", "/batch", fields, json.dumps(document).encode()))
            await api.until(2)
            await pass_by(0.2)  # the first is answered
        await aborted(running.admin_port)
        release.set()
        await strays(running.admin_port, 2)


async def test_an_upload_that_breaks_off_leaves_nothing_behind(api: Api, capfd: pytest.CaptureFixture[str]) -> None:
    async with gateway(api.url) as running:
        async with await Wire.open(running.port) as wire:
            await wire.send(request("POST", "/x", [("Content-Length", "1000000")]) + b"x" * 100_000)
            await api.until(1)
        answered = await get(running.port, "/y")

    assert answered.status == 200
    assert "never retrieved" not in capfd.readouterr().err


async def metric(admin_port: int, line: str) -> float:
    """The value of one series, 0 where it is not there yet."""
    text = (await get(admin_port, "/metrics")).body.decode()
    found = [each.rpartition(" ")[2] for each in text.splitlines() if each.startswith(line)]
    return sum(map(float, found))


async def aborted(admin_port: int) -> None:
    async def is_counted() -> bool:
        series = 'batch_gateway_envelopes_total{dialect="native",mode="sync",outcome="aborted"}'
        return await metric(admin_port, series) > 0

    await until(is_counted, within_s=1)  # PROMISES X11


async def strays(admin_port: int, count: int) -> None:
    """Every operation that was sent has an outcome on record."""

    async def are_counted() -> bool:
        return await metric(admin_port, "batch_gateway_operations_total") >= count

    await until(are_counted)
