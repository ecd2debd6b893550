"""Facebook's envelopes into batches: wherever the parameters stand, every entry in its place, references in order."""

import json
from typing import Any
from urllib.parse import quote, urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.batch.model import Operation, Outcome
from gateway.batch.validation import Rules
from gateway.dialects.facebook import GROWTH_MAX, Facebook
from gateway.dialects.facebook_entry import REFERENCES_MAX, URL_MAX
from gateway.dialects.facebook_envelope import PARTS_MAX
from gateway.dialects.port import Call, EnvelopeError, Read
from gateway.upstream.headers import refusals_in_operation
from tests.strategies import spoiled

_RULES = Rules(("/batch",), 1000, lambda fields: refusals_in_operation(fields, credentials=frozenset()))
_FACEBOOK = Facebook(operations_max=120, origins=["https://graph.facebook.com"], rules=_RULES)
_FORM = "application/x-www-form-urlencoded"
_TYPED = ("Content-Type", _FORM)


def _call(body: bytes, content_type: str = _FORM, query: str = "", path: str = "/v26.0/") -> Call:
    return Call("POST", path, query, content_type, body, "Gateway.example:8207")


def _form(entries: Any, **parameters: str) -> bytes:
    return urlencode({"batch": json.dumps(entries), **parameters}).encode()


def _multipart(*parts: tuple[str, bytes]) -> Call:
    body = b"".join(b"--b\r\nContent-Disposition: form-data; %b\r\n\r\n%b\r\n" % (k.encode(), v) for k, v in parts)
    return _call(body + b"--b--\r\n", "multipart/form-data; boundary=b")


def _read(call: Call) -> Read:
    read = _FACEBOOK.parse(call)
    assert read is not None
    return read


def _operations(*entries: Any, path: str = "/v26.0/", **parameters: str) -> list[Operation]:
    return list(_read(_call(_form(entries, **parameters), path=path)).batch.operations)


def _shown(read: Read) -> list[Any]:
    outcomes = [Outcome(index, 200, {}, b'{"id":"1"}') for index in range(len(read.batch.operations))]
    shown: list[Any] = json.loads(_FACEBOOK.answer(read, outcomes).body)
    return shown


def _message(entry: Any) -> str:
    message: str = json.loads(entry["body"])["error"]["message"]
    return message


def _get(url: str, **more: Any) -> dict[str, Any]:
    return {"method": "GET", "relative_url": url, **more}


@pytest.mark.parametrize("path", ["/", "/v26.0", "/v26.0/", "/me", "/me/", "/v3.1/me"])
@pytest.mark.parametrize("content_type", [_FORM, "Multipart/Form-Data;boundary=x", "application/json; charset=utf-8"])
def test_an_envelope_may_stand_at_the_root_a_version_or_me(path: str, content_type: str) -> None:
    assert _FACEBOOK.reads(_call(b"", content_type, path=path)) is None


@pytest.mark.parametrize(
    "call",
    [
        Call("GET", "/", "batch=[]", _FORM, b""),
        Call("POST", "", "", _FORM, b""),
        Call("POST", "/v26.0/act_1/campaigns", "", _FORM, b""),
        Call("POST", "/v26/", "", _FORM, b""),
        Call("POST", "/v26.0me", "", _FORM, b""),
        Call("POST", "/", "", "text/plain", b""),
    ],
)
def test_other_calls_are_none(call: Call) -> None:
    assert _FACEBOOK.reads(call) is False


