"""Token buckets and routes over HTTP: who is charged how much, and what a refusal says (CONTRACT 5)."""

import asyncio
import json
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from tests.contract.stores import running as running_store
from tests.fakes.machine import Stopwatch
from tests.fakes.until import until
from tests.integration.server.api import Api, Talk
from tests.integration.server.gateways import gateway
from tests.integration.server.wire import ask, get, post, post_batch, request


def gets(*paths: str) -> dict[str, Any]:
    return {"operations": [{"method": "GET", "path": path} for path in paths]}


def limit(**members: Any) -> str:
    """YAML (JSON is YAML) with one slow bucket, changed by `members`."""
    bucket = {"name": "per-caller", "key": "caller", "rate": "1/h", "burst": 10} | members
    return json.dumps({"limits": [bucket]})


async def test_n_operations_take_n_tokens_in_one_step(api: Api) -> None:
    async with gateway(api.url, limit()) as running:
        first = await post_batch(running.port, gets(*["/x"] * 7))
        second = await post_batch(running.port, gets(*["/x"] * 4))
        third = await post_batch(running.port, gets(*["/x"] * 3))

    assert [each.status for each in (first, second, third)] == [207, 429, 207]
    assert len(api.received) == 10
    assert first.header("RateLimit-Policy") == '"per-caller";q=10;w=36000'
    assert (first.header("RateLimit") or "").startswith('"per-caller";r=3;t=')
    assert (third.header("RateLimit") or "").startswith('"per-caller";r=0;t=')


async def test_a_refusal_says_how_long_and_how_much(api: Api) -> None:
    async with gateway(api.url, limit(rate="1/min", burst=2)) as running:
        await post_batch(running.port, gets("/x", "/x"))
        refused = await post_batch(running.port, gets("/x", "/x"))

    assert (refused.status, refused.slug) == (429, "rate-limited")
    assert refused.header("Retry-After") == "120"
    assert refused.json()["cost"] == 2
    assert refused.json()["retryAfter"] == 120
    assert (refused.header("RateLimit") or "").startswith('"per-caller";r=0;t=120')
    assert refused.header("RateLimit-Policy") == '"per-caller";q=2;w=120'


async def test_waiting_as_long_as_told_is_enough(api: Api) -> None:
    async with gateway(api.url, limit(rate="20/s", burst=20)) as running:
        await post_batch(running.port, gets(*["/x"] * 20))
        refused = await post_batch(running.port, gets(*["/x"] * 20))
        told_s = int(refused.header("Retry-After") or "0")
        await until(has_passed(told_s))
        admitted = await post_batch(running.port, gets(*["/x"] * 20))

    assert (refused.status, told_s) == (429, 1)
    assert admitted.status == 207


def has_passed(seconds: float) -> Callable[[], Awaitable[bool]]:
    """Whether so long has passed since now."""
    until_s = asyncio.get_running_loop().time() + seconds

    async def is_over() -> bool:
        return asyncio.get_running_loop().time() >= until_s

    return is_over


async def test_partial_runs_as_many_as_there_are_tokens(api: Api) -> None:
    async with gateway(api.url, limit(on_exhausted="partial", burst=3)) as running:
        answered = await post_batch(running.port, gets("/0", "/1", "/2", "/3", "/4"))

    results = answered.json()["results"]
    assert answered.status == 207
    assert [result["status"] for result in results] == [200, 200, 200, 429, 429]
    assert sorted(api.targets) == ["/0", "/1", "/2"]
    assert results[3]["error"]["type"] == "/batch/problems/rate-limited"
    assert results[3]["error"]["origin"] == "gateway"
    assert results[3]["error"]["retryable"] is True
    assert results[3]["error"]["retryAfter"] >= 3600
    assert answered.json()["summary"] == {"total": 5, "succeeded": 3, "failed": 2}


async def test_wait_admits_as_tokens_come(api: Api) -> None:
    async with gateway(api.url, limit(on_exhausted="wait", rate="20/s", burst=10)) as running:
        with Stopwatch() as watch:
            await post_batch(running.port, gets(*["/x"] * 10))
            answered = await post_batch(running.port, gets(*["/x"] * 8))

    assert answered.json()["summary"]["succeeded"] == 8
    assert watch.took_s >= 0.4  # the last token comes 0.4 s after the bucket was emptied


async def test_wait_refuses_what_cannot_come_within_the_deadline(api: Api) -> None:
    async with gateway(api.url, limit(on_exhausted="wait", rate="1/s", burst=10), batch__sync_timeout="2s") as running:
        await post_batch(running.port, gets(*["/x"] * 10))
        refused = await post_batch(running.port, gets(*["/x"] * 8))

    assert (refused.status, refused.slug) == (429, "rate-limited")
    assert len(api.received) == 10


