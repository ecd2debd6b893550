"""A batch that runs out of time in place goes on in the background; and watchers are told of progress and the end."""

import asyncio
import json
from pathlib import Path

from gateway.ledger.port import NewBatch, View
from tests.fakes.until import pass_by
from tests.integration.asynchronous.calls import Hold, ended, envelope, keeping, results, status, submit
from tests.integration.server.api import Api, answer
from tests.integration.server.gateways import Gateway
from tests.integration.server.wire import Wire, get, post, post_batch, request


async def test_what_is_left_after_the_wait_runs_later_and_nothing_runs_twice(api: Api, tmp_path: Path) -> None:
    api.on("/items/0", hold := Hold())

    async with keeping(api.url, tmp_path, batch__concurrency=1, batch__sync_timeout="300ms") as running:
        answered = await post_batch(running.port, envelope(5, method="POST"))
        hold.released.set()
        final = await ended(running.port, answered.json()["batchId"])
        found = await results(running.port, answered.json()["batchId"])

    assert (answered.status, answered.json()["total"]) == (202, 5)
    assert (final["succeeded"], final["unknown"]) == (5, 0)
    assert [each["status"] for each in found] == [200, 200, 200, 200, 200]
    assert api.targets == [f"/items/{index}" for index in range(5)]


LIMITED = "limits: [{name: all, key: global, rate: 1/h, burst: 6}]"


async def test_what_was_paid_for_in_place_is_not_paid_again_in_the_background(api: Api, tmp_path: Path) -> None:
    api.on("/items/0", hold := Hold())

    async with keeping(api.url, tmp_path, LIMITED, batch__concurrency=1, batch__sync_timeout="300ms") as running:
        answered = await post_batch(running.port, envelope(5, method="POST"))
        hold.released.set()
        final = await ended(running.port, answered.json()["batchId"])
        (limit,) = (await get(running.port, "/batch/limits")).json()["limits"]

    assert answered.status == 202
    assert final["succeeded"] == 5
    assert limit["remaining"] == 1


async def test_an_ordered_batch_goes_on_where_it_was_with_the_values_that_came(api: Api, tmp_path: Path) -> None:
    api.on("/users", answer(201, b'{"id":7}'))
    api.on("/slow", hold := Hold())
    operations = [
        {"id": "make", "method": "POST", "path": "/users", "body": {}},
        {"id": "slow", "method": "GET", "path": "/slow", "dependsOn": ["make"]},
        {"id": "read", "method": "GET", "path": "/users/{$ops.make.response.body#/id}", "dependsOn": ["slow"]},
        {"id": "other", "method": "POST", "path": "/slow", "dependsOn": ["make"]},
        {"id": "last", "method": "GET", "path": "/last", "dependsOn": ["other"]},
    ]

    async with keeping(api.url, tmp_path, batch__sync_timeout="300ms") as running:
        answered = await post_batch(running.port, {"operations": operations})
        hold.released.set()
        await ended(running.port, answered.json()["batchId"])
        found = await results(running.port, answered.json()["batchId"])

    assert answered.status == 202
    assert {each["id"]: each["status"] for each in found} == {
        "make": 201, "slow": 200, "read": 200, "other": 200, "last": 200,
    }  # fmt: skip
    assert sorted(api.targets) == ["/last", "/slow", "/slow", "/users", "/users/7"]
    assert [received.method for received in api.received].count("POST") == 2


async def test_what_was_halted_for_want_of_time_runs_later(api: Api, tmp_path: Path) -> None:
    api.on("/items/0", hold := Hold())

    async with keeping(api.url, tmp_path, batch__concurrency=1, batch__sync_timeout="300ms") as running:
        answered = await post_batch(running.port, envelope(3, onFailure="halt"))
        hold.released.set()
        final = await ended(running.port, answered.json()["batchId"])

    assert answered.status == 202
    assert (final["status"], final["succeeded"]) == ("completed", 3)


async def test_a_watcher_sees_the_end_and_is_sent_away_when_it_comes_back(api: Api, plain: Gateway) -> None:
    batch_id = await submit(plain.port, envelope(3))
    await ended(plain.port, batch_id)

    first = await get(plain.port, f"/batch/{batch_id}/events")
    fields = dict(line.split(": ", 1) for line in first.body.decode().splitlines() if ": " in line)
    again = await get(plain.port, f"/batch/{batch_id}/events", ("Last-Event-ID", fields["id"]))

    assert first.header("Content-Type") == "text/event-stream"
    assert (fields["event"], json.loads(fields["data"])["status"]) == ("ended", "completed")
    assert again.status == 204