@pytest.mark.parametrize(
    "call",
    [
        _call(_form([_get("a")])),
        _call(b"x=1&" + _form([_get("a")]) + b"&y"),
        _call(json.dumps({"batch": [_get("a")], "x": {}}).encode(), "application/json"),
        _call(json.dumps({"batch": json.dumps([_get("a")])}).encode(), "application/json"),
        _multipart(("name=y", b"1"), ('name="batch"', json.dumps([_get("a")]).encode()), ("x=1", b"")),
        _call(b"", "", "batch=" + quote(json.dumps([_get("a")]))),
        _call(b"", "application/json", "batch=" + quote(json.dumps([_get("a")]))),
        _call(b"name=batch", "text/plain", "batch=" + quote(json.dumps([_get("a")]))),
        _call(_form([_get("a")]), query="batch=[]"),
    ],
)
def test_the_batch_may_be_a_field_of_a_form_a_part_a_member_or_in_the_query(call: Call) -> None:
    assert _FACEBOOK.reads(call) is None
    assert list(_read(call).batch.operations) == [Operation("0", "GET", "/v26.0/a")]


@pytest.mark.parametrize(
    "call",
    [
        _call(b"name=batch&a=b"),
        _call(b'{"x": {"batch": []}}', "application/json"),
        _call(b'["batch"]', "application/json"),
        _call(b'{"a": 1, "batch": ', "application/json"),
        _call(b'{"batch": null}', "application/json"),
        _call(b"{}", "application/json"),
        _call(b"batch=[]", "text/plain"),
        _call(b"batch", "multipart/form-data"),
        _call(b"--b\r\nContent-Disposition: form-data; name=x\r\n\r\nbatch\r\n", "multipart/form-data; boundary=b"),
        _multipart(('name="batch"; filename="x"', b"[]")),
    ],
)
def test_a_call_that_holds_no_batch_is_none_however_broken_it_is(call: Call) -> None:
    assert _FACEBOOK.parse(call) is None


@pytest.mark.parametrize(
    ("call", "slug"),
    [
        (_call(b"batch="), "invalid-json"),
        (_call(b"batch=[1"), "invalid-json"),
        (_call(b"batch=%ff"), "invalid-json"),
        (_call(b' {"batch": [', "application/json"), "invalid-json"),
        (_call(b'batch=[{"method":"GET","relative_url":"a","relative_url":"b"}]'), "duplicate-key"),
        (_call(b"batch={}"), "invalid-envelope"),
        (_call(b"batch=[]"), "invalid-envelope"),
        (_call(b"batch=" + b"[" * 40 + b"]" * 40), "json-too-complex"),
        (_call(_form([_get("a")] * 121)), "too-many-operations"),
        (_call(_form([{"method": "BREW", "relative_url": "a"}] * 101)), "invalid-envelope"),
        (_call(_form([_get("a", name="x"), _get("b", name="x")])), "invalid-envelope"),
        (_call(_form([_get("a", name="x", depends_on="x")])), "invalid-envelope"),
        (_call(_form([_get("a", name="x", depends_on="y"), _get("{result=x:$.id}", name="y")])), "invalid-envelope"),
        (_call(b"--b\r\n\r\n\r\n--b", "multipart/form-data; boundary=b", "batch=[]"), "invalid-envelope"),
        (_call(b"--b\r\nx y\r\n\r\n\r\n--b--", "multipart/form-data; boundary=b", "batch=[]"), "invalid-envelope"),
        (_multipart(("name=batch", b"[]"), *[("name=x", b"")] * PARTS_MAX), "invalid-envelope"),
    ],
)
def test_an_envelope_that_cannot_be_read_is_refused_as_a_whole(call: Call, slug: str) -> None:
    with pytest.raises(EnvelopeError) as refused:
        _FACEBOOK.parse(call)

    assert refused.value.problem.slug == slug


