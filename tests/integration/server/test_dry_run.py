"""The dry run (CONTRACT 2): the whole plan of a batch, and nothing sent, charged, claimed or put on record."""

import json
from pathlib import Path
from random import Random
from typing import Any

import pytest

from tests.integration.server.api import Api
from tests.integration.server.gateways import Gateway, gateway
from tests.integration.server.wire import Answer, get, post, post_batch

DRY = "/batch?dryRun=true"
JSON = ("Content-Type", "application/json")
ROUTES: list[dict[str, Any]] = [
    {"path": "/users"},
    {"path": "/users/{id}", "methods": ["GET"]},
    {"path": "/reports/**", "cost": 3},
    {"path": "/login", "batch": False},
]


def settings(*limits: dict[str, Any], **more: Any) -> str:
    """YAML (JSON is YAML): buckets that get nothing back while a test runs."""
    slow = {"key": "caller", "rate": "1/h", "burst": 10}
    return json.dumps({"routes": ROUTES, "limits": [slow | limit for limit in limits]} | more)


def get_(id_: str, path: str, *parents: str) -> dict[str, Any]:
    return {"id": id_, "method": "GET", "path": path, **({"dependsOn": list(parents)} if parents else {})}


async def plan_of(port: int, envelope: object, *fields: tuple[str, str]) -> Any:
    answered = await post(port, DRY, json.dumps(envelope).encode(), JSON, *fields)
    assert answered.status == 200, answered.body
    return answered.json()


async def test_the_plan_tells_order_routes_cost_and_buckets_and_nothing_happens(api: Api) -> None:
    operations = [
        get_("last", "/users/{$ops.first.response.body#/id}", "report"),
        get_("first", "/users/1"),
        get_("report", "/reports/a/b", "first"),
        get_("login", "/login"),
        get_("never", "/users/2", "login"),
    ]
    async with gateway(api.url, settings({"name": "slow", "burst": 9}, {"name": "users", "routes": ["/users"]})) as it:
        dry = await post(it.port, DRY, json.dumps(operations).encode(), JSON)
        limits = (await get(it.port, "/batch/limits")).json()["limits"]

    plan = dry.json()
    assert dry.status == 200
    assert (plan["dryRun"], plan["status"], plan["total"], plan["waves"], plan["cost"]) == (True, 207, 5, 3, 6)
    assert [(limit["name"], limit["cost"], limit["remaining"]) for limit in plan["limits"]] == [
        ("slow", 6, 9),
        ("users", 0, 10),
    ]
    found = {entry["id"]: entry for entry in plan["operations"]}
    assert list(found) == ["last", "first", "report", "login", "never"]
    assert found["last"] == {
        "id": "last", "route": "/users/{id}", "upstream": "default", "cost": 1, "dependsOn": ["report", "first"],
        "wave": 2,
    }  # fmt: skip
    assert (found["first"]["wave"], found["report"]["wave"], found["report"]["cost"]) == (0, 1, 3)
    assert (found["login"]["error"]["type"], found["login"]["error"]["status"]) == (
        "/batch/problems/route-not-batchable",
        403,
    )
    assert (found["never"]["error"]["type"], found["never"]["error"]["cause"]) == (
        "/batch/problems/dependency-failed",
        ["login"],
    )
    assert not {"wave", "cost"} & found["login"].keys()
    assert api.received == []
    assert [limit["remaining"] for limit in limits] == [9, 10]
    assert dry.header("RateLimit") == '"slow";r=9;t=0, "users";r=10;t=0'


@pytest.mark.parametrize("on_exhausted", ["reject", "partial", "wait"])
async def test_what_was_planned_is_what_happens(api: Api, on_exhausted: str) -> None:
    chance = Random(on_exhausted)
    limit = {"name": "b", "rate": "40/s", "burst": 30, "on_exhausted": on_exhausted}
    planned, happened = [], []
    async with gateway(api.url, settings(limit | {"rate": "1/h"} if on_exhausted != "wait" else limit)) as running:
        for _ in range(12):
            paths = chance.choices(["/users", "/users/1", "/reports/x", "/login", "/other"], k=chance.randint(1, 9))
            operations = [
                get_(str(index), path, *([str(chance.randrange(index))] if index and chance.random() < 0.3 else []))
                for index, path in enumerate(paths)
            ]
            plan = await plan_of(running.port, operations)
            happened.append(_told((await post_batch(running.port, operations)), operations))
            sent = [200 if "error" not in entry else entry["error"]["status"] for entry in plan["operations"]]
            planned.append((plan["status"], sent if plan["status"] == 207 else plan["problem"]["type"]))

    assert planned == happened
    if on_exhausted != "wait":
        assert "429" in str(happened)


def _told(answered: Answer, operations: list[dict[str, Any]]) -> tuple[int, object]:
    document = answered.json()
    if answered.status != 207:
        return answered.status, document["type"]
    assert len(document["results"]) == len(operations)
    return 207, [result["status"] for result in document["results"]]


async def test_a_batch_that_would_be_refused_says_so_with_the_wait(api: Api) -> None:
    async with gateway(api.url, settings({"name": "b", "rate": "1/min", "burst": 4})) as running:
        await post_batch(running.port, [get_("a", "/users")] * 1 + [get_("b", "/users")])
        now = await plan_of(running.port, [get_(str(index), "/users") for index in range(3)])
        never = await plan_of(running.port, [get_("a", "/reports/a"), get_("b", "/reports/b")])

    assert (now["status"], now["problem"]["type"]) == (429, "/batch/problems/rate-limited")
    assert 0 < now["problem"]["retryAfter"] <= 60
    assert (now["problem"]["cost"], now["limits"][0]["remaining"]) == (3, 2)
    assert (never["status"], never["problem"]["max"], never["problem"]["cost"]) == (413, 4, 6)
    assert len(api.received) == 2


