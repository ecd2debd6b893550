"""facebook-business, unchanged but for the address, against a gateway before a plain API of campaigns and images."""

import asyncio
import io
import json
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any
from urllib.parse import parse_qs

import pytest
from facebook_business.adobjects.adaccount import AdAccount
from facebook_business.adobjects.campaign import Campaign
from facebook_business.api import FacebookAdsApi, FacebookAdsApiBatch, FacebookResponse
from facebook_business.exceptions import FacebookRequestError
from facebook_business.session import FacebookSession

from tests.integration.server.api import Api, Talk, answer
from tests.integration.server.gateways import Gateway, gateway

_SPOKEN = "dialects: {facebook: {}}\n"
_ERROR = {"message": "no such object", "type": "GraphMethodException", "code": 100, "error_subcode": 33}
_PLAIN: dict[str, tuple[int, bytes]] = {
    "missing": (400, json.dumps({"error": _ERROR}).encode()),
    "broken": (500, b"<html>Service Unavailable</html>"),
    "number": (200, b"5"),
    "true": (200, b"true"),
    "text": (200, b"Service Unavailable"),
    "odd": (404, b'{"error": null}'),
    "created": (201, b""),
}


async def _graph(talk: Talk) -> None:
    """The plain API: POST makes what it was given, DELETE answers 204, GET shows a node, and some are odd."""
    body = await talk.request.read()
    path, _, query = talk.request.target.partition("?")
    node = path.removeprefix("/v26.0/").strip("/")
    if "access_token" not in query:
        said: tuple[int, bytes] = (401, b'{"error": {"message": "no token", "type": "OAuthException", "code": 190}}')
    elif talk.request.method == "DELETE":
        said = (204, b"")
    elif talk.request.method == "POST":
        made = parse_qs(body.decode("latin-1")).get("name", [str(len(body))])
        said = (200, json.dumps({"id": f"{node}-{made[0]}"}).encode())
    else:
        said = _PLAIN.get(node, (200, json.dumps({"id": node, "name": "née Ω"}).encode()))
    await talk.send(answer(said[0], said[1], ("Content-Type", "text/javascript; charset=UTF-8")))


@pytest.fixture
async def graph() -> AsyncIterator[Api]:
    async with Api(otherwise=_graph) as running:
        yield running


@pytest.fixture
async def spoken(graph: Api) -> AsyncIterator[Gateway]:
    async with gateway(graph.url, _SPOKEN) as running:
        yield running


Client = Callable[[Gateway], FacebookAdsApi]


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> Iterator[Client]:
    """Makes clients of a gateway; closes their connections in the end."""
    made: list[FacebookAdsApi] = []

    def make(running: Gateway) -> FacebookAdsApi:
        monkeypatch.setattr(FacebookSession, "GRAPH", f"http://127.0.0.1:{running.port}")
        made.append(FacebookAdsApi(FacebookSession("1", "secret", "TOKEN")))
        return made[-1]

    yield make
    for api in made:
        api._session.requests.close()


class _Heard:
    """What the callbacks of a batch were told, in order."""

    def __init__(self) -> None:
        self.good: list[Any] = []
        self.bad: list[FacebookRequestError] = []

    def success(self, response: FacebookResponse) -> None:
        self.good.append(response.json())

    def failure(self, response: FacebookResponse) -> None:
        self.bad.append(response.error())

    def add(
        self, batch: FacebookAdsApiBatch, method: str, path: str | tuple[str, ...], *more: Any, **named: Any
    ) -> dict[str, Any]:
        call: dict[str, Any] = batch.add(method, path, *more, success=self.success, failure=self.failure, **named)
        return call


async def _execute(batch: FacebookAdsApiBatch) -> FacebookAdsApiBatch | None:
    return await asyncio.to_thread(batch.execute)


async def test_every_callback_hears_what_became_of_its_call(spoken: Gateway, graph: Api, client: Client) -> None:
    batch, heard = client(spoken).new_batch(), _Heard()
    heard.add(batch, "GET", "me/adaccounts", {"fields": ["id", "name"], "limit": 2})
    heard.add(batch, "GET", "missing")
    heard.add(batch, "POST", ("act_1", "campaigns"), {"name": "C & D é", "special_ad_categories": []}, {"X-T": "1"})
    heard.add(batch, "DELETE", "123")
    heard.add(batch, "GET", "c1?limit=1", {"fields": "id"})

    left = await _execute(batch)

    assert left is None
    assert heard.good == [
        {"id": "me/adaccounts", "name": "née Ω"},
        {"id": "act_1/campaigns-C & D é"},
        {"success": True},
        {"id": "c1", "name": "née Ω"},
    ]
    assert [(error.http_status(), error.api_error_message(), error.api_error_subcode()) for error in heard.bad] == [
        (400, "no such object", 33)
    ]
    posted = next(received for received in graph.received if received.method == "POST")
    assert (posted.header("X-T"), posted.header("Content-Type")) == ("1", "application/x-www-form-urlencoded")
    assert all("access_token=TOKEN&appsecret_proof=" in target for target in graph.targets)