@pytest.mark.parametrize(
    ("path", "url", "target"),
    [
        ("/v26.0/", "me", "/v26.0/me"),
        ("/v26.0", "/me", "/v26.0/me"),
        ("/v26.0/me", "v3.0/c1/?a=b", "/v3.0/c1/?a=b"),
        ("/", "v3.0", "/v3.0"),
        ("/me", "c1/?fields=id%2Cname", "/c1/?fields=id%2Cname"),
        ("/", "v3.0x", "/v3.0x"),
        ("/", "", "/"),
        ("/v26.0/", "?ids=1,2", "/v26.0/?ids=1,2"),
        ("/", "c1?a=b?c=d", "/c1?a=b?c=d"),
        ("/", "c1?q=a b\u00e9\n", "/c1?q=a%20b%C3%A9%0A"),
        ("/", 'c1?filtering=[{"field":"a"}]', '/c1?filtering=[{"field":"a"}]'),
        ("/v26.0/", "https://graph.facebook.com/v2.0/me", "/v2.0/me"),
        ("/v26.0/", "HTTP://gateway.example:8207/me", "/v26.0/me"),
        ("/", "c1?q={$ops.0.response.status}", "/c1?q={%24ops.0.response.status}"),
    ],
)
def test_a_relative_url_is_a_path_below_the_version_of_the_envelope_or_its_own(
    path: str, url: str, target: str
) -> None:
    assert [operation.target for operation in _operations(_get(url), path=path)] == [target]


@pytest.mark.parametrize(
    ("entry", "sent"),
    [
        (_get("a"), "/a?access_token=T%2F1&appsecret_proof=P"),
        (_get("a?b=c"), "/a?b=c&access_token=T%2F1&appsecret_proof=P"),
        (_get("a?b=c&access_token=own"), "/a?b=c&access_token=own"),
        (_get("a?b=c?access_token=own"), "/a?b=c?access_token=own"),
        ({"method": "POST", "relative_url": "a", "body": "x=1&access_token=own"}, "/a"),
        ({"method": "POST", "relative_url": "a", "body": "my_access_token=own"},
         "/a?access_token=T%2F1&appsecret_proof=P"),
    ],
)  # fmt: skip
def test_the_token_of_the_envelope_is_for_entries_without_their_own(entry: Any, sent: str) -> None:
    read = _read(_call(_form([entry]), query="appsecret_proof=P&access_token=T%2F1", path="/"))

    assert [operation.target for operation in read.batch.operations] == [sent]
    assert read.batch.one_credential is ("own" not in sent and b"&access_token" not in read.batch.operations[0].body)


def test_a_token_in_the_body_wins_over_one_in_the_query_and_a_proof_goes_with_a_token_only() -> None:
    read = _read(_call(_form([_get("a")], access_token="body"), query="access_token=query", path="/"))
    alone = _read(_call(_form([_get("a")], appsecret_proof="P"), path="/"))

    assert read.batch.operations[0].target == "/a?access_token=body"
    assert alone.batch.operations[0].target == "/a"


def test_method_headers_and_body_are_the_entrys() -> None:
    headers = [{"name": "X-A", "value": "b"}, {"name": "X-N", "value": 5}, {"name": "Accept-Encoding", "value": "gzip"},
               {"name": "Host", "value": "graph.facebook.com"}, {"name": "Connection", "value": "close"}]  # fmt: skip
    wire = {"method": "post", "relative_url": "a", "body": "n=\u00e9&b=%5B%5D", "headers": headers}
    own_type = [{"name": "content-type", "value": "application/json"}]

    post, typed, bare = _operations(
        wire, {**wire, "headers": own_type, "body": "{}"}, {"method": "DELETE", "relative_url": "a", "body": ""}
    )

    assert post == Operation(
        "0", "POST", "/v26.0/a", (("X-A", "b"), ("X-N", "5"), _TYPED), "n=\u00e9&b=%5B%5D".encode(), True
    )
    assert typed == Operation("1", "POST", "/v26.0/a", (("content-type", "application/json"),), b"{}", True)
    assert bare == Operation("2", "DELETE", "/v26.0/a")