async def test_a_wait_is_told_for_each_operation(api: Api) -> None:
    limit = {"name": "b", "rate": "10/s", "burst": 10, "on_exhausted": "wait"}
    async with gateway(api.url, settings(limit)) as running:
        plan = await plan_of(running.port, [get_("a", "/reports/1"), get_("b", "/reports/2"), get_("c", "/reports/3")])
        await post_batch(running.port, [get_(str(index), "/users") for index in range(8)])
        later = await plan_of(running.port, [get_("a", "/reports/1"), get_("b", "/reports/2")])

    assert (plan["status"], "waitSeconds" in plan) == (207, False)
    waits_s = [entry["waitSeconds"] for entry in later["operations"]]
    assert waits_s[1] == pytest.approx(waits_s[0] + 0.3, abs=0.001)
    assert later["waitSeconds"] == waits_s[1] <= 0.4


@pytest.mark.parametrize(
    ("body", "status", "slug"),
    [
        (b"[", 400, "invalid-json"),
        (b"[]", 422, "validation-failed"),
        (b'[{"method": "GET", "path": "/a/../b"}]', 422, "validation-failed"),
        (b'[{"id": "a", "method": "GET", "path": "/x", "dependsOn": ["a"]}]', 422, "validation-failed"),
        (json.dumps([get_(str(index), "/x") for index in range(101)]).encode(), 413, "too-many-operations"),
    ],
)
async def test_a_bad_envelope_is_refused_as_ever(plain: Gateway, api: Api, body: bytes, status: int, slug: str) -> None:
    answered = await post(plain.port, DRY, body, JSON)

    assert (answered.status, answered.slug) == (status, slug)
    assert api.received == []


async def test_strict_routes_refuse_a_dry_run_too(api: Api) -> None:
    async with gateway(api.url, settings(), batch__strict_routes=True) as running:
        answered = await post(running.port, DRY, json.dumps([get_("a", "/other")]).encode(), JSON)

    assert (answered.status, answered.json()["errors"][0]["code"]) == (422, "route-not-allowed")


_UNREADABLE = [
    "dryRun", "dryRun=yes", "dryRun=True", "dryRun=true&dryRun=false", "dryrun=true", "dry_run=true", "dry-run=1",
]  # fmt: skip


@pytest.mark.parametrize("query", _UNREADABLE)
async def test_a_dry_run_that_cannot_be_read_does_not_run_by_mistake(plain: Gateway, api: Api, query: str) -> None:
    answered = await post(plain.port, f"/batch?{query}", b'[{"method": "GET", "path": "/x"}]', JSON)

    assert (answered.status, answered.json()["errors"][0]["code"]) == (422, "dry-run")
    assert api.received == []


@pytest.mark.parametrize("query", ["?dryRun=false", "?other=true", ""])
async def test_without_it_the_batch_runs(plain: Gateway, api: Api, query: str) -> None:
    answered = await post(plain.port, f"/batch{query}", b'[{"method": "GET", "path": "/x"}]', JSON)

    assert (answered.status, len(api.received)) == (207, 1)


async def test_no_key_is_claimed(api: Api, tmp_path: Path) -> None:
    operation = {"id": "a", "method": "POST", "path": "/users", "idempotencyKey": "k"}
    async with gateway(api.url, replay__store=f"sqlite:{tmp_path}/replay.db") as running:
        await plan_of(running.port, [operation])
        first = await post_batch(running.port, [operation])
    async with gateway(api.url, replay__store="none") as running:
        off = await post(running.port, DRY, json.dumps([operation]).encode(), JSON)

    assert first.json()["results"][0].get("replayed") is None
    assert len(api.received) == 1
    assert (off.status, off.json()["errors"][0]["code"]) == (422, "idempotency-off")


async def test_what_would_go_on_record_says_202_and_when_its_tokens_will_have_come(api: Api, tmp_path: Path) -> None:
    limit = {"name": "b", "rate": "10/s", "burst": 3}
    ledger = f"sqlite:{tmp_path}/ledger.db"
    prefer = ("Prefer", "respond-async")
    async with gateway(api.url, settings(limit), async__ledger=ledger) as running:
        large = await plan_of(running.port, [get_(str(index), "/users") for index in range(102)])
        costly = await plan_of(running.port, [get_("a", "/reports/1"), get_("b", "/users")], prefer)
        late = await post(
            running.port, DRY, b'{"operations": [{"method": "GET", "path": "/x"}], "notBefore": 864000}', JSON
        )
        listed = (await get(running.port, "/batch")).json()["batches"]

    assert (large["status"], large["cost"]) == (202, 102)
    assert large["waitSeconds"] == pytest.approx(9.9, abs=0.1)
    assert (costly["status"], [entry["waitSeconds"] for entry in costly["operations"]]) == (202, [0, 0.1])
    assert (late.status, late.json()["errors"][0]["code"]) == (422, "not-before")
    assert listed == []
    assert api.received == []


async def test_a_dry_run_is_counted_as_one(api: Api, plain: Gateway) -> None:
    await plan_of(plain.port, [get_("a", "/x")])

    page = (await get(plain.admin_port, "/metrics")).body.decode()

    assert 'batch_gateway_envelopes_total{dialect="native",mode="dry",outcome="accepted"} 1.0' in page
    assert "batch_gateway_operations_total{" not in page
