"""The official msgraph-core, unmodified, before the gateway: collections, order, failures, bodies, its own retries.

Its builder of batches knows no preference and no monitor. Where an answer is wanted later, its own request is sent with
one field more by its own adapter, which reads the monitor's answer as well. The SDK reads bodies in base64 only
(WIRE 6.3), so the gateway is told to write them so for this client: `bodies: auto`.
"""

import json
import urllib.request
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx
import pytest
from kiota_abstractions.api_error import APIError
from kiota_abstractions.authentication import AnonymousAuthenticationProvider
from kiota_abstractions.headers_collection import HeadersCollection
from kiota_abstractions.method import Method
from kiota_abstractions.request_information import RequestInformation
from kiota_abstractions.serialization import (
    Parsable,
    ParseNode,
    ParseNodeFactoryRegistry,
    SerializationWriter,
    SerializationWriterFactoryRegistry,
)
from kiota_http.middleware.options import HeadersInspectionHandlerOption, RetryHandlerOption
from kiota_serialization_json.json_parse_node_factory import JsonParseNodeFactory
from kiota_serialization_json.json_serialization_writer_factory import JsonSerializationWriterFactory
from msgraph_core import BaseGraphRequestAdapter, GraphClientFactory
from msgraph_core.requests.batch_request_builder import BatchRequestBuilder
from msgraph_core.requests.batch_request_content import BatchRequestContent
from msgraph_core.requests.batch_request_content_collection import BatchRequestContentCollection
from msgraph_core.requests.batch_request_item import BatchRequestItem
from msgraph_core.requests.batch_response_content import BatchResponseContent
from msgraph_core.requests.batch_response_content_collection import BatchResponseContentCollection
from msgraph_core.tasks.page_iterator import PageIterator

from tests.fakes.until import until
from tests.integration.asynchronous.calls import ALICE, keeping, status
from tests.integration.server.api import Api, Talk, answer
from tests.integration.server.gateways import Gateway, gateway
from tests.sdk.apis import Stops, Turnstile
from tests.sdk.dying import Dying

SETTINGS = "dialects: {graph: {bodies: auto}}\n"
MANY = "dialects: {graph: {bodies: auto, operations_max: 5000}}"


class User(Parsable):
    """A resource as the SDK's generated models are."""

    def __init__(self) -> None:
        self.id: str | None = None
        self.name: str | None = None

    @staticmethod
    def create_from_discriminator_value(parse_node: ParseNode | None = None) -> "User":
        return User()

    def get_field_deserializers(self) -> dict[str, Callable[[ParseNode], None]]:
        return {
            "id": lambda node: setattr(self, "id", node.get_str_value()),
            "displayName": lambda node: setattr(self, "name", node.get_str_value()),
        }

    def serialize(self, writer: SerializationWriter) -> None:
        writer.write_str_value("displayName", self.name)


class Page(Parsable):
    """A page of a collection, likewise."""

    def __init__(self) -> None:
        self.value: list[User] | None = None
        self.odata_next_link: str | None = None

    @staticmethod
    def create_from_discriminator_value(parse_node: ParseNode | None = None) -> "Page":
        return Page()

    def get_field_deserializers(self) -> dict[str, Callable[[ParseNode], None]]:
        return {
            "value": lambda node: setattr(self, "value", node.get_collection_of_object_values(User)),
            "@odata.nextLink": lambda node: setattr(self, "odata_next_link", node.get_str_value()),
        }

    def serialize(self, writer: SerializationWriter) -> None:
        writer.write_collection_of_object_values("value", self.value)


@pytest.fixture(autouse=True)
def _json() -> None:
    """What applications register once."""
    ParseNodeFactoryRegistry().CONTENT_TYPE_ASSOCIATED_FACTORIES["application/json"] = JsonParseNodeFactory()
    writers = SerializationWriterFactoryRegistry().CONTENT_TYPE_ASSOCIATED_FACTORIES
    writers["application/json"] = JsonSerializationWriterFactory()


