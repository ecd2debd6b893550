"""`batch.coalesce`: of identical safe operations in one envelope one is sent, and answers for all."""

import json
from collections import Counter
from random import Random
from typing import Any

import pytest

from tests.integration.server.api import Api, Talk, answer
from tests.integration.server.gateways import Gateway, gateway
from tests.integration.server.wire import get, post, post_batch

JSON, LINES = ("Content-Type", "application/json"), ("Accept", "application/x-ndjson")


def op(id_: str, path: str = "/x", method: str = "GET", *parents: str) -> dict[str, Any]:
    return {"id": id_, "method": method, "path": path, **({"dependsOn": list(parents)} if parents else {})}


async def test_one_is_sent_and_each_has_its_outcome_under_its_own_id(api: Api) -> None:
    api.on("/x", answer(200, b'{"n": 1.0}', ("ETag", '"e"')))
    operations = [op("a"), op("b", "/x?q"), op("c"), op("d", "/x", "POST"), op("e", "/x", "POST"), op("f")]
    async with gateway(api.url, batch__coalesce=True) as running:
        answered = await post_batch(running.port, operations)
        lines = await post(running.port, "/batch", json.dumps(operations).encode(), JSON, LINES)
        page = (await get(running.admin_port, "/metrics")).body.decode()

    results = {result.pop("id"): result for result in answered.json()["results"]}
    assert list(results) == [*"abcdef"]
    assert results["a"] == results["c"] == results["f"]
    assert results["a"]["headers"]["ETag"] == '"e"'
    assert answered.body.count(b'{"n": 1.0}') == 6
    assert answered.json()["summary"] == {"total": 6, "succeeded": 6, "failed": 0}
    assert sorted(json.loads(line).get("id", "") for line in lines.body.splitlines()) == ["", *"abcdef"]
    assert Counter((each.method, each.target) for each in api.received) == {
        ("GET", "/x"): 2, ("GET", "/x?q"): 2, ("POST", "/x"): 4,
    }  # fmt: skip
    assert 'operations_total{dialect="native",method="GET",outcome="ok",route="_other"} 8.0' in page
    assert 'upstream_attempts_total{result="answered",route="_other"} 8.0' in page


async def test_without_it_every_operation_is_sent(api: Api, plain: Gateway) -> None:
    await post_batch(plain.port, [op("a"), op("b")])

    assert api.targets == ["/x", "/x"]


async def test_each_costs_its_tokens_and_one_that_is_refused_shares_nothing(api: Api) -> None:
    limit = {"name": "b", "key": "global", "rate": "1/h", "burst": 3, "on_exhausted": "partial"}
    async with gateway(api.url, json.dumps({"limits": [limit]}), batch__coalesce=True) as running:
        answered = await post_batch(running.port, [op(str(index)) for index in range(5)])

    assert [result["status"] for result in answered.json()["results"]] == [200, 200, 200, 429, 429]
    assert (answered.header("RateLimit") or "").startswith('"b";r=0')
    assert api.targets == ["/x"]


async def test_a_failure_is_shared_as_well(api: Api) -> None:
    api.on("/x", answer(503, b'{"no": 1}'))
    operations = [op("a"), op("b"), op("child", "/y", "GET", "b"), op("other", "/y")]
    async with gateway(api.url, batch__coalesce=True, upstream__retries=0) as running:
        answered = await post_batch(running.port, operations)
        halted = await post_batch(running.port, {"operations": operations, "onFailure": "halt"})

    assert [result["status"] for result in answered.json()["results"]] == [503, 503, 424, 200]
    assert halted.json()["results"][1] == halted.json()["results"][0] | {"id": "b"}
    assert halted.json()["summary"]["total"] == 4


async def test_values_of_a_twin_go_into_later_operations(api: Api) -> None:
    api.on("/x", answer(200, b'{"id": 7}'))
    operations = [op("a"), op("b"), op("c", "/y/{$ops.b.response.body#/id}"), op("d", "/y/{$ops.b.response.body#/id}")]
    async with gateway(api.url, batch__coalesce=True) as running:
        answered = await post_batch(running.port, operations)

    assert answered.json()["summary"]["succeeded"] == 4
    assert sorted(api.targets) == ["/x", "/y/7"]


async def test_a_read_before_a_write_does_not_stand_for_the_read_after_it(api: Api) -> None:
    async with gateway(api.url, batch__coalesce=True) as running:
        await post_batch(
            running.port, [op("before"), op("write", "/x", "PUT", "before"), op("after", "/x", "GET", "write")]
        )

    assert [each.method for each in api.received] == ["GET", "PUT", "GET"]


async def test_answers_count_for_each_that_they_are_embedded_for(api: Api) -> None:
    api.on("/x", answer(200, b'"%b"' % (b"z" * 900)))
    async with gateway(api.url, batch__coalesce=True, batch__answer_max="4KiB") as running:
        few = await post_batch(running.port, [op(str(index)) for index in range(4)])
        many = await post_batch(running.port, [op(str(index)) for index in range(5)])

    assert few.json()["summary"]["succeeded"] == 4
    assert {result["status"] for result in many.json()["results"]} == {507}


async def test_the_dry_run_tells_what_would_not_be_sent(api: Api) -> None:
    async with gateway(api.url, batch__coalesce=True) as running:
        dry = await post(
            running.port,
            "/batch?dryRun=true",
            json.dumps([op("a"), op("b")]).encode(),
            ("Content-Type", "application/json"),
        )

    assert [entry.get("sameAs") for entry in dry.json()["operations"]] == [None, "a"]
    assert dry.json()["cost"] == 2


@pytest.mark.parametrize("seed", range(8))
async def test_a_random_batch_has_the_outcomes_that_it_has_without(api: Api, seed: int) -> None:
    chance = Random(seed)

    async def by_target(talk: Talk) -> None:
        await talk.request.read()
        status = 500 if "bad" in talk.request.target else 200
        await talk.send(answer(status, json.dumps({"target": talk.request.target, "id": "v"}).encode()))

    paths = ["/a", "/b", "/bad", "/c/{$ops.0.response.body#/id}"]
    for path in ("/a", "/b", "/bad", "/c/v"):
        api.on(path, by_target)
    operations = [
        op(str(index), chance.choice(paths if index else paths[:3]), chance.choice(["GET", "GET", "POST"]),
           *{str(chance.randrange(index)) for _ in range(chance.choice([0, 0, 1, 2])) if index})
        for index in range(40)
    ]  # fmt: skip
    async with gateway(api.url, upstream__breaker=False) as every:
        expected = (await post_batch(every.port, operations)).json()
        sent = len(api.received)
    async with gateway(api.url, upstream__breaker=False, batch__coalesce=True) as running:
        answered = (await post_batch(running.port, operations)).json()

    assert answered == expected
    assert len(api.received) - sent < sent
