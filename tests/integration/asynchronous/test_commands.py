"""Status, cancel, pause, resume, retry, delete and list; and that a batch is shown to its owner only."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.machine import Stopwatch
from tests.fakes.until import pass_by, until
from tests.integration.asynchronous.calls import (
    ALICE,
    ASYNC,
    BOB,
    Hold,
    call,
    ended,
    envelope,
    failing,
    keeping,
    results,
    status,
    submit,
)
from tests.integration.server.api import Api, answer
from tests.integration.server.gateways import Gateway
from tests.integration.server.wire import Answer, get, post, post_batch

_MEMBERS = [
    "batchId", "status", "paused", "total", "completed", "succeeded", "failed", "unknown", "cancelled", "expired",
    "progress", "createdAt", "startedAt", "endedAt", "expiresAt", "operationsPerSecond", "etaSeconds", "resultsUrl",
]  # fmt: skip


async def test_the_status_has_every_member_and_its_sums_hold(api: Api, plain: Gateway) -> None:
    api.on("/items/1", failing(500))
    batch_id = await submit(plain.port, envelope(4))
    final = await ended(plain.port, batch_id)

    assert list(final) == _MEMBERS
    assert (final["status"], final["completed"], final["succeeded"], final["failed"]) == ("completed", 4, 3, 1)
    assert final["createdAt"] <= final["startedAt"] <= final["endedAt"] < final["expiresAt"]
    assert final["createdAt"].endswith("Z")
    assert (final["progress"], final["etaSeconds"]) == (1.0, 0)
    assert final["operationsPerSecond"] > 0
    assert await status(plain.port, f"{batch_id}/status") == final


async def test_progress_never_goes_back_and_many_pollers_agree(api: Api, tmp_path: Path) -> None:
    async with keeping(api.url, tmp_path, async__slice=5) as running:
        batch_id = await submit(running.port, envelope(400))
        seen: list[list[int]] = [[] for _ in range(5)]

        async def poll(mine: list[int]) -> None:
            found: dict[str, Any] = {"status": "processing"}
            while found["status"] == "processing":
                found = await status(running.port, batch_id)
                assert found["completed"] == found["succeeded"] + found["failed"]
                mine.append(found["completed"])

        await asyncio.gather(*map(poll, seen))

    assert all(mine == sorted(mine) and mine[-1] == 400 for mine in seen)


async def test_nothing_starts_two_seconds_after_a_cancel(api: Api, tmp_path: Path) -> None:
    async with keeping(api.url, tmp_path, batch__concurrency=1, async__slices=1) as running:
        api.on("/items/5", hold := Hold())
        batch_id = await submit(running.port, envelope(200))
        await api.until(6)
        with Stopwatch() as watch:
            cancelled = await post(running.port, f"/batch/{batch_id}/cancel", b"")
            again = await post(running.port, f"/batch/{batch_id}/cancel", b"")
            hold.released.set()
            final = await ended(running.port, batch_id)
        late = await post(running.port, f"/batch/{batch_id}/cancel", b"")

    assert (cancelled.status, cancelled.json()["status"]) == (202, "cancelling")
    assert (again.status, again.body) == (202, cancelled.body)
    assert watch.ran_s <= 2.0
    assert final["status"] == "cancelled"
    assert final["succeeded"] == len(api.received) < 200
    assert (late.status, late.slug, late.header("x-should-retry")) == (409, "batch-terminal", "false")


async def test_a_batch_that_has_not_begun_is_cancelled_at_once(plain: Gateway) -> None:
    batch_id = await submit(plain.port, envelope(2, notBefore=60))

    cancelled = await post(plain.port, f"/batch/{batch_id}/cancel", b"")

    assert (cancelled.status, cancelled.json()["status"]) == (202, "cancelled")


async def test_a_paused_batch_waits_and_goes_on(api: Api, plain: Gateway) -> None:
    batch_id = await submit(plain.port, envelope(2, notBefore=0.3))

    paused = await post(plain.port, f"/batch/{batch_id}/pause", b"")
    await pass_by(1.0)  # past its time
    waiting = await status(plain.port, batch_id)
    resumed = await post(plain.port, f"/batch/{batch_id}/resume", b"")
    final = await ended(plain.port, batch_id)

    assert (paused.status, paused.json()["paused"]) == (202, True)
    assert (waiting["paused"], waiting["completed"], waiting["etaSeconds"]) == (True, 0, None)
    assert (resumed.status, resumed.json()["paused"]) == (202, False)
    assert final["status"] == "completed"


async def test_a_retry_runs_what_failed_under_the_credentials_of_the_retry(api: Api, plain: Gateway) -> None:
    api.on("/items/1", failing(500))
    api.on("/items/3", failing(404))
    first = await submit(plain.port, envelope(5), ALICE)
    await ended(plain.port, first, ALICE)
    api.on("/items/1", answer(200, b"1"))

    answered = await post(plain.port, f"/batch/{first}/retry", b"", ALICE, ("X-Try", "2"))
    second = answered.json()["batchId"]
    final = await ended(plain.port, second, ALICE)
    found = await results(plain.port, second, "", ALICE)

    assert (answered.status, answered.header("Location")) == (202, f"/batch/{second}")
    assert (answered.json()["retryOf"], final["retryOf"]) == (first, first)
    assert [(each["id"], each["status"]) for each in found] == [("op1", 200), ("op3", 404)]
    assert api.last.header("X-Try") == "2"


async def test_a_retry_sends_what_may_have_run_only_when_told_to(api: Api, plain: Gateway) -> None:
    async def hang_up(talk: Any) -> None:
        await talk.request.read()
        talk.writer.close()

    api.on("/items/0", hang_up)
    first = await submit(plain.port, envelope(1, method="POST"))
    assert (await ended(plain.port, first))["unknown"] == 1

    refused = await post(plain.port, f"/batch/{first}/retry", b"")
    told = await post(plain.port, f"/batch/{first}/retry?includeUnknown=true", b"")

    assert (refused.status, refused.slug) == (409, "batch-terminal")
    assert (told.status, told.json()["total"]) == (202, 1)


async def test_a_retry_leaves_out_what_waits_for_what_may_have_run(api: Api, plain: Gateway) -> None:
    async def hang_up(talk: Any) -> None:
        await talk.request.read()
        talk.writer.close()

    api.on("/items/1", hang_up)
    api.on("/items/3", failing(422))
    operations = [
        {"id": "child", "method": "GET", "path": "/items/0", "dependsOn": ["doubtful"]},
        {"id": "doubtful", "method": "POST", "path": "/items/1"},
        {"id": "grandchild", "method": "GET", "path": "/items/2", "dependsOn": ["child"]},
        {"id": "refused", "method": "POST", "path": "/items/3"},
    ]
    first = await submit(plain.port, json.dumps(operations).encode())
    assert (await ended(plain.port, first))["unknown"] == 1

    retried = await post(plain.port, f"/batch/{first}/retry", b"")
    told = await post(plain.port, f"/batch/{first}/retry?includeUnknown=true", b"")

    assert [each.json()["total"] for each in (retried, told)] == [1, 4]


async def test_a_running_batch_is_neither_retried_nor_deleted(api: Api, plain: Gateway) -> None:
    api.on("/items/0", hold := Hold())
    batch_id = await submit(plain.port, envelope(1))

    refused = [
        await post(plain.port, f"/batch/{batch_id}/retry", b""),
        await call(plain.port, "DELETE", f"/batch/{batch_id}"),
    ]
    hold.released.set()

    assert {(each.status, each.slug) for each in refused} == {(409, "batch-running")}


async def test_the_list_shows_ones_own_newest_first_in_pages(api: Api, plain: Gateway) -> None:
    mine = [await submit(plain.port, envelope(1), ALICE) for _ in range(5)]
    await submit(plain.port, envelope(1), BOB)
    await ended(plain.port, mine[0], ALICE)

    found: list[str] = []
    after = ""
    while True:
        page = (await get(plain.port, f"/batch?limit=2{after}", ALICE)).json()
        found += [each["batchId"] for each in page["batches"]]
        if not page["hasMore"]:
            break
        after = f"&after={page['next']}"

    assert found == mine[::-1]
    assert page["next"] is None


async def test_the_list_can_be_of_one_status(api: Api, plain: Gateway) -> None:
    api.on("/held/0", hold := Hold())
    done = await submit(plain.port, envelope(1))
    running = [await submit(plain.port, envelope(1, path="/held")) for _ in range(2)]
    running.append(await submit(plain.port, envelope(1, notBefore=60)))
    await ended(plain.port, done)

    async def listed(wanted: str) -> list[str]:
        return [each["batchId"] for each in (await get(plain.port, f"/batch?status={wanted}")).json()["batches"]]

    assert await listed("completed") == [done]
    assert await listed("processing") == running[::-1]
    assert await listed("failed") == []
    hold.released.set()


@pytest.mark.parametrize("query", ["limit=0", "limit=x", "after=x", f"after={'a' * 40}", "status=done"])
async def test_a_list_that_makes_no_sense_is_refused(plain: Gateway, query: str) -> None:
    answered = await get(plain.port, f"/batch?{query}")

    assert (answered.status, answered.slug) == (400, "bad-cursor")


async def _every_answer(port: int, batch_id: str, *fields: tuple[str, str]) -> list[Answer]:
    request_id = ("X-Request-Id", "same")
    calls = [("GET", ""), ("HEAD", ""), ("DELETE", "")]
    calls += [("GET", f"/{verb}") for verb in ("status", "results", "events")]
    calls += [("POST", f"/{verb}") for verb in ("cancel", "pause", "resume", "retry")]
    return [await call(port, method, f"/batch/{batch_id}{verb}", request_id, *fields) for method, verb in calls]


async def test_a_foreign_a_deleted_an_invented_and_a_malformed_id_look_alike(api: Api, plain: Gateway) -> None:
    foreign, deleted = [await submit(plain.port, envelope(1), ALICE) for _ in range(2)]
    await ended(plain.port, deleted, ALICE)
    gone = await call(plain.port, "DELETE", f"/batch/{deleted}", ALICE)

    told = [
        await _every_answer(plain.port, foreign, BOB),
        await _every_answer(plain.port, foreign),
        await _every_answer(plain.port, deleted, ALICE),
        await _every_answer(plain.port, "a" * 40, ALICE),
        await _every_answer(plain.port, "no%20id", ALICE),
    ]

    without_date = [
        [(each.status, [field for field in each.fields if field[0] != "Date"], each.body) for each in answers]
        for answers in told
    ]
    assert gone.status == 204
    assert {each.status for answers in told for each in answers} == {404}
    assert all(each == without_date[0] for each in without_date)
    assert json.loads(told[0][0].body)["type"] == "/batch/problems/batch-not-found"


async def test_ids_never_repeat_and_hold_enough_chance(plain: Gateway) -> None:
    ids = {await submit(plain.port, envelope(1)) for _ in range(20)}

    assert len(ids) == 20
    assert {len(each) for each in ids} == {40}  # 25 bytes in base32, 16 of them random


@pytest.mark.parametrize(
    ("method", "verb", "allowed"),
    [
        ("POST", "", "GET, HEAD, DELETE"),
        ("POST", "/status", "GET, HEAD"),
        ("DELETE", "/results", "GET, HEAD"),
        ("GET", "/cancel", "POST"),
        ("PUT", "/events", "GET"),
    ],
)
async def test_other_methods_are_refused_whether_the_batch_exists_or_not(
    plain: Gateway, method: str, verb: str, allowed: str
) -> None:
    batch_id = await submit(plain.port, envelope(1))

    told = [await call(plain.port, method, f"/batch/{each}{verb}") for each in (batch_id, "b" * 40)]

    assert {(each.status, each.slug, each.header("Allow")) for each in told} == {(405, "method-not-allowed", allowed)}


async def test_what_stands_nowhere_is_not_found(plain: Gateway) -> None:
    below = await get(plain.port, "/batch/x/y")

    assert below.slug == "not-found"
    assert "use status, results" in below.json()["detail"]
    assert (await get(plain.port, "/batch/problems/none")).slug == "not-found"


async def test_the_metrics_tell_of_the_ledger_and_what_was_accepted(plain: Gateway) -> None:
    batch_id = await submit(plain.port, envelope(3))
    await ended(plain.port, batch_id)

    async def is_shown() -> bool:
        text = (await get(plain.admin_port, "/metrics")).body.decode()
        return (
            'envelopes_total{dialect="native",mode="async",outcome="accepted"} 1.0' in text
            and 'batch_gateway_batches{state="completed"} 1.0' in text
            and "batch_gateway_ledger_up 1.0" in text
            and 'batch_gateway_ledger_call_duration_seconds_count{call="accept"} 1.0' in text
        )

    await until(is_shown)


async def test_what_is_shed_is_counted_by_reason(api: Api, tmp_path: Path) -> None:
    api.on("/items/0", hold := Hold())

    async with keeping(api.url, tmp_path, async__unfinished_max=1) as running:
        await submit(running.port, envelope(1))
        await post_batch(running.port, envelope(1), ASYNC)
        text = (await get(running.admin_port, "/metrics")).body.decode()
        hold.released.set()

    assert 'batch_gateway_shed_total{reason="quota"} 1.0' in text
