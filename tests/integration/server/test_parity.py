"""PROMISES X3 over HTTP: requests alone through one gateway, the same within batches through its twin."""

import random

from tests.integration.server.api import Api
from tests.integration.server.gateways import Gateway, gateway
from tests.integration.server.test_deadline_and_abort import metric
from tests.integration.server.wire import get, post, post_batch

REQUESTS = 200
SETTINGS = """
routes:
  - {path: /cheap, methods: [GET, POST]}
  - {path: "/dear/{id}", methods: [GET], cost: 3}
  - {path: /closed, methods: [GET], batch: false}
limits:
  - {name: per-caller, key: caller, rate: 1/h, burst: 30, on_exhausted: reject}
  - {name: per-tenant, key: "header:X-Tenant", rate: 1/h, burst: 40, on_exhausted: reject}
  - {name: dear-ones, key: global, rate: 1/h, burst: 60, routes: ["/dear/{id}"], on_exhausted: reject}
"""
REFUSED = {"method": "DELETE", "path": "/nowhere"}  # no route lets it into a batch: it costs nothing
OPERATIONS = [("GET", "/cheap"), ("POST", "/cheap?a=b"), ("GET", "/dear/1"), ("GET", "/dear/2?x=y")]


async def alone(running: Gateway, method: str, path: str, caller: list[tuple[str, str]]) -> tuple[int, str]:
    if method == "GET":
        said = await get(running.port, path, *caller)
    else:
        said = await post(running.port, path, b"{}", *caller)
    return said.status, "" if said.status == 200 else said.slug


async def in_batch(
    running: Gateway, method: str, path: str, caller: list[tuple[str, str]], index: int, behind: int
) -> tuple[int, str]:
    operation: dict[str, object] = {"method": method, "path": path}
    if method == "POST":
        operation["body"] = {}
    said = await post_batch(running.port, [*[REFUSED] * index, operation, *[REFUSED] * behind], *caller)
    if said.status != 207:
        return said.status, said.slug
    results = said.json()["results"]
    result = results.pop(index)
    assert [each["status"] for each in results] == [403] * (index + behind)
    return result["status"], "" if result["status"] == 200 else result["error"]["type"].rpartition("/")[2]


async def test_two_hundred_requests_are_answered_alike_and_take_the_same_tokens(api: Api) -> None:
    chosen = random.Random(3)
    alike, statuses = [], set()
    async with gateway(api.url, SETTINGS) as first, gateway(api.url, SETTINGS) as second:
        for _ in range(REQUESTS):
            method, path = chosen.choice(OPERATIONS)
            caller = [("Authorization", f"Bearer {chosen.randrange(5)}"), ("X-Tenant", f"t{chosen.randrange(4)}")]
            lone = await alone(first, method, path, caller)
            alike.append(lone == await in_batch(second, method, path, caller, chosen.randrange(5), chosen.randrange(5)))
            statuses.add(lone)
        tokens = [
            [await metric(each.admin_port, f'batch_gateway_tokens_{what}_total{{bucket="{name}"}}')
             for what in ("taken", "denied") for name in ("per-caller", "per-tenant", "dear-ones")]
            for each in (first, second)
        ]  # fmt: skip

    assert alike == [True] * REQUESTS
    assert statuses == {(200, ""), (429, "rate-limited")}
    assert tokens[0] == tokens[1]
    assert min(tokens[0]) > 0


async def test_routes_list_what_batches_may_do_and_nothing_else(api: Api) -> None:
    """The differences that the contract makes (CONTRACT 1b): alone, what no route names passes and takes one token."""
    async with gateway(api.url, SETTINGS) as running:
        caller = [("Authorization", "Bearer a"), ("X-Tenant", "t")]
        batched = [await in_batch(running, "GET", path, caller, 0, 0) for path in ("/closed", "/unknown")]
        taken_by_batches = await metric(running.admin_port, 'batch_gateway_tokens_taken_total{bucket="per-caller"}')
        lone = [await alone(running, "GET", path, caller) for path in ("/closed", "/unknown")]
        taken = await metric(running.admin_port, 'batch_gateway_tokens_taken_total{bucket="per-caller"}')

    assert batched == [(403, "route-not-batchable"), (403, "route-not-allowed")]
    assert lone == [(200, ""), (200, "")]
    assert (taken_by_batches, taken) == (0, 2)
