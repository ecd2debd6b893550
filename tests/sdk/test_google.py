"""google-api-python-client, unchanged but for the address, against a gateway before a plain API of things."""

import asyncio
import json
import re
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from typing import Any

import httplib2
import pytest
from google.auth.credentials import AnonymousCredentials, Credentials
from googleapiclient.discovery import Resource, build_from_document
from googleapiclient.errors import BatchError, HttpError
from googleapiclient.http import BatchHttpRequest, HttpRequest

from tests.integration.server.api import Api, Talk, answer
from tests.integration.server.gateways import Gateway, gateway

_anonymous: Any = AnonymousCredentials  # it has no types
_SPOKEN = "dialects: {google: {}}\n"
_PAGE = {"pageToken": {"type": "string", "location": "query"}}
_ID = {"id": {"type": "string", "required": True, "location": "path"}}


def _method(verb: str, path: str, **more: Any) -> dict[str, Any]:
    return {"id": f"things.{verb}", "path": path, "httpMethod": verb, "response": {"$ref": "Thing"}, **more}


_BODY = {"request": {"$ref": "Thing"}}
_DOCUMENT = {
    "kind": "discovery#restDescription",
    "name": "things",
    "version": "v1",
    "rootUrl": "https://www.googleapis.com/",
    "servicePath": "things/v1/",
    "batchPath": "batch/things/v1",
    "schemas": {
        "Thing": {"id": "Thing", "type": "object", "properties": {"name": {"type": "string"}}},
        "Page": {"id": "Page", "type": "object", "properties": {"nextPageToken": {"type": "string"}}},
    },
    "resources": {
        "things": {
            "methods": {
                "get": _method("GET", "things/{id}", parameters=_ID, parameterOrder=["id"], supportsMediaDownload=True),
                "list": {**_method("GET", "things", parameters=_PAGE), "response": {"$ref": "Page"}},
                "insert": _method("POST", "things", **_BODY),
                "patch": _method("PATCH", "things/{id}", parameters=_ID, parameterOrder=["id"], **_BODY),
                "delete": {**_method("DELETE", "things/{id}", parameters=_ID), "response": None},
            }
        }
    },
}
del _DOCUMENT["resources"]["things"]["methods"]["delete"]["response"]  # type: ignore[index]


async def _things(talk: Talk) -> None:
    """The plain API: a thing of any name but `missing`; `token` old is refused."""
    body = await talk.request.read()
    path = talk.request.target.partition("?")[0]
    name = path.rpartition("/")[2]
    if talk.request.header("Authorization") == "Bearer old":
        said = answer(401, b'{"error": {"code": 401, "message": "stale"}}')
    elif name == "missing":
        error = {"code": 404, "message": "no such thing", "errors": [{"reason": "notFound", "message": "no"}]}
        said = answer(404, json.dumps({"error": error}).encode(), ("Content-Type", "application/json; charset=UTF-8"))
    elif talk.request.method == "DELETE":
        said = answer(204)
    elif talk.request.method in ("POST", "PATCH"):
        said = answer(200, body, ("ETag", '"e"'), ("Content-Type", "application/json; charset=UTF-8"))
    else:
        said = answer(200, json.dumps({"name": name, "motto": "née Ω 日本"}, ensure_ascii=False).encode())
    await talk.send(said)


@pytest.fixture
async def api() -> AsyncIterator[Api]:
    async with Api(otherwise=_things) as running:
        yield running


@pytest.fixture
async def spoken(api: Api) -> AsyncIterator[Gateway]:
    async with gateway(api.url, _SPOKEN) as running:
        yield running


Service = Callable[..., Resource]


@pytest.fixture
def service() -> Iterator[Service]:
    """Makes clients of a gateway; closes their connections in the end."""
    made: list[Resource] = []

    def make(running: Gateway, **how: Any) -> Resource:
        document = {**_DOCUMENT, "rootUrl": f"http://127.0.0.1:{running.port}/"}  # the one line
        made.append(build_from_document(document, **(how or {"credentials": _anonymous()})))
        return made[-1]

    yield make
    for each in made:
        each.close()


