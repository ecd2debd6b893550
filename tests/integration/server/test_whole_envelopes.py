"""Envelopes that come whole are answered without a task, and as those that do not."""

import asyncio
import json
import random
from collections.abc import Callable, Sequence

import pytest

from tests.fakes.until import until
from tests.integration.server.api import Api, after, answer, hang
from tests.integration.server.gateways import Gateway, gateway
from tests.integration.server.test_deadline_and_abort import metric
from tests.integration.server.wire import Answer, Fields, Wire, request

SETTINGS = """
routes: [{path: /x}, {path: /two, methods: [GET], cost: 2}, {path: /free}, {path: /broken}]
limits: [{name: ours, key: caller, rate: 1/h, burst: 60, routes: [/x, /two, /broken]}]
batch: {operations_max: 20, sync_operations_max: 10, body_max: 4KiB, operation_body_max: 2KiB}
"""
JSON = ("Content-Type", "application/json")


def get(*paths: str, **members: object) -> bytes:
    return json.dumps({"operations": [{"method": "GET", "path": path} for path in paths], **members}).encode()


POSTED = json.dumps([{"id": "a", "method": "POST", "path": "/x?y=z", "headers": {"X-A": "b"}, "body": {"n": 1}}])
REFERRING = json.dumps(
    [
        {"id": "a", "method": "GET", "path": "/x"},
        {"id": "b", "method": "POST", "path": "/x", "body": "$ops.a.response.body#/target"},
    ]
)
CORPUS: Sequence[tuple[str, Fields, bytes]] = [
    ("/batch", [JSON], get("/x", "/two", "/nowhere")),
    ("/batch", [JSON, ("Content-Type", "text/plain")], get("/x")),
    ("/batch", [JSON], POSTED.encode()),
    ("/batch", [JSON], REFERRING.encode()),
    ("/batch", [JSON, ("Accept", "application/xml")], get("/x", "/nowhere")),
    ("/batch", [JSON, ("Accept", "application/x-ndjson")], get("/x")),
    ("/batch", [JSON, ("Accept", "image/png")], get("/x")),
    ("/batch", [("Content-Type", "text/plain")], get("/x")),
    ("/batch", [("Content-Type", 'application/json; charset="utf-8"')], get("/x")),
    ("/batch", [("Content-Type", "application/json; charset=latin-1")], get("/x")),
    ("/batch", [JSON, ("Content-Encoding", "gzip")], get("/x")),
    ("/batch", [JSON, ("Expect", "100-continue")], get("/x")),
    ("/batch", [JSON, ("Expect", "wonders")], get("/x")),
    ("/batch", [JSON, ("Via", "1.1 other"), ("Cookie", "a=b")], get("/x")),
    ("/batch", [JSON, ("X-Forwarded-For", "1.2.3.4"), ("traceparent", f"00-{'1' * 32}-{'2' * 16}-01")], get("/x")),
    ("/batch", [JSON, ("Prefer", "wait=5")], get("/x")),
    ("/batch", [JSON, ("Idempotency-Key", "no key")], get("/x")),
    ("/batch", [JSON], b"{"),
    ("/batch", [JSON], b" "),
    ("/batch", [JSON], b'{"operations": [], "surplus": 1}'),
    ("/batch", [JSON], get("x", "/x/../y", onFailure="never")),
    ("/batch", [JSON], get(*["/x"] * 11)),
    ("/batch", [JSON], get(*["/two"] * 10)),
    ("/batch", [JSON], get(*["/two"] * 10)),
    ("/batch", [JSON], get(*["/two"] * 10)),
    ("/batch", [JSON], get("/x") + b" " * 4096),
    ("/batch", [JSON], get("/broken", "/x", onFailure="halt")),
    ("/batch?dryRun=true", [JSON], get("/x", "/nowhere")),
    ("/batch?else=1", [JSON], get("/x", "/x")),
    ("/batch/limits", [], b""),
    ("/batch/nothing", [JSON], get("/x")),
    ("/x", [JSON], get("/x")),
]


def whole(target: str, fields: Fields, body: bytes) -> tuple[bytes, bool]:
    return request("POST", target, [*fields, ("X-Request-Id", "ours")], body), False


def chunked(target: str, fields: Fields, body: bytes) -> tuple[bytes, bool]:
    """In two chunks, of which no length tells at once how much they are."""
    head = request("POST", target, [*fields, ("X-Request-Id", "ours"), ("Transfer-Encoding", "chunked")])
    pieces = [piece for piece in (body[:7], body[7:]) if piece]
    return head + b"".join([b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces]) + b"0\r\n\r\n", False


def behind(target: str, fields: Fields, body: bytes) -> tuple[bytes, bool]:
    """Behind another request, so that it waits for its turn."""
    return request("GET", "/free") + whole(target, fields, body)[0], True


Way = Callable[[str, Fields, bytes], tuple[bytes, bool]]


async def told(api: Api, way: Way) -> list[object]:
    """What becomes of the corpus: the answers, what the upstream saw of each envelope, and how they were counted."""
    async with gateway(api.url, SETTINGS) as running:
        seen = [await become(api, running, way(*entry)) for entry in CORPUS]
        assert running.app._edge.active == 0
        for name in ("all_ok", "partial", "all_failed", "rejected"):
            key = f'batch_gateway_envelopes_total{{dialect="native",mode="sync",outcome="{name}"}}'
            seen.append((name, await metric(running.admin_port, key)))
    async with gateway(api.url, batch__sync_timeout="500ms") as running:
        seen.append(await become(api, running, way("/batch", [JSON], get("/hang"))))
    return seen


