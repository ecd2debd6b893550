"""Anthropic's dialect: what is asked, and requests into a batch."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.batch.validation import Rules
from gateway.dialects.anthropic import Anthropic
from gateway.dialects.on_record import Ask, Window
from gateway.dialects.port import Call, EnvelopeError
from gateway.errors import GatewayError
from tests.strategies import spoiled

_BATCHES = "/v1/messages/batches"
_OWN = "a" * 40
_RULES = Rules(own_paths=(_BATCHES,), body_bytes_max=2000, fields_rule=lambda fields: ())
SPOKEN = Anthropic(
    path=_BATCHES,
    target="/v1/messages",
    operations_max=10,
    body_max=10_000,
    depth_max=32,
    nodes_max=10_000,
    rules=_RULES,
)
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abc", max_size=3), inner, max_size=3),
    max_leaves=8,
)
_IDS = st.from_regex(r"[a-zA-Z0-9_-]{1,64}", fullmatch=True)


def _call(method: str, rest: str = "", query: str = "", body: bytes = b"") -> Call:
    return Call(method, _BATCHES + rest, query, "application/json", body)


def _parsed(body: bytes | object) -> Any:
    return SPOKEN.parse(_call("POST", body=body if isinstance(body, bytes) else json.dumps(body).encode())).batch


def _refused(body: bytes | object) -> EnvelopeError:
    with pytest.raises(EnvelopeError) as refused:
        _parsed(body)
    return refused.value


@pytest.mark.parametrize(
    ("path", "reads"),
    [
        (_BATCHES, True),
        (f"{_BATCHES}/x/results", True),
        ("/v1/messages", False),
        ("/v1/messages/batchesx", False),
        ("/v1/messages/count_tokens", False),
    ],
)
def test_only_calls_about_batches_are_read(path: str, reads: bool) -> None:
    assert SPOKEN.reads(Call("GET", path, "", "", b"")) is reads


@pytest.mark.parametrize(
    ("method", "rest", "ask"),
    [
        ("POST", "", Ask("create")),
        ("POST", "/", Ask("create")),
        ("GET", "", Ask("list", window=Window(20))),
        ("GET", f"/msgbatch_{_OWN}", Ask("view", _OWN)),
        ("GET", f"/msgbatch%5F{_OWN}", Ask("view", _OWN)),
        ("GET", f"/{_OWN}", Ask("view", "")),
        ("DELETE", f"/msgbatch_{_OWN}", Ask("delete", _OWN)),
        ("POST", f"/msgbatch_{_OWN}/cancel", Ask("cancel", _OWN)),
        ("GET", f"/msgbatch_{_OWN}/results", Ask("results", _OWN)),
    ],
)
def test_a_method_and_a_path_are_a_call(method: str, rest: str, ask: Ask) -> None:
    assert SPOKEN.ask(_call(method, rest)) == ask


@pytest.mark.parametrize(
    ("method", "rest", "slug", "allowed"),
    [
        ("PUT", "", "method-not-allowed", "POST, GET, HEAD"),
        ("POST", "/x", "method-not-allowed", "GET, HEAD, DELETE"),
        ("GET", "/x/cancel", "method-not-allowed", "POST"),
        ("GET", "/x/other", "not-found", None),
        ("GET", "/x/results/y", "not-found", None),
    ],
)
def test_what_the_vendor_has_not_is_refused(method: str, rest: str, slug: str, allowed: str | None) -> None:
    with pytest.raises(GatewayError) as refused:
        SPOKEN.ask(_call(method, rest))

    assert (refused.value.problem.slug, refused.value.headers.get("Allow")) == (slug, allowed)


@pytest.mark.parametrize(
    ("query", "window"),
    [
        ("limit=1000&beta=true", Window(1000)),
        (f"limit=2&after_id=msgbatch_{_OWN}", Window(2, after=_OWN)),
        (f"before_id=msgbatch_{_OWN}", Window(20, before=_OWN)),
    ],
)
def test_a_list_has_a_window(query: str, window: Window) -> None:
    assert SPOKEN.ask(_call("GET", "", query)).window == window


@pytest.mark.parametrize(
    "query",
    [
        "limit=0",
        "limit=1001",
        "limit=x",
        "limit=",
        "limit=%D9%A1",
        "after_id=x",
        "before_id=",
        "after_id=a&before_id=b",
    ],
)
def test_a_window_that_cannot_be_is_refused(query: str) -> None:
    with pytest.raises(GatewayError) as refused:
        SPOKEN.ask(_call("GET", "", query))

    assert refused.value.status == 400


def test_params_go_out_byte_for_byte() -> None:
    batch = _parsed(b'{"requests": [{"custom_id":"a", "params": { "n":1.0,\t"x":"\\u00e9" }}], "more": 1}')

    (operation,) = batch.operations
    assert (operation.id, operation.method, operation.target) == ("a", "POST", "/v1/messages")
    assert operation.body == b'{ "n":1.0,\t"x":"\\u00e9" }'
    assert operation.fields == (("Content-Type", "application/json"),)


@given(st.dictionaries(_IDS, _JSON, min_size=1, max_size=5))
def test_every_request_is_an_operation_in_its_order(wanted: dict[str, Any]) -> None:
    batch = _parsed({"requests": [{"custom_id": id_, "params": params} for id_, params in wanted.items()]})

    assert [(each.id, json.loads(each.body)) for each in batch.operations] == list(wanted.items())


@pytest.mark.parametrize(
    ("entries", "words"),
    [
        ([], "requests: no request is in it"),
        ([{"params": {}}], "requests.0.custom_id: write 1 to 64"),
        ([{"custom_id": 7, "params": {}}], "requests.0.custom_id: write 1 to 64"),
        ([{"custom_id": "a b", "params": {}}], "requests.0.custom_id: write 1 to 64"),
        ([{"custom_id": "a" * 65, "params": {}}], "requests.0.custom_id: write 1 to 64"),
        ([{"custom_id": "a\n", "params": {}}], "requests.0.custom_id: write 1 to 64"),
        ([{"custom_id": "a", "params": {}}] * 2, 'requests.1.custom_id: "a" is taken'),
        ([{"custom_id": "a"}], "requests.0.params: write the body"),
        ([{"custom_id": "a", "params": "x" * 2000}], "requests.0.params: 2002 bytes; at most 2000"),
        ([7], "requests"),
        (7, "requests"),
    ],
)
def test_what_is_wrong_is_told_where_it_stands(entries: Any, words: str) -> None:
    refused = _refused({"requests": entries})

    assert refused.problem.slug == "validation-failed"
    assert words in refused.detail


def test_many_mistakes_are_told_in_few_words() -> None:
    refused = _refused({"requests": [{"custom_id": "", "params": {}}] * 9})

    assert refused.detail.count("custom_id") == 5
    assert refused.detail.endswith("and 4 more")


def test_more_requests_than_fit_are_refused() -> None:
    requests = [{"custom_id": str(index), "params": {}} for index in range(11)]

    assert _refused({"requests": requests}).status == 413


@pytest.mark.parametrize(
    ("body", "slug"),
    [
        (b"", "invalid-json"),
        (b'{"requests": [', "invalid-json"),
        (b'{"requests": [], "requests": []}', "duplicate-key"),
        (b'{"requests": [{"custom_id": "a", "custom_id": "b", "params": {}}]}', "duplicate-key"),
        (b'{"requests": ' + b"[" * 40 + b"]" * 40 + b"}", "json-too-complex"),
        (b'{"requests": [{"custom_id": 1e999, "params": {}}]}', "validation-failed"),
    ],
)
def test_what_is_no_envelope_is_refused(body: bytes, slug: str) -> None:
    assert _refused(body).problem.slug == slug


@given(st.binary(max_size=80) | spoiled(json.dumps({"requests": [{"custom_id": "a", "params": {"b": [1]}}]}).encode()))
def test_any_bytes_are_a_batch_or_the_dialects_error(data: bytes) -> None:
    try:
        batch = _parsed(data)
    except EnvelopeError:
        return
    assert batch.operations
