"""Order and references in asynchronous batches (CONTRACT 4): parents first, across waves, crashes and retries."""

import asyncio
from dataclasses import replace
from random import Random
from typing import Any

import pytest

from gateway.batch.model import Operation
from gateway.batch.routes import Route
from tests.fakes.upstream import Answer, ScriptedUpstream, plain
from tests.integration.asynchronous.calls import ASYNC, ended, results
from tests.integration.server.api import Api, answer
from tests.integration.server.gateways import Gateway
from tests.integration.server.test_order import drawn, judge
from tests.integration.server.wire import post, post_batch
from tests.integration.worker.desk import QUICK, desk, slugs


async def outcomes_of(port: int, operations: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    answered = await post_batch(port, {"operations": operations}, ASYNC)
    assert answered.status == 202, answered.body
    batch_id = answered.json()["batchId"]
    await ended(port, batch_id)
    return {each["id"]: each for each in await results(port, batch_id)}


async def test_values_and_failures_travel_as_they_do_in_place(api: Api, plain: Gateway) -> None:
    api.on("/users", answer(201, b'{"id":7}'))
    api.on("/bad", answer(500, b"{}"))

    outcomes = await outcomes_of(
        plain.port,
        [
            {"id": "read", "method": "GET", "path": "/users/{$ops.make.response.body#/id}"},
            {"id": "make", "method": "POST", "path": "/users", "body": {}},
            {"id": "bad", "method": "GET", "path": "/bad"},
            {"id": "child", "method": "GET", "path": "/c", "dependsOn": ["bad"]},
            {"id": "none", "method": "GET", "path": "/{$ops.make.response.body#/none}"},
        ],
    )

    assert {id_: each["status"] for id_, each in outcomes.items()} == {
        "read": 200, "make": 201, "bad": 500, "child": 424, "none": 424,
    }  # fmt: skip
    assert outcomes["child"]["error"]["cause"] == ["bad"]
    assert sorted(api.targets) == ["/bad", "/users", "/users/7"]


@pytest.mark.parametrize("seed", range(3))
async def test_random_graphs_end_as_a_plain_interpreter_says(api: Api, plain: Gateway, seed: int) -> None:
    random = Random(seed)

    for _ in range(5):
        operations, expected = drawn(random, 60)
        for status, target in expected.values():
            if target is not None:
                api.on(target, judge)
            assert status in (200, 424, 500)
        began = len(api.received)

        outcomes = await outcomes_of(plain.port, random.sample(operations, len(operations)))

        assert {id_: each["status"] for id_, each in outcomes.items()} == {i: s for i, (s, _) in expected.items()}
        sent = [received.target for received in api.received[began:]]
        assert sorted(sent) == sorted(target for _, target in expected.values() if target)


async def test_a_retry_runs_what_failed_without_the_parents_that_succeeded(api: Api, plain: Gateway) -> None:
    api.on("/flaky", answer(500, b"{}"))
    answered = await post_batch(
        plain.port,
        {
            "operations": [
                {"id": "a", "method": "GET", "path": "/a"},
                {"id": "b", "method": "GET", "path": "/flaky", "dependsOn": ["a"]},
                {"id": "c", "method": "GET", "path": "/c/{$ops.b.response.status}"},
            ]
        },
        ASYNC,
    )
    batch_id = answered.json()["batchId"]
    await ended(plain.port, batch_id)
    api.on("/flaky", answer(200, b"{}"))

    retried = await post(plain.port, f"/batch/{batch_id}/retry", b"")

    assert retried.status == 202
    await ended(plain.port, retried.json()["batchId"])
    found = await results(plain.port, retried.json()["batchId"])
    assert [(each["id"], each["status"]) for each in found] == [("b", 200), ("c", 200)]
    assert api.targets == ["/a", "/flaky", "/flaky", "/c/200"]


async def test_a_retry_that_would_need_a_value_of_what_succeeded_is_refused(api: Api, plain: Gateway) -> None:
    api.on("/b/200", answer(500, b"{}"))
    answered = await post_batch(
        plain.port,
        {
            "operations": [
                {"id": "a", "method": "GET", "path": "/a"},
                {"id": "b", "method": "GET", "path": "/b/{$ops.a.response.status}"},
            ]
        },
        ASYNC,
    )
    batch_id = answered.json()["batchId"]
    await ended(plain.port, batch_id)

    retried = await post(plain.port, f"/batch/{batch_id}/retry", b"")

    assert retried.status == 422
    assert [error["code"] for error in retried.json()["errors"]] == ["dependency-invalid"]


async def test_after_a_crash_the_outcomes_on_record_let_the_rest_run() -> None:
    """The worker dies between parent and child; the next one reads the parent's answer from the ledger."""
    never = asyncio.Event()
    operations = [
        Operation("a", "POST", "/a"),
        Operation("b", "POST", "/b/{$ops.a.response.body}"),
        Operation("c", "GET", "/c", depends_on=("b",)),
        Operation("d", "GET", "/d/{$ops.a.response.body}"),
    ]
    async with ScriptedUpstream() as upstream, desk(upstream.address) as at:
        upstream.script = lambda request: Answer([plain(body=b"7")], after=None if request.target == "/a" else never)
        batch = await at.submit(operations)
        first = at.worker()
        await upstream.until_requests(3)
        await at.until(batch, lambda view: view.completed == 1)
        await first.stop(0.0)
        await at.store.health()
        at.clock.ahead_ms += 15_001
        upstream.script = lambda _: Answer([plain(body=b"7")])
        at.worker()
        view = await at.ended(batch)
        outcomes = await at.outcomes(batch)

    targets = [request.target for request in upstream.requests]
    assert targets.count("/a") == targets.count("/b/7") == 1
    assert targets.count("/d/7") == 2  # safe, so it is sent again
    assert slugs(outcomes) == {0: None, 1: "outcome-unknown", 2: "dependency-failed", 3: None}
    assert (view.succeeded, view.failed, view.unknown) == (2, 2, 1)


async def test_what_a_lost_worker_had_begun_is_not_sent_again_when_its_parent_is() -> None:
    """It dies before the parent's answer is on record, so the parent runs once more; the child's intent is there."""
    operations = [
        Operation("a", "GET", "/a"),
        Operation("b", "POST", "/b", depends_on=("a",)),
        Operation("c", "GET", "/c", depends_on=("b",)),
    ]
    async with ScriptedUpstream() as upstream, desk(upstream.address) as at:
        upstream.script = lambda request: Answer([plain()], after=asyncio.Event() if request.target == "/b" else None)
        batch = await at.submit(operations)
        first = at.worker(replace(QUICK, record_every_s=3600.0))
        await upstream.until_requests(2)
        await first.stop(0.0)
        at.clock.ahead_ms += 15_001
        at.worker()
        await at.ended(batch)
        outcomes = await at.outcomes(batch)

    assert [request.target for request in upstream.requests] == ["/a", "/b", "/a"]
    assert slugs(outcomes) == {0: None, 1: "outcome-unknown", 2: "dependency-failed"}


async def test_what_a_lost_worker_has_sent_is_never_called_unsent_for_want_of_its_parents_answer() -> None:
    """The child may be repeated, so it is not announced: the parent's answer is on record before the child is sent."""
    routes = [Route("/a"), Route("/b", idempotent=True)]
    operations = [Operation("a", "POST", "/a"), Operation("b", "PUT", "/b", depends_on=("a",))]
    async with ScriptedUpstream() as upstream, desk(upstream.address) as at:
        upstream.script = lambda request: Answer([plain()], after=asyncio.Event() if request.target == "/b" else None)
        batch = await at.submit(operations)
        first = at.worker(replace(QUICK, record_every_s=3600.0), routes=routes)
        await upstream.until_requests(2)
        await first.stop(0.0)
        at.clock.ahead_ms += 15_001
        upstream.script = lambda _: Answer([plain()])
        at.worker(routes=routes)
        await at.ended(batch)
        outcomes = await at.outcomes(batch)

    assert [request.target for request in upstream.requests] == ["/a", "/b", "/b"]
    assert slugs(outcomes) == {0: None, 1: None}