async def become(api: Api, running: Gateway, sent: tuple[bytes, bool], wire: Wire | None = None) -> object:
    """The answer to an envelope, on a connection of its own if none is given, and what the upstream saw of it."""
    if wire is None:
        async with await Wire.open(running.port) as wire:
            return await become(api, running, sent, wire)
    known, (data, is_second) = len(api.received), sent
    await wire.send(data)
    if is_second:
        await wire.answer()
    said = await wire.answer()
    asked = api.received[known + is_second :]
    return _lasting(said), sorted([(each.method, each.target, _own(each.fields)) for each in asked])


def _lasting(said: Answer) -> object:
    """An answer without what is another one every time."""
    fields = [(name, value.partition(";t=")[0]) for name, value in said.fields if name != "Date"]
    return said.status, fields, said.body, [interim.status for interim in said.interims]


def _own(fields: Fields) -> list[tuple[str, str]]:
    of_each = ("traceparent", "x-request-id", "via", "content-length", "transfer-encoding")
    return [field for field in fields if field[0].lower() not in of_each]


@pytest.mark.parametrize("other", [chunked, behind])
async def test_it_makes_no_difference_how_an_envelope_comes(api: Api, other: Way) -> None:
    api.on("/hang", hang)
    api.on("/broken", answer(500, b"no"))

    seen, of_other = await told(api, whole), await told(api, other)

    for number, (one, two) in enumerate(zip(seen, of_other, strict=True)):
        assert one == two, CORPUS[number] if number < len(CORPUS) else one
    statuses = {said[0][0] for said in seen[: len(CORPUS)]}  # type: ignore[index]
    assert statuses >= {200, 207, 400, 404, 405, 406, 413, 415, 417, 422, 429}


async def test_what_one_envelope_says_does_not_stick_to_the_next(api: Api) -> None:
    said: list[Fields] = [
        [],
        [("Authorization", "Bearer a")],
        [("Authorization", "Bearer b"), ("Accept", "application/xml")],
        [("Authorization", "Bearer b"), ("Accept", "text/html")],
        [("Authorization", "Bearer a"), ("X-Forwarded-For", "1.2.3.4"), ("X-Real-IP", "1.2.3.4")],
        [("traceparent", f"00-{'1' * 32}-{'2' * 16}-01"), ("Via", "1.1 other")],
        [("Prefer", "wait=7"), ("X-A", "b")],
        [("Content-Encoding", "gzip")],
    ]
    envelopes = [get("/x"), get("/x", "/two"), get("x")]
    chosen = random.Random(5)
    sent = [whole("/batch", [JSON, *chosen.choice(said)], chosen.choice(envelopes)) for _ in range(60)]

    async with gateway(api.url, SETTINGS) as running:
        apart = [await become(api, running, each) for each in sent]
    async with gateway(api.url, SETTINGS) as running, await Wire.open(running.port) as wire:
        together = [await become(api, running, each, wire) for each in sent]

    for one, two, data in zip(apart, together, sent, strict=True):
        assert one == two, data


@pytest.mark.parametrize(("form", "tasks"), [("application/json", 0), ("application/x-ndjson", 1)])
async def test_a_whole_envelope_needs_a_task_only_to_be_streamed(
    api: Api, plain: Gateway, form: str, tasks: int
) -> None:
    release = asyncio.Event()
    api.on("/late", after(release, answer(200, b"{}")))

    async with await Wire.open(plain.port) as wire:
        await wire.send(request("POST", "/batch", [JSON, ("Accept", form)], get("/late", "/x")))
        await api.until(2)
        assert (plain.app._edge.active, len(stepping())) == (1, tasks)
        await wire.send(request("GET", "/x")[:5])  # the next request, behind it
        release.set()
        assert (await wire.answer()).status == 207
        await wire.send(request("GET", "/x")[5:])
        assert (await wire.answer()).status == 200
    assert plain.app._edge.active == 0


async def test_a_caller_that_goes_takes_its_batch_along(api: Api, plain: Gateway) -> None:
    api.on("/hang", hang)

    async with await Wire.open(plain.port) as wire:
        await wire.send(request("POST", "/batch", [JSON], get(*["/hang"] * 20)))
        await api.until(10)

    async def is_over() -> bool:
        pools = plain.app._generations.pools
        return plain.app._edge.active == 0 and not any(pool.in_flight for pool in pools)

    await until(is_over)
    assert len(api.received) == 10  # nothing further was sent
    aborted = 'batch_gateway_envelopes_total{dialect="native",mode="sync",outcome="aborted"}'
    assert await metric(plain.admin_port, aborted) == 1


async def test_a_batch_that_is_late_goes_on_record_from_where_it_stands(api: Api) -> None:
    release = asyncio.Event()
    api.on("/late", after(release, answer(200, b"{}")))

    settings = "batch: {sync_timeout: 100ms}"
    async with (
        gateway(api.url, settings, async__ledger="sqlite::memory:") as running,
        await Wire.open(running.port) as wire,
    ):
        await wire.send(request("POST", "/batch", [JSON], get("/late", "/x")))
        accepted = await wire.answer()
        release.set()
        status = accepted.json()["statusUrl"]

        async def is_completed() -> bool:
            await wire.send(request("GET", status))
            return bool((await wire.answer()).json()["status"] == "completed")

        await until(is_completed)
    assert accepted.status == 202
    assert sorted(api.targets) == ["/late", "/x"]


def stepping() -> list[object]:
    """Coroutines that had to go on as tasks."""
    return [task for task in asyncio.all_tasks() if "Steps" in str(task.get_coro())]