async def test_answers_that_the_client_would_misread_reach_their_callbacks(spoken: Gateway, client: Client) -> None:
    batch, heard = client(spoken).new_batch(), _Heard()
    for node in _PLAIN:
        heard.add(batch, "GET", node)

    assert await _execute(batch) is None

    assert heard.good == [{"data": 5}, {"success": True}, {"data": "Service Unavailable"}, {"success": True}]
    assert [error.http_status() for error in heard.bad] == [400, 500, 404]
    assert [error.api_error_message() for error in heard.bad] == [
        "no such object",
        "the upstream answered 500",
        "the upstream answered 404",
    ]


async def test_objects_are_read_updated_created_and_deleted_in_a_batch(
    spoken: Gateway, graph: Api, client: Client
) -> None:
    api = client(spoken)
    batch, heard = api.new_batch(), _Heard()
    told = {"batch": batch, "success": heard.success, "failure": heard.failure}
    Campaign("c1", api=api).api_get(fields=["id", "name"], **told)
    Campaign("c2", api=api).api_update(params={"status": "PAUSED"}, **told)
    AdAccount("act_1", api=api).create_campaign(params={"name": "x"}, **told)
    Campaign("c3", api=api).api_delete(**told)

    assert await _execute(batch) is None

    assert (len(heard.good), heard.bad) == (4, [])
    assert sorted(target.partition("?")[0] for target in graph.targets) == [
        "/v26.0/act_1/campaigns",
        "/v26.0/c1/",
        "/v26.0/c2/",
        "/v26.0/c3/",
    ]


async def test_more_than_fifty_are_refused_and_nothing_runs(spoken: Gateway, graph: Api, client: Client) -> None:
    batch, heard = client(spoken).new_batch(), _Heard()
    for number in range(51):
        heard.add(batch, "GET", str(number))

    with pytest.raises(FacebookRequestError) as refused:
        await _execute(batch)

    error = refused.value
    assert (error.http_status(), error.api_error_code(), error.api_error_type()) == (400, -3, "GraphBatchException")
    assert "Maximum batch size is 50" in error.api_error_message()
    assert (graph.received, heard.good, heard.bad) == ([], [], [])


@pytest.mark.parametrize(
    ("method", "url", "words"),
    [
        ("GET", "a/../b", "dot-segment"),
        ("GET", "http://elsewhere.example/a", "on another host"),
        ("FETCH", "a", "not a method"),
    ],
)
async def test_a_call_that_cannot_be_sent_fails_alone(
    spoken: Gateway, graph: Api, client: Client, method: str, url: str, words: str
) -> None:
    batch, heard = client(spoken).new_batch(), _Heard()
    heard.add(batch, method, url)
    heard.add(batch, "GET", "good")

    assert await _execute(batch) is None

    assert [(error.http_status(), error.api_error_code()) for error in heard.bad] == [(400, 100)]
    assert words in heard.bad[0].api_error_message()
    assert [node["id"] for node in heard.good] == ["good"]
    assert len(graph.received) == 1


async def test_five_thousand_run_where_the_operator_allows_them(graph: Api, client: Client) -> None:
    settings = "dialects: {facebook: {operations_max: 5000}}\nbatch: {sync_timeout: 120s}"
    async with gateway(graph.url, settings) as running:
        batch, heard = client(running).new_batch(), _Heard()
        for number in range(5000):
            heard.add(batch, "GET", str(number))

        assert await _execute(batch) is None

    assert [node["id"] for node in heard.good] == [str(number) for number in range(5000)]
    assert len(graph.received) == 5000


async def test_what_did_not_run_in_time_is_run_by_executing_what_is_left(graph: Api, client: Client) -> None:
    slow = asyncio.Event()

    async def late(talk: Talk) -> None:
        await slow.wait()
        await _graph(talk)

    graph.on("/v26.0/slow", late)
    async with gateway(graph.url, f"{_SPOKEN}batch: {{sync_timeout: 1s, concurrency: 1}}") as running:
        batch, heard = client(running).new_batch(), _Heard()
        for node in ("first", "slow", "third", "fourth"):
            heard.add(batch, "POST" if node == "slow" else "GET", node)

        left = await _execute(batch)
        slow.set()

        assert left is not None
        assert (len(left), [error.http_status() for error in heard.bad]) == (2, [504])
        assert await _execute(left) is None

    assert [node["id"] for node in heard.good] == ["first", "third", "fourth"]
    assert sorted(target.partition("?")[0] for target in graph.targets) == [
        "/v26.0/first",
        "/v26.0/fourth",
        "/v26.0/slow",
        "/v26.0/third",
    ]