class _Results:
    """What a batch's callback was told, by request id and in order."""

    def __init__(self) -> None:
        self.order: list[str] = []
        self.answers: dict[str, Any] = {}
        self.errors: dict[str, HttpError] = {}

    def __call__(self, request_id: str, response: Any, exception: HttpError | None) -> None:
        self.order.append(request_id)
        if exception is None:
            self.answers[request_id] = response
        else:
            self.errors[request_id] = exception

    @property
    def statuses(self) -> dict[str, int]:
        return {request_id: int(error.resp.status) for request_id, error in self.errors.items()}


async def _executed(client: Resource, fill: Callable[[Any, BatchHttpRequest], None]) -> _Results:
    """Fill a batch and execute it in a thread, as a program would."""
    results = _Results()

    def execute() -> None:
        batch = client.new_batch_http_request(callback=results)
        fill(client.things(), batch)
        batch.execute()

    await asyncio.to_thread(execute)
    return results


async def test_every_kind_of_call_comes_back_under_its_id_in_order(spoken: Gateway, api: Api, service: Service) -> None:
    def fill(things: Any, batch: BatchHttpRequest) -> None:
        batch.add(things.get(id="a b"), request_id="get")
        batch.add(things.get(id="missing"), request_id="missing")
        batch.add(things.insert(body={"name": "né"}), request_id="insert")
        batch.add(things.patch(id="x", body={"name": "q"}), request_id="patch")
        batch.add(things.delete(id="z"), request_id="delete")

    results = await _executed(service(spoken), fill)

    assert results.order == ["get", "missing", "insert", "patch", "delete"]
    assert results.answers == {
        "get": {"name": "a%20b", "motto": "née Ω 日本"},
        "insert": {"name": "né"},
        "patch": {"name": "q"},
        "delete": "",
    }
    assert results.statuses == {"missing": 404}
    assert results.errors["missing"].reason == "no such thing"
    assert sorted(api.targets) == [
        "/things/v1/things/a%20b?alt=json",
        "/things/v1/things/missing?alt=json",
        "/things/v1/things/x?alt=json",
        "/things/v1/things/z",
        "/things/v1/things?alt=json",
    ]


async def test_a_batched_call_reaches_upstream_as_the_same_call_alone(
    spoken: Gateway, api: Api, service: Service
) -> None:
    client = service(spoken)
    await asyncio.to_thread(lambda: client.things().insert(body={"name": "a"}).execute())
    await _executed(client, lambda things, batch: batch.add(things.insert(body={"name": "a"})))

    alone, batched = api.received
    assert (alone.method, alone.target, alone.body) == (batched.method, batched.target, batched.body)
    for name in ("accept", "content-type", "host", "x-goog-api-client"):
        assert alone.header(name) == batched.header(name)


async def test_a_thousand_calls_are_one_batch(spoken: Gateway, api: Api, service: Service) -> None:
    def fill(things: Any, batch: BatchHttpRequest) -> None:
        for number in range(1000):
            batch.add(things.get(id="missing" if number % 10 == 0 else f"t{number}"), request_id=str(number))

    results = await _executed(service(spoken), fill)

    assert results.order == [str(number) for number in range(1000)]
    assert (len(results.answers), len(results.errors)) == (900, 100)
    assert all(results.answers[str(number)]["name"] == f"t{number}" for number in range(1000) if number % 10)
    assert len(api.received) == 1000


