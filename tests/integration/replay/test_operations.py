"""An operation's idempotency key (CONTRACT 3, PROMISES X6 to X8)."""

import asyncio
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.until import until
from tests.fakes.upstream import Answer as Scripted
from tests.fakes.upstream import ScriptedUpstream, Then
from tests.integration.server.api import Api, Talk, answer
from tests.integration.server.gateways import Gateway, gateway
from tests.integration.server.wire import Answer, Wire, get, post_batch, request

BODY = b'{"name": "Ada",\n "n": 18446744073709551616}'
CREATED = answer(201, BODY, ("Location", "/users/7"), ("Set-Cookie", "a=1"), ("Set-Cookie", "b=2"))


def create(key: str = "k-1", **more: Any) -> dict[str, Any]:
    return {"id": "a", "method": "POST", "path": "/users", "body": {"name": "Ada"}, "idempotencyKey": key, **more}


async def one(port: int, operation: Mapping[str, object], *fields: tuple[str, str]) -> Any:
    """The result of a batch of this operation."""
    said = await post_batch(port, [operation], *fields)
    assert said.status == 207, said.body
    return said.json()["results"][0]


async def test_a_success_is_answered_again_byte_for_byte_and_sent_once(api: Api, keeping: Gateway) -> None:
    api.on("/users", CREATED)

    first = await post_batch(keeping.port, [create()])
    second = await post_batch(keeping.port, [create()])

    assert len(api.received) == 1
    assert api.last.header("Idempotency-Key") == "k-1"
    assert first.json()["results"][0].get("replayed") is None
    replayed = second.json()["results"][0]
    assert replayed.pop("replayed") is True
    assert replayed == first.json()["results"][0]
    assert BODY in second.body
    assert second.json()["summary"] == {"total": 1, "succeeded": 1, "failed": 0}


@pytest.mark.parametrize("said", ["k-1", '"k-1"'])
async def test_a_field_says_the_same_as_the_member_bare_or_quoted(api: Api, keeping: Gateway, said: str) -> None:
    field = {
        "id": "a",
        "method": "POST",
        "path": "/users",
        "body": {"name": "Ada"},
        "headers": {"idempotency-key": said},
    }
    await one(keeping.port, create())

    assert (await one(keeping.port, field))["replayed"] is True
    assert len(api.received) == 1


async def test_the_upstream_is_given_the_key_as_it_was_said(api: Api, keeping: Gateway) -> None:
    await one(keeping.port, {"method": "POST", "path": "/users", "headers": {"Idempotency-Key": '"q"'}})

    assert api.last.header("Idempotency-Key") == '"q"'


@pytest.mark.parametrize(
    "change",
    [
        {"method": "PUT"},
        {"path": "/others"},
        {"path": "/users?x=1"},
        {"body": {"name": "Eve"}},
        {"body": "{}", "headers": {"Content-Type": "text/plain"}},
    ],
    ids=["method", "path", "query", "body", "type"],
)
async def test_another_request_under_the_key_is_422(api: Api, keeping: Gateway, change: dict[str, Any]) -> None:
    await one(keeping.port, create())

    refused = await one(keeping.port, create(**change))

    assert refused["status"] == 422
    assert refused["error"]["type"] == "/batch/problems/idempotency-key-reused"
    assert len(api.received) == 1


async def test_while_one_is_on_its_way_another_is_409_and_does_not_wait(api: Api, keeping: Gateway) -> None:
    go = asyncio.Event()

    async def slow(talk: Talk) -> None:
        await talk.request.read()
        await go.wait()
        await talk.send(CREATED)

    api.on("/users", slow)
    first = asyncio.create_task(one(keeping.port, create()))
    await api.until(1)

    busy = await one(keeping.port, create())
    go.set()

    assert (busy["status"], busy["error"]["retryable"], busy["error"]["retryAfter"]) == (409, True, 1)
    assert (await first)["status"] == 201
    assert (await one(keeping.port, create()))["replayed"] is True


async def test_twice_in_one_envelope_is_sent_once(api: Api, keeping: Gateway) -> None:
    said = await post_batch(keeping.port, [create(), create(id="b"), create("k-2", id="c")])

    assert [each["status"] for each in said.json()["results"]] == [200, 409, 200]
    assert len(api.received) == 2


