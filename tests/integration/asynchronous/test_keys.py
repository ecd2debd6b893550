"""Idempotency keys in batches on record: the same promise as in place (CONTRACT 3)."""

import json
import tempfile
from pathlib import Path
from typing import Any

from tests.contract.stores import running
from tests.integration.asynchronous.calls import ASYNC, Hold, ended, keeping, results
from tests.integration.server.api import Api, answer
from tests.integration.server.gateways import Gateway, gateway
from tests.integration.server.wire import post, post_batch

CREATED = answer(201, b'{"n": 18446744073709551616}', ("Location", "/users/7"))


def creates(*keys: str, **more: Any) -> bytes:
    return json.dumps(
        [
            {"id": key, "method": "POST", "path": f"/users/{key}", "body": 1, "idempotencyKey": key} | more
            for key in keys
        ]
    ).encode()


async def run(port: int, body: bytes) -> list[dict[str, Any]]:
    """The results of a batch on record."""
    accepted = await post(port, "/batch", body, ASYNC)
    assert accepted.status == 202, accepted
    await ended(port, accepted.json()["batchId"])
    return await results(port, accepted.json()["batchId"])


async def test_a_key_has_one_effect_whichever_way_its_batch_goes(api: Api, plain: Gateway) -> None:
    api.on("/users/a", CREATED)
    api.on("/users/b", CREATED)

    first = await run(plain.port, creates("a", "b"))
    second = await run(plain.port, creates("a", "b"))
    in_place = (await post_batch(plain.port, json.loads(creates("a", "b")))).json()["results"]

    assert sorted(api.targets) == ["/users/a", "/users/b"]
    assert [each.get("replayed") for each in first] == [None, None]
    assert second == in_place == [{**each, "replayed": True} for each in first]


async def test_on_a_ledger_in_redis_too(api: Api) -> None:
    with tempfile.TemporaryDirectory() as folder, running("redis", Path(folder)) as (_, url):
        async with gateway(api.url, async__ledger=url, async__key__value="one secret of all replicas") as shared:
            first = await run(shared.port, creates("a", "b"))
            second = await run(shared.port, creates("a", "b"))

    assert [each["status"] for each in first] == [200, 200]
    assert second == [{**each, "replayed": True} for each in first]
    assert sorted(api.targets) == ["/users/a", "/users/b"]


async def test_another_request_under_the_key_is_422_on_record_too(api: Api, plain: Gateway) -> None:
    await run(plain.port, creates("a"))

    (refused,) = await run(plain.port, creates("a", body=2))

    assert (refused["status"], refused["error"]["type"]) == (422, "/batch/problems/idempotency-key-reused")
    assert len(api.received) == 1


async def test_a_key_that_stands_twice_is_sent_once_and_answered_twice(api: Api, plain: Gateway) -> None:
    twice = json.loads(creates("a")) + json.loads(creates("a", id="again"))

    found = await run(plain.port, json.dumps(twice).encode())

    assert [(each["status"], each.get("replayed")) for each in found] == [(200, None), (200, True)]
    assert len(api.received) == 1


async def test_who_waits_for_a_keyed_operation_gets_its_values_and_counts_as_written(api: Api, plain: Gateway) -> None:
    api.on("/users/a", answer(200, b'{"id": 7}'))
    chain = json.loads(creates("a")) + json.loads(creates("b", path="/users/{$ops.a.response.body#/id}"))

    await run(plain.port, json.dumps(chain).encode())
    again = await run(plain.port, json.dumps(chain).encode())

    assert api.targets == ["/users/a", "/users/7"]
    assert [each["replayed"] for each in again] == [True, True]


async def test_a_retry_runs_what_failed_under_its_key_and_nothing_else(api: Api, plain: Gateway) -> None:
    api.on("/users/a", answer(500, b"{}"))
    batch = (await post(plain.port, "/batch", creates("a", "b"), ASYNC)).json()["batchId"]
    await ended(plain.port, batch)
    api.on("/users/a", CREATED)

    retried = (await post(plain.port, f"/batch/{batch}/retry", b"")).json()["batchId"]
    await ended(plain.port, retried)

    assert [each["status"] for each in await results(plain.port, retried)] == [201]
    assert sorted(api.targets) == ["/users/a", "/users/a", "/users/b"]


async def test_a_batch_with_keys_that_runs_out_of_time_goes_on_and_nothing_runs_twice(api: Api, tmp_path: Path) -> None:
    api.on("/users/a", hold := Hold())
    async with keeping(api.url, tmp_path, batch__concurrency=1, batch__sync_timeout="300ms") as running:
        promoted = await post(running.port, "/batch", creates("a", "b", "c"))
        hold.released.set()
        await ended(running.port, promoted.json()["batchId"])
        found = await results(running.port, promoted.json()["batchId"])
        again = await post_batch(running.port, json.loads(creates("a", "b", "c")))

    assert promoted.status == 202
    assert [each["status"] for each in found] == [504, 200, 200]
    assert [each["status"] for each in again.json()["results"]] == [504, 200, 200]
    assert api.targets == ["/users/a", "/users/b", "/users/c"]


async def test_without_a_store_of_keys_nothing_is_accepted(api: Api, tmp_path: Path) -> None:
    async with keeping(api.url, tmp_path, replay__store="none") as without:
        refused = await post(without.port, "/batch", creates("a"), ASYNC)

    assert (refused.status, refused.json()["errors"][0]["code"]) == (422, "idempotency-off")
    assert api.received == []