@pytest.fixture
async def graph_api() -> AsyncIterator[Api]:
    """Graph's plain API: users, some of which are not there."""

    async def users(talk: Talk) -> None:
        body = await talk.request.read()
        name = talk.request.target.partition("?")[0].rpartition("/")[2]
        if name.startswith("nope"):
            error = {"error": {"code": "ResourceNotFound", "message": "nf"}}
            await talk.send(answer(404, json.dumps(error).encode()))
        elif talk.request.method == "DELETE":
            await talk.send(answer(204))
        elif talk.request.method == "POST":
            await talk.send(answer(201, json.dumps({"id": "new", "sent": body.decode()}).encode()))
        else:
            await talk.send(answer(200, json.dumps({"id": name, "displayName": f"é {name}"}).encode()))

    async with Api(otherwise=users) as running:
        yield running


@pytest.fixture
async def before(graph_api: Api) -> AsyncIterator[Gateway]:
    async with gateway(graph_api.url, SETTINGS) as running:
        yield running


@asynccontextmanager
async def builder(port: int, *, retries: int = 3) -> AsyncIterator[BatchRequestBuilder]:
    """The SDK's own client; only the base URL is ours."""
    options = {RetryHandlerOption.get_key(): RetryHandlerOption(max_retries=retries)}
    transport = httpx.AsyncHTTPTransport(http2=True)  # kept, for the SDK's own client does not close its connections
    client = httpx.AsyncClient(transport=transport, timeout=100)
    adapter = BaseGraphRequestAdapter(
        AnonymousAuthenticationProvider(),
        http_client=GraphClientFactory.create_with_default_middleware(client=client, options=options),
    )
    adapter.base_url = f"http://127.0.0.1:{port}/v1.0"
    try:
        yield BatchRequestBuilder(adapter)
    finally:
        await transport.aclose()


def item(id_: str, url: str, method: Method = Method.GET, body: object = None, *parents: str) -> BatchRequestItem:
    information = RequestInformation()
    information.http_method = method
    information.url = url
    if body is not None:
        information.headers = HeadersCollection()
        information.headers.add("Content-Type", "application/json")
        information.content = json.dumps(body).encode()
    return BatchRequestItem(information, id_, list(parents))


def content_of(items: Iterable[BatchRequestItem]) -> BatchRequestContent:
    """All of them in one batch: the SDK adds no more than 20, and counts only what it adds."""
    content = BatchRequestContent()
    content.requests.update({each.id: each for each in items})
    return content


class Later:
    """One batch that is answered later, asked for and looked at by the SDK's adapter as `caller`."""

    def __init__(self, port: int, caller: str = "alice") -> None:
        transport = httpx.AsyncHTTPTransport(http2=True, retries=0)
        client = httpx.AsyncClient(transport=transport, timeout=100, headers={"Authorization": f"Bearer {caller}"})
        options = {RetryHandlerOption.get_key(): RetryHandlerOption(max_retries=0)}
        self._adapter = BaseGraphRequestAdapter(
            AnonymousAuthenticationProvider(),
            http_client=GraphClientFactory.create_with_default_middleware(client=client, options=options),
        )
        self._adapter.base_url = f"http://127.0.0.1:{port}/v1.0"
        self.monitor = ""
        self.close = transport.aclose

    async def post(self, *items: BatchRequestItem, prefer: str = "respond-async") -> None:
        information = await BatchRequestBuilder(self._adapter).to_post_request_information(content_of(items))
        information.headers.add("Prefer", prefer)
        heads = HeadersInspectionHandlerOption(inspect_response_headers=True)
        information.add_request_options([heads])
        assert await self._adapter.send_async(information, BatchResponseContent, {}) is None  # a 202 without a body
        assert heads.response_headers.get("preference-applied") == {prefer}
        self.monitor = next(iter(heads.response_headers.get("location")))

    async def look(self) -> BatchResponseContent | None:
        """The answer; None while the batch runs."""
        return await self._adapter.send_async(self._information(Method.GET), BatchResponseContent, {})

    async def ended(self, looked: Callable[[], None] = lambda: None) -> BatchResponseContent:
        def has_ended(found: BatchResponseContent | None) -> bool:
            looked()
            return found is not None

        found = await until(self.look, right=has_ended)
        assert found is not None
        return found

    async def cancel(self) -> None:
        await self._adapter.send_no_response_content_async(self._information(Method.DELETE), {})

    def _information(self, method: Method) -> RequestInformation:
        information = RequestInformation()
        information.http_method, information.url = method, self.monitor
        return information