async def test_a_failure_runs_again_under_the_key_and_a_success_ends_that(api: Api, keeping: Gateway) -> None:
    api.on("/users", answer(500, b"{}"))
    assert (await one(keeping.port, create()))["status"] == 500
    assert (await one(keeping.port, create(body={})))["status"] == 422, "the key stands for its request all the same"
    api.on("/users", CREATED)

    assert (await one(keeping.port, create()))["status"] == 201
    assert (await one(keeping.port, create()))["replayed"] is True
    assert len(api.received) == 2


@pytest.mark.parametrize("status", [429, 503])
async def test_what_the_upstream_turned_away_frees_the_key_for_any_request(
    api: Api, keeping: Gateway, status: int
) -> None:
    api.on("/users", answer(status, b"{}", ("Retry-After", "1")))
    await one(keeping.port, create())
    api.on("/users", CREATED)

    assert (await one(keeping.port, create(body={"other": 1})))["status"] == 201


async def test_a_refused_connect_frees_the_key(tmp_path: Path, unused_tcp_port: int) -> None:
    store = f"sqlite:{tmp_path}/replay.db"
    async with gateway(f"http://127.0.0.1:{unused_tcp_port}", replay__store=store) as before:
        assert (await one(before.port, create()))["error"]["type"].endswith("upstream-connect")
    async with Api() as api, gateway(api.url, replay__store=store) as after:
        assert (await one(after.port, create(body={"other": 1})))["status"] == 200


async def _hang_up(talk: Talk) -> None:
    await talk.request.read()
    raise ConnectionError


async def test_what_nobody_knows_is_remembered_as_unknown_and_never_sent_again(api: Api, keeping: Gateway) -> None:
    api.on("/users", _hang_up)
    assert (await one(keeping.port, create()))["error"]["type"].endswith("outcome-unknown")
    api.on("/users", CREATED)

    again = await one(keeping.port, create())

    assert (again["status"], again["replayed"]) == (502, True)
    assert again["error"]["type"].endswith("outcome-unknown")
    assert len(api.received) == 1


async def test_a_timeout_is_remembered_as_unknown(api: Api, keeping: Gateway) -> None:
    async def never(talk: Talk) -> None:
        await talk.request.read()
        await asyncio.Event().wait()

    api.on("/users", never)
    await one(keeping.port, create(timeoutSeconds=0.1))

    again = await one(keeping.port, create())

    assert (again["status"], again["error"]["type"]) == (504, "/batch/problems/outcome-unknown")
    assert len(api.received) == 1


async def test_keys_of_two_callers_have_nothing_in_common(api: Api, keeping: Gateway) -> None:
    await one(keeping.port, create(), ("Authorization", "Bearer a"))

    other = await one(keeping.port, create(body={"mine": 1}), ("Authorization", "Bearer b"))
    same = await one(keeping.port, create(), ("Authorization", "Bearer a"))

    assert (other["status"], other.get("replayed"), same["replayed"]) == (200, None, True)
    assert len(api.received) == 2


def _everything_in(folder: Path) -> bytes:
    return b"".join(file.read_bytes() for file in folder.iterdir())


async def test_keys_survive_a_restart_and_lie_sealed_on_the_disk(api: Api, tmp_path: Path) -> None:
    api.on("/users", answer(201, b'{"very": "secret-answer"}'))
    store = f"sqlite:{tmp_path}/replay.db"
    async with gateway(api.url, replay__store=store) as before:
        await one(before.port, create("secret-key", body="secret-question"))
    on_disk = _everything_in(tmp_path)
    async with gateway(api.url, replay__store=store) as after:
        assert (await one(after.port, create("secret-key", body="secret-question")))["replayed"] is True

    assert b"secret-" not in on_disk
    assert len(api.received) == 1


