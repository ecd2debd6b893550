"""Every member with a wrong shape, each with a JSON Pointer that finds it."""

import json
from time import process_time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.batch.validation import VIOLATIONS_MAX
from gateway.dialects import native_shape
from gateway.dialects.native import parse
from gateway.dialects.native_shape import ShapeError
from gateway.dialects.port import EnvelopeError
from tests.strategies import LAW, LIMITS, RULES, randoms


def _refused(value: Any) -> EnvelopeError:
    with pytest.raises(EnvelopeError) as caught:
        parse(json.dumps(value).encode(), LIMITS, RULES)
    return caught.value


def _errors(value: Any) -> list[tuple[str, str]]:
    members: Any = _refused(value).members
    return [(error["pointer"], error["code"]) for error in members["errors"]]


def _good(**members: Any) -> dict[str, Any]:
    return {"method": "GET", "path": "/a", **members}


@pytest.mark.parametrize(
    ("value", "errors"),
    [
        (None, [("/operations", "type")]),
        ("a", [("/operations", "type")]),
        ({}, [("/operations", "missing")]),
        ({"operations": {}}, [("/operations", "type")]),
        ({"operations": None, "x": 1}, [("/x", "unknown-member"), ("/operations", "type")]),
        ({"operation": []}, [("/operation", "unknown-member"), ("/operations", "missing")]),
        ({"operations": []}, [("/operations", "empty")]),
        ([], [("", "empty")]),
        ([1, _good()], [("/0", "type")]),
        ({"operations": [None]}, [("/operations/0", "type")]),
        ({"operations": [_good()], "onFailure": "stop"}, [("/onFailure", "type")]),
        ({"operations": [_good()], "onFailure": None}, [("/onFailure", "type")]),
        ({"operations": [_good()], "defaults": []}, [("/defaults", "type")]),
        ({"operations": [_good()], "defaults": {"path": "/"}}, [("/defaults/path", "unknown-member")]),
        ({"operations": [_good()], "defaults": {"headers": {"a": 1}}}, [("/defaults/headers", "type")]),
        ({"operations": [_good()], "defaults": {"a/b~": 1}}, [("/defaults/a~1b~0", "unknown-member")]),
        ([_good(id=1)], [("/0/id", "type")]),
        ([_good(method=1)], [("/0/method", "type")]),
        ([_good(path=None)], [("/0/path", "type")]),
        ([_good(headers={"a": None})], [("/0/headers", "type")]),
        ([_good(bodyEncoding="gzip")], [("/0/bodyEncoding", "type")]),
        ([_good(timeoutSeconds="1", x=1)], [("/0/timeoutSeconds", "type"), ("/0/x", "unknown-member")]),
        ([_good(**{"a/b": 1, "~": 2})], [("/0/a~1b", "unknown-member"), ("/0/~0", "unknown-member")]),
        ({"operations": [_good()], "a/b": 1}, [("/a~1b", "unknown-member")]),
        ([_good(dependsOn=["a"])], [("/0/dependsOn", "dependency-invalid")]),
        ([_good(dependsOn=["0"])], [("/0/dependsOn", "dependency-invalid")]),
        ([_good(dependsOn="a")], [("/0/dependsOn", "type")]),
        ([_good(path="/x/{$ops.z.response.status}")], [("/0/path", "dependency-invalid")]),
        ([_good(headers={"X-A": "$ops.0.response.bodies"})], [("/0/headers", "dependency-invalid")]),
        ([_good(method="POST", body={"a": ["$ops.z"]})], [("/0/body", "dependency-invalid")]),
        ([_good(dependsOn=["1"]), _good(dependsOn=["0"])], [("/0/dependsOn", "dependency-invalid")]),
        ([_good(path="/a//{$ops.1.response.status}"), _good()], [("/0/path", "path-ambiguous")]),
        ([_good(idempotencyKey=1)], [("/0/idempotencyKey", "type")]),
        ([_good(idempotencyKey="")], [("/0/idempotencyKey", "idempotency-key-invalid")]),
        ([_good(headers={"Idempotency-Key": "a b"})], [("/0/headers", "idempotency-key-invalid")]),
        ({"operations": 1, "defaults": 2, "onFailure": 3},
         [("/defaults", "type"), ("/onFailure", "type"), ("/operations", "type")]),
        ([_good(headers={"Host": "a", "Cookie": "b"})],
         [("/0/headers", "header-not-allowed"), ("/0/headers", "per-op-credentials")]),
        ({"operations": [_good()], "defaults": {"headers": {"Host": "a", "Idempotency-Key": "b"}}},
         [("/defaults/headers", "header-not-allowed")] * 2),
        ([_good(idempotencyKey="", body=1, bodyEncoding="base64", timeoutSeconds=-1, dependsOn=["9"],
                headers={"Via": "a"}, path="/..")],
         [("/0/idempotencyKey", "idempotency-key-invalid"), ("/0/body", "body-not-allowed"),
          ("/0/path", "path-ambiguous"), ("/0/headers", "header-not-allowed"), ("/0/timeoutSeconds", "timeout"),
          ("/0/dependsOn", "dependency-invalid")]),
        ([_good(path="/{$ops.z.response.status}", headers={"X-A": "$ops.y"})],
         [("/0/path", "dependency-invalid"), ("/0/headers", "dependency-invalid")]),
    ],
)  # fmt: skip
def test_a_wrong_shape_is_found_at_its_pointer(value: Any, errors: list[tuple[str, str]]) -> None:
    assert _errors(value) == errors