@asynccontextmanager
async def later(port: int, caller: str = "alice") -> AsyncIterator[Later]:
    batch = Later(port, caller)
    try:
        yield batch
    finally:
        await batch.close()


async def post(port: int, *items: BatchRequestItem, retries: int = 3) -> BatchResponseContent:
    async with builder(port, retries=retries) as batch:
        answered = await batch.post(content_of(items))
    assert isinstance(answered, BatchResponseContent)
    return answered


def users(port: int, *names: str) -> list[BatchRequestItem]:
    """A GET of each user, under its name as id."""
    return [item(name, f"http://127.0.0.1:{port}/v1.0/users/{name}") for name in names]


async def test_typed_objects_come_back_under_their_ids(graph_api: Api, before: Gateway) -> None:
    answered = await post(before.port, *users(before.port, "u1", "u2"))

    user = answered.response_body("u2", User)
    assert user is not None
    assert (user.id, user.name) == ("u2", "é u2")
    assert answered.get_response_status_codes() == {"u1": 200, "u2": 200}
    assert sorted(graph_api.targets) == ["/v1.0/users/u1", "/v1.0/users/u2"]


async def test_a_collection_of_25_is_two_batches(graph_api: Api, before: Gateway) -> None:
    collection = BatchRequestContentCollection()
    for each in users(before.port, *(f"u{number}" for number in range(25))):
        collection.add_batch_request_item(each)

    async with builder(before.port) as batch:
        answered = await batch.post(collection)

    assert isinstance(answered, BatchResponseContentCollection)
    first, second = [each.get_response_status_codes() for each in answered.get_responses()]
    assert first == {f"u{number}": 200 for number in range(20)}
    assert second == {f"u{number}": 200 for number in range(20, 25)}
    batch_ids = [(each.header("X-Request-Id") or "").partition(".")[0] for each in graph_api.received]
    assert sorted(batch_ids.count(id_) for id_ in set(batch_ids)) == [5, 20]


async def test_items_wait_for_those_they_depend_on(graph_api: Api, before: Gateway) -> None:
    base = f"http://127.0.0.1:{before.port}/v1.0"
    make = item("make", f"{base}/me/messages", Method.POST, {"subject": "é"})
    change = item("change", f"{base}/me/messages/new", Method.PATCH, {"a": 1}, "make")
    drop = item("drop", f"{base}/me/messages/new", Method.DELETE, None, "make", "change")

    answered = await post(before.port, make, change, drop)

    assert answered.get_response_status_codes() == {"make": 201, "change": 200, "drop": 204}
    assert [each.method for each in graph_api.received] == ["POST", "PATCH", "DELETE"]
    stream = answered.get_response_stream_by_id("make")
    assert stream is not None
    assert json.loads(json.load(stream)["sent"]) == {"subject": "é"}
    assert answered.get_response_stream_by_id("drop") is None


async def test_a_failed_item_fails_those_that_depend_on_it_and_no_other(graph_api: Api, before: Gateway) -> None:
    base = f"http://127.0.0.1:{before.port}/v1.0"
    child = item("child", f"{base}/users/c", Method.GET, None, "nope")
    grandchild = item("grandchild", f"{base}/users/g", Method.GET, None, "child")

    answered = await post(before.port, *users(before.port, "nope", "u1"), child, grandchild)

    assert answered.get_response_status_codes() == {"nope": 404, "u1": 200, "child": 424, "grandchild": 424}
    assert error_of(answered, "nope") == {"code": "ResourceNotFound", "message": "nf"}
    assert error_of(answered, "grandchild")["code"] == "FailedDependency"
    assert sorted(graph_api.targets) == ["/v1.0/users/nope", "/v1.0/users/u1"]


