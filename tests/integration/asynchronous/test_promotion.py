"""A batch that runs out of time in place goes on in the background; and watchers are told of progress and the end."""

import json
from pathlib import Path

from tests.integration.asynchronous.calls import Hold, ended, envelope, keeping, results, submit
from tests.integration.server.api import Api
from tests.integration.server.gateways import Gateway
from tests.integration.server.wire import get, post_batch


async def test_what_is_left_after_the_wait_runs_later_and_nothing_runs_twice(api: Api, tmp_path: Path) -> None:
    api.on("/items/0", hold := Hold())

    async with keeping(api.url, tmp_path, batch__concurrency=1, batch__sync_timeout="300ms") as running:
        answered = await post_batch(running.port, envelope(5, method="POST"))
        hold.released.set()
        final = await ended(running.port, answered.json()["batchId"])
        found = await results(running.port, answered.json()["batchId"])

    assert (answered.status, answered.json()["total"]) == (202, 5)
    assert (final["succeeded"], final["unknown"]) == (4, 1)
    assert [each["status"] for each in found] == [504, 200, 200, 200, 200]
    assert api.targets == [f"/items/{index}" for index in range(5)]


async def test_a_watcher_sees_the_end_and_is_sent_away_when_it_comes_back(api: Api, plain: Gateway) -> None:
    batch_id = await submit(plain.port, envelope(3))
    await ended(plain.port, batch_id)

    first = await get(plain.port, f"/batch/{batch_id}/events")
    fields = dict(line.split(": ", 1) for line in first.body.decode().splitlines() if ": " in line)
    again = await get(plain.port, f"/batch/{batch_id}/events", ("Last-Event-ID", fields["id"]))

    assert first.header("Content-Type") == "text/event-stream"
    assert (fields["event"], json.loads(fields["data"])["status"]) == ("ended", "completed")
    assert again.status == 204
