"""Order and references over HTTP (CONTRACT 4): parents first, as parallel as can be, and nothing without them."""

import asyncio
import json
import re
from random import Random
from typing import Any

import pytest

from tests.integration.server.api import Api, Talk, after, answer
from tests.integration.server.gateways import Gateway, gateway
from tests.integration.server.wire import post_batch

PER_GRAPH = 30


async def outcomes_of(port: int, operations: list[dict[str, Any]], **members: Any) -> dict[str, dict[str, Any]]:
    answered = await post_batch(port, {"operations": operations, **members})
    assert answered.status == 207, answered.body
    return {result["id"]: result for result in answered.json()["results"]}


def get(id_: str, path: str, *parents: str) -> dict[str, Any]:
    return {"id": id_, "method": "GET", "path": path, **({"dependsOn": list(parents)} if parents else {})}


async def test_a_value_of_an_answer_goes_into_the_next_request(api: Api, plain: Gateway) -> None:
    api.on("/users", answer(201, b'{"id":7,"name":"Ada"}', ("Location", "/users/7")))
    value = "$ops.make.response.body#"
    operations = [
        {"id": "log", "method": "POST", "path": "/log", "headers": {"X-Status": "$ops.make.response.status"},
         "body": {"who": "$ops.make.response.body", "note": "id {$ops.make.response.body#/id}", "n": 1e400}},
        {"id": "make", "method": "POST", "path": "/users", "body": {}},
        {"id": "read", "method": "GET", "path": "$ops.make.response.header.Location"},
        {"id": "tags", "method": "GET", "path": f"/users/{{{value}/name}}?of={{{value}/id}}"},
    ]  # fmt: skip
    raw = json.dumps({"operations": operations}).replace("Infinity", "1e400").encode()

    answered = await post_batch(plain.port, raw)

    assert [each["status"] for each in answered.json()["results"]] == [200, 201, 200, 200]
    by_target = {received.target: received for received in api.received}
    assert set(by_target) == {"/users", "/users/7", "/log", "/users/Ada?of=7"}
    assert by_target["/log"].header("X-Status") == "201"
    assert by_target["/log"].body == b'{"who": {"id":7,"name":"Ada"}, "note": "id 7", "n": 1e400}'


async def test_a_failed_parent_takes_its_children_with_it_and_nobody_else(api: Api, plain: Gateway) -> None:
    api.on("/bad", answer(500, b"{}"))

    outcomes = await outcomes_of(
        plain.port,
        [get("grandchild", "/c", "child"), get("child", "/b", "bad"), get("bad", "/bad"), get("other", "/o")],
    )

    assert {id_: each["status"] for id_, each in outcomes.items()} == {
        "grandchild": 424, "child": 424, "bad": 500, "other": 200,
    }  # fmt: skip
    assert outcomes["grandchild"]["error"]["type"] == "/batch/problems/dependency-failed"
    assert outcomes["grandchild"]["error"]["cause"] == ["bad", "child"]
    assert sorted(api.targets) == ["/bad", "/o"]


async def test_a_pointer_that_finds_nothing_fails_its_own_operation(api: Api, plain: Gateway) -> None:
    api.on("/a", answer(200, b'{"id":1}'))

    outcomes = await outcomes_of(
        plain.port, [get("a", "/a"), get("b", "/b/{$ops.a.response.body#/none}"), get("c", "/c", "b")]
    )

    assert outcomes["b"]["error"]["type"] == "/batch/problems/reference-unresolved"
    assert (outcomes["b"]["status"], outcomes["c"]["status"]) == (424, 424)
    assert api.targets == ["/a"]


@pytest.mark.parametrize("at", ["body#/list/-", "body#/deep"])
async def test_a_value_that_no_json_can_show_fails_its_own_operation(api: Api, plain: Gateway, at: str) -> None:
    api.on("/a", answer(200, b'{"list":[1]}' if "list" in at else b"[" * 50_000 + b"]" * 50_000))

    outcomes = await outcomes_of(plain.port, [get("a", "/a"), get("b", f"/b/{{$ops.a.response.{at}}}"), get("c", "/c")])

    assert [outcomes[id_]["status"] for id_ in "abc"] == [200, 424, 200]


async def test_a_literal_loses_its_second_dollar_though_nobody_waits(api: Api, plain: Gateway) -> None:
    operation = {"method": "POST", "path": "/a", "headers": {"X-A": "$$ops.b"}, "body": ["$$ops.a.response.status"]}

    assert (await outcomes_of(plain.port, [operation]))["0"]["status"] == 200

    assert (api.received[0].header("X-A"), api.received[0].body) == ("$ops.b", b'["$ops.a.response.status"]')