def test_violations_of_shape_and_of_meaning_are_reported_together_in_order() -> None:
    value = {
        "onFailure": "stop",
        "operations": [_good(path="/a//b"), _good(id="x", method=7), _good(id="x", path="/batch"), {"path": 5, "y": 1}],
    }

    assert _errors(value) == [
        ("/onFailure", "type"),
        ("/operations/0/path", "path-ambiguous"),
        ("/operations/1/method", "type"),
        ("/operations/2/id", "id"),
        ("/operations/2/path", "nested-batch"),
        ("/operations/3/path", "type"),
        ("/operations/3/y", "unknown-member"),
        ("/operations/3/method", "missing"),
    ]


def test_good_members_around_a_wrong_one_are_not_complained_about() -> None:
    value = {"operations": [{"path": "/a", "id": 1}], "onFailure": "halt", "defaults": {"method": "GET"}}

    assert _errors(value) == [("/operations/0/id", "type")]


def test_a_member_with_a_wrong_shape_is_not_called_missing_as_well() -> None:
    assert _errors([{"method": 5, "path": 5}]) == [("/0/method", "type"), ("/0/path", "type")]


def test_an_error_names_the_operation_by_its_id() -> None:
    members: Any = _refused([_good(id="op1", path="//")]).members

    assert members["errors"][0]["id"] == "op1"


def test_a_misspelled_member_is_answered_with_the_one_that_was_meant() -> None:
    members: Any = _refused([_good(header={})]).members

    assert "did you mean headers?" in members["errors"][0]["detail"]


@LAW
@given(st.integers(1, 50), randoms)
def test_each_spoiled_operation_is_listed(count: int, random: Any) -> None:
    spoiled = set(random.sample(range(60), count))
    spoil = [
        {"path": "/a//b"},
        {"path": 1},
        {"method": "get"},
        {"x": 1},
        {"id": "a b"},
        {"body": 1},
        {"timeoutSeconds": 0},
    ]
    operations = [_good(**(random.choice(spoil) if index in spoiled else {})) for index in range(60)]

    found = {pointer.split("/")[1] for pointer, _ in _errors(operations)}

    assert found == {str(index) for index in spoiled}


@pytest.mark.parametrize(("count", "truncated"), [(99, False), (100, False), (101, True), (400, True)])
@pytest.mark.parametrize("spoiled", [{"path": "//"}, {"x": 1}, {"method": "POST", "body": 1, "bodyEncoding": "base64"}])
def test_at_most_100_violations_are_listed_and_more_are_announced(
    count: int, truncated: bool, spoiled: dict[str, Any]
) -> None:
    members: Any = _refused([_good(**spoiled) for _ in range(count)]).members

    assert len(members["errors"]) == min(count, VIOLATIONS_MAX)
    assert ("truncated" in members) is truncated


@pytest.mark.parametrize("name", ["a" * 10_000, "/" * 10_000, "a/" * 5_000, "~" * 10_000])
@pytest.mark.parametrize("at", ["top", "operation", "defaults"])
def test_no_more_than_64_characters_of_a_name_are_echoed(name: str, at: str) -> None:
    value: dict[str, Any] = {"operations": [_good()], "defaults": {}}
    {"top": value, "operation": value["operations"][0], "defaults": value["defaults"]}[at][name] = 1

    ((pointer, _),) = _errors(value)

    assert len(pointer) < 200


@pytest.mark.parametrize(
    "value",
    [
        [{f"a{index}": 1 for index in range(200_000)}],
        [{"a": 1}] * 60_000,
        [1] * 200_000,
        {f"a{index}": 1 for index in range(60_000)},
        {"operations": [_good()], "defaults": {f"a{index}": 1 for index in range(60_000)}},
        {"operations": [_good()] * 1000, "defaults": {"headers": {f"a{index}": "" for index in range(60_000)}}},
        [_good(path="/\u00e9", headers={f"a{index}": "" for index in range(60_000)})],
    ],
    ids=["strangers", "operations", "numbers", "top", "defaults", "default-headers", "headers"],
)
def test_a_hostile_envelope_costs_no_more_than_its_length(value: Any) -> None:
    data = json.dumps(value).encode()
    began_s = process_time()

    with pytest.raises(EnvelopeError):
        parse(data, LIMITS, RULES)

    assert process_time() - began_s < 2  # quadratic ones took a minute and more


def test_levels_are_the_objects_of_the_envelope_and_never_a_body() -> None:
    operation = {"headers": {"a": "b"}, "body": {"x": 1}}

    with_top = [pointer for pointer, _ in native_shape.levels({"operations": [operation], "defaults": {}})]
    bare = [pointer for pointer, _ in native_shape.levels([operation])]

    assert with_top == ["", "/defaults", "/defaults/headers", "/operations/0", "/operations/0/headers"]
    assert bare == ["/0", "/0/headers"]


def test_an_envelope_without_defaults_has_no_level_for_them() -> None:
    assert [pointer for pointer, _ in native_shape.levels({"operations": []})] == [""]


def test_a_shape_error_carries_member_code_and_words() -> None:
    error = ShapeError("body", "body-not-allowed", "words")

    assert (error.member, error.code, error.detail, str(error)) == ("body", "body-not-allowed", "words", "words")
