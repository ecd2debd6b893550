"""Graph's envelopes into batches, and back: order, ids whatever their case, nothing sent that was not understood."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.batch.model import Batch, Operation, Outcome
from gateway.batch.ordering import Graph
from gateway.batch.validation import Rules
from gateway.dialects.graph import MicrosoftGraph
from gateway.dialects.port import Call, EnvelopeError, Read
from gateway.errors import GatewayError
from gateway.upstream.headers import refusals_in_operation
from tests.strategies import LAW, json_texts, paths, spoiled

RULES = Rules(("/batch", "/$batch"), 1000, lambda fields: refusals_in_operation(fields, credentials=frozenset()))
PATH = "/v1.0/$batch"
Entry = dict[str, Any]


def graph(**settings: Any) -> MicrosoftGraph:
    given: dict[str, Any] = {"bodies": "object", "slash": "host", "origins": ["https://graph.microsoft.com"]}
    return MicrosoftGraph(path="/$batch", operations_max=20, rules=RULES, **given | settings)


def call(body: bytes, *, path: str = PATH, content_type: str = "application/json", **heads: str) -> Call:
    return Call("POST", path, "", content_type, body, "gw:8207", **heads)


def read(*entries: Entry, prefer: str = "", agent: str = "", **settings: Any) -> Read:
    body = json.dumps({"requests": entries}).encode()
    return graph(**settings).parse(call(body, prefer=prefer, agent=agent))


def get(id_: str, url: str = "/a", **members: Any) -> Entry:
    return {"id": id_, "method": "GET", "url": url, **members}


def wrong(*entries: Entry) -> set[tuple[str, str]]:
    """Where something is wrong, and the first words of why."""
    with pytest.raises(EnvelopeError) as caught:
        read(*entries)
    page = graph().refusal(caught.value, "r")
    assert page.status == 400
    return {(each["target"], each["message"]) for each in json.loads(page.body)["error"]["details"]}


@pytest.mark.parametrize(
    ("method", "path", "content_type", "reads"),
    [
        ("POST", "/v1.0/$batch", "application/json", True),
        ("POST", "/$batch", "Application/JSON; charset=utf-8", True),
        ("POST", "/odata/v4/%24batch", "", True),
        ("POST", "/v1.0/$batch", "multipart/mixed; boundary=b", False),
        ("GET", "/v1.0/$batch", "application/json", False),
        ("POST", "/v1.0/$batch/x", "application/json", False),
        ("POST", "/v1.0/x$batch", "application/json", False),
        ("POST", "/v1.0/me", "application/json", False),
    ],
)
def test_an_envelope_is_known_by_its_method_path_and_type(
    method: str, path: str, content_type: str, reads: bool
) -> None:
    assert graph().reads(Call(method, path, "", content_type, b"")) is reads


def test_entries_become_operations_in_their_order() -> None:
    batch = read(
        {"id": "1", "method": "get", "url": "users", "headers": {"content-type": "application/json"}},
        {"id": "a b", "method": "POST", "url": "http://GW:8207/me", "body": {"n": 1}},
        {
            "id": "3",
            "method": "DELETE",
            "url": "/me",
            "body": None,
            "headers": None,
            "atomicityGroup": None,
            "if": None,
        },
    ).batch

    assert batch == Batch(
        [
            Operation("1", "GET", "/v1.0/users"),
            Operation("a~20b", "POST", "/me", (("Content-Type", "application/json"),), b'{"n": 1}', True),
            Operation("3", "DELETE", "/me"),
        ],
        pointer="/requests",
    )


def test_a_whole_url_may_name_the_host_that_was_asked_with_its_default_port_or_without() -> None:
    body = json.dumps({"requests": [get("1", "http://gw:80/a"), get("2", "https://gw:443/b")]}).encode()
    batch = graph().parse(call(body)._replace(host="GW")).batch

    assert [operation.target for operation in batch.operations] == ["/a", "/b"]


def test_a_url_with_a_slash_in_front_may_begin_at_the_service_root() -> None:
    assert read(get("1", "/me"), slash="root").batch.operations[0].target == "/v1.0/me"
    assert read(get("1", "/me"), slash="host").batch.operations[0].target == "/me"


def test_who_waits_is_found_in_both_spellings_whatever_the_case() -> None:
    batch = read(get("A"), get("b", dependsOn=["a", "A"]), get("c", depends_on=["B"], dependsOn=["A"])).batch

    assert batch.graph == Graph([[], [0], [0, 1]], [[1, 2], [2], []], fails_from=300, refers=False)


def test_what_only_looks_like_a_reference_stays_as_it_is() -> None:
    batch = read(
        get("a"), {"id": "b", "method": "PUT", "url": "/b", "body": ["$ops.a.response.body"], "dependsOn": ["a"]}
    )

    assert batch.batch.operations[1].body == b'["$ops.a.response.body"]'
    assert batch.batch.graph is not None
    assert not batch.batch.graph.refers


@pytest.mark.parametrize(
    ("entries", "place", "words"),
    [
        ([get("1"), get("1")], "requests/1/id", "taken"),
        ([get("a"), get("A")], "requests/1/id", "taken"),
        ([get("")], "requests/0/id", "no id"),
        ([get("é" * 22)], "requests/0/id", "no id"),
        ([get("1", dependsOn=["2"]), get("2")], "requests/0/dependsOn", "before"),
        ([get("1", dependsOn=["1"])], "requests/0/dependsOn", "before"),
        ([get("1", depends_on=["x"])], "requests/0/dependsOn", "names no request"),
        ([get("1", atomicityGroup="g")], "requests/0/atomicityGroup", "cannot undo"),
        ([get("1", "http://evil/a")], "requests/0/url", "another host"),
        ([get("1"), get("2", "$1/orders")], "requests/1/url", "entity"),
        ([get("1", "/v1.0/$batch")], "requests/0/url", "cannot hold a batch"),
        ([get("1", "%24batch?x")], "requests/0/url", "cannot hold a batch"),
        ([get("1", "/batch/x")], "requests/0/url", "own path"),
        ([get("1", "/a/../b")], "requests/0/url", "dot-segment"),
        ([get("1", body={})], "requests/0/body", "no body"),
        ([{"id": "1", "method": "TRACE", "url": "/"}], "requests/0/method", "not a method"),
        ([get("1", headers={"a b": "c"})], "requests/0/headers", "letters"),
        (
            [{"id": "1", "method": "PUT", "url": "/", "headers": {"Content-Type": "image/png"}, "body": "?"}],
            "requests/0/body",
            "base64",
        ),
    ],
)
def test_what_cannot_be_sent_refuses_the_envelope(entries: list[Entry], place: str, words: str) -> None:
    found = wrong(*entries)

    assert [target for target, _ in found] == [place]
    assert words in next(iter(found))[1]


def test_everything_wrong_is_told_at_once() -> None:
    found = wrong(get("1", dependsOn=["x"]), get("1", atomicityGroup="g"), {"id": "3", "method": "X", "url": "//"})

    assert {target for target, _ in found} == {
        "requests/0/dependsOn", "requests/1/id", "requests/1/atomicityGroup", "requests/2/method", "requests/2/url",
    }  # fmt: skip


def test_an_unsupported_condition_is_424_and_so_is_who_waits_for_it() -> None:
    found = read(get("1", **{"if": "$2"}), get("2"), get("3", dependsOn=["1"]), get("4", dependsOn=["3", "2"]))
    page = graph().answer(found, [Outcome(0, 200)])

    responses = json.loads(page.body)["responses"]
    assert [operation.id for operation in found.batch.operations] == ["2"]
    assert found.batch.graph is None
    assert [(each["id"], each["status"]) for each in responses] == [("1", 424), ("2", 200), ("3", 424), ("4", 424)]
    assert responses[3]["body"]["error"]["message"] == "3 did not succeed, so this was not sent"


@pytest.mark.parametrize(
    ("prefer", "stops"),
    [
        ("", False),
        ("continue-on-error", False),
        ("continue-on-error=true", False),
        ("continue-on-error=false", True),
        ('respond-async, Odata.Continue-On-Error="false"; x', True),
        ("x-continue-on-error=false", False),
        ("continue-on-error=falsey", False),
    ],
)
def test_continue_on_error_false_stops_at_the_first_failure(prefer: str, stops: bool) -> None:
    found = read(get("1"), prefer=prefer)
    page = graph().answer(found, [Outcome(0, 200)])

    assert found.batch.on_failure == ("halt" if stops else "continue")
    assert ((b"Preference-Applied", b"continue-on-error=false") in page.fields) is stops


@pytest.mark.parametrize(
    ("bodies", "agent", "body"),
    [
        ("object", "python-httpx/0.28.1 kiota-python/1.16.0", {}),
        ("base64", "curl/8", "e30="),
        ("auto", "curl/8", {}),
        ("auto", "python-httpx/0.28.1 kiota-python/1.16.0", "e30="),
    ],
)
def test_bodies_are_written_as_configured_or_as_the_client_reads_them(bodies: str, agent: str, body: object) -> None:
    found = read(get("1"), agent=agent, bodies=bodies)
    page = graph().answer(found, [Outcome(0, 200, {"Content-Type": "application/json"}, b"{}")])

    assert json.loads(page.body)["responses"][0]["body"] == body


def test_every_refusal_has_graphs_shape() -> None:
    page = graph().refusal(GatewayError("too-many-operations", "21 requests"), "r")

    assert page.status == 400
    assert json.loads(page.body)["error"]["code"] == "BadRequest"


@st.composite
def batches(draw: st.DrawFn) -> Batch:
    """Batches that any Graph envelope can carry: who waits stands behind those that he waits for."""
    operations, parents = list[Operation](), list[list[int]]()
    for index in range(draw(st.integers(1, 5))):
        body = draw(st.none() | json_texts.filter(lambda text: text != "null" and not text.startswith('"')))
        fields = (("X-A", "1"), *([("Content-Type", "application/json")] if body is not None else []))
        target = draw(paths.filter(lambda path: "batch" not in path.lower()))
        method = draw(st.sampled_from(["POST", "PUT", "PATCH"]))
        sent = b"" if body is None else body.encode()
        parents.append(sorted(draw(st.sets(st.integers(0, index - 1), max_size=2))) if index else [])
        waits_for = tuple(operations[parent].id for parent in parents[index])
        operations.append(Operation(f"i{index}", method, target, fields, sent, body is not None, depends_on=waits_for))
    children = [[child for child, above in enumerate(parents) if index in above] for index in range(len(operations))]
    order = Graph(parents, children, fails_from=300, refers=False) if any(parents) else None
    return Batch(operations, draw(st.sampled_from(["continue", "halt"])), "/requests", order)


def written(batch: Batch) -> bytes:
    """The envelope of a batch, every other entry in the SDK's spelling."""
    entries = []
    for index, operation in enumerate(batch.operations):
        names = [batch.operations[parent].id for parent in batch.graph.parents[index]] if batch.graph else []
        head = {
            "id": operation.id,
            "method": operation.method,
            "url": operation.target if index % 2 else f"http://gw:8207{operation.target}",
            "headers": dict(operation.fields),
            "dependsOn" if index % 2 else "depends_on": names,
        }
        text = json.dumps(head).encode()
        entries.append(text[:-1] + b',"body":' + operation.body + b"}" if operation.has_body else text)
    return b'{"requests":[' + b",".join(entries) + b"]}"


@LAW
@given(batches())
def test_what_was_written_is_read_as_the_same_batch(batch: Batch) -> None:
    prefer = "continue-on-error=false" if batch.on_failure == "halt" else ""

    assert graph().parse(call(written(batch), prefer=prefer)).batch == batch


@LAW
@given(batches().map(written).flatmap(spoiled))
def test_a_spoiled_envelope_ends_in_nothing_but_the_dialects_error(data: bytes) -> None:
    try:
        found = graph().parse(call(data))
    except EnvelopeError as error:
        page = graph().refusal(error, "r")
        assert page.status in (400, 413)
        assert set(json.loads(page.body)) == {"error"}
    else:
        outcomes = [Outcome(index, 200, {}, data) for index in range(len(found.batch.operations))]
        assert len(json.loads(graph().answer(found, outcomes).body)["responses"]) >= 1