async def test_a_caller_who_goes_away_leaves_the_true_outcome_and_frees_what_was_not_sent(
    api: Api, tmp_path: Path
) -> None:
    go = asyncio.Event()

    async def slow(talk: Talk) -> None:
        await talk.request.read()
        await go.wait()
        await talk.send(CREATED)

    api.on("/users", slow)
    settings: dict[str, Any] = {"replay__store": f"sqlite:{tmp_path}/replay.db", "batch__concurrency": 1}
    async with gateway(api.url, **settings) as keeping:
        async with await Wire.open(keeping.port) as wire:
            body = json.dumps([create("sent"), create("unsent", id="b")]).encode()
            await wire.send(request("POST", "/batch", [("Content-Type", "application/json")], body))
            await api.until(1)
        go.set()

        async def is_replayed() -> bool:
            return (await one(keeping.port, create("sent"))).get("replayed") is True

        await until(is_replayed)
        assert (await one(keeping.port, create("unsent", path="/elsewhere")))["status"] == 200
    assert api.targets == ["/users", "/elsewhere"]


async def test_an_outcome_is_on_record_while_others_of_its_batch_still_run(api: Api, keeping: Gateway) -> None:
    go = asyncio.Event()

    async def slow(talk: Talk) -> None:
        await talk.request.read()
        await go.wait()
        await talk.send(CREATED)

    api.on("/slow", slow)
    whole = asyncio.create_task(post_batch(keeping.port, [create(), create("k-2", id="b", path="/slow")]))
    await api.until(2)

    async def is_replayed() -> bool:
        return (await one(keeping.port, create())).get("replayed") is True

    await until(is_replayed)
    go.set()

    assert [each["status"] for each in (await whole).json()["results"]] == [200, 201]
    assert len(api.received) == 2


async def test_lines_show_what_was_replayed_too(api: Api, keeping: Gateway) -> None:
    await one(keeping.port, create())

    said = await post_batch(keeping.port, [create(), create("k-2", id="b")], ("Accept", "application/x-ndjson"))

    lines = [json.loads(line) for line in said.body.splitlines()]
    assert [(line["id"], line.get("replayed")) for line in lines[:2]] == [("a", True), ("b", None)]
    assert lines[2]["summary"]["total"] == 2


async def test_who_waits_for_a_replayed_operation_gets_its_values(api: Api, keeping: Gateway) -> None:
    api.on("/users", answer(201, b'{"id": 7}'))
    child = {"id": "b", "method": "GET", "path": "/users/{$ops.a.response.body#/id}"}
    await one(keeping.port, create())

    await post_batch(keeping.port, [create(), child])

    assert api.targets == ["/users", "/users/7"]


@pytest.mark.parametrize("key", ["idempotencyKey", "headers"])
async def test_a_key_may_refer_as_any_field_may(api: Api, keeping: Gateway, key: str) -> None:
    said = "pay-{$ops.a.response.body#/id}"
    api.on("/users", answer(201, b'{"id": 7}'))
    child = {
        "id": "b",
        "method": "POST",
        "path": "/pay",
        key: said if key == "idempotencyKey" else {"Idempotency-Key": said},
    }

    await post_batch(keeping.port, [create(), child])

    assert [(each.target, each.header("Idempotency-Key")) for each in api.received] == [
        ("/users", "k-1"),
        ("/pay", "pay-7"),
    ]


@pytest.mark.parametrize(
    ("operation", "pointer"),
    [
        (create(""), "idempotencyKey"),
        (create("a b"), "idempotencyKey"),
        (create("k" * 256), "idempotencyKey"),
        (create(headers={"Idempotency-Key": "other"}), "idempotencyKey"),
        ({"method": "GET", "path": "/", "headers": {"Idempotency-Key": 'a"b'}}, "headers"),
        ({"method": "GET", "path": "/", "headers": {"Idempotency-Key": ["a", "b"]}}, "headers"),
    ],
    ids=["empty", "space", "long", "both", "quote", "two"],
)
async def test_a_malformed_key_is_a_violation(
    api: Api, keeping: Gateway, operation: Mapping[str, object], pointer: str
) -> None:
    said = await post_batch(keeping.port, [operation])

    (error,) = said.json()["errors"]
    assert (said.status, error["code"], error["pointer"]) == (422, "idempotency-key-invalid", f"/0/{pointer}")
    assert api.received == []


