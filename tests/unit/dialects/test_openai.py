"""OpenAI's dialect: what is asked, what a call that creates a batch says, and the lists."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.batch.model import Outcome
from gateway.batch.validation import Rules
from gateway.dialects.on_record import Ask, Order, Window
from gateway.dialects.openai import OpenAI
from gateway.dialects.openai_create import Create
from gateway.dialects.port import Call, EnvelopeError
from gateway.errors import GatewayError
from tests.strategies import spoiled

ID = "a" * 40
_RULES = Rules(own_paths=("/v1/files", "/v1/batches"), body_bytes_max=2000, fields_rule=lambda fields: ())
SPOKEN = OpenAI(
    base="/v1",
    lines_max=3,
    file_max=1000,
    files_max=5,
    file_life=864000.0,
    depth_max=32,
    nodes_max=1000,
    rules=_RULES,
)
CREATE: dict[str, Any] = {"input_file_id": f"file-{ID}", "endpoint": "/v1/x", "completion_window": "24h"}


def _call(method: str, path: str, query: str = "", body: bytes = b"") -> Call:
    return Call(method, f"/v1/{path}", query, "application/json", body)


def parsed(**more: Any) -> Order:
    return SPOKEN.parse(_call("POST", "batches", body=json.dumps(CREATE | more).encode()))


@pytest.mark.parametrize(
    ("path", "reads"),
    [
        ("files", True),
        (f"batches/batch_{ID}/cancel", True),
        ("filesystem", False),
        ("chat/completions", False),
    ],
)
def test_only_calls_about_files_and_batches_are_read(path: str, reads: bool) -> None:
    assert SPOKEN.reads(_call("GET", path)) is reads


@pytest.mark.parametrize(
    ("method", "path", "ask"),
    [
        ("POST", "batches", Ask("create")),
        ("GET", "batches", Ask("list", window=Window(20))),
        ("GET", f"batches/batch_{ID}", Ask("view", ID)),
        ("GET", f"batches/batch%5F{ID}", Ask("view", ID)),
        ("GET", f"batches/{ID}", Ask("view", "")),
        ("POST", f"batches/batch_{ID}/cancel", Ask("cancel", ID)),
        ("POST", "files", Ask("upload")),
        ("GET", "files/", Ask("files")),
        ("GET", f"files/file-{ID}", Ask("file", ID)),
        ("GET", f"files/file-output-{ID}", Ask("file", ID, part="output")),
        ("GET", f"files/file-errors-{ID}/content", Ask("content", ID, part="errors")),
        ("DELETE", f"files/file-{ID}", Ask("unfile", ID)),
        ("GET", "files/file-..%2Fx", Ask("file", "")),
    ],
)
def test_a_method_and_a_path_are_a_call(method: str, path: str, ask: Ask) -> None:
    assert SPOKEN.ask(_call(method, path)) == ask


@pytest.mark.parametrize(
    ("method", "path", "slug", "allowed"),
    [
        ("PUT", "batches", "method-not-allowed", "POST, GET, HEAD"),
        ("DELETE", f"batches/batch_{ID}", "method-not-allowed", "GET, HEAD"),
        ("POST", "files/x/content", "method-not-allowed", "GET, HEAD"),
        ("GET", "files/x/other", "not-found", None),
        ("GET", "batches/x/cancel/y", "not-found", None),
    ],
)
def test_what_the_vendor_has_not_is_refused(method: str, path: str, slug: str, allowed: str | None) -> None:
    with pytest.raises(GatewayError) as refused:
        SPOKEN.ask(_call(method, path))

    assert (refused.value.problem.slug, refused.value.headers.get("Allow")) == (slug, allowed)


def test_a_list_has_a_window() -> None:
    asked = SPOKEN.ask(_call("GET", "batches", f"limit=100&after=batch_{ID}&x=y"))

    assert asked.window == Window(100, after=ID)


@pytest.mark.parametrize(
    ("query", "param"), [("limit=0", "limit"), ("limit=101", "limit"), ("limit=x", "limit"), ("after=x", "after")]
)
def test_a_window_that_cannot_be_is_refused_by_its_parameter(query: str, param: str) -> None:
    with pytest.raises(EnvelopeError) as refused:
        SPOKEN.ask(_call("GET", "batches", query))

    assert (refused.value.status, refused.value.members["param"]) == (400, param)


@pytest.mark.parametrize(("window", "seconds"), [("24h", 86400), ("1s", 1), ("2m", 120), ("7d", 604800)])
def test_a_call_that_creates_a_batch_names_a_file_and_a_window(window: str, seconds: int) -> None:
    order = parsed(completion_window=window)

    assert (order.file_id, order.lives_s, order.batch) == (ID, seconds, None)


@pytest.mark.parametrize("file_id", ["file-x", f"file-output-{ID}", f"batch_{ID}"])
def test_only_an_upload_can_be_a_batchs_input(file_id: str) -> None:
    assert parsed(input_file_id=file_id).file_id == ""


@pytest.mark.parametrize(
    ("more", "param"),
    [
        ({"endpoint": ""}, "endpoint"),
        ({"endpoint": 1}, "endpoint"),
        ({"endpoint": "/v1/../x"}, "endpoint"),
        ({"endpoint": "http://elsewhere/x"}, "endpoint"),
        ({"endpoint": "/v1/batches"}, "endpoint"),
        ({"completion_window": "soon"}, "completion_window"),
        ({"metadata": {str(n): "" for n in range(17)}}, "metadata"),
        ({"metadata": {"k": "v" * 513}}, "metadata"),
        ({"output_expires_after": {"anchor": "created_at", "seconds": 1}}, "output_expires_after"),
        ({"input_file_id": None}, "input_file_id"),
    ],
)
def test_what_is_wrong_with_a_call_is_told_by_its_parameter(more: dict[str, Any], param: str) -> None:
    with pytest.raises(EnvelopeError) as refused:
        parsed(**more)

    assert (refused.value.status, refused.value.members["param"]) == (400, param)


@pytest.mark.parametrize(("body", "param"), [(b'{"endpoint":"/v1/x","completion_window":"24h"}', "input_file_id"),
                                             (b"[]", None)])  # fmt: skip
def test_a_call_without_a_member_is_refused_by_its_name(body: bytes, param: str | None) -> None:
    with pytest.raises(EnvelopeError) as refused:
        SPOKEN.parse(_call("POST", "batches", body=body))

    assert refused.value.members["param"] == param


_words = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


@given(
    st.none() | st.dictionaries(_words, _words, max_size=16),
    st.none() | st.integers(3600, 2_592_000).map(lambda seconds: {"anchor": "created_at", "seconds": seconds}),
)
def test_what_a_batch_has_to_know_again_comes_back(metadata: object, expires: object) -> None:
    order = parsed(metadata=metadata, output_expires_after=expires)

    assert json.loads(order.memo) == CREATE | {"metadata": metadata, "output_expires_after": expires}


@given(st.binary(max_size=60) | spoiled(json.dumps(CREATE | {"metadata": {"a": "b"}}).encode()))
def test_any_bytes_are_an_order_or_the_dialects_error(data: bytes) -> None:
    try:
        order = SPOKEN.parse(_call("POST", "batches", body=data))
    except EnvelopeError:
        return
    assert order.lives_s > 0


def test_a_window_is_a_number_of_a_unit() -> None:
    assert Create("f", "/x", "0h").window_s == Create("f", "/x", "24").window_s == 0


@pytest.mark.parametrize(("part", "id_"), [("", f"file-{ID}"), ("output", f"file-output-{ID}")])
def test_a_deleted_file_is_named(part: Any, id_: str) -> None:
    page = SPOKEN.deleted(Ask("unfile", ID, part=part))

    assert json.loads(page.body) == {"id": id_, "object": "file", "deleted": True}


def test_a_result_stands_in_one_of_two_parts() -> None:
    outcome = Outcome(0, 200, {}, b"x")

    assert SPOKEN.line(ID, "a", outcome, "output")
    assert SPOKEN.line(ID, "a", outcome, "errors") == b""