@pytest.mark.parametrize("on_exhausted", ["reject", "wait"])
async def test_a_cost_above_capacity_can_never_pass_and_is_told_so(api: Api, on_exhausted: str) -> None:
    async with gateway(api.url, limit(on_exhausted=on_exhausted)) as running:
        refused = await post_batch(running.port, gets(*["/x"] * 11))
        admitted = await post_batch(running.port, gets(*["/x"] * 10))

    assert (refused.status, refused.slug) == (413, "cost-exceeds-capacity")
    assert (refused.json()["max"], refused.json()["cost"]) == (10, 11)
    assert refused.header("Retry-After") is None
    assert admitted.status == 207


async def test_a_route_has_its_own_cost(api: Api) -> None:
    routes = [{"path": "/dear/{id}", "cost": 4}, {"path": "/**"}]
    settings = json.loads(limit()) | {"routes": routes}

    async with gateway(api.url, json.dumps(settings)) as running:
        first = await post_batch(running.port, gets("/dear/1", "/dear/2", "/x"))
        second = await post_batch(running.port, gets("/x", "/x"))

    assert (first.header("RateLimit") or "").startswith('"per-caller";r=1;')
    assert second.status == 429


@pytest.mark.parametrize(
    ("envelope", "status"),
    [
        (b"{", 400),
        (b'{"operations":[]}', 422),
        (gets("/x", "//evil"), 422),
        (gets(*["/x"] * 101), 413),
        (b'{"operations":[{"method":"GET","method":"GET","path":"/x"}]}', 400),
        (gets(*["/x"] * 11), 413),
    ],
)
async def test_an_envelope_that_is_refused_is_charged_nothing(api: Api, envelope: object, status: int) -> None:
    async with gateway(api.url, limit()) as running:
        refused = await post_batch(running.port, envelope)
        left = (await get(running.port, "/batch/limits")).json()["limits"][0]["remaining"]

    assert refused.status == status
    assert left == 10
    assert api.received == []


async def test_callers_do_not_share_a_bucket_and_are_told_apart_by_their_credential(api: Api) -> None:
    async with gateway(api.url, limit(burst=2)) as running:
        statuses = [
            (await post_batch(running.port, gets("/x", "/x"), *fields)).status
            for fields in (
                [("Authorization", "Bearer a")],
                [("Authorization", "Bearer b")],
                [("X-Api-Key", "a")],
                [("Authorization", "Bearer a")],
                [("authorization", "Bearer b")],
                [],
            )
        ]

    assert statuses == [207, 207, 207, 429, 429, 207]


@pytest.mark.parametrize("key", ["ip", "global"])
async def test_ip_and_global_buckets_do_not_look_at_credentials(api: Api, key: str) -> None:
    async with gateway(api.url, limit(key=key, burst=2)) as running:
        first = await post_batch(running.port, gets("/x", "/x"), ("Authorization", "a"))
        second = await post_batch(running.port, gets("/x", "/x"), ("Authorization", "b"))

    assert (first.status, second.status) == (207, 429)


async def test_a_lone_request_takes_its_own_token_of_the_same_bucket(api: Api) -> None:
    async with gateway(api.url, limit(burst=2)) as running:
        lone = await get(running.port, "/x")
        batched = await post_batch(running.port, gets("/x"))
        refused = await get(running.port, "/x")

    assert (lone.status, batched.status, refused.status) == (200, 207, 429)
    assert refused.header("X-Gateway-Error") == "rate-limited"
    assert int(refused.header("Retry-After") or "0") > 0
    assert len(api.received) == 2


async def test_a_forwarded_answer_says_what_is_left(api: Api) -> None:
    async with gateway(api.url, limit(burst=2)) as running:
        passed = await get(running.port, "/x")
    async with gateway(api.url) as running:
        free = await get(running.port, "/x")

    assert passed.header("RateLimit-Policy") == '"per-caller";q=2;w=7200'
    assert (passed.header("RateLimit") or "").startswith('"per-caller";r=1;t=')
    assert free.header("RateLimit") is None


async def test_a_lone_request_waits_for_its_token_as_an_operation_does(api: Api) -> None:
    async with gateway(api.url, limit(on_exhausted="wait", rate="5/s", burst=1)) as running:
        with Stopwatch() as watch:
            statuses = [(await get(running.port, "/x")).status for _ in range(3)]

    assert statuses == [200] * 3
    assert watch.took_s >= 0.3
    assert watch.ran_s < 1.5


async def test_a_lone_request_does_not_wait_longer_than_for_its_upstream(api: Api) -> None:
    settings = limit(on_exhausted="wait", rate="1/min", burst=1)
    async with gateway(api.url, settings, upstream__timeout="1s") as running:
        statuses = [(await get(running.port, "/x")).status for _ in range(2)]

    assert statuses == [200, 429]
    assert len(api.received) == 1


