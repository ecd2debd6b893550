"""The retry law for forwarded requests: what is sent again before anything of an answer has reached the caller."""

import pytest

from tests.fakes.machine import Stopwatch
from tests.integration.server.api import Api, Talk, answer, chunked
from tests.integration.server.gateways import gateway
from tests.integration.server.wire import Wire, ask, get, post_batch, request

MARKED = """
routes:
  - {path: "/**", retryable_rejection: true}
"""
REJECTED = answer(503, b"busy", ("Retry-After", "0"), ("Content-Type", "text/plain"))


def _rejecting(times: int, rejection: bytes = REJECTED) -> Api:
    left = [rejection] * times

    async def behave(talk: Talk) -> None:
        await talk.request.read()
        await talk.send(left.pop() if left else answer(200, b"done", ("Content-Type", "text/plain")))

    return Api(behave)


def _post(body: bytes = b"once") -> bytes:
    return request("POST", "/things", [("Content-Type", "text/plain")], body)


async def test_a_forwarded_rejection_on_a_marked_route_is_sent_again_and_never_seen() -> None:
    async with _rejecting(2) as api, gateway(api.url, MARKED) as running:
        said = await ask(running.port, _post())

    assert (said.status, said.body, said.interims) == (200, b"done", [])
    assert [received.body for received in api.received] == [b"once"] * 3


async def test_the_last_of_three_rejections_passes_with_all_that_it_says() -> None:
    async with _rejecting(9) as api, gateway(api.url, MARKED) as running:
        said = await ask(running.port, _post())

    assert (said.status, said.body, said.header("Retry-After")) == (503, b"busy", "0")
    assert len(api.received) == 3


async def test_a_rejection_on_any_other_route_passes_as_it_is() -> None:
    async with _rejecting(9) as api, gateway(api.url) as running:
        said = await ask(running.port, _post())

    assert (said.status, said.body, said.header("Retry-After"), len(api.received)) == (503, b"busy", "0", 1)


@pytest.mark.parametrize(
    "rejection",
    [
        answer(425, b"early"),
        answer(503, b"x" * 100_000, ("Retry-After", "0")),
        chunked(b"bu", b"sy", fields=[("Retry-After", "0")]).replace(b"200 OK", b"429 No"),
        b"HTTP/1.1 503 No\r\nRetry-After: 0\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
    ],
    ids=["425", "long", "chunked", "closing"],
)
async def test_every_form_of_rejection_is_held_back(rejection: bytes) -> None:
    async with _rejecting(1, rejection) as api, gateway(api.url, MARKED) as running:
        said = await ask(running.port, _post())

    assert (said.status, said.body, len(api.received)) == (200, b"done", 2)


async def test_a_rejection_too_long_to_be_held_back_passes_whole() -> None:
    body = b"x" * 3_000_000
    async with _rejecting(1, answer(503, body, ("Retry-After", "0"))) as api, gateway(api.url, MARKED) as running:
        said = await ask(running.port, _post())

    assert (said.status, said.body == body, len(api.received)) == (503, True, 1)


async def test_a_body_that_was_streamed_away_is_not_sent_again() -> None:
    async with _rejecting(9) as api, gateway(api.url, MARKED) as running, await Wire.open(running.port) as wire:
        await wire.send(b"POST /things HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n")
        await api.until(1)
        await wire.send(b"4\r\nhalf\r\n0\r\n\r\n")
        said = await wire.answer()

    assert (said.status, said.body) == (503, b"busy")
    assert [received.body for received in api.received] == [b"halfhalf"]


async def test_retry_after_is_waited_for_before_a_forwarded_request_is_sent_again() -> None:
    async with (
        _rejecting(1, answer(429, b"", ("Retry-After", "1"))) as api,
        gateway(api.url, MARKED) as running,
    ):
        with Stopwatch() as watch:
            said = await ask(running.port, _post())

    assert said.status == 200
    assert watch.took_s >= 1
    assert watch.ran_s < 1.5


async def test_a_retry_after_beyond_the_timeout_passes_at_once() -> None:
    async with (
        _rejecting(1, answer(503, b"busy", ("Retry-After", "60"))) as api,
        gateway(api.url, MARKED) as running,
    ):
        with Stopwatch() as watch:
            said = await ask(running.port, _post())

    assert (said.status, said.header("Retry-After")) == (503, "60")
    assert watch.ran_s < 1


async def test_an_operation_of_a_batch_is_sent_again_by_the_same_law() -> None:
    operations = [{"method": "POST", "path": f"/{number}"} for number in range(4)]
    async with _rejecting(4) as api, gateway(api.url, MARKED) as running:
        said = await post_batch(running.port, {"operations": operations})

    assert [result["status"] for result in said.json()["results"]] == [200] * 4
    assert len(api.received) == 8


async def test_repeats_beyond_the_budget_are_refused_and_counted() -> None:
    settings = MARKED + "upstream: {retry_percent: 0, retries_per_second: 0}"
    async with _rejecting(9) as api, gateway(api.url, settings) as running:
        said = await ask(running.port, _post())
        metrics = await get(running.admin_port, "/metrics")

    assert (said.status, len(api.received)) == (503, 1)
    assert b"batch_gateway_upstream_retries_refused_total 1.0" in metrics.body
