"""When a batch is answered with 202, what the 202 says, and what is refused (CONTRACT 2, PROMISES D.5)."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.integration.asynchronous.calls import (
    ALICE,
    ASYNC,
    BOB,
    Hold,
    ended,
    envelope,
    keeping,
    results,
    status,
    submit,
)
from tests.integration.server.api import Api
from tests.integration.server.gateways import Gateway, gateway
from tests.integration.server.wire import get, post, post_batch


async def test_more_operations_than_fit_in_place_are_accepted_run_and_kept(api: Api, plain: Gateway) -> None:
    answered = await post_batch(plain.port, envelope(101))

    document = answered.json()
    base = f"/batch/{document['batchId']}"
    assert answered.status == 202
    assert answered.header("Location") == base
    assert answered.header("Retry-After") == "1"
    assert answered.header("Preference-Applied") is None
    assert document["status"] == "processing"
    assert document["total"] == 101
    assert [document[f"{verb}Url"] for verb in ("status", "results", "events", "cancel")] == [
        f"{base}/{verb}" for verb in ("status", "results", "events", "cancel")
    ]
    assert datetime.fromisoformat(document["expiresAt"]) > datetime.now(UTC)
    final = await ended(plain.port, document["batchId"])
    assert (final["status"], final["succeeded"], final["progress"]) == ("completed", 101, 1.0)
    found = await results(plain.port, document["batchId"])
    assert [each["id"] for each in found] == [f"op{index}" for index in range(101)]
    assert found[100]["result"]["target"] == "/items/100"
    assert len(api.received) == 101


async def test_a_hundred_operations_are_answered_in_place(plain: Gateway) -> None:
    assert (await post_batch(plain.port, envelope(100))).status == 207


@pytest.mark.parametrize(
    ("prefer", "expected", "applied"),
    [
        ("respond-async", 202, "respond-async"),
        ("RESPOND-ASYNC; x=1, handling=lenient", 202, "respond-async"),
        ("respond-async, wait=10", 207, "wait=10"),
        ("wait=10", 207, "wait=10"),
        ("wait=0", 202, None),
        ("wait=soon", 207, None),
    ],
)
async def test_the_caller_may_choose(plain: Gateway, prefer: str, expected: int, applied: str | None) -> None:
    answered = await post_batch(plain.port, envelope(2), ("Prefer", prefer))

    assert (answered.status, answered.header("Preference-Applied")) == (expected, applied)


async def test_what_a_202_named_can_be_read_at_once(api: Api, plain: Gateway) -> None:
    api.on("/items/0", hold := Hold())

    for _ in range(20):
        batch_id = await submit(plain.port, envelope(1))
        assert (await status(plain.port, batch_id))["total"] == 1

    hold.released.set()


async def test_an_asynchronous_batch_is_validated_like_any_other(api: Api, plain: Gateway) -> None:
    answered = await post_batch(plain.port, envelope(150, method="BREW"), ASYNC)

    assert (answered.status, answered.slug) == (422, "validation-failed")
    assert len(answered.json()["errors"]) == 100
    assert api.received == []


async def test_what_no_route_allows_is_a_403_outcome(api: Api, tmp_path: Path) -> None:
    routes = json.dumps({"routes": [{"path": "/items/{id}", "methods": ["GET"]}]})
    body = json.dumps(
        {"operations": [{"method": "GET", "path": "/items/1"}, {"method": "DELETE", "path": "/items/1"}]}
    ).encode()

    async with keeping(api.url, tmp_path, routes) as running:
        batch_id = await submit(running.port, body)
        await ended(running.port, batch_id)
        found = await results(running.port, batch_id)

    assert [each["status"] for each in found] == [200, 403]


async def test_strict_routes_refuse_the_whole_batch(api: Api, tmp_path: Path) -> None:
    settings = json.dumps({"routes": [{"path": "/other", "methods": ["GET"]}], "batch": {"strict_routes": True}})

    async with keeping(api.url, tmp_path, settings) as running:
        answered = await post_batch(running.port, envelope(2), ASYNC)

    assert (answered.status, answered.slug) == (422, "validation-failed")


async def test_a_caller_has_so_many_unfinished_batches_and_another_has_his_own(api: Api, tmp_path: Path) -> None:
    api.on("/items/0", hold := Hold())

    async with keeping(api.url, tmp_path, async__unfinished_max=2) as running:
        for _ in range(2):
            await submit(running.port, envelope(1), ALICE)
        third = await post_batch(running.port, envelope(1), ASYNC, ALICE)
        bobs = await post_batch(running.port, envelope(1), ASYNC, BOB)
        hold.released.set()

    assert (third.status, third.slug) == (429, "too-many-batches")
    assert third.header("Retry-After")
    assert bobs.status == 202


async def test_operations_inherit_the_callers_credentials(api: Api, plain: Gateway) -> None:
    batch_id = await submit(plain.port, envelope(1), ALICE)
    await ended(plain.port, batch_id, ALICE)

    assert api.last.header("Authorization") == "Bearer alice"
    assert str(api.last.header("X-Request-Id")).endswith(".op0")


async def test_a_batch_begins_no_sooner_than_it_says(api: Api, plain: Gateway) -> None:
    batch_id = await submit(plain.port, envelope(1, notBefore=0.5))
    began = await status(plain.port, batch_id)
    final = await ended(plain.port, batch_id)

    assert began["startedAt"] is None
    waited = datetime.fromisoformat(final["startedAt"]) - datetime.fromisoformat(final["createdAt"])
    assert waited.total_seconds() >= 0.5


async def test_a_batch_that_would_expire_before_it_begins_is_refused(plain: Gateway) -> None:
    answered = await post_batch(plain.port, envelope(1, notBefore=25 * 3600))

    assert (answered.status, answered.slug) == (422, "validation-failed")
    assert answered.json()["errors"][0]["pointer"] == "/notBefore"


async def test_without_a_ledger_a_preference_is_ignored_and_a_date_refused(api: Api) -> None:
    async with gateway(api.url) as running:
        preferred = await post_batch(running.port, envelope(2), ASYNC, ("Prefer", "wait=0"))
        dated = await post_batch(running.port, envelope(2, notBefore=5))
        many = await post_batch(running.port, envelope(101))
        asked = await get(running.port, f"/batch/{'a' * 40}")

    assert (preferred.status, preferred.header("Preference-Applied")) == (207, None)
    assert (dated.status, dated.slug) == (422, "async-disabled")
    assert (many.status, many.slug) == (413, "too-many-operations")
    assert asked.slug == "not-found"


async def test_while_draining_nothing_new_is_accepted(api: Api, tmp_path: Path) -> None:
    api.on("/items/0", hold := Hold())

    async with keeping(api.url, tmp_path, drain__delay="5s") as running:
        batch_id = await submit(running.port, envelope(1))
        running.app._edge.draining = True
        refused = await post_batch(running.port, envelope(1), ASYNC)
        retried = await post(running.port, f"/batch/{batch_id}/retry", b"")
        in_place = await post_batch(running.port, envelope(1, path="/other"))
        hold.released.set()

    assert (refused.status, refused.slug, refused.header("Retry-After")) == (503, "draining", "5")
    assert (retried.status, retried.slug) == (503, "draining")
    assert in_place.status == 207