_LINES = ("Accept", "application/x-ndjson")
_ASYNC = ("Prefer", "respond-async")
_JSON = ("Content-Type", "application/json")
_GOOD = json.dumps(gets("/x")).encode()
_ANSWERS: list[tuple[int, str, str, bytes, list[tuple[str, str]]]] = [
    (207, "POST", "/batch", _GOOD, [_JSON]),
    (207, "POST", "/batch", _GOOD, [_JSON, _LINES]),
    (200, "POST", "/batch?dryRun=true", _GOOD, [_JSON]),
    (202, "POST", "/batch", _GOOD, [_JSON, _ASYNC]),
    (400, "POST", "/batch", b"{", [_JSON]),
    (413, "POST", "/batch", json.dumps(gets(*["/x"] * 12)).encode(), [_JSON]),
    (415, "POST", "/batch", _GOOD, []),
    (422, "POST", "/batch", b"[]", [_JSON]),
    (405, "PUT", "/batch", b"", []),
    (200, "GET", "/batch", b"", []),
    (200, "GET", "/batch/limits", b"", []),
    (404, "GET", "/batch/00000000000000000000000000000000/status", b"", []),
    (200, "GET", "/x", b"", []),
    (502, "GET", "/gone", b"", []),
]


@pytest.mark.parametrize("url", ["redis", None])
async def test_every_answer_of_ours_says_what_is_left_and_takes_no_more_than_it_costs(
    api: Api, tmp_path: Path, url: str | None
) -> None:
    with tempfile.TemporaryDirectory() as folder, running_store("valkey", Path(folder)) as (_, store):
        said = json.loads(limit(burst=11)) | ({"limiter": {"url": store}} if url else {})
        api.on("/gone", gone)
        async with gateway(api.url, json.dumps(said), async__ledger=f"sqlite:{tmp_path}/ledger.db") as running:
            for status, method, target, body, fields in _ANSWERS:
                answered = await ask(running.port, request(method, target, fields, body), method)
                assert answered.status == status, (target, answered)
                assert answered.header("RateLimit-Policy") == '"per-caller";q=11;w=39600', (status, target)
                assert len(answered.headers("RateLimit")) == 1, (status, target)
            page = await get(running.port, "/batch/problems/rate-limited")
            (left,) = (await get(running.port, "/batch/limits")).json()["limits"]

    assert page.header("RateLimit") is None  # it may be cached, for anybody
    assert left["remaining"] in (6, 7)  # two batches and two requests, and the one on record where it has run


async def gone(talk: Talk) -> None:
    talk.writer.close()


async def test_while_the_buckets_are_away_answers_that_need_none_are_as_ever(api: Api) -> None:
    said = json.loads(limit()) | {"limiter": {"url": "redis://127.0.0.1:1", "fail": "closed"}}
    async with gateway(api.url, json.dumps(said)) as running:
        refused = await post_batch(running.port, b"{")
        told = await get(running.port, "/batch/limits")

    assert (refused.status, refused.header("RateLimit")) == (400, None)
    assert (told.status, told.slug) == (503, "limiter-unavailable")


async def test_limits_tells_the_buckets_of_headers_and_routes(api: Api) -> None:
    buckets = [
        {"name": "tenant", "key": "header:X-Tenant", "rate": "1/h", "burst": 5},
        {"name": "reports", "key": "caller", "rate": "2/min", "burst": 8, "routes": ["/reports/**"]},
        {"name": "all", "key": "global", "rate": "1/h", "burst": 9},
    ]
    routes = [{"path": "/reports/**", "cost": 3}, {"path": "/**"}]
    async with gateway(api.url, json.dumps({"limits": buckets, "routes": routes})) as running:
        await post_batch(running.port, gets("/x", "/reports/1"), ("X-Tenant", "a"))
        mine, theirs = [
            {each["name"]: each for each in (await get(running.port, "/batch/limits", *said)).json()["limits"]}
            for said in ([("X-Tenant", "a")], [("X-Tenant", "b"), ("Authorization", "b")])
        ]

    assert {name: each["remaining"] for name, each in mine.items()} == {"tenant": 1, "reports": 5, "all": 5}
    assert {name: each["remaining"] for name, each in theirs.items()} == {"tenant": 5, "reports": 8, "all": 5}
    assert (mine["reports"]["tokens"], mine["reports"]["perSeconds"], mine["reports"]["burst"]) == (2, 60, 8)


async def test_limits_tells_what_is_left_and_takes_nothing(api: Api) -> None:
    async with gateway(api.url, limit()) as running:
        await post_batch(running.port, gets("/x", "/x"))
        told = [(await get(running.port, "/batch/limits")).json() for _ in range(3)]

    assert [document["limits"][0]["remaining"] for document in told] == [8, 8, 8]
    assert told[0]["operationsMax"] == 100
    assert told[0]["limits"][0]["name"] == "per-caller"