@pytest.mark.parametrize(
    ("entry", "status", "words"),
    [
        (5, 400, "an entry is an object"),
        ({"relative_url": "a"}, 400, "method"),
        ({"method": "BREW", "relative_url": "a"}, 400, "method"),
        ({"method": "GET", "relative_url": 5}, 400, "relative_url is a string"),
        (_get("a", body="x=1"), 400, "body"),
        (_get("a", headers={}), 400, "headers is an array"),
        (_get("a", headers=["X-A: b"]), 400, "headers is an array"),
        (_get("a", headers=[{"name": "X-A"}]), 400, "headers is an array"),
        (_get("a", headers=[{"name": "X-A", "value": "$ops.0.response.status"}]), 400, "holds $ops."),
        (_get("a", headers=[{"name": "Via", "value": "x"}]), 400, "headers"),
        (_get("a/../b"), 400, "relative_url: dot-segment"),
        (_get("//host/a"), 400, "relative_url: empty-segment"),
        (_get("a#b"), 400, "relative_url"),
        (_get("https://evil.example/a"), 400, "another host"),
        (_get("a", depends_on="nobody"), 400, "names no entry"),
        (_get("a", depends_on=5), 400, "depends_on is the name"),
        (_get("a", depends_on=[5]), 400, "depends_on is the name"),
        (_get("{result=nobody:$.id}"), 400, "names no entry"),
        (_get("{result=first:id}"), 400, "names no entry"),
        (_get("{result=first:$.id}" * (REFERENCES_MAX + 1)), 400, "references"),
        (_get("a", attached_files="nobody"), 400, "names no part"),
        (_get("a", attached_files=5), 400, "attached_files is a string"),
        (_get("a", attached_files="f,f"), 400, "attached_files names a file twice"),
        (_get("a", attached_files="f", body="n&" * PARTS_MAX), 400, "parameters and files"),
        (_get("x" * (URL_MAX + 1)), 400, "relative_url has 16385 characters"),
        (_get("a", depends_on="first,first,first"), 400, "names no entry"),
        ({"method": "POST", "relative_url": "a", "body": "x" * 1001}, 413, "body"),
        ({"method": "POST", "relative_url": "a", "body": "a={result=first:$.id}", "attached_files": "f"}, 400, "files"),
        ({"method": "POST", "relative_url": "a", "body": '"$ops.0.response.status"',
          "headers": [{"name": "Content-Type", "value": "application/json"}]}, 400, "holds $ops."),
    ],
)  # fmt: skip
def test_an_entry_that_cannot_be_sent_is_answered_in_its_place_and_the_others_run(
    entry: Any, status: int, words: str
) -> None:
    read = _read(_call(_form([_get("a", name="first"), entry, _get("b")])))

    first, wrong, last = _shown(read)

    assert [operation.target for operation in read.batch.operations] == ["/v26.0/a", "/v26.0/b"]
    assert (first["code"], wrong["code"], last["code"]) == (200, status, 200)
    assert words in _message(wrong)


def test_a_number_that_no_float_holds_says_nothing_and_is_no_defect() -> None:
    body = b'batch=[{"method":"GET","relative_url":"a","x":1e400},{"method":1e400,"relative_url":"a"}]'

    shown = _shown(_read(_call(body)))

    assert [entry["code"] for entry in shown] == [200, 400]


def test_entries_that_wait_for_one_that_cannot_be_sent_are_told_so() -> None:
    entries = [_get("{result=b:$.id}", name="c"), _get("x", name="b", depends_on="a"), _get("a/../b", name="a"),
               _get("y")]  # fmt: skip

    shown = _shown(_read(_call(_form(entries))))

    assert [entry["code"] for entry in shown] == [424, 424, 400, 200]


@pytest.mark.parametrize("opened", ["{result=", "%7Bresult%3D"])
def test_results_that_are_never_closed_are_plain_text_and_cost_no_more_than_it(opened: str) -> None:
    url = f"a?{opened * 100}"

    assert [operation.target for operation in _operations(_get(url))] == [f"/v26.0/{url}"]
    assert (
        _shown(_read(_call(_form([{"method": "POST", "relative_url": "a", "body": opened * 200_000}]))))[0]["code"]
        == 413
    )


def test_no_error_shows_the_token() -> None:
    shown = _shown(
        _read(
            _call(
                _form([_get("a/../b"), _get("https://x/"), _get("a", depends_on="x"), 5]), query="access_token=SECRET"
            )
        )
    )

    assert b"SECRET" not in json.dumps(shown).encode()