async def test_a_redirect_is_no_success_for_those_that_depend_on_it(graph_api: Api, before: Gateway) -> None:
    graph_api.on("/v1.0/users/moved", answer(302, b"", ("Location", "/v1.0/users/u1")))
    child = item("child", f"http://127.0.0.1:{before.port}/v1.0/users/c", Method.GET, None, "moved")

    answered = await post(before.port, *users(before.port, "moved"), child)

    assert answered.get_response_status_codes() == {"moved": 302, "child": 424}


async def test_items_built_for_the_vendors_host_go_to_the_upstream(graph_api: Api, before: Gateway) -> None:
    answered = await post(before.port, item("a", "https://graph.microsoft.com/v1.0/users/u1"))

    assert answered.get_response_status_codes() == {"a": 200}
    assert graph_api.targets == ["/v1.0/users/u1"]


async def test_every_body_that_the_sdk_can_build_arrives_as_it_was(graph_api: Api, before: Gateway) -> None:
    url = f"http://127.0.0.1:{before.port}/v1.0/me"
    bodies = [{"a": {"b": [1, None, "é"]}}, {}, [1, 2], "text", 7, True]
    request = urllib.request.Request(url, b'{"by": "urllib"}', {"Content-Type": "application/json"}, method="PUT")
    items = [item(str(number), url, Method.PATCH, body) for number, body in enumerate(bodies)]

    answered = await post(before.port, *items, BatchRequestItem.create_with_urllib_request(request, "urllib"))

    assert set(answered.get_response_status_codes().values()) == {200}
    arrived = {
        each.header(
            "X-Request-Id",
        ): json.loads(each.body)
        for each in graph_api.received
    }
    by_id = {(id_ or "").rpartition(".")[2]: body for id_, body in arrived.items()}
    assert by_id == {str(number): body for number, body in enumerate(bodies)} | {"urllib": {"by": "urllib"}}
    assert {each.header("Content-Type") for each in graph_api.received} == {"application/json"}


async def test_bytes_and_text_come_back_as_they_were(graph_api: Api, before: Gateway) -> None:
    photo = bytes(range(256))
    graph_api.on("/v1.0/photo", answer(200, photo, ("Content-Type", "image/jpeg")))
    graph_api.on("/v1.0/text", answer(200, "héllo ~~~".encode(), ("Content-Type", "text/plain; charset=utf-8")))
    base = f"http://127.0.0.1:{before.port}/v1.0"

    answered = await post(before.port, item("photo", f"{base}/photo"), item("text", f"{base}/text"))

    found = {id_: answered.get_response_stream_by_id(id_) for id_ in ("photo", "text")}
    assert {id_: stream.getvalue() for id_, stream in found.items() if isinstance(stream, BytesIO)} == {
        "photo": photo,
        "text": "héllo ~~~".encode(),
    }


async def test_throttled_items_say_when_to_come_back_and_the_others_run(graph_api: Api) -> None:
    limits = SETTINGS + "limits: [{name: all, key: global, rate: 1/min, burst: 2, on_exhausted: partial}]\n"
    async with gateway(graph_api.url, limits) as running:
        answered = await post(running.port, *users(running.port, "a", "b", "c"))

    assert answered.get_response_status_codes() == {"a": 200, "b": 200, "c": 429}
    throttled = answered.get_response_by_id("c")
    assert throttled is not None
    assert 1 <= int((throttled.headers or {})["Retry-After"]) <= 60
    assert error_of(answered, "c")["code"] == "TooManyRequests"


async def test_a_throttled_batch_is_sent_again_by_the_sdk(graph_api: Api) -> None:
    limits = SETTINGS + "limits: [{name: all, key: global, rate: 2/s, burst: 2}]\n"
    async with gateway(graph_api.url, limits) as running:
        await post(running.port, *users(running.port, "a", "b"))
        answered = await post(running.port, *users(running.port, "c", "d"))

    assert answered.get_response_status_codes() == {"c": 200, "d": 200}
    assert [each.header("Retry-Attempt") for each in graph_api.received] == [None, None, "1", "1"]