# Routes.

ROUTES = {
    "routes": [
        {"path": "/users", "methods": ["GET", "POST"]},
        {"path": "/users/{id}", "methods": ["GET"]},
        {"path": "/login", "batch": False},
        {"path": "/reports/**", "methods": ["GET"]},
    ]
}


@pytest.mark.parametrize(
    ("method", "path", "slug"),
    [
        ("GET", "/users", None),
        ("GET", "/users?x=/secret", None),
        ("POST", "/users", None),
        ("DELETE", "/users", "route-not-allowed"),
        ("GET", "/users/7", None),
        ("GET", "/users/%37", None),
        ("PUT", "/users/7", "route-not-allowed"),
        ("GET", "/users/7/keys", "route-not-allowed"),
        ("GET", "/users/", "route-not-allowed"),
        ("GET", "/Users", "route-not-allowed"),
        ("GET", "/secret", "route-not-allowed"),
        ("POST", "/login", "route-not-batchable"),
        ("GET", "/reports/a/b/c", None),
        ("GET", "/%72eports/a", None),
    ],
)
async def test_routes_are_an_allow_list_for_batches(api: Api, method: str, path: str, slug: str | None) -> None:
    async with gateway(api.url, json.dumps(ROUTES)) as running:
        answered = await post_batch(running.port, {"operations": [{"method": method, "path": path}]})

    result = answered.json()["results"][0]
    assert answered.status == 207
    assert result["status"] == (200 if slug is None else 403)
    assert len(api.received) == (slug is None)
    if slug:
        assert result["error"]["type"] == f"/batch/problems/{slug}"
        assert result["error"]["origin"] == "gateway"


async def test_what_is_not_allowed_looks_the_same_whether_it_exists_or_not(api: Api) -> None:
    async with gateway(api.url, json.dumps(ROUTES)) as running:
        answered = await post_batch(running.port, gets("/exists", "/missing"))

    first, second = (result["error"] for result in answered.json()["results"])
    assert first == second


async def test_allowed_operations_run_beside_those_that_are_not(api: Api) -> None:
    async with gateway(api.url, json.dumps(ROUTES)) as running:
        answered = await post_batch(running.port, gets("/secret", "/users", "/login"))

    assert [result["status"] for result in answered.json()["results"]] == [403, 200, 403]
    assert api.targets == ["/users"]


async def test_strict_routes_refuse_the_whole_envelope_with_every_violation(api: Api) -> None:
    async with gateway(api.url, json.dumps(ROUTES | {"batch": {"strict_routes": True}})) as running:
        refused = await post_batch(running.port, gets("/secret", "/users", "/login"))

    assert (refused.status, refused.slug) == (422, "validation-failed")
    assert [(error["pointer"], error["code"]) for error in refused.json()["errors"]] == [
        ("/operations/0/path", "route-not-allowed"),
        ("/operations/2/path", "route-not-batchable"),
    ]
    assert api.received == []


async def test_strict_routes_point_into_a_bare_array_and_name_the_operation(api: Api) -> None:
    async with gateway(api.url, json.dumps(ROUTES | {"batch": {"strict_routes": True}})) as running:
        refused = await post_batch(running.port, [{"id": "one", "method": "GET", "path": "/secret"}])

    assert refused.json()["errors"][0]["pointer"] == "/0/path"
    assert refused.json()["errors"][0]["id"] == "one"


async def test_lone_requests_pass_whatever_the_routes_say(api: Api) -> None:
    async with gateway(api.url, json.dumps(ROUTES)) as running:
        statuses = [(await get(running.port, path)).status for path in ("/secret", "/login", "/users/7/keys")]
        posted = await post(running.port, "/login", b"{}")

    assert [*statuses, posted.status] == [200] * 4


async def test_operations_refused_by_their_route_cost_nothing(api: Api) -> None:
    settings = json.loads(limit()) | ROUTES

    async with gateway(api.url, json.dumps(settings)) as running:
        await post_batch(running.port, gets("/secret", "/users", "/login"))
        left = (await get(running.port, "/batch/limits")).json()["limits"][0]["remaining"]

    assert left == 9


async def test_a_route_chooses_its_upstream_and_its_timeout(api: Api) -> None:
    async with Api() as other:
        settings = {
            "upstreams": {"default": {"url": api.url}, "other": {"url": other.url}},
            "routes": [{"path": "/other/**", "upstream": "other"}, {"path": "/**"}],
        }
        async with gateway(None, json.dumps(settings)) as running:
            answered = await post_batch(running.port, gets("/other/1", "/mine"))
            lone = await get(running.port, "/other/2")

    assert answered.json()["summary"]["succeeded"] == 2
    assert lone.status == 200
    assert (api.targets, other.targets) == (["/mine"], ["/other/1", "/other/2"])
