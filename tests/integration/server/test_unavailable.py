"""A batch for an upstream that batches do not ask for a while: refused whole, at no cost; all else passes."""

from tests.integration.server.api import Api, Talk, answer
from tests.integration.server.gateways import gateway
from tests.integration.server.wire import get, post_batch

LIMITED = "limits: [{name: all, key: global, rate: 1/h, burst: 100000}]"


async def _busy(talk: Talk) -> None:
    await talk.request.read()
    await talk.send(answer(503, b"{}"))


async def test_a_batch_for_an_upstream_that_is_away_is_refused_uncharged_and_forwarding_goes_on() -> None:
    envelope = {"operations": [{"method": "POST", "path": f"/{number}"} for number in range(100)]}
    async with Api(_busy) as api, gateway(api.url, LIMITED) as running:
        first = await post_batch(running.port, envelope)
        while first.json()["results"][-1]["status"] == 503 and b"-unavailable" not in first.body:
            first = await post_batch(running.port, envelope)  # fast rejections lower the limit first
        left = (await get(running.port, "/batch/limits")).json()["limits"][0]["remaining"]
        sent = len(api.received)
        refused = await post_batch(running.port, envelope)
        charged = left - (await get(running.port, "/batch/limits")).json()["limits"][0]["remaining"]
        asked = len(api.received) - sent
        lone = [(await get(running.port, "/lone")).status for _ in range(30)]
        metrics = (await get(running.admin_port, "/metrics")).body

    slugs = {result["error"]["type"].rpartition("/")[2] for result in first.json()["results"]}
    assert slugs == {"upstream-error", "upstream-unavailable"}
    assert (refused.status, refused.slug) == (503, "upstream-unavailable")
    assert refused.header("Retry-After") in ("1", "2")
    assert (charged, asked) == (0, 0)
    assert lone == [503] * 30
    assert b'batch_gateway_upstream_circuit_state{state="open"} 1.0' in metrics
    assert b'batch_gateway_upstream_circuit_state{state="closed"} 0.0' in metrics
    assert b"batch_gateway_upstream_concurrency_limit 1.0" in metrics
