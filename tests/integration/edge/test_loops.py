"""Gateways in a circle: each knows its own entry of `Via` again, however many stand between (RFC 9110 7.6.3)."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from tests.fakes.ports import free_port
from tests.integration.server.api import Api
from tests.integration.server.gateways import Gateway, gateway
from tests.integration.server.wire import ask, get, post_batch, request


@asynccontextmanager
async def circle(of: int) -> AsyncIterator[list[Gateway]]:
    """Gateways of which each is the upstream of the one before, and the first of the last."""
    ports = [free_port() for _ in range(of)]
    async with AsyncExitStack() as stack:
        yield [
            await stack.enter_async_context(gateway(f"http://127.0.0.1:{upstream}", listen__port=port))
            for port, upstream in zip(ports, [*ports[1:], ports[0]], strict=True)
        ]


async def served(gateways: list[Gateway]) -> float:
    """How many requests the gateways have taken in, all together."""
    told = [await ask(each.admin_port, request("GET", "/metrics", host="localhost")) for each in gateways]
    lines = [line for each in told for line in each.body.decode().splitlines()]
    return sum(
        float(line.rpartition(" ")[2]) for line in lines if line.startswith("batch_gateway_forwarded_requests_total{")
    )


@pytest.mark.parametrize("of", [1, 2, 3])
async def test_a_request_that_comes_back_is_508_after_one_round(of: int) -> None:
    async with circle(of) as gateways:
        answered = await get(gateways[0].port, "/x", ("Via", "1.0 somebody"))
        taken = await served(gateways)

    assert (answered.status, answered.slug) == (508, "loop-detected")
    assert answered.header("X-Gateway-Error") == "loop-detected"
    assert taken == of  # the one that came back was refused before it was anybody's


@pytest.mark.parametrize("of", [1, 2, 3])
async def test_an_operation_that_comes_back_is_508(of: int) -> None:
    async with circle(of) as gateways:
        answered = await post_batch(gateways[0].port, [{"method": "POST", "path": "/x", "body": {}}])
        taken = await served(gateways)

    assert answered.status == 207
    (result,) = answered.json()["results"]
    assert (result["status"], result["error"]["origin"]) == (508, "upstream")
    assert result["error"]["body"]["type"] == "/batch/problems/loop-detected"
    assert taken == of - 1


async def test_a_row_of_gateways_is_no_circle(api: Api) -> None:
    async with gateway(api.url) as last, gateway(f"http://127.0.0.1:{last.port}") as first:
        lone = await get(first.port, "/x", ("Via", "1.0 somebody, 1.1 batch-gateway (evil)"))
        told = api.last.header("Via") or ""
        batch = await post_batch(first.port, [{"method": "GET", "path": "/x"}])

    assert (lone.status, batch.json()["results"][0]["status"]) == (200, 200)
    entries = [entry.partition(" (")[0] for entry in told.split(", ")]
    assert entries == ["1.1 batch-gateway", "1.1 batch-gateway"]
    assert "evil" not in told