async def test_a_reference_cannot_leave_the_routes_that_are_allowed(api: Api) -> None:
    api.on("/start", answer(200, b'{"next":"x/../../admin","id":"7"}', ("Location", "/admin")))
    routes = "routes: [{path: /start}, {path: '/users/{id}'}]\n"
    async with gateway(api.url, routes) as running:
        outcomes = await outcomes_of(
            running.port,
            [
                get("a", "/start"),
                get("b", "$ops.a.response.header.Location"),
                get("c", "/users/{$ops.a.response.body#/next}"),
                get("d", "/users/{$ops.a.response.body#/id}"),
            ],
        )

    assert {id_: each["status"] for id_, each in outcomes.items()} == {"a": 200, "b": 403, "c": 424, "d": 200}
    assert sorted(api.targets) == ["/start", "/users/7"]


async def test_cycles_and_unknown_names_are_refused_before_anything_runs(api: Api, plain: Gateway) -> None:
    answered = await post_batch(
        plain.port, {"operations": [get("a", "/", "b"), get("b", "/", "a"), get("c", "/", "nobody")]}
    )

    assert answered.status == 422
    assert [error["code"] for error in answered.json()["errors"]] == ["dependency-invalid"] * 2
    assert api.received == []


async def test_an_answer_waits_for_nobody_it_does_not_depend_on(api: Api, plain: Gateway) -> None:
    release = asyncio.Event()

    api.on("/slow", after(release, answer(200, b"{}")))
    asking = asyncio.create_task(
        outcomes_of(plain.port, [get("slow", "/slow"), get("a", "/a"), get("b", "/b", "a"), get("z", "/z", "slow")])
    )
    await api.until(3)
    assert sorted(api.targets) == ["/a", "/b", "/slow"]
    release.set()
    assert len(await asking) == 4


async def test_halting_ends_what_waits(api: Api, plain: Gateway) -> None:
    api.on("/bad", answer(400, b"{}"))

    outcomes = await outcomes_of(
        plain.port, [get("bad", "/bad"), get("b", "/b", "bad"), get("c", "/c", "b")], onFailure="halt"
    )

    assert [outcomes[id_]["status"] for id_ in ("bad", "b", "c")] == [400, 424, 424]
    assert api.targets == ["/bad"]


@pytest.mark.parametrize("seed", range(10))
async def test_random_graphs_end_as_a_plain_interpreter_says(seed: int) -> None:
    """X4: 300 graphs of up to 60 operations; the interpreter runs them one after the other."""
    random = Random(seed)

    async with Api(judge) as judging, gateway(judging.url, "batch: {sync_operations_max: 200}\n") as running:
        for number in range(PER_GRAPH):
            await run_one(random, 60 if number else 200, judging, running)


async def judge(talk: Talk) -> None:
    """Answers as `drawn` expects it."""
    status = 500 if talk.request.target.startswith("/bad") else 200
    await talk.send(answer(status, b'{"v":"%b"}' % talk.request.target.rpartition("/")[2].encode()))


async def run_one(random: Random, count: int, api: Api, running: Gateway) -> None:
    operations, expected = drawn(random, count)
    began = len(api.received)
    outcomes = await outcomes_of(running.port, random.sample(operations, len(operations)))

    assert {id_: each["status"] for id_, each in outcomes.items()} == {i: s for i, (s, _) in expected.items()}
    sent = [received.target for received in api.received[began:]]
    assert sorted(sent) == sorted(target for _, target in expected.values() if target)
    place = {target.rpartition("/")[2]: at for at, target in enumerate(sent)}
    for operation in operations:
        for parent in parents_of(operation):
            if operation["id"] in place:
                assert place[parent] < place[operation["id"]]


def parents_of(operation: dict[str, Any]) -> set[str]:
    return {*operation.get("dependsOn", ()), *re.findall(r"\$ops\.(\w+)\.", operation["path"])}


def drawn(random: Random, count: int) -> tuple[list[dict[str, Any]], dict[str, tuple[int, str | None]]]:
    """Operations that wait for earlier ones, and what an interpreter says of each: status, and where it was sent."""
    operations: list[dict[str, Any]] = []
    expected: dict[str, tuple[int, str | None]] = {}
    for index in range(random.randint(2, count)):
        id_ = f"n{index}"
        parents = [f"n{p}" for p in random.sample(range(index), min(index, random.choice([0, 0, 1, 1, 2, 3])))]
        kind = "bad" if random.random() < 0.15 else "good"
        operation = get(id_, f"/{kind}/{id_}", *parents)
        target: str | None = operation["path"]
        if parents and random.random() < 0.5:
            operation["path"] = f"/{kind}/{{$ops.{parents[0]}.response.body#/v}}/{id_}"
            target = f"/{kind}/{parents[0]}/{id_}"
        lost = any(expected[parent][0] != 200 for parent in parents)
        expected[id_] = (424, None) if lost else (500 if kind == "bad" else 200, target)
        operations.append(operation)
    return operations, expected
