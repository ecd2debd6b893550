"""Whole envelopes that are answered once: the outer `Idempotency-Key`, and blind repeats of clients (CONTRACT 3)."""

import asyncio
import hashlib
import json
from pathlib import Path
from typing import Any, cast

import pytest

from gateway.admission import identity_of
from gateway.replay import envelopes
from gateway.replay.envelopes import Asked, Envelopes
from gateway.replay.kept import Vault
from gateway.replay.names import Names
from gateway.replay.replay import Replay, ReplayLimits, Store
from gateway.replay.sqlite import open_keys
from tests.fakes.until import until
from tests.integration.asynchronous.calls import ASYNC, Hold, ended
from tests.integration.server.api import Api, answer
from tests.integration.server.gateways import Gateway, gateway
from tests.integration.server.wire import Answer, Wire, get, post, request

KEY = ("Idempotency-Key", "envelope-1")
LINES = ("Accept", "application/x-ndjson")
FIRST, AGAIN = ("x-stainless-retry-count", "0"), ("x-stainless-retry-count", "1")
JSON = ("Content-Type", "application/json")
BODY = json.dumps([{"id": "a", "method": "POST", "path": "/a"}, {"id": "b", "method": "POST", "path": "/b"}]).encode()
SAFE = b'[{"method": "GET", "path": "/a"}]'
SECRET = "one secret of all replicas"


async def send(port: int, *fields: tuple[str, str], body: bytes = BODY) -> Answer:
    return await post(port, "/batch", body, *fields)


async def test_the_first_answer_is_given_again_byte_for_byte_and_costs_nothing(api: Api, tmp_path: Path) -> None:
    limit = "limits: [{name: all, key: global, rate: 1/h, burst: 10}]"
    async with gateway(api.url, limit, replay__store=f"sqlite:{tmp_path}/replay.db") as keeping:
        first = await send(keeping.port, KEY)
        again = await send(keeping.port, ("Idempotency-Key", '"envelope-1"'), ("X-Request-Id", "mine"))
        left = (await get(keeping.port, "/batch/limits")).json()["limits"][0]["remaining"]

    assert (first.status, again.status) == (207, 207)
    assert again.body == first.body
    assert [again.header(name) for name in ("Content-Type", "Batch-Summary")] == [
        first.header(name) for name in ("Content-Type", "Batch-Summary")
    ]
    assert (first.header("Idempotent-Replayed"), again.header("Idempotent-Replayed")) == (None, "true")
    assert (again.header("X-Request-Id"), again.header("Cache-Control")) == ("mine", "no-store")
    assert again.header("RateLimit") is not None
    assert api.targets == ["/a", "/b"]
    assert all(received.header("Idempotency-Key") is None for received in api.received)
    assert left == 8


async def test_another_envelope_under_the_key_is_422_and_another_callers_key_is_another(
    api: Api, keeping: Gateway
) -> None:
    await send(keeping.port, KEY)

    other = await send(keeping.port, KEY, body=SAFE)
    form = await send(keeping.port, KEY, LINES)
    foreign = await send(keeping.port, KEY, ("Authorization", "Bearer b"))

    assert (other.status, other.slug) == (422, "idempotency-key-reused")
    assert (form.status, form.slug) == (422, "idempotency-key-reused")
    assert (foreign.status, foreign.header("Idempotent-Replayed")) == (207, None)
    assert len(api.received) == 4


async def test_while_it_runs_a_repeat_is_409_that_a_client_may_repeat(api: Api, keeping: Gateway) -> None:
    api.on("/a", hold := Hold())
    first = asyncio.create_task(send(keeping.port, KEY))
    await api.until(1)

    busy = await send(keeping.port, KEY)
    hold.released.set()

    assert (busy.status, busy.slug, busy.header("Retry-After")) == (409, "idempotency-in-progress", "1")
    assert busy.header("x-should-retry") is None
    assert (await first).status == 207


