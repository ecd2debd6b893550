"""References: every form of CONTRACT 4, in every place, and every other byte untouched."""

from collections.abc import Mapping
from time import process_time

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.batch.findings import Reference, UnresolvedError
from gateway.batch.model import Operation, Outcome
from gateway.batch.references import (
    BadReferenceError,
    may_refer,
    opaque,
    references_of,
    resolved,
)

JSON = (("Content-Type", "application/json"),)
OUTCOMES: Mapping[str, Outcome] = {
    "a": Outcome(
        0,
        201,
        {"Location": "/users/7", "Set-Cookie": ["x=1", "y=2"], "X-Bad": "a\x01b"},
        b'{"id": 7, "name": "A/b c", "tags": ["x", {"y": null}], "a/b": {"~": 1.50}, "big": 12345678901234567890123}',
    ),
    "a.b": Outcome(1, 200, {}, b"not json"),
    "x.response.y": Outcome(2, 200, {}, b'"text"'),
}


def operation(target: str = "/", body: bytes = b"", fields: tuple[tuple[str, str], ...] = JSON) -> Operation:
    return Operation("z", "POST", target, fields, body, bool(body))


def filled(asked: Operation) -> Operation:
    assert may_refer(asked)
    references_of(asked, OUTCOMES)
    return resolved(asked, OUTCOMES, OUTCOMES.__getitem__, 1000)


@pytest.mark.parametrize(
    ("written", "becomes"),
    [
        (b'"$ops.a.response.body#/id"', b"7"),
        (b'"$ops.a.response.body#/tags/1"', b'{"y":null}'),
        (b'"$ops.a.response.body#/a~1b/~0"', b"1.50"),
        (b'"$ops.a.response.body#/big"', b"12345678901234567890123"),
        (b'"$ops.a.response.status"', b"201"),
        (b'"$ops.a.response.header.location"', b'"/users/7"'),
        (b'"$ops.a.response.header.Set-Cookie"', b'"x=1, y=2"'),
        (b'"$ops.x.response.y.response.body"', b'"text"'),
        (b'"user {$ops.a.response.body#/id} of {$ops.a.response.status}"', b'"user 7 of 201"'),
        (b'"{$ops.a.response.body#/tags}"', b'"[\\"x\\",{\\"y\\":null}]"'),
        (b'"\\u0024ops.a.response.status"', b"201"),
        (b'"$$ops.a.response.status"', b'"$ops.a.response.status"'),
    ],
)
def test_a_string_of_a_body_takes_the_value(written: bytes, becomes: bytes) -> None:
    around = b'{ "n" : 1e400, "$ops.a.response.status" : %b ,"big":18446744073709551616 }'

    assert filled(operation(body=around % written)).body == around % becomes


@pytest.mark.parametrize(
    ("written", "becomes"),
    [
        ("/users/{$ops.a.response.body#/id}?n={$ops.a.response.body#/name}", "/users/7?n=A%2Fb%20c"),
        ("$ops.a.response.header.Location", "/users/7"),
        ("/plain/{braces}", "/plain/{braces}"),
    ],
)
def test_a_path_takes_the_text_percent_encoded(written: str, becomes: str) -> None:
    assert resolved(operation(written), OUTCOMES, OUTCOMES.__getitem__, 1000).target == becomes


@pytest.mark.parametrize(
    ("target", "judged"),
    [
        ("/users/{$ops.a.response.body#/x/y}?n={$ops.b.response.status}", "/users/x?n=x"),
        ("$ops.a.response.header.Location", "/"),
        ("/plain/{x}", "/plain/{x}"),
    ],
)
def test_a_path_is_judged_by_what_surrounds_its_references(target: str, judged: str) -> None:
    assert opaque(target) == judged


def test_a_header_takes_the_text() -> None:
    fields = (("X-User", "id={$ops.a.response.body#/id}"), ("X-Name", "$ops.a.response.body#/name"))

    assert filled(operation(fields=fields)).fields == (("X-User", "id=7"), ("X-Name", "A/b c"))


@pytest.mark.parametrize(
    "asked",
    [
        operation(body=b'"$ops.a.response.body#/nothing"'),
        operation(body=b'"$ops.a.response.body#/tags/9"'),
        operation(body=b'"$ops.a.response.body#/tags/-"'),
        operation(body=b'"$ops.a.response.header.X-None"'),
        operation(body=b'"$ops.a.b.response.body#/x"'),
        operation("/{$ops.a.response.body#/id/deeper}"),
        operation(fields=(("X-A", "$ops.a.response.header.X-Bad"),)),
    ],
)
def test_what_finds_nothing_is_told(asked: Operation) -> None:
    with pytest.raises(UnresolvedError):
        filled(asked)


