"""OpenAI's own client, unchanged, against the gateway: files and batches (WIRE 4)."""

import json
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, Final

import openai
import pytest
from openai import AsyncOpenAI
from openai.types import Batch

from tests.fakes.until import until
from tests.integration.asynchronous.calls import failing, keeping
from tests.integration.server.api import Api, answer
from tests.integration.server.gateways import Gateway, gateway
from tests.integration.server.wire import post
from tests.sdk.apis import Stops, Turnstile
from tests.sdk.dying import Dying

_ENDPOINT: Final = "/v1/chat/completions"
_WAIT_S = 60.0
_FINAL = ("failed", "completed", "expired", "cancelled")
_SPOKEN = "dialects: {openai: {}}"


@pytest.fixture
async def api() -> AsyncIterator[Api]:
    async with Api() as running:
        running.on(_ENDPOINT, answer(200, b'{"id": "chatcmpl-1", "choices": []}'))
        yield running


@pytest.fixture
async def spoken(api: Api, tmp_path: Path) -> AsyncIterator[Gateway]:
    async with keeping(api.url, tmp_path, _SPOKEN) as running:
        yield running


@pytest.fixture
async def client(spoken: Gateway) -> AsyncIterator[AsyncOpenAI]:
    async with _client(spoken.port) as ours:
        yield ours


def _client(port: int, key: str = "sk-alice") -> AsyncOpenAI:
    return AsyncOpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key=key)


def _line(custom_id: str, url: str = _ENDPOINT, **more: Any) -> dict[str, Any]:
    return {"custom_id": custom_id, "method": "POST", "url": url, "body": {"model": "m", "n": custom_id}} | more


def _jsonl(*lines: dict[str, Any]) -> bytes:
    return b"".join(json.dumps(line).encode() + b"\n" for line in lines)


async def _submit(client: AsyncOpenAI, content: bytes, endpoint: str = _ENDPOINT, window: str = "24h") -> Batch:
    file = await client.files.create(file=("in.jsonl", content), purpose="batch")
    return await client.batches.create(
        input_file_id=file.id,
        endpoint=endpoint,  # type: ignore[arg-type]
        completion_window=window,  # type: ignore[arg-type]
        metadata={"job": "nightly"},
    )


async def _ended(client: AsyncOpenAI, batch_id: str, looked: Callable[[], None] = lambda: None) -> Batch:
    def has_ended(batch: Batch) -> bool:
        looked()
        return batch.status in _FINAL

    return await until(lambda: client.batches.retrieve(batch_id), _WAIT_S, right=has_ended)


async def _lines(client: AsyncOpenAI, file_id: str | None) -> list[dict[str, Any]]:
    assert file_id is not None
    return [json.loads(line) for line in (await client.files.content(file_id)).text.splitlines()]


async def test_a_file_becomes_a_batch_and_its_output_a_file(client: AsyncOpenAI, api: Api) -> None:
    batch = await _submit(client, _jsonl(_line("r1"), _line("naïve id / 2")))

    assert batch.status in ("validating", "in_progress", "completed")
    assert (batch.metadata, batch.endpoint) == ({"job": "nightly"}, _ENDPOINT)
    done = await _ended(client, batch.id)
    assert (done.status, done.error_file_id, done.errors) == ("completed", None, None)
    assert done.request_counts is not None
    assert done.request_counts.to_dict() == {"total": 2, "completed": 2, "failed": 0}
    lines = await _lines(client, done.output_file_id)
    assert [line["custom_id"] for line in lines] == ["r1", "naïve id / 2"]
    assert lines[0]["response"]["status_code"] == 200
    assert lines[0]["response"]["body"] == {"id": "chatcmpl-1", "choices": []}
    assert lines[0]["error"] is None
    sent = next(received for received in api.received if b'"r1"' in received.body)
    assert json.loads(sent.body) == {"model": "m", "n": "r1"}
    assert (sent.target, sent.header("Authorization")) == (_ENDPOINT, "Bearer sk-alice")