@pytest.mark.parametrize("fields", [(KEY,), (KEY, LINES), (FIRST,)], ids=["json", "lines", "blind"])
async def test_it_runs_to_its_end_when_its_caller_goes_away(
    api: Api, tmp_path: Path, fields: tuple[tuple[str, str], ...]
) -> None:
    api.on("/a", hold := Hold())
    store = f"sqlite:{tmp_path}/replay.db"
    async with gateway(api.url, replay__store=store, batch__concurrency=1) as keeping:
        async with await Wire.open(keeping.port) as wire:
            await wire.send(request("POST", "/batch", [JSON, *fields], BODY))
            await api.until(1)
        hold.released.set()
        found: list[Answer] = []
        again = [AGAIN if each is FIRST else each for each in fields]

        async def is_kept() -> bool:
            found[:] = [await send(keeping.port, *again)]
            return found[0].status == 207

        await until(is_kept)

    assert found[0].header("Idempotent-Replayed") == "true"
    assert b'{"held": true}' in found[0].body
    assert api.targets == ["/a", "/b"]


async def test_lines_are_streamed_and_kept(api: Api, keeping: Gateway) -> None:
    api.on("/b", hold := Hold())
    async with await Wire.open(keeping.port) as wire:
        await wire.send(request("POST", "/batch", [JSON, KEY, LINES], BODY))
        head = await wire.head()
        line = await wire.reader.readuntil(b"\n\r\n")
        hold.released.set()
        rest = await wire.reader.readuntil(b"0\r\n\r\n")

    again = await send(keeping.port, KEY, LINES)

    assert (head.status, b'"id":"a"' in line) == (207, True)
    assert again.header("Content-Type") == "application/x-ndjson"
    first = [piece for piece in (line + rest).split(b"\r\n") if piece.startswith(b"{")]
    assert again.body == b"".join(first)
    assert api.targets == ["/a", "/b"]


async def test_what_was_refused_frees_the_key(api: Api, tmp_path: Path) -> None:
    limit = "limits: [{name: all, key: global, rate: 1/h, burst: 2}]"
    async with gateway(api.url, limit, replay__store=f"sqlite:{tmp_path}/replay.db") as keeping:
        await send(keeping.port)
        refused = await send(keeping.port, KEY)
        invalid = await send(keeping.port, KEY, body=b"[]")
        async with gateway(api.url, replay__store="sqlite::memory:") as other:
            assert (await send(other.port, KEY, body=b"[]")).status == 422
            after = await send(other.port, KEY)
        again = await send(keeping.port, KEY, body=SAFE)

    assert (refused.status, invalid.status, again.status, after.status) == (429, 422, 429, 207)


async def test_a_batch_on_record_is_accepted_once_under_the_key(api: Api, tmp_path: Path) -> None:
    async with gateway(api.url, async__ledger=f"sqlite:{tmp_path}/ledger.db") as keeping:
        first = await send(keeping.port, KEY, ASYNC)
        again = await send(keeping.port, KEY, ASYNC)
        await ended(keeping.port, first.json()["batchId"])

    assert (first.status, again.status) == (202, 202)
    assert (again.body, again.header("Location")) == (first.body, first.header("Location"))
    assert [again.header(name) for name in ("Retry-After", "Preference-Applied")] == ["1", "respond-async"]
    assert len(api.received) == 2


async def test_a_batch_that_ran_out_of_time_is_the_same_202_again(api: Api, tmp_path: Path) -> None:
    api.on("/a", hold := Hold())
    settings: dict[str, Any] = {"batch__concurrency": 1, "batch__sync_timeout": "200ms"}
    async with gateway(api.url, async__ledger=f"sqlite:{tmp_path}/ledger.db", **settings) as keeping:
        first = await send(keeping.port, KEY)
        again = await send(keeping.port, KEY)
        hold.released.set()
        await ended(keeping.port, first.json()["batchId"])

    assert (first.status, again.status, again.body) == (202, 202, first.body)
    assert api.targets == ["/a", "/b"]


async def test_without_a_ledger_what_ran_before_the_deadline_does_not_run_again(api: Api, tmp_path: Path) -> None:
    api.on("/a", Hold())
    settings: dict[str, Any] = {"batch__concurrency": 1, "batch__sync_timeout": "200ms"}
    async with gateway(api.url, replay__store=f"sqlite:{tmp_path}/replay.db", **settings) as keeping:
        first = await send(keeping.port, KEY)
        again = await send(keeping.port, KEY)

    assert (first.status, again.status, again.body) == (408, 408, first.body)
    assert again.header("x-should-retry") == "false"
    assert again.header("X-Gateway-Error") == "batch-deadline"
    assert api.targets == ["/a"]


