"""An input file's lines as operations and complaints."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.dialects.on_record import Order
from gateway.dialects.openai_lines import (
    CUSTOM_ID_BYTES_MAX,
    InputLines,
    LineRules,
    complaints_from_bytes,
    custom_id_of,
    operation_id,
)
from tests.strategies import json_texts

_RULES = LineRules(3, 100)


def _read(data: bytes, step: int = 1 << 20, rules: LineRules = _RULES) -> Order:
    lines = InputLines(Order(), "/v1/x", rules)
    for start in range(0, len(data), step):
        if not lines.is_over:
            lines.feed(data[start : start + step])
    return lines.end()


def _operations(data: bytes, step: int = 1 << 20, rules: LineRules = _RULES) -> Any:
    order = _read(data, step, rules)
    assert order.why == b""
    assert order.batch is not None
    return order.batch.operations


def _complaints(data: bytes, step: int = 1 << 20, rules: LineRules = _RULES) -> list[dict[str, Any]]:
    order = _read(data, step, rules)
    assert order.batch is None
    return complaints_from_bytes(order.why)


def _line(**more: Any) -> bytes:
    line = {"custom_id": "a", "method": "POST", "url": "/v1/x", "body": {"n": 1}} | more
    return json.dumps({name: value for name, value in line.items() if value is not ...}).encode()


@pytest.mark.parametrize("step", [1, 7, 1 << 20])
@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_lines_become_operations_with_their_bodies_byte_for_byte(step: int, end: bytes) -> None:
    data = end.join([b'{"custom_id":"a","method":"POST","url":"/v1/x","body":{"n" : 1.0}}', b"", _line(custom_id="b")])

    operations = _operations(data, step)

    assert [(each.id, each.method, each.target, each.body) for each in operations] == [
        ("a", "POST", "/v1/x", b'{"n" : 1.0}'),
        ("b", "POST", "/v1/x", b'{"n": 1}'),
    ]
    assert operations[0].fields == (("Content-Type", "application/json"),)


def test_other_methods_than_post_are_an_extension() -> None:
    operations = _operations(_line(method="GET", body=...) + b"\n" + _line(custom_id="b", method="DELETE", body=...))

    assert [(each.method, each.has_body, each.fields) for each in operations] == [
        ("GET", False, ()),
        ("DELETE", False, ()),
    ]


@pytest.mark.parametrize(
    ("line", "code", "param"),
    [
        (b"{", "invalid_json_line", None),
        (b"[]", "invalid_json_line", None),
        (b'{"custom_id": "\xff"}', "invalid_json_line", None),
        (b"\xef\xbb\xbf" + _line(), "invalid_json_line", None),
        (_line(custom_id=...), "missing_required_parameter", "custom_id"),
        (_line(url=...), "missing_required_parameter", "url"),
        (_line(method=1), "invalid_type", "method"),
        (_line(custom_id=""), "invalid_custom_id", "custom_id"),
        (_line(custom_id="a" * (CUSTOM_ID_BYTES_MAX + 1)), "invalid_custom_id", "custom_id"),
        (_line(method="post"), "invalid_method", "method"),
        (_line(url="/v1/y"), "url_mismatch", "url"),
        (_line(body=...), "missing_required_parameter", "body"),
        (_line(method="GET"), "invalid_body", "body"),
        (_line(body="x" * 100), "request_too_large", "body"),
        (_line(body="x" * 70_000), "request_too_large", "body"),
        (_line()[:-1] + b', "url": "/v1/x"}', "duplicate_key", None),
        (_line(body=...)[:-1] + b', "body": ' + b"[" * 40 + b"]" * 40 + b"}", "json_too_complex", None),
        (_line(body=...)[:-1] + b', "body": ' + b"9" * 65 + b"}", "json_too_complex", None),
    ],
)
@pytest.mark.parametrize("step", [4096, 1 << 20])
def test_each_bad_line_is_told_once_by_its_number(line: bytes, code: str, param: str | None, step: int) -> None:
    data = _line(custom_id="first") + b"\n" + line + b"\n" + _line(custom_id="last")

    [complaint] = _complaints(data, step)

    assert (complaint["code"], complaint["param"], complaint["line"]) == (code, param, 2)


def test_a_last_line_that_is_too_long_is_told_without_a_line_end() -> None:
    assert [each["code"] for each in _complaints(_line(body="x" * 70_000), 4096)] == ["request_too_large"]


def test_a_custom_id_is_taken_once_also_by_a_bad_line() -> None:
    complaints = _complaints(_line(url="/v1/y") + b"\n" + _line())

    assert [(each["code"], each["line"]) for each in complaints] == [("url_mismatch", 1), ("duplicate_custom_id", 2)]


def test_an_empty_file_and_one_too_many_requests_are_about_the_whole_file() -> None:
    assert [each["code"] for each in _complaints(b"\n \n")] == ["empty_file"]
    many = _complaints(b"\n".join(_line(custom_id=str(n)) for n in range(9)))
    assert [(each["code"], each["line"]) for each in many] == [("too_many_tasks", None)]


def test_nothing_is_read_behind_one_request_too_many() -> None:
    lines = InputLines(Order(), "/v1/x", _RULES)

    lines.feed(b"\n".join(_line(custom_id=str(n)) for n in range(9)))

    assert lines.is_over


def test_a_file_that_cannot_be_read_on_is_refused_whatever_was_read() -> None:
    lines = InputLines(Order(), "/v1/x", _RULES)
    lines.feed(_line() + b"\n")

    [complaint] = complaints_from_bytes(lines.end("The file is damaged.").why)

    assert complaint == {"code": "invalid_input_file", "message": "The file is damaged.", "param": None, "line": None}


@given(st.text(min_size=1, max_size=80))
def test_any_custom_id_comes_back(custom_id: str) -> None:
    assert custom_id_of(operation_id(custom_id)) == custom_id


@given(st.dictionaries(st.text(min_size=1, max_size=20), json_texts, min_size=1, max_size=5), st.integers(1, 50))
def test_every_line_is_an_operation_in_its_order_in_whatever_pieces_it_comes(bodies: dict[str, str], step: int) -> None:
    written = [
        f'{{"custom_id": {json.dumps(id_)}, "method": "POST", "url": "/v1/x", "body":{" ".join(body.split())}}}'
        for id_, body in bodies.items()
        if "\n" not in body and "\r" not in body
    ]
    kept = {id_: " ".join(body.split()) for id_, body in bodies.items() if "\n" not in body and "\r" not in body}
    if not kept:
        return

    operations = _operations("\n".join(written).encode(), step, LineRules(1000, 100_000))

    assert {custom_id_of(each.id): each.body.decode() for each in operations} == kept
    assert [custom_id_of(each.id) for each in operations] == list(kept)


@given(st.lists(st.sampled_from([b"{", b"}", b'"a"', b":", b"[" * 3000, b"\n", b"\r", b"\xff", _line(), b"1e999"])))
def test_any_bytes_are_operations_or_complaints_in_whatever_pieces_they_come(pieces: list[bytes]) -> None:
    rules = LineRules(1000, 100_000)

    order = _read(b"".join(pieces), 5, rules)

    assert (order.batch is None) != (order.why == b"")
    assert order == _read(b"".join(pieces), 1 << 20, rules)
