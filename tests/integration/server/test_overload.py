"""More than the gateway has room for is told so at once, and takes nothing from those who are served (PROMISES P7)."""

import asyncio

from tests.fakes.until import PATIENCE_S, until
from tests.integration.server.api import Api, after, answer
from tests.integration.server.gateways import Gateway, gateway
from tests.integration.server.test_deadline_and_abort import aborted, metric
from tests.integration.server.wire import Answer, Wire, get, post_batch, request

TWO = "batch: {in_flight_max: 2, in_flight_of_caller_max: 2}"
ONE_EACH = "batch: {in_flight_max: 3, in_flight_of_caller_max: 1}"
HANG = [{"method": "GET", "path": "/hang"}]
TAKEN = 'batch_gateway_tokens_taken_total{bucket="all"}'
SHED = 'batch_gateway_shed_total{reason="overload"}'


def hanging(api: Api) -> asyncio.Event:
    """`/hang` answers once this event is set."""
    release = asyncio.Event()

    api.on("/hang", after(release, answer()))
    return release


def sent(running: Gateway, caller: str = "a") -> "asyncio.Task[Answer]":
    return asyncio.create_task(post_batch(running.port, HANG, ("Authorization", caller)))


async def test_a_batch_too_many_is_503_at_once_and_the_others_are_answered(api: Api) -> None:
    release = hanging(api)
    limit = "limits: [{name: all, key: global, rate: 1/h, burst: 10}]"
    async with gateway(api.url, f"{TWO}\n{limit}") as running:
        served = [sent(running, caller) for caller in "ab"]
        await api.until(2)
        refused = await asyncio.wait_for(sent(running, "c"), PATIENCE_S)
        lone = await get(running.port, "/x")
        release.set()
        statuses = [(await each).status for each in served]
        again = await sent(running, "c")
        taken = await metric(running.admin_port, TAKEN)
        shed = await metric(running.admin_port, SHED)

    assert (refused.status, refused.slug, refused.header("Retry-After")) == (503, "overloaded", "1")
    assert (lone.status, statuses, again.status) == (200, [207, 207], 207)
    assert (taken, shed) == (4, 1)  # two batches, one lone request, one batch again: what was refused cost nothing


async def test_a_forwarded_request_too_many_is_503_at_once_and_costs_nothing(api: Api) -> None:
    release = hanging(api)
    limit = "limits: [{name: all, key: global, rate: 1/h, burst: 10}]"
    async with gateway(api.url, limit, upstream__connections=1, upstream__requests_waiting_max=1) as running:
        served = [asyncio.create_task(get(running.port, "/hang"))]
        await api.until(1)
        served.append(asyncio.create_task(get(running.port, "/hang")))
        await until(lambda: is_taken(running, 2))
        refused = await asyncio.wait_for(get(running.port, "/hang"), PATIENCE_S)
        release.set()
        statuses = [(await each).status for each in served]
        again = await get(running.port, "/x")
        shed = await metric(running.admin_port, SHED)
        taken = await metric(running.admin_port, TAKEN)

    assert (refused.status, refused.slug, refused.header("Retry-After")) == (503, "overloaded", "1")
    assert refused.header("X-Gateway-Error") == "overloaded"
    assert (statuses, again.status, shed, taken) == ([200, 200], 200, 1, 3)


async def test_requests_for_which_connections_open_do_not_stand_in_line(api: Api) -> None:
    async with gateway(api.url, upstream__connections=20, upstream__requests_waiting_max=1) as running:
        answered = await asyncio.gather(*[get(running.port, "/x") for _ in range(20)])

    assert {each.status for each in answered} == {200}


async def is_taken(running: Gateway, tokens: int) -> bool:
    return await metric(running.admin_port, TAKEN) == tokens


async def test_a_caller_with_too_many_batches_leaves_room_for_others(api: Api) -> None:
    release = hanging(api)
    async with gateway(api.url, ONE_EACH) as running:
        first = sent(running, "a")
        await api.until(1)
        refused = await asyncio.wait_for(sent(running, "a"), PATIENCE_S)
        other = sent(running, "b")
        await api.until(2)
        release.set()
        statuses = [(await first).status, (await other).status, (await sent(running, "a")).status]

    assert (refused.status, refused.slug) == (503, "overloaded")
    assert statuses == [207, 207, 207]


async def test_a_batch_whose_caller_goes_away_gives_its_room_back(api: Api) -> None:
    release = hanging(api)
    async with gateway(api.url, ONE_EACH) as running:
        async with await Wire.open(running.port) as wire:
            body = b'[{"method": "GET", "path": "/hang"}]'
            await wire.send(request("POST", "/batch", [("Content-Type", "application/json")], body))
            await api.until(1)
        await aborted(running.admin_port)
        release.set()
        answered = await post_batch(running.port, HANG)

    assert answered.status == 207


async def test_an_envelope_that_is_refused_takes_no_room(api: Api) -> None:
    async with gateway(api.url, ONE_EACH) as running:
        refused = [(await post_batch(running.port, b"{")).status for _ in range(3)]
        answered = await post_batch(running.port, [{"method": "GET", "path": "/x"}])

    assert (refused, answered.status) == ([400] * 3, 207)