@pytest.mark.parametrize(
    "fields", [[("Idempotency-Key", "a b")], [("Idempotency-Key", "k" * 256)], [KEY, KEY], [("Idempotency-Key", "")]]
)
async def test_a_malformed_key_is_400(api: Api, keeping: Gateway, fields: list[tuple[str, str]]) -> None:
    refused = await send(keeping.port, *fields)

    assert (refused.status, refused.slug) == (400, "idempotency-key-invalid")
    assert api.received == []


async def test_without_a_store_a_key_is_refused_and_a_blind_repeat_is_not(api: Api) -> None:
    async with gateway(api.url, replay__store="none") as without:
        refused = await send(without.port, KEY)
        blind = await send(without.port, AGAIN)

    assert (refused.status, refused.json()["errors"][0]["code"]) == (422, "idempotency-off")
    assert blind.status == 207
    assert len(api.received) == 2


async def test_while_the_store_is_away_a_key_is_503_and_a_blind_repeat_is_served(api: Api, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    async with gateway(api.url, replay__store=f"sqlite:{tmp_path}/file/replay.db") as without:
        refused = await send(without.port, KEY)
        blind = await send(without.port, AGAIN)

    assert (refused.status, refused.slug, refused.header("Retry-After")) == (503, "ledger-unavailable", "5")
    assert blind.status == 207
    assert len(api.received) == 2


@pytest.mark.parametrize("bytes_", [100, 100_000], ids=["small", "large"])
async def test_an_answer_too_large_to_keep_is_known_to_have_been_given(api: Api, bytes_: int) -> None:
    api.on("/a", answer(200, b'"' + b"x" * bytes_ + b'"'))
    settings: dict[str, Any] = {"replay__store": "sqlite::memory:", "replay__envelope_answer_max": "1KiB"}
    async with gateway(api.url, **settings) as keeping:
        first = await send(keeping.port, KEY)
        again = await send(keeping.port, KEY)
    async with gateway(api.url, replay__store="sqlite::memory:") as roomy:
        whole = await send(roomy.port, KEY), await send(roomy.port, KEY)

    assert first.status == 207
    if bytes_ > 1024:
        assert (again.status, again.slug) == (507, "response-budget-exceeded")
        assert again.header("x-should-retry") == "false"
    else:
        assert again.body == first.body
    assert whole[0].body == whole[1].body


async def test_a_blind_repeat_finds_what_it_repeats_and_the_same_bytes_sent_anew_run(
    api: Api, keeping: Gateway
) -> None:
    first = await send(keeping.port, FIRST)
    repeat = await send(keeping.port, AGAIN)
    anew = await send(keeping.port, FIRST)
    foreign = await send(keeping.port, AGAIN, ("Authorization", "Bearer b"))
    other = await send(keeping.port, AGAIN, body=SAFE)

    assert repeat.body == first.body
    assert [each.header("Idempotent-Replayed") for each in (first, repeat, anew, foreign, other)] == [
        None, "true", None, None, None,
    ]  # fmt: skip
    assert len(api.received) == 2 + 2 + 2 + 1


async def test_a_blind_repeat_finds_a_batch_on_record_whose_first_was_not_marked(api: Api, tmp_path: Path) -> None:
    async with gateway(api.url, async__ledger=f"sqlite:{tmp_path}/ledger.db") as keeping:
        first = await send(keeping.port, ASYNC)
        repeat = await send(keeping.port, ASYNC, AGAIN)
        anew = await send(keeping.port, ASYNC)
        batches = (await get(keeping.port, "/batch")).json()["batches"]

    assert (repeat.status, repeat.body) == (202, first.body)
    assert anew.json()["batchId"] != first.json()["batchId"]
    assert len(batches) == 2


@pytest.mark.parametrize("count", ["x", "-1", "", "00", "1.5"])
async def test_a_retry_count_that_is_not_above_0_says_nothing(api: Api, keeping: Gateway, count: str) -> None:
    await send(keeping.port, FIRST)

    anew = await send(keeping.port, (FIRST[0], count))

    assert anew.header("Idempotent-Replayed") is None


async def _lost(folder: Path, body: bytes, *, repeatable: bool = False) -> bytes:
    """The fence of a gateway that died with the envelope under `KEY` on its way."""
    keys = await open_keys(folder / "replay.db", lambda: 1_800_000_000_000)
    names = Names(hashlib.sha256(SECRET.encode()).digest())

    async def open_store() -> Store:
        return Store(keys, names, Vault(names, 1 << 20))

    replay = Replay(open_store, ReplayLimits(1e9, 10), lambda _: None)
    asked = Asked(KEY[1], (b"/batch", b"application/json", body), repeatable)
    nobody = identity_of([], frozenset())
    held = await Envelopes(replay, 1 << 20).claim(asked, nobody, 30.0)
    assert isinstance(held, envelopes.Hold)
    await replay.close()
    return held.fence


async def test_nobody_knows_how_far_an_envelope_came_whose_gateway_died(api: Api, tmp_path: Path) -> None:
    await _lost(tmp_path, BODY)

    settings: dict[str, Any] = {"replay__store": f"sqlite:{tmp_path}/replay.db", "async__key__value": SECRET}
    async with gateway(api.url, **settings) as after:
        again = [await send(after.port, KEY) for _ in range(2)]

    assert [(each.status, each.slug) for each in again] == [(502, "outcome-unknown")] * 2
    assert again[0].header("x-should-retry") == "false"
    assert api.received == []


async def test_what_may_be_repeated_runs_again_after_its_gateway_died(api: Api, tmp_path: Path) -> None:
    await _lost(tmp_path, SAFE, repeatable=True)

    settings: dict[str, Any] = {"replay__store": f"sqlite:{tmp_path}/replay.db", "async__key__value": SECRET}
    async with gateway(api.url, **settings) as after:
        again = [await send(after.port, KEY, body=SAFE) for _ in range(2)]

    assert [each.status for each in again] == [207, 207]
    assert len(api.received) == 1


async def test_a_batch_whose_gateway_died_while_it_was_accepted_is_accepted_once(api: Api, tmp_path: Path) -> None:
    await _lost(tmp_path, BODY)

    settings: dict[str, Any] = {"async__ledger": f"sqlite:{tmp_path}/ledger.db", "async__key__value": SECRET}
    async with gateway(api.url, **settings) as after:
        again = await asyncio.gather(*(send(after.port, KEY, ASYNC) for _ in range(5)))
        batches = (await get(after.port, "/batch")).json()["batches"]
        await ended(after.port, batches[0]["batchId"])
        in_place = await send(after.port, KEY)

    assert [each.status for each in again] == [202] * 5
    assert {each.json()["batchId"] for each in again} == {batches[0]["batchId"]}
    assert (len(batches), in_place.status) == (1, 202)
    assert len(api.received) == 2


async def test_who_goes_away_while_it_sends_or_without_reading_leaves_nothing_behind(api: Api, tmp_path: Path) -> None:
    api.on("/a", answer(200, b'"' + b"x" * 8_000_000 + b'"'))
    api.on("/b", hold := Hold())
    settings: dict[str, Any] = {"replay__store": f"sqlite:{tmp_path}/replay.db", "replay__envelope_answer_max": "20MB"}
    async with gateway(api.url, **settings) as keeping:
        async with await Wire.open(keeping.port) as half:
            await half.send(request("POST", "/batch", [JSON, KEY], BODY)[:-5])
        async with await Wire.open(keeping.port) as deaf:
            cast(asyncio.Transport, deaf.writer.transport).pause_reading()
            await deaf.send(request("POST", "/batch", [JSON, KEY, LINES], BODY))

            async def is_stalled() -> bool:
                return any(each.writing_paused for each in keeping.app._servers[0][1].connections)

            await until(is_stalled)
        hold.released.set()

        async def is_idle() -> bool:
            return keeping.app._edge.active == 0

        await until(is_idle)
        again = await send(keeping.port, KEY, LINES)

    assert (again.status, again.header("Idempotent-Replayed")) == (207, "true")
    assert len(again.body) > 8_000_000
    assert len(api.received) == 2