@pytest.mark.parametrize("said", ["one", ["one"], "one,two", ["one", "two"], "two , one"])
def test_an_entry_waits_for_those_that_it_names(said: Any) -> None:
    operations = _operations(_get("a", name="one"), _get("b", name="two"), _get("c", depends_on=said))

    assert set(operations[2].depends_on) <= {"0", "1"}
    assert "0" in operations[2].depends_on


def test_a_result_becomes_a_reference_percent_encoded_or_not() -> None:
    written = "{result=get friends:$.data.*.id}"
    post = {"method": "POST", "relative_url": "a", "body": f"x=1&y={quote(written)}"}
    entries = [_get("me", name="get friends"), _get(f"?ids={written}"), _get(quote(written, safe="")), post]

    read = _read(_call(_form(entries)))

    reference = "{$ops.0.response.body$.data.*.id}"
    assert [each.target for each in read.batch.operations[1:3]] == [f"/v26.0/?ids={reference}", f"/v26.0/{reference}"]
    assert read.batch.operations[3].body == f"x=1&y={reference}".encode()
    assert read.batch.graph is not None
    assert read.batch.graph.parents == [[], [0], [0], [0]]


@pytest.mark.parametrize(
    ("named", "other", "is_shown"),
    [
        ({"name": "x"}, {"depends_on": "x"}, False),
        ({"name": "x", "omit_response_on_success": False}, {"depends_on": "x"}, True),
        ({"name": "x", "omit_response_on_success": "false"}, {"depends_on": "x"}, True),
        ({"name": "x"}, {}, True),
        ({"omit_response_on_success": True}, {}, False),
    ],
)
def test_a_success_that_others_use_is_left_out_unless_asked_for(named: Any, other: Any, is_shown: bool) -> None:
    shown = _shown(_read(_call(_form([_get("a", **named), _get("b", **other)]))))

    assert [entry is not None for entry in shown] == [is_shown, True]


@pytest.mark.parametrize(("said", "has"), [("false", False), ("0", False), ("true", True), ("", True)])
def test_headers_are_left_out_when_asked(said: str, has: bool) -> None:
    shown = _shown(_read(_call(_form([_get("a"), 5], include_headers=said))))

    assert ["headers" in entry for entry in shown] == [has, has]


def test_files_go_upstream_with_the_parameters_of_the_body() -> None:
    entries = [{"method": "POST", "relative_url": "a", "body": 'n%22=%C3%A9+x', "attached_files": "f, g"},
               {"method": "POST", "relative_url": "b", "attached_files": "f"}]  # fmt: skip
    call = _multipart(
        ("name=batch", json.dumps(entries).encode()),
        ('name="f"; filename="i.png"', b"\x89PNG\r\n"),
        ('name="g"; filename=""', b"2"),
    )

    first, second = _read(call).batch.operations

    name, media_type = first.fields[0]
    boundary = media_type.partition("boundary=")[2].encode()
    assert name == "Content-Type"
    assert first.body == (
        b'--%b\r\nContent-Disposition: form-data; name="n%%22"\r\n\r\n\xc3\xa9 x\r\n'
        b'--%b\r\nContent-Disposition: form-data; name="f"; filename="i.png"\r\n\r\n\x89PNG\r\n\r\n'
        b'--%b\r\nContent-Disposition: form-data; name="g"; filename=""\r\n\r\n2\r\n--%b--\r\n'
    ) % ((boundary,) * 4)  # fmt: skip
    assert second.body.count(b"\x89PNG") == 1


def test_files_that_many_entries_send_are_bounded() -> None:
    entries = [{"method": "POST", "relative_url": "a", "attached_files": "f"}] * (GROWTH_MAX + 2)
    call = _multipart(("name=batch", json.dumps(entries).encode()), ("name=f; filename=f", b"x" * 200_000))

    with pytest.raises(EnvelopeError) as refused:
        _FACEBOOK.parse(call)

    assert refused.value.status == 413