async def test_files_are_created_retrieved_listed_read_and_deleted(client: AsyncOpenAI) -> None:
    content = _jsonl(*(_line(str(n)) for n in range(20_000)))

    made = await client.files.create(
        file=('ünï "x".jsonl', content), purpose="batch", expires_after={"anchor": "created_at", "seconds": 3600}
    )

    assert (made.bytes, made.filename, made.purpose) == (len(content), 'ünï "x".jsonl', "batch")
    assert made.expires_at == made.created_at + 3600
    assert await client.files.wait_for_processing(made.id) == await client.files.retrieve(made.id) == made
    assert [each.id async for each in client.files.list(purpose="batch")] == [made.id]
    assert (await client.files.content(made.id)).content == content
    assert (await client.files.delete(made.id)).deleted
    with pytest.raises(openai.NotFoundError):
        await client.files.retrieve(made.id)


async def test_what_fails_is_in_the_error_file_and_the_batch_completed(client: AsyncOpenAI, api: Api) -> None:
    api.on("/v1/bad", failing(422))

    batch = await _ended(client, (await _submit(client, _jsonl(_line("a", "/v1/bad")), "/v1/bad")).id)

    assert (batch.status, batch.output_file_id) == ("completed", None)
    [line] = await _lines(client, batch.error_file_id)
    assert (line["custom_id"], line["response"]["status_code"], line["error"]) == ("a", 422, None)
    assert line["response"]["body"] == {"wrong": True}
    file = await client.files.retrieve(batch.error_file_id or "")
    assert file.purpose == "batch_output"
    assert file.bytes == len((await client.files.content(file.id)).content)
    assert (await client.files.delete(file.id)).deleted
    with pytest.raises(openai.NotFoundError):
        await client.files.content(file.id)


async def test_every_bad_line_is_told_by_its_number_and_nothing_is_sent(client: AsyncOpenAI, api: Api) -> None:
    content = b"\xef\xbb\xbf" + _jsonl(_line("a"), _line("b"), _line("b"), _line("c", "/v1/other"), {"custom_id": "d"})

    batch = await _submit(client, content + b"no json\n")

    assert (batch.status, batch.output_file_id) == ("failed", None)
    assert batch.errors is not None
    assert [(each.line, each.code) for each in batch.errors.data or []] == [
        (1, "invalid_json_line"),
        (3, "duplicate_custom_id"),
        (4, "url_mismatch"),
        (5, "missing_required_parameter"),
        (6, "invalid_json_line"),
    ]
    assert await client.batches.retrieve(batch.id) == batch
    assert api.received == []


async def test_files_and_batches_are_as_the_operator_wants_them(api: Api, tmp_path: Path) -> None:
    settings = "dialects: {openai: {base: /ai/v1, lines_max: 2, files_max: 2, file_life: 2h}}"
    async with (
        keeping(api.url, tmp_path, settings) as running,
        AsyncOpenAI(base_url=f"http://127.0.0.1:{running.port}/ai/v1", api_key="sk-alice") as client,
    ):
        batch = await _submit(client, _jsonl(*(_line(str(number)) for number in range(3))))
        file = await client.files.retrieve(batch.input_file_id)
        taken = await _submit(client, _jsonl(*(_line(str(number)) for number in range(2))))
        with pytest.raises(openai.BadRequestError, match="you have 2 files"):
            await client.files.create(file=_jsonl(_line("a")), purpose="batch")

        assert batch.errors is not None
        assert (batch.status, [each.code for each in batch.errors.data or []]) == ("failed", ["too_many_tasks"])
        assert (file.expires_at or 0) - file.created_at == 7200
        assert (await _ended(client, taken.id)).status == "completed"
        assert len(api.received) == 2


