"""The native dialect: whatever the bytes, a batch or one kind of refusal; whatever the outcome, JSON that says it."""

import base64
import json
from functools import partial
from random import Random
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.batch.model import Batch, Failure, Operation, Outcome, Summary, summarize
from gateway.dialects import native
from gateway.dialects.native import JsonWriter, LinesWriter, parse
from gateway.dialects.port import EnvelopeError, EnvelopeLimits
from gateway.dialects.slices import at_once
from gateway.errors import PROBLEMS
from tests.strategies import (
    LAW,
    LIMITS,
    RULES,
    Envelope,
    compact,
    envelopes,
    escapes,
    ids,
    json_texts,
    randoms,
    spaces,
    written,
)


def _read(data: bytes | str, limits: EnvelopeLimits = LIMITS) -> Batch:
    return parse(data if isinstance(data, bytes) else data.encode(), limits, RULES)


def _one(**members: Any) -> Operation:
    (operation,) = _read(json.dumps([{"path": "/a", **members}])).operations
    return operation


def _refusal(data: bytes | str, limits: EnvelopeLimits = LIMITS) -> EnvelopeError:
    with pytest.raises(EnvelopeError) as caught:
        _read(data, limits)
    return caught.value


def _status(data: bytes) -> int:
    try:
        _read(data)
    except EnvelopeError as error:
        return error.status
    return 207


def _codes(value: Any) -> list[tuple[str, str]]:
    members: Any = _refusal(json.dumps(value)).members
    return [(error["pointer"], error["code"]) for error in members["errors"]]


def test_judging_operations_is_no_slice_for_it_may_last_as_long_as_a_caller_wants() -> None:
    *_, last = native.parsed(b'[{"method": "GET", "path": "/a"}]', LIMITS, RULES)

    assert last is not None
    assert isinstance(last(), Batch)


@pytest.mark.parametrize("bare", [True, False])
@pytest.mark.parametrize(("count", "size"), [(1, 1 << 19), (3, 1 << 18), (400, 1 << 10)])
def test_a_large_compact_envelope_is_known_to_name_its_members_once_without_a_second_reading(
    count: int, size: int, bare: bool
) -> None:
    operations = [{"method": "POST", "path": f"/{number}", "body": "x" * size} for number in range(count)]
    envelope = operations if bare else {"onFailure": "halt", "operations": operations}
    data = json.dumps(envelope, separators=(",", ":")).encode()

    asides = [slice_.func.__name__ for slice_ in native.parsed(data, LIMITS, RULES) if isinstance(slice_, partial)]

    assert asides == ["_batch"]


@pytest.mark.parametrize("bare", [True, False])
def test_a_member_that_stands_twice_in_a_large_envelope_is_found(bare: bool) -> None:
    operations = b'[{"method":"POST","path":"/a","path":"/b","body":"%b"}]' % (b"x" * (1 << 19))

    refused = _refusal(operations if bare else b'{"operations":%b}' % operations)

    assert (refused.problem.slug, refused.members) == ("duplicate-key", {"pointer": "/0" if bare else "/operations/0"})


# Reading: laws.


@LAW
@given(envelopes())
def test_a_good_envelope_is_read_as_its_operations_with_the_callers_own_bytes(envelope: Envelope) -> None:
    batch = _read(written(envelope.tree, compact))

    got = [(each.id, each.method, each.target, each.body if each.has_body else None) for each in batch.operations]
    assert got == [(*rest, None if body is None else body.encode()) for *rest, body in envelope.expected]


@LAW
@given(envelopes(), randoms)
def test_white_space_and_escaped_names_change_no_operation(envelope: Envelope, random: Random) -> None:
    plain = _read(written(envelope.tree, compact))

    loose = _read(written(envelope.tree, spaces(random), escapes(random)))

    assert loose == plain