def test_a_refusal_is_told_in_facebooks_words() -> None:
    with pytest.raises(EnvelopeError) as refused:
        _FACEBOOK.parse(_call(_form([_get("a")] * 121)))

    page = _FACEBOOK.refusal(refused.value, "r-1")

    assert (page.status, json.loads(page.body)["error"]["code"]) == (400, -3)


_TEXTS = st.text(st.characters(exclude_categories=["Cs"]))
_ENTRIES = st.lists(
    st.fixed_dictionaries(
        {
            "method": st.sampled_from(["GET", "POST", "DELETE"]),
            "relative_url": st.from_regex(r"[a-z0-9_/?=&%.]*", fullmatch=True),
        },
        optional={
            "name": st.sampled_from("abc"),
            "depends_on": st.sampled_from("abcd") | _TEXTS,
            "body": _TEXTS | st.just("x={result=a:$.id}") | st.none(),
            "headers": st.lists(st.fixed_dictionaries({"name": st.text("ab-"), "value": _TEXTS | st.integers()})),
            "attached_files": _TEXTS,
            "omit_response_on_success": st.booleans() | st.none(),
        },
    )
    | st.none(),
    min_size=1,
    max_size=6,
)


@given(_ENTRIES)
def test_every_entry_has_one_answer_in_its_place_and_means_the_same_however_it_was_written(entries: list[Any]) -> None:
    text = json.dumps(entries).encode()
    try:
        read = _read(_call(_form(entries)))
    except EnvelopeError:
        return

    assert _read(_call(b'{"batch":%b}' % text, "application/json")) == read
    assert _read(_multipart(("name=batch", text))) == read
    assert [int(each.id) for each in read.batch.operations] == sorted({int(each.id) for each in read.batch.operations})
    assert len(_shown(read)) == len(entries)


@given(
    st.binary() | st.binary().map(lambda data: b"batch=" + data),
    st.sampled_from([_FORM, "application/json", "multipart/form-data; boundary=b"]),
    st.text(),
)
def test_no_bytes_raise_anything_but_the_dialects_error(body: bytes, content_type: str, query: str) -> None:
    for call in (
        _call(body, content_type, query),
        _call(b'{"batch":%b}' % body, content_type),
        _call(body, query=f"batch={query}"),
    ):
        try:
            read = _FACEBOOK.parse(call)
        except EnvelopeError:
            continue
        assert read is None or len(_shown(read)) >= 1


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | _TEXTS,
        lambda inner: (
            st.lists(inner)
            | st.dictionaries(
                st.sampled_from(
                    [
                        "method",
                        "relative_url",
                        "body",
                        "headers",
                        "name",
                        "value",
                        "depends_on",
                        "attached_files",
                        "batch",
                    ]
                ),
                inner,
            )
        ),
    )
)
def test_no_json_raises_anything_but_the_dialects_error(document: Any) -> None:
    for body in (_form([document]), _form(document)):
        try:
            read = _FACEBOOK.parse(_call(body))
        except EnvelopeError:
            continue
        assert read is not None


_USED = _get("a", name="x")
_USING = {"method": "POST", "relative_url": "{result=x:$.a[*]}", "body": "a=1"}
_WHOLE = _multipart(
    ("name=batch", json.dumps([_USED, {**_USING, "attached_files": "f"}]).encode()),
    ("name=f; filename=g", b"content"),
    ("name=access_token", b"T"),
).body


@given(spoiled(_WHOLE) | spoiled(_form([_USED, _USING], access_token="T")))
def test_a_spoiled_envelope_raises_nothing_but_the_dialects_error(data: bytes) -> None:
    for content_type in ("multipart/form-data; boundary=b", _FORM):
        try:
            read = _FACEBOOK.parse(_call(data, content_type))
        except EnvelopeError:
            continue
        assert read is None or len(_shown(read)) >= 1