@pytest.mark.parametrize("ending", ["cancelled", "expired"])
async def test_what_never_ran_is_in_the_error_file_of_a_batch_that_ends_early(
    api: Api, tmp_path: Path, ending: str
) -> None:
    api.on("/v1/slow", turnstile := Turnstile(answer(200, b"{}")))
    one_by_one = keeping(api.url, tmp_path, _SPOKEN, batch__concurrency=1, async__slices=1)
    async with one_by_one as running, _client(running.port) as client:
        content = _jsonl(*(_line(str(n), "/v1/slow") for n in range(200)))
        batch = await _submit(client, content, "/v1/slow", "24h" if ending == "cancelled" else "1s")
        await api.until(1)
        if ending == "cancelled":
            cancelling = await client.batches.cancel(batch.id)
            assert (cancelling.status, cancelling.cancelling_at is not None) == ("cancelling", True)

        ended = await _ended(client, batch.id, turnstile.turn)

        assert ended.status == ending
        assert (ended.cancelled_at or ended.expired_at or 0) >= ended.created_at
        errors = await _lines(client, ended.error_file_id)
        output = await _lines(client, ended.output_file_id)
        assert {line["error"]["code"] for line in errors} == {f"batch_{ending}"}
        assert sorted(int(line["custom_id"]) for line in errors + output) == list(range(200))
        if ending == "expired":
            with pytest.raises(openai.ConflictError):
                await client.batches.cancel(batch.id)


async def test_lists_are_read_over_three_pages_newest_first(client: AsyncOpenAI) -> None:
    batches = [(await _submit(client, _jsonl(_line("a")) if n else b"bad")).id for n in range(5)]
    files = [each.id async for each in client.files.list()]

    assert [each.id async for each in client.batches.list(limit=2)] == batches[::-1]
    assert sorted([each.id async for each in client.files.list(limit=2)]) == sorted(files)
    assert [each.id async for each in client.files.list(limit=2, order="asc")] == files[::-1]
    assert len(files) == 5


async def test_another_caller_finds_nothing(client: AsyncOpenAI, spoken: Gateway) -> None:
    batch = await _submit(client, _jsonl(_line("a")))
    await _ended(client, batch.id)

    async with _client(spoken.port, "sk-bob") as bob:
        for call in (
            bob.batches.retrieve(batch.id),
            bob.files.retrieve(batch.input_file_id),
            bob.files.content(f"file-output-{batch.id.removeprefix('batch_')}"),
        ):
            with pytest.raises(openai.NotFoundError):
                await call
        assert [each async for each in bob.batches.list()] == []
        assert [each async for each in bob.files.list()] == []


async def test_refusals_are_in_the_vendors_shape(client: AsyncOpenAI) -> None:
    with pytest.raises(openai.NotFoundError):
        await client.batches.create(input_file_id="file-x", endpoint="/v1/embeddings", completion_window="24h")
    with pytest.raises(openai.BadRequestError) as purpose:
        await client.files.create(file=b"x", purpose="assistants")
    with pytest.raises(openai.BadRequestError) as window:
        await _submit(client, b"x", window="soon")

    assert (purpose.value.param, purpose.value.type) == ("purpose", "invalid_request_error")
    assert window.value.param == "completion_window"
    assert window.value.request_id == window.value.response.headers["x-request-id"]


async def test_a_batch_that_is_sent_again_is_the_first_one(client: AsyncOpenAI) -> None:
    batch = await _submit(client, _jsonl(_line("a")))

    second = await client.batches.create(
        input_file_id=batch.input_file_id,
        endpoint=_ENDPOINT,
        completion_window="24h",
        metadata={"job": "nightly"},
        extra_headers={"x-stainless-retry-count": "1"},
    )

    assert second.id == batch.id


async def test_what_the_native_calls_retry_is_a_batch_of_the_vendor_as_well(
    client: AsyncOpenAI, api: Api, spoken: Gateway
) -> None:
    api.on("/v1/bad", failing(422))
    line = _line("a b", "/v1/bad", body={"say": "$ops.r1.response.status"})
    first = await _ended(client, (await _submit(client, _jsonl(line), "/v1/bad")).id)
    api.on("/v1/bad", answer(200, b"{}"))

    alice = ("Authorization", "Bearer sk-alice")
    retried = await post(spoken.port, f"/batch/{first.id.removeprefix('batch_')}/retry", b"", alice)
    second = await _ended(client, f"batch_{retried.json()['batchId']}")

    assert (second.status, second.metadata, second.input_file_id) == ("completed", first.metadata, first.input_file_id)
    assert [line["custom_id"] for line in await _lines(client, second.output_file_id)] == ["a b"]
    assert [each.id async for each in client.batches.list()] == [second.id, first.id]