@pytest.mark.parametrize(
    "expression",
    [
        "$ops.nobody.response.status",
        "$ops.a",
        "$ops.a.response.bodies",
        "$ops.a.response.body#id",
        "$ops.a.response.header.",
    ],
)
def test_what_cannot_be_read_is_told_before_anything_runs(expression: str) -> None:
    for asked in (
        operation(body=msgspec.json.encode({"x": [expression]})),
        operation(f"/x/{{{expression}}}"),
        operation(fields=(("X-A", expression),)),
        msgspec.structs.replace(operation(), key=expression),
    ):
        with pytest.raises(BadReferenceError):
            references_of(asked, OUTCOMES)


def test_every_member_that_holds_a_bad_reference_is_told_once() -> None:
    body = b'["$ops.nobody.response.status", "$ops.a.response.bodies", "$ops.a.response.status"]'
    asked = operation("/{$ops.nobody.response.status}", body, (*JSON, ("X-A", "$ops.a")))

    with pytest.raises(BadReferenceError) as caught:
        references_of(asked, OUTCOMES)

    assert {member: detail.partition(" ")[0] for member, detail in caught.value.members.items()} == {
        "path": '"$ops.nobody.response.status"',
        "headers": '"$ops.a"',
        "body": '"$ops.nobody.response.status"',
    }


@pytest.mark.parametrize("answer", [b"[" * 100_000, b'{"id": 1e9999999999999999999999}', b'{"id": %b}' % (b"1" * 5000)])
def test_an_answer_that_cannot_be_read_holds_nothing(answer: bytes) -> None:
    with pytest.raises(UnresolvedError):
        resolved(operation("/{$ops.a.response.body#/id}"), "a", lambda _: Outcome(0, 200, {}, answer), 1000)


@pytest.mark.parametrize("number", [b"1e400", b"1.0", b"0.1000000000000000055511151231257827", b"-0.0", b"1" * 60])
def test_a_number_keeps_what_the_upstream_wrote(number: bytes) -> None:
    answer = Outcome(0, 200, {}, b'{"id": %b, "other": 1e400}' % number)

    body = resolved(operation(body=b'"$ops.a.response.body#/id"'), "a", lambda _: answer, 1000).body

    assert body.replace(b"E+", b"e") == number


@pytest.mark.parametrize(
    ("asked", "fits"),
    [
        (operation(body=b'["$ops.a.response.body", "{$ops.a.response.body}"]'), 2 * 102),
        (operation("/{$ops.a.response.body}?{$ops.a.response.body}"), 2 * 102),
        (operation(fields=(("X-A", "{$ops.a.response.status}" * 9),)), 9 * 3),
    ],
)
def test_what_is_found_is_counted_as_often_as_it_is_asked_for(asked: Operation, fits: int) -> None:
    outcome = Outcome(0, 200, {}, b'"%b"' % (b"x" * 100))

    assert resolved(asked, "a", lambda _: outcome, fits)
    with pytest.raises(UnresolvedError):
        resolved(asked, "a", lambda _: outcome, fits - 1)


def test_an_answer_is_read_once_however_often_it_is_asked_for() -> None:
    outcomes = {id_: Outcome(0, 200, {}, b'{"id": "%b"}' % (b"x" * 1_000_000)) for id_ in "ab"}
    turns = [f"$ops.{id_}.response.body#/{number}/id" for number in range(2000) for id_ in "ab"]
    asked = operation(body=msgspec.json.encode([*turns, "$ops.a.response.body#/id", "$ops.b.response.body#/id"]))
    began_s = process_time()

    with pytest.raises(UnresolvedError):
        resolved(asked, outcomes, outcomes.__getitem__, 3_000_000)

    assert process_time() - began_s < 1