async def test_defaults_hold_no_key(keeping: Gateway) -> None:
    envelope = {"operations": [{"path": "/"}], "defaults": {"method": "GET", "headers": {"Idempotency-Key": "k"}}}

    said = await post_batch(keeping.port, envelope)

    assert [error["code"] for error in said.json()["errors"]] == ["header-not-allowed"]


async def test_without_a_store_keys_are_refused_and_nothing_is_sent(api: Api) -> None:
    async with gateway(api.url, replay__store="none") as without:
        said = await post_batch(without.port, [create(), {"method": "GET", "path": "/"}])

    assert [(error["pointer"], error["code"]) for error in said.json()["errors"]] == [
        ("/0/idempotencyKey", "idempotency-off")
    ]
    assert api.received == []


async def test_while_the_store_is_away_keyed_operations_are_503_and_the_others_run(api: Api, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    async with gateway(api.url, replay__store=f"sqlite:{tmp_path}/file/replay.db") as without:
        said = await post_batch(without.port, [create(), {"method": "GET", "path": "/"}])

    assert [each["status"] for each in said.json()["results"]] == [503, 200]
    assert said.json()["results"][0]["error"]["type"] == "/batch/problems/ledger-unavailable"
    assert api.targets == ["/"]


async def test_an_answer_too_large_to_keep_is_known_to_have_come(api: Api, tmp_path: Path) -> None:
    api.on("/users", answer(200, b'"' + b"x" * 2000 + b'"'))
    settings: dict[str, Any] = {"replay__store": "sqlite::memory:", "replay__answer_max": "1KiB"}
    async with gateway(api.url, **settings) as keeping:
        first = await one(keeping.port, create())
        again = await one(keeping.port, create())

    assert (first["status"], again["status"], again["error"]["upstreamStatus"]) == (200, 507, 200)
    assert len(api.received) == 1


async def test_a_caller_has_so_many_keys_at_most(api: Api) -> None:
    async with gateway(api.url, replay__store="sqlite::memory:", replay__keys_max=2) as keeping:
        said = await post_batch(keeping.port, [create(f"k-{number}", id=str(number)) for number in range(3)])

    assert [each["status"] for each in said.json()["results"]] == [200, 200, 429]
    assert len(api.received) == 2


async def test_replays_are_counted_and_cost_tokens(api: Api) -> None:
    limit = "limits: [{name: all, key: global, rate: 1/h, burst: 10}]"
    async with gateway(api.url, limit, replay__store="sqlite::memory:") as keeping:
        await one(keeping.port, create())
        await one(keeping.port, create())
        left: Answer = await get(keeping.port, "/batch/limits")
        metrics = (await get(keeping.admin_port, "/metrics")).body.decode()

    assert left.json()["limits"][0]["remaining"] == 8
    assert "batch_gateway_idempotent_replays_total 1.0" in metrics


async def test_what_the_gateway_itself_refuses_leaves_the_key_free(api: Api, tmp_path: Path) -> None:
    routes = "routes: [{path: /users, methods: [POST]}]"
    async with gateway(api.url, routes, replay__store=f"sqlite:{tmp_path}/replay.db") as keeping:
        refused = await one(keeping.port, create(path="/elsewhere"))
        invalid = await post_batch(keeping.port, [create(), {"method": "NONE", "path": "/"}])
        after = await one(keeping.port, create(body={"other": 1}))

    assert (refused["status"], invalid.status, after["status"]) == (403, 422, 200)
    assert api.targets == ["/users"]


async def test_a_reset_after_the_request_is_remembered_as_unknown(tmp_path: Path) -> None:
    async with (
        ScriptedUpstream(lambda _: Scripted((), then=Then.RESET)) as upstream,
        gateway(f"http://127.0.0.1:{upstream.address.port}", replay__store=f"sqlite:{tmp_path}/replay.db") as keeping,
    ):
        found = [await one(keeping.port, create()) for _ in range(2)]

    assert [each["error"]["type"] for each in found] == ["/batch/problems/outcome-unknown"] * 2
    assert found[1]["replayed"] is True
    assert len(upstream.requests) == 1