async def test_five_thousand_calls_run_where_the_operator_and_the_client_allow_them(
    api: Api, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("googleapiclient.http.MAX_BATCH_LIMIT", 5000)  # the client has no setting for it

    def fill(things: Any, batch: BatchHttpRequest) -> None:
        for number in range(5000):
            batch.add(things.get(id=f"t{number}"), request_id=str(number))

    settings = "dialects: {google: {operations_max: 5000}}\nbatch: {sync_timeout: 55s}"
    async with gateway(api.url, settings) as running:
        results = await _executed(service(running), fill)

    assert results.order == [str(number) for number in range(5000)]
    assert all(results.answers[str(number)]["name"] == f"t{number}" for number in range(5000))
    assert len(api.received) == 5000


def _add_as_page(call: HttpRequest, _: Any, batch: BatchHttpRequest) -> None:
    batch.add(call, request_id="page")


async def test_three_pages_are_read_by_a_batch_each(spoken: Gateway, api: Api, service: Service) -> None:
    async def paged(talk: Talk) -> None:
        page = int(re.search(r"pageToken=(\d)", talk.request.target + "&pageToken=0")[1])  # type: ignore[index]
        said = {"items": [page], **({"nextPageToken": str(page + 1)} if page < 2 else {})}
        await talk.send(answer(200, json.dumps(said).encode()))

    api.on("/things/v1/things", paged)
    client, found = service(spoken), list[int]()
    call = client.things().list()
    while call is not None:
        results = await _executed(client, partial(_add_as_page, call))
        found += results.answers["page"]["items"]
        call = client.things().list_next(call, results.answers["page"])

    assert found == [0, 1, 2]
    assert len(api.received) == 3


async def test_ids_may_be_of_any_words_and_length(spoken: Gateway, service: Service) -> None:
    ids = ["a b", "né + <x>", "+", "0", "%2B", "long-" * 40, "two words " * 15]

    def fill(things: Any, batch: BatchHttpRequest) -> None:
        for request_id in ids:
            batch.add(things.get(id="t"), request_id=request_id)

    results = await _executed(service(spoken), fill)

    assert results.order == ids
    assert set(results.answers) == set(ids)


@pytest.mark.parametrize("body", [b"", b"{}", b'"text"', b"\xef\xbb\xbf{}", b"[]\r\n\r\n", b'{"a":"--batch_"}\n'])
async def test_bodies_of_any_shape_leave_the_others_whole(
    spoken: Gateway, api: Api, body: bytes, service: Service
) -> None:
    api.on("/things/v1/things/odd", answer(200, body, ("Content-Type", "application/json")))

    def fill(things: Any, batch: BatchHttpRequest) -> None:
        batch.add(HttpRequest(things._http, lambda _, content: content, things.get(id="odd").uri))
        batch.add(things.get(id="t"), request_id="t")

    results = await _executed(service(spoken), fill)

    assert results.answers["1"] == body
    assert results.answers["t"]["name"] == "t"


async def test_bytes_come_as_base64_and_do_not_break_the_batch(spoken: Gateway, api: Api, service: Service) -> None:
    api.on("/things/v1/things/image", answer(200, b"\x89PNG\xff", ("Content-Type", "image/png")))

    def fill(things: Any, batch: BatchHttpRequest) -> None:
        batch.add(things.get_media(id="image"), request_id="image")
        batch.add(things.get(id="t"), request_id="t")

    results = await _executed(service(spoken), fill)

    assert results.answers["image"] == b"iVBOR/8="
    assert results.answers["t"]["name"] == "t"


@pytest.mark.parametrize("status", [301, 304, 400, 403, 409, 412, 429, 500, 503])
async def test_each_status_is_the_call_s_own(spoken: Gateway, api: Api, status: int, service: Service) -> None:
    api.on("/things/v1/things/odd", answer(status))

    def fill(things: Any, batch: BatchHttpRequest) -> None:
        batch.add(things.get(id="odd"), request_id="odd")
        batch.add(things.get(id="t"), request_id="t")

    results = await _executed(service(spoken), fill)

    assert (results.statuses, list(results.answers)) == ({"odd": status}, ["t"])


class _Refreshed(Credentials):
    """A token that is old until it is refreshed."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.token = "old"
        self.refreshes = 0

    def refresh(self, _: Any) -> None:
        self.token = "new"
        self.refreshes += 1

    @property
    def expired(self) -> bool:
        return False

    @property
    def valid(self) -> bool:
        return True


async def test_calls_that_were_401_are_sent_again_with_a_new_token(spoken: Gateway, api: Api, service: Service) -> None:
    credentials = _Refreshed()

    def fill(things: Any, batch: BatchHttpRequest) -> None:
        for name in ("a", "b", "c"):
            batch.add(things.get(id=name), request_id=name)

    results = await _executed(service(spoken, credentials=credentials), fill)

    assert {name: found["name"] for name, found in results.answers.items()} == {"a": "a", "b": "b", "c": "c"}
    tokens = [received.header("Authorization") for received in api.received]
    assert tokens == ["Bearer old"] * 3 + ["Bearer new"] * 3


async def test_one_401_of_a_batch_without_credentials_of_its_own_ends_it(api: Api, service: Service) -> None:
    """PROMISES S20: what one caller's credential was refused is not tried a thousand times."""
    api.on("/things/v1/things/secret", answer(401, b'{"error": {"code": 401, "message": "who are you?"}}'))

    def fill(things: Any, batch: BatchHttpRequest) -> None:
        for number in range(50):
            batch.add(things.get(id="secret"), request_id=str(number))

    async with gateway(api.url, _SPOKEN + "batch: {concurrency: 1}") as running:
        results = await _executed(service(running, http=httplib2.Http()), fill)

    assert set(results.statuses.values()) == {401}
    assert len(api.received) == 2  # the client sends every batch with a 401 once more


async def test_an_inner_host_chooses_nothing(spoken: Gateway, api: Api) -> None:
    client = build_from_document(_DOCUMENT, credentials=_anonymous())
    results, http = _Results(), httplib2.Http()

    def execute() -> None:
        batch = BatchHttpRequest(callback=results, batch_uri=f"http://127.0.0.1:{spoken.port}/batch")
        batch.add(client.things().get(id="t"))
        batch.execute(http=http)
        http.close()

    await asyncio.to_thread(execute)

    assert results.answers["1"]["name"] == "t"
    assert api.last.header("Host") == f"127.0.0.1:{spoken.port}"


async def test_a_path_that_cannot_be_batched_fails_alone(spoken: Gateway, service: Service) -> None:
    def fill(things: Any, batch: BatchHttpRequest) -> None:
        batch.add(things.get(id="a/b"), request_id="slash")
        batch.add(things.get(id="t"), request_id="t")

    results = await _executed(service(spoken), fill)

    assert results.statuses == {"slash": 400}
    assert "encoded-slash" in str(results.errors["slash"].reason)
    assert results.answers["t"]["name"] == "t"


async def test_a_batch_above_the_limit_is_refused_in_words_that_the_client_shows(api: Api, service: Service) -> None:
    def fill(things: Any, batch: BatchHttpRequest) -> None:
        for _ in range(3):
            batch.add(things.get(id="t"))

    async with gateway(api.url, "dialects: {google: {operations_max: 2}}") as running:
        with pytest.raises(HttpError) as caught:
            await _executed(service(running), fill)

    assert (caught.value.resp.status, caught.value.reason) == (413, "more than 2 calls in one batch; send several")
    assert api.received == []


@pytest.mark.parametrize(("on_exhausted", "sent"), [("reject", 0), ("partial", 2)])
async def test_a_caller_above_the_rate_is_told(api: Api, on_exhausted: str, sent: int, service: Service) -> None:
    def fill(things: Any, batch: BatchHttpRequest) -> None:
        for number in range(3):
            batch.add(things.get(id="t"), request_id=str(number))

    def two(things: Any, batch: BatchHttpRequest) -> None:
        batch.add(things.get(id="t"))
        batch.add(things.get(id="t"))

    limit = f"limits: [{{name: a, key: ip, rate: 1/h, burst: 4, on_exhausted: {on_exhausted}}}]"
    async with gateway(api.url, _SPOKEN + limit) as running:
        client = service(running)
        await _executed(client, two)
        if sent:
            results = await _executed(client, fill)
            assert results.statuses == {"2": 429}
            assert results.errors["2"].resp["retry-after"] == "120"
        else:
            with pytest.raises(HttpError, match="no 3 tokens now") as caught:
                await _executed(client, fill)
            assert caught.value.resp.status == 429

    assert len(api.received) == 2 + sent


async def test_an_upstream_that_is_away_is_503_and_one_that_is_slow_504(api: Api, service: Service) -> None:
    async def never(_: Talk) -> None:
        await asyncio.Event().wait()

    api.on("/things/v1/things/slow", never)
    async with gateway(api.url, _SPOKEN + "upstream: {timeout: 200ms}") as running:
        slow = await _executed(
            service(running), lambda things, batch: batch.add(things.patch(id="slow", body={}), request_id="slow")
        )
    async with gateway("http://127.0.0.1:1", _SPOKEN) as running:
        away = await _executed(service(running), lambda things, batch: batch.add(things.get(id="t"), request_id="t"))

    assert slow.statuses == {"slow": 504}
    assert away.statuses == {"t": 503}


async def test_without_the_dialect_the_client_finds_no_batch_there(api: Api, service: Service) -> None:
    async with gateway(api.url, "batch: {path: /elsewhere}") as running:
        with pytest.raises(BatchError, match="multipart"):
            await _executed(service(running), lambda things, batch: batch.add(things.insert(body={"a": 1})))

    assert api.last.target == "/batch/things/v1"
    assert uuid.UUID(api.last.body.decode().partition("Content-ID: <")[2][:36])