async def test_everything_else_of_the_api_passes_through(client: AsyncOpenAI, api: Api) -> None:
    said = await client.chat.completions.create(model="m", messages=[])

    assert said.id == "chatcmpl-1"
    assert api.last.target == _ENDPOINT


async def test_without_an_embedded_ledger_the_calls_say_so(api: Api) -> None:
    async with gateway(api.url, _SPOKEN) as running, _client(running.port) as ours:
        with pytest.raises(openai.BadRequestError) as refused:
            await ours.files.list()

    assert refused.value.code == "async_disabled"


async def test_a_file_that_is_too_large_is_refused_and_nothing_is_left(api: Api, tmp_path: Path) -> None:
    async with (
        keeping(api.url, tmp_path, "dialects: {openai: {file_max: 1KiB}}") as running,
        _client(running.port) as ours,
    ):
        with pytest.raises(openai.APIStatusError) as refused:
            await ours.files.create(file=b"x" * 1025, purpose="batch")

        assert refused.value.status_code == 413
        assert [each async for each in ours.files.list()] == []
        assert (await ours.files.create(file=b"x" * 1024, purpose="batch")).bytes == 1024


async def test_five_thousand_requests_are_one_batch(client: AsyncOpenAI) -> None:
    batch = await _ended(client, (await _submit(client, _jsonl(*(_line(f"r{n}") for n in range(5000))))).id)

    assert (batch.status, batch.error_file_id) == ("completed", None)
    assert [line["custom_id"] for line in await _lines(client, batch.output_file_id)] == [f"r{n}" for n in range(5000)]


async def test_a_batch_survives_the_death_of_its_gateway_and_nothing_is_sent_twice(api: Api, tmp_path: Path) -> None:
    api.on(_ENDPOINT, stops := Stops(25, answer(200, b"{}")))
    gateways = Dying(tmp_path, api.url, f"{_SPOKEN}\nasync: {{slice: 10, slices: 1}}")
    async with _client(gateways.port) as ours:
        await gateways.start()
        try:
            batch = await _submit(ours, _jsonl(*(_line(f"r{n}") for n in range(100))))
            await api.until(26)
            await gateways.kill()
            with pytest.raises(openai.APIConnectionError):
                await ours.with_options(max_retries=0).batches.retrieve(batch.id)
            stops.goes_on.set()
            await gateways.start()

            ended = await _ended(ours, batch.id)
            lines, unknown = await _lines(ours, ended.output_file_id), await _lines(ours, ended.error_file_id)
            assert (await ours.files.retrieve(batch.input_file_id)).filename == "in.jsonl"
        finally:
            await gateways.kill()

    assert ended.status == "completed"
    assert sorted(line["custom_id"] for line in lines + unknown) == sorted(f"r{n}" for n in range(100))
    assert 60 < len(lines) <= len(stops.bodies) == len(set(stops.bodies))
    assert {line["error"]["code"] for line in unknown} == {"request_timeout"}


async def test_an_upload_of_100_mebibytes_takes_next_to_no_memory(api: Api, tmp_path: Path) -> None:
    gateways = Dying(tmp_path, api.url, _SPOKEN)
    content = os.urandom(1 << 10) * (100 << 10)
    async with _client(gateways.port) as ours:
        await gateways.start()
        try:
            await ours.files.create(file=b"warm", purpose="batch")
            before_bytes = gateways.most_bytes
            file = await ours.files.create(file=content, purpose="batch")
            after_bytes = gateways.most_bytes
            read = (await ours.files.content(file.id)).content
        finally:
            await gateways.kill()

    assert read == content
    assert after_bytes - before_bytes < 24 << 20
