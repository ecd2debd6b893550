"""Anthropic's own client, unmodified, before a gateway that keeps Message Batches for a plain API."""

import json
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import anthropic
import pytest
from anthropic import AsyncAnthropic
from anthropic.types.messages.batch_create_params import Request

from tests.fakes.until import until
from tests.integration.asynchronous.calls import Hold, keeping
from tests.integration.server.api import Api, Talk, answer
from tests.integration.server.gateways import Gateway, gateway
from tests.sdk.apis import Stops, Turnstile
from tests.sdk.dying import Dying

_ON = "dialects: {anthropic: {}}"
_FEW_S = 300.0  # 5000 requests on a busy machine


class Messages:
    """A plain API: answers with the text that it was sent, or fails as the text says."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []

    async def __call__(self, talk: Talk) -> None:
        body = await talk.request.read()
        self.bodies.append(body)
        text = json.loads(body)["messages"][0]["content"]
        if text.startswith("fail "):
            await talk.send(_failing(int(text.removeprefix("fail "))))
        else:
            await talk.send(_answering(text))


def _one_by_one(api: Api, folder: Path, turnstile: Turnstile, **flags: object) -> AbstractAsyncContextManager[Gateway]:
    api.on("/v1/messages", turnstile)
    return keeping(api.url, folder, _ON, batch__concurrency=1, async__slices=1, **flags)


def _answering(text: str) -> bytes:
    message = {"id": "msg_1", "type": "message", "role": "assistant", "model": "m", "stop_reason": "end_turn"} | {
        "stop_sequence": None,
        "content": [{"type": "text", "text": text}],
        "usage": {"input_tokens": 1, "output_tokens": 1},
    }
    return answer(200, json.dumps(message, indent=1).encode(), ("Content-Type", "application/json"))


def _failing(status: int) -> bytes:
    document = {"type": "error", "error": {"type": "invalid_request_error", "message": "not so"}, "request_id": "req_7"}
    return answer(status, json.dumps(document).encode(), ("Content-Type", "application/json"))


def _request(id_: str, text: str = "hello") -> Request:
    return {
        "custom_id": id_,
        "params": {"model": "m", "max_tokens": 16, "messages": [{"role": "user", "content": text}]},
    }


def _requests(count: int) -> list[Request]:
    return [_request(f"r{index}", f"text {index}") for index in range(count)]


@pytest.fixture
async def api() -> AsyncIterator[Api]:
    async with Api() as running:
        running.on("/v1/messages", Messages())
        yield running


@pytest.fixture
async def running(api: Api, tmp_path: Path) -> AsyncIterator[Gateway]:
    async with keeping(api.url, tmp_path, _ON) as started:
        yield started


@pytest.fixture
async def client(running: Gateway) -> AsyncIterator[AsyncAnthropic]:
    async with _client(running) as made:
        yield made


def _client(running: Gateway, key: str = "alice", **more: Any) -> AsyncAnthropic:
    return AsyncAnthropic(base_url=f"http://127.0.0.1:{running.port}", api_key=key, **more)


async def _ended(client: AsyncAnthropic, id_: str, looked: Callable[[], None] = lambda: None) -> Any:
    def has_ended(batch: Any) -> bool:
        looked()
        return bool(batch.processing_status == "ended")

    return await until(lambda: client.messages.batches.retrieve(id_), _FEW_S, right=has_ended)


async def _lines(client: AsyncAnthropic, id_: str) -> dict[str, Any]:
    return {line.custom_id: line.result async for line in await client.messages.batches.results(id_)}


async def _created(client: AsyncAnthropic, requests: Iterable[Request]) -> str:
    return (await client.messages.batches.create(requests=requests)).id


async def test_a_batch_is_created_runs_and_its_results_are_read(client: AsyncAnthropic, running: Gateway) -> None:
    batch = await client.messages.batches.create(requests=[_request("a", "one"), _request("b", "two")])

    assert batch.id.startswith("msgbatch_")
    assert batch.processing_status == "in_progress"
    assert batch.request_counts.processing == 2
    assert (batch.expires_at - batch.created_at).total_seconds() == 86400
    ended = await _ended(client, batch.id)
    assert ended.results_url == f"http://127.0.0.1:{running.port}/v1/messages/batches/{batch.id}/results"
    assert ended.request_counts.to_dict() == {
        "processing": 0, "succeeded": 2, "errored": 0, "canceled": 0, "expired": 0
    }  # fmt: skip
    assert ended.ended_at >= ended.created_at
    assert (ended.cancel_initiated_at, ended.archived_at) == (None, None)
    lines = await _lines(client, batch.id)
    assert {id_: line.message.content[0].text for id_, line in lines.items()} == {"a": "one", "b": "two"}


async def test_a_request_that_fails_leaves_the_others_alone(client: AsyncAnthropic) -> None:
    id_ = await _created(client, [_request("a", "one"), _request("b", "fail 400"), _request("c", "fail 529")])

    counts = (await _ended(client, id_)).request_counts

    assert (counts.succeeded, counts.errored) == (1, 2)
    lines = await _lines(client, id_)
    assert [lines[each].type for each in "abc"] == ["succeeded", "errored", "errored"]
    assert lines["b"].error.error.message == "not so"
    assert lines["b"].error.request_id == "req_7"


async def test_every_call_of_the_beta_is_the_same(client: AsyncAnthropic) -> None:
    batches = client.beta.messages.batches
    made = await batches.create(requests=[_request("a", "one")])  # type: ignore[list-item]  # the same members

    await _ended(client, made.id)

    assert (await batches.retrieve(made.id)).processing_status == "ended"
    assert [each.id async for each in batches.list()] == [made.id]
    lines = [line async for line in await batches.results(made.id)]
    assert [(line.custom_id, line.result.type) for line in lines] == [("a", "succeeded")]
    with pytest.raises(anthropic.BadRequestError):
        await batches.cancel(made.id)
    assert (await batches.delete(made.id)).type == "message_batch_deleted"
    with pytest.raises(anthropic.NotFoundError):
        await batches.retrieve(made.id)


async def test_params_reach_the_upstream_with_the_callers_own_fields(client: AsyncAnthropic, api: Api) -> None:
    await _ended(client, await _created(client, [_request("a", "one")]))

    sent = api.last
    assert (sent.method, sent.target) == ("POST", "/v1/messages")
    assert sent.header("Authorization") == "Bearer alice"
    assert sent.header("anthropic-version") is not None
    assert sent.header("Content-Type") == "application/json"


async def test_all_else_of_the_api_passes_through(client: AsyncAnthropic) -> None:
    message = await client.messages.create(max_tokens=16, messages=[{"role": "user", "content": "plain"}], model="m")

    assert message.content[0].text == "plain"  # type: ignore[union-attr]


async def test_a_stream_passes_through(client: AsyncAnthropic, api: Api) -> None:
    delta = {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "hi"}}
    event = b"event: content_block_delta\ndata: " + json.dumps(delta).encode() + b"\n\n"
    api.on("/v1/messages", answer(200, event, ("Content-Type", "text/event-stream")))

    stream = await client.messages.create(
        max_tokens=16, messages=[{"role": "user", "content": "x"}], model="m", stream=True
    )

    assert [event.type async for event in stream] == ["content_block_delta"]


async def test_a_cancelled_batch_ends_and_what_never_ran_is_canceled(api: Api, tmp_path: Path) -> None:
    turnstile = Turnstile(_answering("late"))
    async with _one_by_one(api, tmp_path, turnstile) as running, _client(running) as client:
        id_ = await _created(client, _requests(200))
        await api.until(1)

        cancelling = await client.messages.batches.cancel(id_)
        again = await client.messages.batches.cancel(id_)

        assert {cancelling.processing_status, again.processing_status} <= {"canceling", "ended"}
        assert cancelling.cancel_initiated_at is not None
        ended = await _ended(client, id_, turnstile.turn)
        assert ended.request_counts.canceled > 0
        assert ended.request_counts.canceled + ended.request_counts.succeeded == 200
        kinds = [line.type for line in (await _lines(client, id_)).values()]
        assert kinds.count("canceled") == ended.request_counts.canceled
        assert (await client.messages.batches.cancel(id_)).processing_status == "ended"


async def test_what_is_not_sent_in_time_expires(api: Api, tmp_path: Path) -> None:
    turnstile = Turnstile(_answering("late"))
    async with _one_by_one(api, tmp_path, turnstile, async__expiry="1s") as running, _client(running) as client:
        id_ = await _created(client, _requests(200))

        counts = (await _ended(client, id_, turnstile.turn)).request_counts

        assert counts.expired > 0
        assert counts.expired + counts.succeeded == 200
        kinds = [line.type for line in (await _lines(client, id_)).values()]
        assert kinds.count("expired") == counts.expired


async def test_three_pages_of_a_list_hold_every_batch_once_newest_first(client: AsyncAnthropic) -> None:
    ids = [await _created(client, [_request("a")]) for _ in range(5)]

    listed = [batch.id async for batch in client.messages.batches.list(limit=2)]

    assert listed == ids[::-1]


async def test_pages_go_back_from_a_batch_to_the_newest(client: AsyncAnthropic) -> None:
    ids = [await _created(client, [_request("a")]) for _ in range(5)]

    page = await client.messages.batches.list(limit=2, before_id=ids[0])
    listed = [batch.id async for batch in page]

    assert [batch.id for batch in page.data] == [ids[2], ids[1]]
    assert page.has_more
    assert sorted(listed) == sorted(ids[1:])


async def test_a_cursor_of_nobodys_is_refused(client: AsyncAnthropic) -> None:
    with pytest.raises(anthropic.BadRequestError):
        await client.messages.batches.list(after_id="msgbatch_" + "a" * 40)
    with pytest.raises(anthropic.BadRequestError):
        await client.messages.batches.list(limit=1001)


@pytest.mark.parametrize(
    "requests", [[], [_request("not an id")], [_request("a"), _request("a")]], ids=["none", "an id", "twice"]
)
async def test_bad_input_is_refused_as_the_vendor_does(
    client: AsyncAnthropic, api: Api, requests: list[Request]
) -> None:
    with pytest.raises(anthropic.BadRequestError) as refused:
        await _created(client, requests)

    assert refused.value.type == "invalid_request_error"
    assert refused.value.request_id == refused.value.response.headers["request-id"]
    assert refused.value.response.headers["x-should-retry"] == "false"
    assert api.targets == []


@pytest.mark.parametrize("limit", ["operations_max: 3", "body_max: 400B"])
async def test_more_requests_than_fit_are_too_large(api: Api, tmp_path: Path, limit: str) -> None:
    few = f"dialects: {{anthropic: {{{limit}}}}}"
    async with keeping(api.url, tmp_path, few) as running, _client(running) as client:
        with pytest.raises(anthropic.RequestTooLargeError) as refused:
            await _created(client, _requests(4))
        assert await _created(client, _requests(3))

    assert str(refused.value.type) == "request_too_large"


async def test_more_unfinished_batches_than_allowed_are_a_rate_limit(api: Api, tmp_path: Path) -> None:
    hold = Hold()
    api.on("/v1/messages", hold)
    few = keeping(api.url, tmp_path, _ON, async__unfinished_max=1)
    async with few as running, _client(running, max_retries=0) as client:
        await _created(client, [_request("a")])

        with pytest.raises(anthropic.RateLimitError):
            await _created(client, [_request("a")])
        hold.released.set()


async def test_a_batch_is_shown_to_its_owner_only(client: AsyncAnthropic, running: Gateway) -> None:
    id_ = await _created(client, [_request("a")])

    async with _client(running, "bob") as other:
        for call in (other.messages.batches.retrieve, other.messages.batches.cancel, other.messages.batches.delete):
            with pytest.raises(anthropic.NotFoundError):
                await call(id_)
        assert (await other.messages.batches.list()).data == []


async def test_a_batch_is_deleted_once_it_has_ended(client: AsyncAnthropic, api: Api) -> None:
    hold = Hold()
    api.on("/v1/messages", hold)
    id_ = await _created(client, [_request("a")])
    with pytest.raises(anthropic.BadRequestError):
        await client.messages.batches.delete(id_)
    hold.released.set()
    await _ended(client, id_)

    deleted = await client.messages.batches.delete(id_)

    assert (deleted.id, deleted.type) == (id_, "message_batch_deleted")
    with pytest.raises(anthropic.NotFoundError):
        await client.messages.batches.retrieve(id_)


async def test_five_thousand_requests_are_one_batch(client: AsyncAnthropic) -> None:
    id_ = await _created(client, _requests(5000))

    ended = await _ended(client, id_)

    assert ended.request_counts.succeeded == 5000
    lines = await _lines(client, id_)
    assert {line.message.content[0].text for line in lines.values()} == {f"text {index}" for index in range(5000)}
    assert len(lines) == 5000


async def test_a_blind_repeat_finds_the_first_batch(client: AsyncAnthropic) -> None:
    first = await _created(client, [_request("a")])

    again = await client.messages.batches.create(
        requests=[_request("a")], extra_headers={"x-stainless-retry-count": "1"}
    )
    other = await client.messages.batches.create(
        requests=[_request("b")], extra_headers={"x-stainless-retry-count": "1"}
    )

    assert again.id == first
    assert other.id != first
    assert await _created(client, [_request("a")]) != first


async def test_a_key_stands_for_one_batch(client: AsyncAnthropic) -> None:
    key = {"Idempotency-Key": "k-1"}

    first = await client.messages.batches.create(requests=[_request("a")], extra_headers=key)
    again = await client.messages.batches.create(requests=[_request("a")], extra_headers=key)

    assert again.id == first.id
    with pytest.raises(anthropic.UnprocessableEntityError):
        await client.messages.batches.create(requests=[_request("b")], extra_headers=key)


async def test_without_a_ledger_batches_are_refused_and_the_rest_passes(api: Api) -> None:
    async with gateway(api.url, _ON) as running, _client(running) as client:
        with pytest.raises(anthropic.BadRequestError) as refused:
            await _created(client, [_request("a")])
        message = await client.messages.create(max_tokens=1, messages=[{"role": "user", "content": "x"}], model="m")

    assert "ledger" in refused.value.message
    assert message.id == "msg_1"


async def test_a_prefix_of_the_base_url_is_kept(api: Api, tmp_path: Path) -> None:
    api.on("/ai/v1/messages", Messages())
    mounted = "dialects: {anthropic: {path: /ai/v1/messages/batches, target: /ai/v1/messages}}"
    async with keeping(api.url, tmp_path, mounted) as running:
        base = f"http://127.0.0.1:{running.port}/ai"
        async with AsyncAnthropic(base_url=base, api_key="alice") as client:
            id_ = await _created(client, [_request("a", "one")])

            assert (await _ended(client, id_)).results_url == f"{base}/v1/messages/batches/{id_}/results"
            assert (await _lines(client, id_))["a"].type == "succeeded"


async def test_words_that_look_like_a_reference_stay_words(client: AsyncAnthropic) -> None:
    text = "$ops.a.response.status and {$ops.a.response.body#/id}"

    id_ = await _created(client, [_request("a", "one"), _request("b", text)])

    await _ended(client, id_)
    assert (await _lines(client, id_))["b"].message.content[0].text == text


async def test_a_batch_survives_the_death_of_its_gateway_and_nothing_is_sent_twice(api: Api, tmp_path: Path) -> None:
    api.on("/v1/messages", stops := Stops(25, _answering("once")))
    gateways = Dying(tmp_path, api.url, f"{_ON}\nasync: {{slice: 10, slices: 1}}")
    async with AsyncAnthropic(base_url=f"http://127.0.0.1:{gateways.port}", api_key="alice") as client:
        await gateways.start()
        try:
            id_ = await _created(client, _requests(100))
            await api.until(26)
            await gateways.kill()
            with pytest.raises(anthropic.APIConnectionError):
                await client.with_options(max_retries=0).messages.batches.retrieve(id_)
            stops.goes_on.set()
            await gateways.start()
            again = await client.messages.batches.create(
                requests=_requests(100), extra_headers={"x-stainless-retry-count": "1"}
            )

            counts = (await _ended(client, id_)).request_counts
            lines = await _lines(client, id_)
        finally:
            await gateways.kill()

    assert again.id == id_
    assert counts.succeeded + counts.errored == len(lines) == 100
    assert 60 < counts.succeeded <= len(stops.bodies) == len(set(stops.bodies))
    unknown = [line.error.error for line in lines.values() if line.type == "errored"]
    assert len(unknown) == counts.errored > 0
    assert {error.to_dict()["details"]["error_code"] for error in unknown} == {"outcome-unknown"}