async def test_who_would_wait_a_second_waits_no_longer_for_what_was_sent(api: Api, tmp_path: Path) -> None:
    api.on("/items/0", hold := Hold())

    async with keeping(api.url, tmp_path) as running:
        answered = await post(running.port, "/batch", envelope(2, method="POST"), ("Prefer", "wait=1"))
        during = await status(running.port, answered.json()["batchId"])
        hold.released.set()
        final = await ended(running.port, answered.json()["batchId"])

    assert (answered.status, answered.header("Preference-Applied")) == (202, "wait=1")
    assert (during["status"], during["completed"]) == ("processing", 1)
    assert (final["status"], final["succeeded"]) == ("completed", 2)
    assert sorted(api.targets) == ["/items/0", "/items/1"]


async def test_what_was_on_its_way_when_a_batch_was_promoted_ends_before_the_gateway(api: Api, tmp_path: Path) -> None:
    api.on("/items/0", hold := Hold())

    async with keeping(api.url, tmp_path, batch__sync_timeout="300ms") as running:
        answered = await post_batch(running.port, envelope(1, method="POST"))
        asyncio.get_running_loop().call_later(0.3, hold.released.set)
        in_time = await running.app.drain()
    async with keeping(api.url, tmp_path) as running:
        final = await ended(running.port, answered.json()["batchId"])

    assert in_time

    assert (final["status"], final["succeeded"]) == ("completed", 1)
    assert api.targets == ["/items/0"]


async def test_what_was_on_its_way_when_the_gateway_went_is_unknown_unless_it_may_be_repeated(
    api: Api, tmp_path: Path
) -> None:
    api.on("/items/0", Hold())
    operations = [{"method": "POST", "path": "/items/0"}, {"method": "GET", "path": "/items/0"}]

    async with keeping(api.url, tmp_path, batch__sync_timeout="300ms") as running:
        answered = await post_batch(running.port, {"operations": operations})
    api.on("/items/0", answer(200, b"{}"))
    async with keeping(api.url, tmp_path) as running:
        final = await ended(running.port, answered.json()["batchId"])

    assert (final["status"], final["succeeded"], final["unknown"]) == ("completed", 1, 1)
    assert sorted(received.method for received in api.received) == ["GET", "GET", "POST"]


async def test_a_batch_that_the_ledger_does_not_take_is_waited_for(api: Api, tmp_path: Path) -> None:
    api.on("/items/0", hold := Hold())

    async with keeping(api.url, tmp_path, batch__sync_timeout="300ms", async__unfinished_max=1) as running:
        await submit(running.port, envelope(1, path="/waiting", notBefore=3600))
        asyncio.get_running_loop().call_later(0.6, hold.released.set)
        answered = await post_batch(running.port, envelope(2, method="POST"))

    assert answered.status == 207
    assert answered.json()["summary"] == {"total": 2, "succeeded": 2, "failed": 0}


async def test_what_is_on_its_way_when_the_ledger_does_not_take_a_batch_is_all_waited_for(
    api: Api, tmp_path: Path
) -> None:
    holds = [Hold() for _ in range(3)]
    for index, hold in enumerate(holds):
        api.on(f"/items/{index}", hold)

    async with keeping(api.url, tmp_path, batch__sync_timeout="300ms", async__unfinished_max=1) as running:
        await submit(running.port, envelope(1, path="/waiting", notBefore=3600))
        for index, hold in enumerate(holds):
            asyncio.get_running_loop().call_later(0.6 + index / 5, hold.released.set)
        answered = await post_batch(running.port, envelope(3, method="POST"))

    assert answered.status == 207
    assert answered.json()["summary"] == {"total": 3, "succeeded": 3, "failed": 0}


async def test_what_a_caller_left_behind_as_its_batch_was_promoted_goes_on_record(api: Api, tmp_path: Path) -> None:
    api.on("/items/0", hold := Hold())
    accepted, told = asyncio.Event(), asyncio.Event()

    async with keeping(api.url, tmp_path, batch__sync_timeout="300ms") as running:
        ledger = running.app._lasting.keeping._ledger._ledger  # type: ignore[union-attr]
        accept = ledger.accept

        async def slow(batch: NewBatch) -> View:
            view = await accept(batch)
            accepted.set()
            await told.wait()
            return view

        ledger.accept = slow  # type: ignore[method-assign]
        async with await Wire.open(running.port) as wire:
            await wire.send(
                request("POST", "/batch", [("Content-Type", "application/json")], envelope(2, method="POST"))
            )
            await accepted.wait()
        await pass_by(0.2)  # the gateway hears that its caller has gone
        told.set()
        hold.released.set()
        (listed,) = (await get(running.port, "/batch")).json()["batches"]
        final = await ended(running.port, listed["batchId"])

    assert (final["status"], final["succeeded"], final["unknown"]) == ("completed", 2, 0)
    assert sorted(api.targets) == ["/items/0", "/items/1"]