@pytest.mark.parametrize(
    ("url", "status"),
    [("http://elsewhere.example/v1.0/me", 400), ("https://graph.microsoft.com/v1.0/$batch", 400)],
)
async def test_an_envelope_that_cannot_run_is_an_error_of_the_sdk(
    graph_api: Api, before: Gateway, url: str, status: int
) -> None:
    with pytest.raises(APIError) as caught:
        await post(before.port, item("a", url))

    assert caught.value.response_status_code == status
    assert graph_api.received == []


async def test_without_the_setting_the_sdk_sees_statuses_and_no_bodies_as_it_does_at_graph(graph_api: Api) -> None:
    async with gateway(graph_api.url, "dialects: {graph: {}}\n") as running:
        answered = await post(running.port, *users(running.port, "u1"))

    response = answered.get_response_by_id("u1")
    assert response is not None
    assert (response.status, response.content_type, response.body) == (200, "application/json", None)


async def test_a_collection_that_a_batch_began_is_read_over_three_pages(graph_api: Api, before: Gateway) -> None:
    base = f"http://127.0.0.1:{before.port}/v1.0"

    async def paged(talk: Talk) -> None:
        page = int(talk.request.target.partition("$skiptoken=")[2] or "0")
        more = {"@odata.nextLink": f"{base}/users?$skiptoken={page + 1}"} if page < 2 else {}
        said = {"value": [{"id": f"{page}-{number}"} for number in range(2)], **more}
        await talk.send(answer(200, json.dumps(said).encode(), ("Content-Type", "application/json")))

    graph_api.on("/v1.0/users", paged)
    found: list[str | None] = []
    async with builder(before.port) as batch:
        answered = await batch.post(content_of([item("page", f"{base}/users")]))
        assert isinstance(answered, BatchResponseContent)
        pages: PageIterator[Any] = PageIterator(answered.response_body("page", Page), batch._request_adapter)
        await pages.iterate(lambda user: found.append(user.id) or True)  # type: ignore[func-returns-value]

    assert found == ["0-0", "0-1", "1-0", "1-1", "2-0", "2-1"]
    assert graph_api.targets == ["/v1.0/users", "/v1.0/users?$skiptoken=1", "/v1.0/users?$skiptoken=2"]


async def test_a_batch_is_answered_later_at_its_monitor(graph_api: Api, tmp_path: Path) -> None:
    async with keeping(graph_api.url, tmp_path, SETTINGS) as running, later(running.port) as batch:
        base = f"http://127.0.0.1:{running.port}/v1.0"
        child = item("child", f"{base}/me/messages", Method.POST, {"a": 1}, "u1")
        lost = item("lost", f"{base}/users/u3", Method.GET, None, "nope")
        await batch.post(*users(running.port, "u1", "nope"), child, lost)
        answered = await batch.ended()

    user = answered.response_body("u1", User)
    assert user is not None
    assert (user.id, user.name) == ("u1", "é u1")
    assert answered.get_response_status_codes() == {"u1": 200, "nope": 404, "child": 201, "lost": 424}
    assert error_of(answered, "lost")["code"] == "FailedDependency"
    targets = graph_api.targets
    assert targets.index("/v1.0/users/u1") < targets.index("/v1.0/me/messages")


async def test_a_later_batch_stops_at_its_first_failure_where_the_caller_wants_that(
    graph_api: Api, tmp_path: Path
) -> None:
    async with (
        keeping(graph_api.url, tmp_path, SETTINGS, batch__concurrency=1) as running,
        later(running.port) as batch,
    ):
        prefer = "respond-async, continue-on-error=false"
        await batch.post(*users(running.port, "u1", "nope", "u2"), prefer=prefer)
        answered = await batch.ended()

    assert answered.get_response_status_codes() == {"u1": 200, "nope": 404, "u2": 424}
    assert graph_api.targets == ["/v1.0/users/u1", "/v1.0/users/nope"]