@LAW
@given(envelopes().filter(lambda envelope: bool(envelope.objects)), randoms, st.booleans())
def test_a_second_member_of_a_name_is_found_at_every_level_of_the_envelope(
    envelope: Envelope, random: Random, spaced: bool
) -> None:
    members = random.choice(envelope.objects)
    members.pairs.insert(random.randint(0, len(members.pairs)), random.choice(members.pairs))

    space = spaces(random) if spaced else compact
    refusal = _refusal(written(envelope.tree, space, escapes(random)))

    assert refusal.problem.slug == "duplicate-key"


@LAW
@given(st.binary(max_size=64) | st.text(max_size=64).map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_any_bytes_are_a_batch_or_refused(data: bytes) -> None:
    assert _status(data) in (207, 400, 413, 422)


_SHARDS = [
    b"\x00", b"\xff", b"\xed\xa0\x80", b"\\ud800", b"\\u0000", b"\\", b'"', b"[" * 40, b"]", b"{", b"}", b",", b":",
    b"null",
    b"1e999999999", b"9" * 70, b"-", b"NaN", b'"operations":1,', b'"id":"id",', b"[],", b"\xef\xbb\xbf", b" ",
    b'"\\ud83d"',
    b"true", b'{"a":', b"/*x*/", b"'", b"\x7f", b"\n",
]  # fmt: skip


@LAW
@given(
    envelopes(),
    st.lists(st.tuples(st.integers(0), st.integers(0, 3), st.sampled_from(_SHARDS)), min_size=1, max_size=4),
)
def test_a_mutated_envelope_is_a_batch_or_refused(envelope: Envelope, cuts: list[tuple[int, int, bytes]]) -> None:
    data = written(envelope.tree, compact).encode()
    for place, length, shard in cuts:
        at = place % (len(data) + 1)
        data = data[:at] + shard + data[at + length :]

    assert _status(data) in (207, 400, 413, 422)


@LAW
@given(envelopes(), st.integers(0))
def test_an_envelope_cut_short_is_invalid_json_at_the_byte_of_the_cut(envelope: Envelope, place: int) -> None:
    data = written(envelope.tree, compact).encode()
    cut = data[: place % len(data)]

    refusal = _refusal(cut)

    assert refusal.problem.slug == "invalid-json"
    assert 0 <= int(str(refusal.members["offset"])) <= len(cut)


_names = st.sampled_from(
    [
        "operations",
        "defaults",
        "onFailure",
        "id",
        "method",
        "path",
        "headers",
        "body",
        "bodyEncoding",
        "timeoutSeconds",
        "x",
        "",
    ]
)
_any_json = st.recursive(
    st.sampled_from([None, True, 0, -1, 2**70, 1.5, 1e300, "", "a", "GET", "/a", "base64", "\u00e9"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_names, inner, max_size=5),
    max_leaves=8,
)


@LAW
@given(st.fixed_dictionaries({"operations": st.lists(_any_json, max_size=3)}) | _any_json)
def test_json_of_any_shape_is_a_batch_or_refused(value: Any) -> None:
    assert _status(json.dumps(value).encode()) in (207, 400, 422)


# Reading: cases.


def test_a_bare_array_and_an_object_mean_the_same() -> None:
    bare = _read('[{"method":"GET","path":"/a"}]')

    assert bare.operations == _read('{"operations":[{"method":"GET","path":"/a"}]}').operations
    assert (bare.operations, bare.on_failure) == ([Operation("0", "GET", "/a")], "continue")


def test_absent_ids_are_the_index() -> None:
    batch = _read('[{"method":"GET","path":"/a"},{"method":"GET","path":"/a","id":"x"},{"method":"GET","path":"/a"}]')

    assert [operation.id for operation in batch.operations] == ["0", "x", "2"]


def test_an_id_that_is_another_operations_index_is_refused() -> None:
    assert _codes([{"method": "GET", "path": "/a"}, {"method": "GET", "path": "/a", "id": "0"}]) == [("/1/id", "id")]


def test_the_default_method_and_headers_apply_where_an_operation_has_none_of_its_own() -> None:
    batch = _read(
        '{"operations":[{"path":"/a"},{"path":"/a","method":"PUT","headers":{"x-a":"own","X-C":["1","2"]}}],'
        '"defaults":{"method":"GET","headers":{"X-A":"all","X-B":"all"}},"onFailure":"halt"}'
    )

    assert batch.on_failure == "halt"
    assert [operation.method for operation in batch.operations] == ["GET", "PUT"]
    assert [operation.fields for operation in batch.operations] == [
        (("X-A", "all"), ("X-B", "all")),
        (("X-B", "all"), ("x-a", "own"), ("X-C", "1"), ("X-C", "2")),
    ]


@pytest.mark.parametrize(
    ("headers", "code"),
    [({"Cookie": "a=b"}, "per-op-credentials"), ({"Idempotency-Key": "k"}, "header-not-allowed")],
)
def test_default_headers_that_no_operation_may_carry_are_refused_once(headers: dict[str, str], code: str) -> None:
    value = {"operations": [{"method": "GET", "path": "/a"}] * 3, "defaults": {"headers": headers}}

    assert [error for error in _codes(value) if error[1] != "id"] == [("/defaults/headers", code)]


@pytest.mark.parametrize("members", [{"method": "GET"}, {"method": "POST", "body": {"a": 1}, "headers": {"X-A": "b"}}])
@pytest.mark.parametrize("key", ["k", '"k"'])
def test_a_key_is_read_as_it_was_said_whatever_stands_beside_it(members: dict[str, Any], key: str) -> None:
    plain, keyed = _one(**members), _one(**members, idempotencyKey=key)

    assert keyed == msgspec.structs.replace(plain, key=key)


@pytest.mark.parametrize("field", ["Idempotency-Key", "idempotency-KEY"])
def test_a_key_in_a_field_is_the_same_as_in_its_member(field: str) -> None:
    in_field = _one(method="POST", headers={"X-A": "b", field: '"k"', "X-C": "d"})

    assert in_field == _one(method="POST", headers={"X-A": "b", "X-C": "d"}, idempotencyKey='"k"')


@pytest.mark.parametrize(
    ("members", "body", "fields"),
    [
        ({"body": {"a": 1}}, b'{"a": 1}', (("Content-Type", "application/json"),)),
        ({"body": None}, b"null", (("Content-Type", "application/json"),)),
        ({"body": "text"}, b'"text"', (("Content-Type", "application/json"),)),
        ({"body": "t\u00e9xt", "headers": {"content-type": "text/plain"}}, "t\u00e9xt".encode(),
            (("content-type", "text/plain"),)),
        ({"body": "", "headers": {"Content-Type": "a/b"}}, b"", (("Content-Type", "a/b"),)),
        ({"body": "t", "headers": {"Content-Type": "application/problem+json"}}, b'"t"',
            (("Content-Type", "application/problem+json"),)),
        ({"body": [1], "headers": {"Content-Type": "Application/JSON; x=y"}}, b"[1]",
            (("Content-Type", "Application/JSON; x=y"),)),
        ({"body": "AP8=", "bodyEncoding": "base64"}, b"\x00\xff", (("Content-Type", "application/octet-stream"),)),
        ({"body": "", "bodyEncoding": "base64"}, b"", (("Content-Type", "application/octet-stream"),)),
        ({"body": "AP8=", "bodyEncoding": "base64", "headers": {"Content-Type": "a/b"}}, b"\x00\xff",
            (("Content-Type", "a/b"),)),
    ],
)  # fmt: skip
def test_a_body_goes_out_as_its_media_type_says(
    members: dict[str, Any], body: bytes, fields: tuple[tuple[str, str], ...]
) -> None:
    operation = _one(method="POST", **members)

    assert (operation.body, operation.fields, operation.has_body) == (body, fields, True)


@pytest.mark.parametrize(
    ("members", "error"),
    [
        ({"body": {"a": 1}, "headers": {"Content-Type": "text/plain"}}, ("/0/body", "body-not-allowed")),
        ({"body": "!", "bodyEncoding": "base64"}, ("/0/body", "body-not-allowed")),
        ({"body": "YQ", "bodyEncoding": "base64"}, ("/0/body", "body-not-allowed")),
        ({"body": "Y-_=", "bodyEncoding": "base64"}, ("/0/body", "body-not-allowed")),
        ({"body": "YQ==\n", "bodyEncoding": "base64"}, ("/0/body", "body-not-allowed")),
        ({"body": "\u00e9", "bodyEncoding": "base64"}, ("/0/body", "body-not-allowed")),
        ({"body": 1, "bodyEncoding": "base64"}, ("/0/body", "body-not-allowed")),
        ({"bodyEncoding": "base64"}, ("/0/bodyEncoding", "body-not-allowed")),
        ({"timeoutSeconds": "1"}, ("/0/timeoutSeconds", "timeout")),
        ({"timeoutSeconds": True}, ("/0/timeoutSeconds", "timeout")),
        ({"timeoutSeconds": None}, ("/0/timeoutSeconds", "timeout")),
        ({"timeoutSeconds": -1}, ("/0/timeoutSeconds", "timeout")),
    ],
)
def test_what_cannot_be_sent_as_asked_is_refused(members: dict[str, Any], error: tuple[str, str]) -> None:
    assert _codes([{"method": "POST", "path": "/a", **members}]) == [error]


def test_a_null_body_is_no_body_where_none_is_allowed() -> None:
    assert not _one(method="GET", body=None).has_body


def test_a_timeout_is_read_as_seconds() -> None:
    assert _one(method="GET", timeoutSeconds=2.5).timeout_s == 2.5


def test_a_member_that_stands_twice_in_a_body_goes_out_as_it_came() -> None:
    body = b'{"a":1, "a" : 2,"\\u0061":1e400}'

    batch = _read(b'[{"method":"POST","path":"/a","body":' + body + b"}]")

    assert batch.operations[0].body == body


@pytest.mark.parametrize(("count", "taken"), [(999, True), (1000, True), (1001, False)])
def test_an_envelope_may_hold_exactly_1000_operations(count: int, taken: bool) -> None:
    data = json.dumps([{"method": "GET", "path": "/a"}] * count)

    if taken:
        assert len(_read(data).operations) == count
    else:
        refusal = _refusal(data)
        assert (refusal.status, refusal.problem.slug) == (413, "too-many-operations")
        assert refusal.headers == {"X-Limit-Operations": "1000"}
        assert refusal.members == {"max": 1000}


def test_too_many_operations_outrank_what_is_wrong_with_them() -> None:
    assert _refusal(json.dumps([{"path": 1}] * 1001)).problem.slug == "too-many-operations"


def test_broken_json_outranks_everything_before_it() -> None:
    assert _refusal('[{"id":1},{"id":2}' + ',{"path":1}' * 2000).problem.slug == "invalid-json"


@pytest.mark.parametrize(("depth", "taken"), [(30, True), (31, False)])
def test_an_envelope_may_be_exactly_32_deep(depth: int, taken: bool) -> None:
    data = '[{"method":"POST","path":"/a","body":' + "[" * depth + "]" * depth + "}]"

    if taken:
        assert _read(data).operations[0].has_body
    else:
        assert _refusal(data).members == {"limit": "depth", "max": 32}


def test_absurd_nesting_is_refused_and_not_followed() -> None:
    body = "[" * 100_000 + "]" * 100_000

    assert _refusal('[{"method":"POST","path":"/a","body":' + body + "}]").problem.slug == "json-too-complex"


def test_a_number_of_a_thousand_digits_is_refused() -> None:
    assert _refusal(f'[{{"method":"POST","path":"/a","body":{"1" * 1000}}}]').members == {"limit": "digits", "max": 64}


def test_more_values_than_the_limit_are_refused() -> None:
    data = '[{"method":"POST","path":"/a","body":[' + ",".join(["1"] * 200) + "]}]"

    assert _refusal(data, EnvelopeLimits(nodes_max=100)).members == {"limit": "nodes", "max": 100}


@pytest.mark.parametrize("escape", ["\\ud800", "\\udc00", "\\ud800\\ud800", "\\udbff "])
@pytest.mark.parametrize("member", ["id", "body", "x"])
def test_a_lone_surrogate_is_invalid_json_wherever_it_stands(escape: str, member: str) -> None:
    assert _refusal(f'[{{"method":"POST","path":"/a","{member}":"{escape}"}}]').problem.slug == "invalid-json"


# Writing.

_texts = st.text(max_size=10)
_media_types = st.sampled_from(
    ["application/json", "application/json; charset=utf-8", "a/b+json", "text/plain", "image/png"]
)
_bodies = st.just(b"") | json_texts.map(str.encode) | st.binary(max_size=12) | _texts.map(str.encode)
_headers: st.SearchStrategy[Any] = st.fixed_dictionaries(
    {}, optional={"Content-Type": _media_types, "X-A": _texts, "Set-Cookie": st.lists(_texts, min_size=2)}
)
_failures = st.builds(
    Failure, st.sampled_from(sorted(PROBLEMS)), _texts, st.booleans(), st.just({}) | st.just({"attempt": 1})
)
_outcomes = st.builds(Outcome, st.just(0), st.integers(200, 599), _headers, _bodies, st.none() | _failures)
_finished = st.lists(st.tuples(ids, _outcomes), max_size=5)


def _entry(outcome: Outcome) -> Any:
    return json.loads(LinesWriter().piece("a", outcome, "/batch"))


@LAW
@given(_finished)
def test_the_answer_has_one_entry_for_each_operation_in_order_and_its_summary(
    finished: list[tuple[str, Outcome]],
) -> None:
    named, outcomes = [id_ for id_, _ in finished], [outcome for _, outcome in finished]
    summary = summarize(outcomes)

    answer = json.loads(JsonWriter().whole(named, outcomes, summary, "/batch"))

    assert [(entry["id"], entry["status"]) for entry in answer["results"]] == [
        (id_, outcome.status) for id_, outcome in finished
    ]
    assert [entry["headers"] for entry in answer["results"]] == [dict(outcome.headers) for outcome in outcomes]
    assert ["error" in entry for entry in answer["results"]] == [not outcome.succeeded for outcome in outcomes]
    assert answer["summary"] == native.shown(summary)
    whole = JsonWriter().whole(named, outcomes, summary, "/batch")
    assert at_once(JsonWriter().written(named, outcomes, summary, "/batch")) == whole


@LAW
@given(ids, _outcomes)
def test_a_streamed_line_is_exactly_one_line_and_equals_the_entry_of_the_whole_answer(
    id_: str, outcome: Outcome
) -> None:
    line = LinesWriter().piece(id_, outcome, "/batch")
    whole = json.loads(JsonWriter().whole([id_], [outcome], summarize([outcome]), "/batch"))

    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    assert b"\r" not in line
    assert json.loads(line) == whole["results"][0]


@LAW
@given(ids, _outcomes)
def test_a_preview_says_what_the_answer_would_have_said(id_: str, outcome: Outcome) -> None:
    summary = summarize([outcome])

    preview = native.preview([id_], [outcome], summary, "/batch")

    assert msgspec.json.encode(preview) == JsonWriter().whole([id_], [outcome], summary, "/batch")


@LAW
@given(json_texts)
def test_a_json_body_is_embedded_byte_for_byte(text: str) -> None:
    outcome = Outcome(0, 200, {"Content-Type": "application/json"}, text.encode())

    answer = JsonWriter().whole(["a"], [outcome], summarize([outcome]), "/batch")

    assert b'"result":' + text.encode() + b"}]" in answer


@LAW
@given(_outcomes)
def test_no_byte_of_a_body_is_lost_in_its_entry(outcome: Outcome) -> None:
    if outcome.failure is not None or not outcome.body:
        return
    entry = _entry(outcome)

    place, member = (entry, "result") if outcome.succeeded else (entry["error"], "body")
    shown = place[member]
    match place.get("encoding"):
        case "text":
            assert shown.encode() == outcome.body
        case "base64":
            assert base64.b64decode(shown) == outcome.body
        case None:
            assert str(shown) == str(json.loads(outcome.body))


@pytest.mark.parametrize(
    ("headers", "body", "result", "encoding"),
    [
        ({"Content-Type": "application/json"}, b'{"a":1}', {"a": 1}, None),
        ({"Content-Type": "application/vnd.a+json; v=1"}, b"[1]", [1], None),
        ({"Content-Type": ["application/json", "text/plain"]}, b"[1]", "[1]", "text"),
        ({"Content-Type": "application/json", "Content-Encoding": "gzip"}, b"[1]", "[1]", "text"),
        ({"Content-Type": "APPLICATION/JSON", "Content-Encoding": "gzip"}, b"\x1f\x8b", "H4s=", "base64"),
        ({"Content-Type": "application/json"}, b"{broken", "{broken", "text"),
        ({"Content-Type": "application/json"}, b'"\xff"', "Iv8i", "base64"),
        ({"Content-Type": "application/json"}, b"[" * 100_000 + b"]" * 100_000, "[" * 100_000 + "]" * 100_000, "text"),
        ({"Content-Type": "application/json"}, b"\xef\xbb\xbf{}", "\ufeff{}", "text"),
        ({"Content-Type": "text/plain"}, b"1", "1", "text"),
        ({}, b"\x00\xff", "AP8=", "base64"),
    ],
    ids=["json", "suffix", "two", "gzip", "zipped", "broken", "bad-utf8", "deep", "mark", "text", "bytes"],
)
def test_a_body_is_shown_as_json_as_text_or_as_base64(
    headers: dict[str, Any], body: bytes, result: Any, encoding: str | None
) -> None:
    entry = _entry(Outcome(0, 200, headers, body))

    assert (entry["result"], entry.get("encoding")) == (result, encoding)


def test_an_answer_without_a_body_has_no_member_for_one() -> None:
    assert _entry(Outcome(0, 204)) == {"id": "a", "status": 204, "headers": {}}


def test_an_upstreams_error_is_shown_with_its_origin_and_body() -> None:
    entry = _entry(Outcome(0, 404, {"Content-Type": "application/json"}, b'{"no":1}'))

    assert entry["error"] == {
        "type": "/batch/problems/upstream-error",
        "title": "Upstream error",
        "status": 404,
        "origin": "upstream",
        "body": {"no": 1},
    }


def test_an_upstreams_error_without_a_body_has_no_member_for_one() -> None:
    assert "body" not in _entry(Outcome(0, 500))["error"]


def test_an_upstreams_error_in_text_says_how_it_is_shown() -> None:
    error = _entry(Outcome(0, 500, {}, b"oops"))["error"]

    assert (error["body"], error["encoding"]) == ("oops", "text")


def test_a_failure_of_the_gateways_is_shown_with_its_words_and_members() -> None:
    entry = _entry(Outcome(0, 502, failure=Failure("outcome-unknown", "lost", members={"attempt": 1})))

    assert entry["error"] == {
        "type": "/batch/problems/outcome-unknown",
        "title": "Outcome unknown",
        "status": 502,
        "origin": "gateway",
        "detail": "lost",
        "retryable": False,
        "attempt": 1,
    }


def test_the_summary_names_unknown_only_where_there_is_one() -> None:
    assert native.shown(Summary(1, 1, 0)) == {"total": 1, "succeeded": 1, "failed": 0}
    assert native.shown(Summary(1, 0, 1, 1)) == {"total": 1, "succeeded": 0, "failed": 1, "unknown": 1}


@pytest.mark.parametrize("body", [b'{"a":1}', b'{"a":\n1}', b'{"a":\r1}', b""])
def test_many_lines_are_those_of_each(body: bytes) -> None:
    writer = LinesWriter()
    outcomes = [Outcome(0, 200, {"Content-Type": "application/json"}, body), Outcome(1, 404)]

    lines = writer.pieces(["a", "b"], outcomes, "/batch")

    assert lines == writer.piece("a", outcomes[0], "/batch") + writer.piece("b", outcomes[1], "/batch")
    assert lines.count(b"\n") == 2


def test_the_last_line_of_a_stream_is_the_summary() -> None:
    assert LinesWriter().last(Summary(2, 1, 1)) == b'{"summary":{"total":2,"succeeded":1,"failed":1}}\n'