def test_what_paths_look_at_is_bounded() -> None:
    names = b",".join(b'"n%d":1' % number for number in range(11))
    outcome = Outcome(0, 200, {}, b"[" + b"[]," * 99_998 + b"{%b}]" % names)
    paths = [f"$ops.a.response.body$[*].n{number}" for number in range(11)]

    assert (
        resolved(operation(body=msgspec.json.encode(paths[1:9])), "a", lambda _: outcome, 1000).body
        == b"[1,1,1,1,1,1,1,1]"
    )
    with pytest.raises(UnresolvedError, match="more than 1000000 values"):
        resolved(operation(body=msgspec.json.encode(paths)), "a", lambda _: outcome, 1000)


def test_what_names_no_id_is_read_in_no_time() -> None:
    asked = operation(body=b'"$ops.x%b"' % (b".response.body#/" * 60_000))
    began_s = process_time()

    with pytest.raises(BadReferenceError):
        references_of(asked, OUTCOMES)

    assert process_time() - began_s < 1


def test_a_pointer_that_is_no_text_is_told_in_escapes() -> None:
    form = (("Content-Type", "application/x-www-form-urlencoded"),)

    with pytest.raises(UnresolvedError) as caught:
        resolved(operation(body=b"x={$ops.a.response.body#/\xff\n}", fields=form), OUTCOMES, OUTCOMES.__getitem__, 1000)

    assert str(caught.value).isascii()


def test_every_reference_is_found_in_its_place() -> None:
    body = b'{"a": "$ops.a.response.status", "b": ["{$ops.a.b.response.header.ETag}"]}'
    asked = operation("/{$ops.a.response.body#/id}", body)

    assert list(references_of(asked, OUTCOMES)) == [
        Reference("a", "body", "/id"),
        Reference("a", "status"),
        Reference("a.b", "header", "ETag"),
    ]


def test_a_body_that_is_not_json_holds_no_expression() -> None:
    asked = operation(body=b'"$ops.a.response.status"', fields=(("Content-Type", "text/plain"),))

    assert not references_of(asked, OUTCOMES)
    assert resolved(asked, OUTCOMES, OUTCOMES.__getitem__, 1000) == asked


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=8),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
        max_leaves=8,
    )
)
def test_a_body_without_references_keeps_every_byte(value: object) -> None:
    asked = operation(body=msgspec.json.encode(value))

    if "$ops." not in asked.body.decode():
        assert resolved(asked, OUTCOMES, OUTCOMES.__getitem__, 1000) == asked
        assert not references_of(asked, OUTCOMES)


FORM = (("Content-Type", "application/x-www-form-urlencoded"),)


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("$.id", "7"),
        ("$.tags", "x%2C%7B%22y%22%3Anull%7D"),
        ("$.tags[0]", "x"),
        ("$.tags[*]", "x%2C%7B%22y%22%3Anull%7D"),
        ("$['name']", "A%2Fb%20c"),
        ("$.tags.*.y", "null"),
    ],
)
def test_a_json_path_in_a_form_is_filled_with_all_that_it_finds_between_commas(path: str, text: str) -> None:
    body = f"a=%7Bx%7D&b={{$ops.a.response.body{path}}}&c=\xff".encode("latin-1")

    assert filled(operation(body=body, fields=FORM)).body == body.replace(
        f"{{$ops.a.response.body{path}}}".encode(), text.encode()
    )


def test_a_json_path_that_is_the_whole_string_keeps_the_type_of_a_single_value() -> None:
    asked = operation(body=b'["$ops.a.response.body$.id", "$ops.a.response.body$.tags[*].y"]')

    assert filled(asked).body == b"[7, null]"


@pytest.mark.parametrize("path", ["$.nothing", "$.tags[9]", "$.id.x", "$.tags.id", "$.tags[0].y"])
def test_a_json_path_that_finds_nothing_is_unresolved(path: str) -> None:
    with pytest.raises(UnresolvedError, match="nothing at"):
        filled(operation(f"/{{$ops.a.response.body{path}}}"))


@pytest.mark.parametrize("path", ["$..id", "$.tags[?@.x]", "$.a b", "$[0:1]", "$" + ".a" * 33, "$."])
def test_a_json_path_that_uses_another_part_of_the_standard_is_refused(path: str) -> None:
    with pytest.raises(BadReferenceError):
        references_of(operation(f"/{{$ops.a.response.body{path}}}"), OUTCOMES)


def test_only_what_stands_in_braces_refers_in_a_form() -> None:
    asked = operation(body=b"$ops.a.response.status=1", fields=FORM)

    assert references_of(asked, OUTCOMES) == []
    assert resolved(asked, OUTCOMES, OUTCOMES.__getitem__, 1000).body == asked.body