async def test_a_later_batch_is_cancelled_at_its_monitor_which_is_gone_then(tmp_path: Path) -> None:
    turnstile = Turnstile(answer(200, b"{}"))
    async with (
        Api(otherwise=turnstile) as api,
        keeping(api.url, tmp_path, MANY, batch__concurrency=1, async__slices=1) as running,
        later(running.port) as batch,
    ):
        await batch.post(*users(running.port, *(f"u{number}" for number in range(200))))
        await api.until(1)
        assert await batch.look() is None
        await batch.cancel()
        with pytest.raises(APIError) as gone:
            await batch.look()

        async def looked() -> dict[str, Any]:
            turnstile.turn()
            return await status(running.port, batch.monitor.rpartition("/")[2], ALICE)

        native = await until(looked, right=lambda found: found["status"] != "cancelling")

    assert gone.value.response_status_code == 404
    assert native["status"] == "cancelled"
    assert len(api.received) == 200 - native["cancelled"] < 200


async def test_what_a_later_batch_does_not_send_in_time_is_504(tmp_path: Path) -> None:
    turnstile = Turnstile(answer(200, b"{}"))
    async with (
        Api(otherwise=turnstile) as api,
        keeping(api.url, tmp_path, MANY, batch__concurrency=1, async__slices=1, async__expiry="1s") as running,
        later(running.port) as batch,
    ):
        await batch.post(*users(running.port, *(f"u{number}" for number in range(200))))
        answered = await batch.ended(turnstile.turn)

    statuses = list(answered.get_response_status_codes().values())
    assert set(statuses) == {200, 504}
    assert statuses.count(200) == len(api.received)


async def test_a_monitor_is_shown_to_its_caller_only(graph_api: Api, tmp_path: Path) -> None:
    async with (
        keeping(graph_api.url, tmp_path, SETTINGS) as running,
        later(running.port) as batch,
        later(running.port, "bob") as other,
    ):
        await batch.post(*users(running.port, "u1"))
        other.monitor = batch.monitor
        with pytest.raises(APIError) as foreign:
            await other.look()
        answered = await batch.ended()

    assert foreign.value.response_status_code == 404
    assert answered.get_response_status_codes() == {"u1": 200}


@pytest.mark.parametrize("is_later", [False, True], ids=["at once", "later"])
async def test_five_thousand_requests_are_one_batch(graph_api: Api, tmp_path: Path, is_later: bool) -> None:
    names = [f"u{number}" for number in range(5000)]
    async with keeping(graph_api.url, tmp_path, MANY, batch__sync_timeout="60s") as running:
        items = users(running.port, *names)
        async with later(running.port) as batch:
            if is_later:
                await batch.post(*items)
                answered = await batch.ended()
            else:
                answered = await post(running.port, *items)

    assert answered.get_response_status_codes() == dict.fromkeys(names, 200)
    user = answered.response_body("u4999", User)
    assert user is not None
    assert user.name == "é u4999"
    assert sorted(graph_api.targets) == sorted(f"/v1.0/users/{name}" for name in names)


async def test_a_later_batch_survives_the_death_of_its_gateway_and_nothing_is_sent_twice(tmp_path: Path) -> None:
    stops = Stops(25, answer(200, b"{}"))
    async with Api(otherwise=stops) as api:
        gateways = Dying(tmp_path, api.url, f"{MANY}\nasync: {{slice: 10, slices: 1}}")
        url = f"http://127.0.0.1:{gateways.port}/v1.0/me/messages"
        items = [item(f"m{number}", url, Method.POST, {"number": number}) for number in range(100)]
        async with later(gateways.port) as batch:
            await gateways.start()
            try:
                await batch.post(*items)
                await api.until(26)
                await gateways.kill()
                with pytest.raises(httpx.TransportError):
                    await batch.look()
                stops.goes_on.set()
                await gateways.start()
                answered = await batch.ended()
            finally:
                await gateways.kill()

    statuses = answered.get_response_status_codes()
    assert list(statuses) == [each.id for each in items]
    assert set(statuses.values()) == {200, 504}  # 504: on its way when the gateway died, so nobody can know
    assert 60 < list(statuses.values()).count(200) <= len(stops.bodies) == len(set(stops.bodies))


def error_of(answered: BatchResponseContent, id_: str) -> dict[str, Any]:
    stream = answered.get_response_stream_by_id(id_)
    assert stream is not None
    error: dict[str, Any] = json.load(stream)["error"]
    return error