async def test_a_call_uses_the_result_of_another_and_is_told_where_that_failed(
    spoken: Gateway, graph: Api, client: Client
) -> None:
    batch, heard = client(spoken).new_batch(), _Heard()
    made = heard.add(batch, "POST", "act_1/campaigns", {"name": "x"})
    made |= {"name": "campaign", "omit_response_on_success": False}
    heard.add(batch, "POST", "act_1/adsets", {"name": "set", "campaign_id": "{result=campaign:$.id}"})
    heard.add(batch, "GET", "missing")["name"] = "lost"
    heard.add(batch, "GET", "never")["depends_on"] = "lost"
    heard.add(batch, "GET", "{result=campaign:$.nothing}")

    assert await _execute(batch) is None

    assert heard.good == [{"id": "act_1/campaigns-x"}, {"id": "act_1/adsets-set"}]
    assert [error.http_status() for error in heard.bad] == [400, 424, 424]
    assert [received.body for received in graph.received if b"set" in received.body] == [
        b"name=set&campaign_id=act_1%2Fcampaigns-x"
    ]
    assert not any("never" in target for target in graph.targets)


async def test_files_go_with_their_calls(spoken: Gateway, graph: Api, client: Client) -> None:
    batch, heard = client(spoken).new_batch(), _Heard()
    image = io.BytesIO(b"\x89PNG\r\n\x1a\n1234")
    image.name = "i.png"
    heard.add(batch, "POST", "act_1/adimages", {"title": "a b"}, files={"source": image})
    heard.add(batch, "GET", "me")

    assert await _execute(batch) is None

    sent = next(received for received in graph.received if received.method == "POST")
    assert len(heard.good) == 2
    assert (sent.header("Content-Type") or "").startswith("multipart/form-data; boundary=")
    assert b'name="source"; filename="i.png"\r\n' in sent.body
    assert b"\r\n\r\n\x89PNG\r\n\x1a\n1234\r\n--" in sent.body
    assert b'name="title"\r\n\r\na b\r\n' in sent.body


async def test_calls_that_are_no_batch_pass_through_over_three_pages(
    spoken: Gateway, graph: Api, client: Client
) -> None:
    async def paged(talk: Talk) -> None:
        query = parse_qs(talk.request.target.partition("?")[2])
        page = int(query.get("after", ["0"])[0])
        more = {"next": "there is more"} if page < 2 else {}
        said = {"data": [{"id": f"c{page}"}], "paging": {"cursors": {"after": str(page + 1)}, **more}}
        await talk.send(answer(200, json.dumps(said).encode()))

    graph.on("/v26.0/act_1/campaigns", paged)
    api = client(spoken)

    found = await asyncio.to_thread(lambda: [each["id"] for each in AdAccount("act_1", api=api).get_campaigns()])

    assert found == ["c0", "c1", "c2"]
    with pytest.raises(FacebookRequestError) as refused:
        await asyncio.to_thread(api.call, "GET", ("missing",))
    assert refused.value.api_error_subcode() == 33


async def test_a_caller_over_its_limit_is_told_in_words_that_the_client_reads(graph: Api, client: Client) -> None:
    limits = "limits: [{name: all, key: global, rate: 1/h, burst: 2, on_exhausted: %s}]"
    for how, good, bad in (("partial", 2, [(429, 4, True)]), ("reject", 0, [])):
        async with gateway(graph.url, _SPOKEN + limits % how) as running:
            batch, heard = client(running).new_batch(), _Heard()
            for node in ("a", "b", "c")[: 3 if how == "partial" else 2]:
                heard.add(batch, "GET", node)
            if how == "partial":
                assert await _execute(batch) is None
            else:
                heard.add(batch, "GET", "c")
                with pytest.raises(FacebookRequestError):
                    await _execute(batch)
        told = [(error.http_status(), error.api_error_code(), error.api_transient_error()) for error in heard.bad]
        assert (len(heard.good), told) == (good, bad)


async def test_an_upstream_that_is_away_is_an_error_of_each_call(client: Client) -> None:
    async with gateway("http://127.0.0.1:9", _SPOKEN) as running:
        batch, heard = client(running).new_batch(), _Heard()
        heard.add(batch, "POST", "a", {"name": "x"})
        heard.add(batch, "GET", "b")

        assert await _execute(batch) is None

    assert [error.http_status() for error in heard.bad] == [502, 502]
    assert all(error.api_error_code() == 1 for error in heard.bad)
