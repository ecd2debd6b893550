"""Graph's batches whose callers prefer a later answer (OData Protocol 4.01, 11.6): 202, a monitor, and what it says."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.fakes.until import until
from tests.integration.asynchronous.calls import (
    ALICE,
    ASYNC,
    BOB,
    Hold,
    call,
    ended,
    envelope,
    keeping,
    results,
    status,
    submit,
)
from tests.integration.server.api import Api, answer
from tests.integration.server.gateways import Gateway, gateway
from tests.integration.server.wire import Answer, get, post
from tests.sdk.apis import Turnstile
from tests.sdk.dying import Dying

_ON = "dialects: {graph: {}}"
_MANY = "dialects: {graph: {operations_max: 200}}"
_JSON = ("Content-Type", "application/json")
_BATCH = "/v1.0/$batch"
Entry = dict[str, Any]


@pytest.fixture
async def spoken(api: Api, tmp_path: Path) -> Any:
    async with keeping(api.url, tmp_path, _ON) as running:
        yield running


def entry(id_: str, url: str, method: str = "GET", **more: Any) -> Entry:
    return {"id": id_, "method": method, "url": url, **more}


async def send(
    running: Gateway | Dying, *entries: Entry, fields: tuple[tuple[str, str], ...] = (ASYNC, ALICE)
) -> Answer:
    return await post(running.port, _BATCH, json.dumps({"requests": entries}).encode(), _JSON, *fields)


async def accepted(
    running: Gateway | Dying, *entries: Entry, fields: tuple[tuple[str, str], ...] = (ASYNC, ALICE)
) -> str:
    """The target of the monitor of a batch that is on record."""
    answered = await send(running, *entries, fields=fields)
    assert answered.status == 202, answered
    return urlsplit(answered.header("Location") or "").path


async def finished(
    running: Gateway | Dying, monitor: str, *fields: tuple[str, str], looked: Callable[[], None] = lambda: None
) -> Answer:
    """What the monitor says once the batch has ended."""
    found: list[Answer] = []

    async def has_ended() -> bool:
        looked()
        found.append(await get(running.port, monitor, *(fields or [ALICE])))
        return found[-1].status != 202

    await until(has_ended)
    return found[-1]


def statuses(answered: Answer) -> dict[str, int]:
    return {each["id"]: each["status"] for each in answered.json()["responses"]}


async def test_a_monitor_is_202_while_the_batch_runs_and_then_the_answer(api: Api, spoken: Gateway) -> None:
    api.on("/v1.0/slow", hold := Hold())
    answered = await send(spoken, entry("a b", "slow"), entry("c", "/gone", **{"if": "$1"}))
    monitor = urlsplit(answered.header("Location") or "").path
    await api.until(1)
    running = await get(spoken.port, monitor, ALICE)
    hold.released.set()
    done = await finished(spoken, monitor)
    head = await call(spoken.port, "HEAD", monitor, ALICE)

    assert (answered.status, answered.body, answered.header("Retry-After")) == (202, b"", "1")
    assert answered.header("Location") == f"http://api.test{monitor}"
    assert monitor.startswith(f"{_BATCH}/monitors/")
    assert answered.header("Preference-Applied") == "respond-async"
    assert (running.status, running.header("Location"), running.header("Retry-After")) == (
        202, f"http://api.test{monitor}", "1",
    )  # fmt: skip
    assert (done.status, done.header("AsyncResult"), done.header("Content-Type")) == (200, "200", "application/json")
    assert statuses(done) == {"a b": 200, "c": 424}
    assert done.json()["responses"][0]["body"] == {"held": True}
    assert (head.status, head.header("AsyncResult")) == (200, "200")
    assert all(each.header("X-Request-Id") for each in (answered, running, done))


async def test_the_answer_is_the_one_in_place(api: Api, spoken: Gateway) -> None:
    api.on("/v1.0/photo", answer(200, bytes(range(256)), ("Content-Type", "image/png")))
    api.on("/v1.0/nothing", answer(204))
    api.on("/v1.0/nope", answer(404, b'{"error":{"code":"nf"}}', ("Content-Type", "application/json")))
    entries = [entry(name, name) for name in ("photo", "nothing", "nope", "u1")]
    entries += [entry("child", "u2", dependsOn=["nope"]), entry("if", "u3", **{"if": "x"}), entry("last", "u4")]

    at_once = await send(spoken, *entries, fields=(ALICE,))
    later = await finished(spoken, await accepted(spoken, *entries))

    assert (at_once.status, at_once.header("Preference-Applied")) == (200, None)
    assert later.body == at_once.body


async def test_who_accepts_a_message_is_given_one(spoken: Gateway) -> None:
    done = await finished(spoken, await accepted(spoken, entry("a", "/a")), ALICE, ("Accept", "application/http"))

    head, _, body = done.body.partition(b"\r\n\r\n")
    assert done.header("Content-Type") == "application/http"
    assert head == b"HTTP/1.1 200 OK\r\nContent-Type: application/json"
    assert json.loads(body)["responses"][0]["status"] == 200


async def test_order_holds_and_a_redirect_is_no_success(api: Api, spoken: Gateway) -> None:
    api.on("/moved", answer(302, b"", ("Location", "/b")))
    words = {"text": "$ops.a.response.body", "more": "$ops.nobody.response.status"}
    done = await finished(
        spoken,
        await accepted(
            spoken,
            entry("a", "/a", "POST", body=words),
            entry("b", "/b", "PATCH", body=words, dependsOn=["A"]),
            entry("c", "/c", "DELETE", depends_on=["b", "a"]),
            entry("moved", "/moved"),
            entry("lost", "/lost", dependsOn=["moved"]),
            entry("with it", "/lost", dependsOn=["lost"]),
        ),
    )

    assert statuses(done) == {"a": 200, "b": 200, "c": 200, "moved": 302, "lost": 424, "with it": 424}
    assert [target for target in api.targets if target != "/moved"] == ["/a", "/b", "/c"]
    assert all(json.loads(each.body) == words for each in api.received if each.method in ("POST", "PATCH"))


@pytest.mark.parametrize(
    ("prefer", "applied", "sent"),
    [
        ("respond-async, continue-on-error=false", "respond-async, continue-on-error=false", 1),
        ("respond-async, continue-on-error", "respond-async", 4),
        ("respond-async; wait=3, wait=0", "respond-async", 4),
    ],
)
async def test_continue_on_error_says_what_runs_after_a_failure(
    api: Api, tmp_path: Path, prefer: str, applied: str, sent: int
) -> None:
    api.on("/bad", answer(404, b"{}"))
    entries = [entry("bad", "/bad"), entry("1", "/1"), entry("2", "/2"), entry("3", "/3", dependsOn=["2"])]
    async with keeping(api.url, tmp_path, _ON, batch__concurrency=1) as running:
        answered = await send(running, *entries, fields=(("Prefer", prefer), ALICE))
        done = await finished(running, urlsplit(answered.header("Location") or "").path)

    assert (answered.status, answered.header("Preference-Applied")) == (202, applied)
    assert len(api.received) == sent
    assert list(statuses(done).values()) == [404, *([424] * 3 if sent == 1 else [200] * 3)]


async def test_a_monitor_that_is_deleted_cancels_its_batch_and_is_gone(tmp_path: Path) -> None:
    turnstile = Turnstile(answer(200, b"{}"))
    settings = {"batch__concurrency": 1, "async__slices": 1}
    async with Api(otherwise=turnstile) as api, keeping(api.url, tmp_path, _MANY, **settings) as running:
        monitor = await accepted(running, *(entry(str(number), f"/{number}") for number in range(200)))
        await api.until(1)
        deleted = await call(running.port, "DELETE", monitor, ALICE)
        gone = await get(running.port, monitor, ALICE)

        async def looked() -> dict[str, Any]:
            turnstile.turn()
            return await status(running.port, monitor.rpartition("/")[2], ALICE)

        native = await until(looked, right=lambda found: found["status"] != "cancelling")
        still = await get(running.port, monitor, ALICE)
        again = await call(running.port, "DELETE", monitor, ALICE)

    assert (deleted.status, deleted.body) == (204, b"")
    assert [each.status for each in (gone, still, again)] == [404, 404, 404]
    assert gone.json()["error"]["code"] == "NotFound"
    assert (native["status"], native["cancelled"] > 0) == ("cancelled", True)
    assert len(api.received) == 200 - native["cancelled"]


async def test_a_monitor_that_is_deleted_in_the_end_takes_the_batch_with_it(spoken: Gateway) -> None:
    monitor = await accepted(spoken, entry("a", "/a"))
    await finished(spoken, monitor)

    deleted = await call(spoken.port, "DELETE", monitor, ALICE)

    assert deleted.status == 204
    assert (await get(spoken.port, monitor, ALICE)).status == 404
    assert (await get(spoken.port, f"/batch/{monitor.rpartition('/')[2]}", ALICE)).status == 404


async def test_a_monitor_is_its_callers_and_its_dialects_only(api: Api, spoken: Gateway) -> None:
    monitor = await accepted(spoken, entry("a", "/a"))
    native = await submit(spoken.port, envelope(1), ALICE)
    await finished(spoken, monitor)

    foreign = await get(spoken.port, monitor, BOB)
    others = [await get(spoken.port, f"{_BATCH}/monitors/{id_}", ALICE) for id_ in (native, "x", "a/b", "")]
    taken = await call(spoken.port, "DELETE", monitor, BOB)
    wrong = await call(spoken.port, "POST", monitor, ALICE)

    assert {each.status for each in [foreign, *others, taken]} == {404}
    assert {each.header("X-Gateway-Error") for each in [foreign, *others, taken]} == {"batch-not-found"}
    assert (wrong.status, wrong.header("Allow")) == (405, "GET, HEAD, DELETE")
    assert wrong.json()["error"]["code"] == "MethodNotAllowed"
    assert (await get(spoken.port, monitor, ALICE)).status == 200
    await ended(spoken.port, native, ALICE)
    assert sorted(api.targets) == ["/a", "/items/0"]


async def test_what_is_not_sent_in_time_is_504_in_its_place(tmp_path: Path) -> None:
    turnstile = Turnstile(answer(200, b"{}"))
    settings = {"batch__concurrency": 1, "async__slices": 1, "async__expiry": "1s"}
    async with Api(otherwise=turnstile) as api, keeping(api.url, tmp_path, _MANY, **settings) as running:
        monitor = await accepted(running, *(entry(str(number), f"/{number}") for number in range(200)))
        done = await finished(running, monitor, looked=turnstile.turn)

    found = [*statuses(done).values()]
    assert found == [200] * len(api.received) + [504] * (200 - len(api.received))
    assert 504 in found


async def test_a_key_stands_for_one_batch(api: Api, spoken: Gateway) -> None:
    key = ("Idempotency-Key", "once")
    first = await accepted(spoken, entry("a", "/a", "POST"), fields=(ASYNC, ALICE, key))
    again = await accepted(spoken, entry("a", "/a", "POST"), fields=(ASYNC, ALICE, key))
    other = await send(spoken, entry("b", "/b", "POST"), fields=(ASYNC, ALICE, key))
    await finished(spoken, first)

    assert again == first
    assert other.status == 422
    assert api.targets == ["/a"]


@pytest.mark.parametrize("prefer", ["respond-async", "wait=0", "respond-async, wait=5"])
async def test_a_preference_that_is_not_met_is_ignored(api: Api, tmp_path: Path, prefer: str) -> None:
    """Without a ledger, without `respond-async`, where the caller would rather wait: the answer comes in place."""
    started = gateway(api.url, _ON) if prefer == "respond-async" else keeping(api.url, tmp_path, _ON)
    async with started as running:
        answered = await send(running, entry("a", "/a"), fields=(("Prefer", prefer),))

    assert (answered.status, answered.header("Preference-Applied")) == (200, None)
    assert statuses(answered) == {"a": 200}


async def test_without_a_ledger_there_are_no_monitors_and_the_path_passes_through(api: Api) -> None:
    async with gateway(api.url, _ON) as running:
        passed = await get(running.port, f"{_BATCH}/monitors/x")

    assert passed.json()["target"] == f"{_BATCH}/monitors/x"


async def test_a_batch_of_which_nothing_can_run_is_answered_in_place(api: Api, spoken: Gateway) -> None:
    answered = await send(spoken, entry("a", "/a", **{"if": "x"}))

    assert (answered.status, statuses(answered)) == (200, {"a": 424})
    assert api.received == []


async def test_what_cannot_be_read_is_refused_and_nothing_is_on_record(api: Api, spoken: Gateway) -> None:
    refused = await send(spoken, entry("a", "/a"), entry("A", "/b"))
    too_many = await send(spoken, *(entry(str(number), "/a") for number in range(21)))

    assert [each.status for each in (refused, too_many)] == [400, 400]
    assert (await get(spoken.port, "/batch", ALICE)).json()["batches"] == []
    assert api.received == []


async def test_a_retry_keeps_the_order_and_what_counts_as_success(api: Api, spoken: Gateway) -> None:
    api.on("/moved", answer(302, b"", ("Location", "/b")))
    monitor = await accepted(
        spoken, entry("a", "/a"), entry("b", "/moved", dependsOn=["a"]), entry("c", "/c", dependsOn=["b"])
    )
    await finished(spoken, monitor)

    retried = await post(spoken.port, f"/batch/{monitor.rpartition('/')[2]}/retry", b"", ALICE)
    batch_id = retried.json()["batchId"]
    await ended(spoken.port, batch_id, ALICE)

    found = await results(spoken.port, batch_id, "", ALICE)
    assert [(each["id"], each["status"]) for each in found] == [("b", 302), ("c", 424)]
    assert statuses(await finished(spoken, f"{_BATCH}/monitors/{batch_id}")) == {"b": 302, "c": 424}
    assert api.targets == ["/a", "/moved", "/moved"]


async def test_after_a_kill_the_rest_runs_in_its_order_and_means_what_it_did(api: Api, tmp_path: Path) -> None:
    """What is safe and was on its way is sent again, what is on record is not; a redirect is still no success."""
    api.on("/b", hold := Hold())
    api.on("/moved", answer(302, b"", ("Location", "/a")))
    words = {"text": "$ops.a.response.body"}
    entries = [
        entry("a", "/a", "POST", body=words),
        entry("b", "/b", dependsOn=["a"]),
        entry("moved", "/moved", dependsOn=["b"]),
        entry("c", "/c", "POST", body=words, dependsOn=["b"]),
        entry("lost", "/lost", dependsOn=["moved"]),
        entry("if", "/if", **{"if": "x"}),
    ]
    gateways = Dying(tmp_path, api.url, _ON)
    await gateways.start()
    try:
        monitor = await accepted(gateways, *entries)
        await api.until(2)

        async def is_on_record() -> bool:
            found = await status(gateways.port, monitor.rpartition("/")[2], ALICE)
            return bool(found["completed"] == 1)

        await until(is_on_record)
        await gateways.kill()
        hold.released.set()
        await gateways.start()
        done = await finished(gateways, monitor)
    finally:
        await gateways.kill()

    assert statuses(done) == {"a": 200, "b": 200, "moved": 302, "c": 200, "lost": 424, "if": 424}
    assert sorted(api.targets) == ["/a", "/b", "/b", "/c", "/moved"]
    assert [json.loads(each.body) for each in api.received if each.method == "POST"] == [words, words]
