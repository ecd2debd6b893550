"""Google's envelopes into batches: every call in its place, references and other hosts nowhere."""

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.batch.model import Batch, Operation, Outcome
from gateway.batch.validation import Rules
from gateway.dialects.google import Google
from gateway.dialects.port import Call, EnvelopeError
from gateway.errors import GatewayError
from gateway.upstream.headers import refusals_in_operation
from tests.strategies import LAW, spoiled

_RULES = Rules(("/batch",), 1000, lambda fields: refusals_in_operation(fields, credentials=frozenset()))
_GOOGLE = Google(path="/batch", operations_max=200, origins=["https://www.googleapis.com"], rules=_RULES)
_TYPE = "multipart/mixed; boundary=b"


def _call(body: bytes, query: str = "") -> Call:
    return Call("POST", "/batch/x/v1", query, _TYPE, body, "Gateway.example:8207")


def _envelope(*contents: str, head: str = "Content-Type: application/http\n") -> bytes:
    parts = "".join(f"--b\n{head}\n{content}\n" for content in contents)
    return f"{parts}--b--\n".encode()


def _operations(*contents: str, query: str = "") -> list[Operation]:
    return list(_GOOGLE.parse(_call(_envelope(*contents), query)).batch.operations)


def _answered(*contents: str) -> str:
    """What became of an envelope of which nothing can be sent."""
    read = _GOOGLE.parse(_call(_envelope(*contents)))
    assert read.batch.operations == []
    return _GOOGLE.answer(read, []).body.decode()


@pytest.mark.parametrize(
    ("method", "path", "content_type", "reads"),
    [
        ("POST", "/batch", _TYPE, True),
        ("POST", "/batch/drive/v3", "Multipart/Mixed;boundary=x", True),
        ("POST", "/batch", "multipart/mixed", True),
        ("POST", "/batches", _TYPE, False),
        ("GET", "/batch", _TYPE, False),
        ("POST", "/batch", "application/json", False),
        ("POST", "/batch", "multipart/form-data; boundary=b", False),
        ("POST", "/", _TYPE, False),
    ],
)
def test_an_envelope_is_known_by_its_method_path_and_type(
    method: str, path: str, content_type: str, reads: bool
) -> None:
    assert _GOOGLE.reads(Call(method, path, "", content_type, b"")) is reads


def test_calls_become_operations_in_their_order() -> None:
    get, put = _operations("GET /a?x=1 HTTP/1.1\nAuthorization: own\n", "PUT /b HTTP/1.1\nContent-Type: a/b\n\nbody")

    assert get == Operation("0", "GET", "/a?x=1", (("Authorization", "own"),))
    assert put == Operation("1", "PUT", "/b", (("Content-Type", "a/b"),), b"body", True)


@pytest.mark.parametrize(
    ("target", "query", "sent"),
    [
        ("/a", "key=k&alt=json", "/a?key=k&alt=json"),
        ("/a?alt=media", "key=k&alt=json", "/a?alt=media&key=k"),
        ("/a?k%65y=own", "key=k", "/a?k%65y=own"),
        ("/a?", "key=k", "/a?key=k"),
        ("/a", "&&", "/a"),
    ],
)
def test_parameters_of_the_envelope_apply_where_a_call_has_none_of_its_own(target: str, query: str, sent: str) -> None:
    assert [operation.target for operation in _operations(f"GET {target} HTTP/1.1\n", query=query)] == [sent]


@pytest.mark.parametrize(
    ("target", "sent"),
    [
        ("https://www.googleapis.com/a?b=c", "/a?b=c"),
        ("HTTPS://WWW.googleapis.com", "/"),
        ("http://gateway.example:8207/a", "/a"),
        ("https://GATEWAY.example:8207?b=c", "/?b=c"),
    ],
)
def test_a_whole_url_of_this_gateway_or_the_vendor_is_its_path(target: str, sent: str) -> None:
    assert [operation.target for operation in _operations(f"GET {target} HTTP/1.1\n")] == [sent]


@pytest.mark.parametrize(
    "target",
    ["http://evil.example/a", "https://www.googleapis.com:444/a", "https://a@www.googleapis.com/a", "a", "*",
     "http://www.googleapis.com/a", "$ops.0.response.body#/x", "/a?b={$ops.0.response.body#/x}"],
)  # fmt: skip
def test_another_host_a_relative_path_and_a_reference_are_refused_in_their_place(target: str) -> None:
    assert "HTTP/1.1 400 Bad Request\r\n" in _answered(f"GET {target} HTTP/1.1\n")


@pytest.mark.parametrize(
    ("content", "status"),
    [
        ("GET /a/../b HTTP/1.1\n", 400),
        ("GET /batch HTTP/1.1\n", 400),
        ("POST /batch/x/v1 HTTP/1.1\n", 400),
        ("BREW /pot HTTP/1.1\n", 400),
        ("GET /a HTTP/1.1\n\nbody", 400),
        ("GET /a HTTP/1.1\nX_Y: underscore\n", 400),
        ("GET /a HTTP/1.1\nX-Y: \x01\n", 400),
        ("no request", 400),
        ("POST /a HTTP/1.1\n\n" + "x" * 1001, 413),
    ],
)
def test_a_call_that_cannot_be_sent_is_answered_in_its_place_and_the_others_run(content: str, status: int) -> None:
    read = _GOOGLE.parse(_call(_envelope("GET /first HTTP/1.1\n", content, "GET /last HTTP/1.1\n")))

    page = _GOOGLE.answer(read, [Outcome(0, 201), Outcome(1, 202)])

    assert [operation.target for operation in read.batch.operations] == ["/first", "/last"]
    positions = [page.body.decode().index(f"HTTP/1.1 {code} ") for code in (201, status, 202)]
    assert positions == sorted(positions)


def test_parts_of_other_kinds_are_no_calls_and_a_type_may_be_left_out() -> None:
    body = _envelope("GET /a HTTP/1.1\n", head="X: y\n")[:-6] + _envelope("text", head="Content-Type: text/plain\n")

    assert [operation.target for operation in _GOOGLE.parse(_call(body)).batch.operations] == ["/a"]


def test_a_kind_may_have_parameters_and_capitals() -> None:
    body = _envelope("GET /a HTTP/1.1\n", head="content-type: Application/HTTP; msgtype=request\n")

    assert len(_GOOGLE.parse(_call(body)).batch.operations) == 1


def test_parameters_for_every_call_are_few() -> None:
    with pytest.raises(EnvelopeError, match="parameters"):
        _operations("GET /a HTTP/1.1\n", query="&".join(f"p{number}=1" for number in range(101)))


@pytest.mark.parametrize(
    ("body", "slug"),
    [
        (b"", "invalid-envelope"),
        (b"--b--", "invalid-envelope"),
        (_envelope("text", head="Content-Type: text/plain\n"), "invalid-envelope"),
        (_envelope("GET /a HTTP/1.1\n", head="no field\n"), "invalid-envelope"),
        (_envelope("GET /a HTTP/1.1\n", head="Content-ID: <\x01>\n"), "invalid-envelope"),
        (b"--b\nContent-ID: <\xff>\n\nGET /a HTTP/1.1\n\n--b--", "invalid-envelope"),
        (_envelope(*["GET a HTTP/1.1\n"] * 201), "too-many-operations"),
        (_envelope(*["text"] * 201, head="Content-Type: text/plain\n"), "too-many-operations"),
        (_envelope(*["GET /a//b HTTP/1.1\n"] * 101), "invalid-envelope"),
    ],
)
def test_an_envelope_that_cannot_be_answered_part_by_part_is_refused(body: bytes, slug: str) -> None:
    with pytest.raises(EnvelopeError) as caught:
        _GOOGLE.parse(_call(body))

    assert caught.value.problem.slug == slug


def test_a_content_id_comes_back_with_response_before_it() -> None:
    head = "Content-Type: application/http\nContent-ID: <0b + a%20very%20long%20id +\n folded>\n"

    page = _GOOGLE.answer(_GOOGLE.parse(_call(_envelope("GET /a HTTP/1.1\n", head=head))), [Outcome(0, 200)])

    assert b"\r\nContent-ID: <response-0b + a%20very%20long%20id + folded>\r\n" in page.body


def test_a_refusal_is_google_s() -> None:
    assert _GOOGLE.refusal(GatewayError("rate-limited"), "id").status == 429


_WORD = st.text(string.ascii_letters + string.digits, min_size=1, max_size=8)
_METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")


@st.composite
def _any_operation(draw: st.DrawFn) -> tuple[str, str, tuple[tuple[str, str], ...], bytes]:
    method = draw(st.sampled_from(_METHODS))
    target = "/" + "/".join(draw(st.lists(_WORD, max_size=3))) + draw(st.sampled_from(["", "?a=b&c=%20"]))
    fields = tuple((f"X-{name}", value) for name, value in draw(st.lists(st.tuples(_WORD, _WORD), max_size=3)))
    body = draw(st.binary(max_size=40)) if method != "GET" else b""
    return method, target, fields, body


def _written(operations: list[tuple[str, str, tuple[tuple[str, str], ...], bytes]], line_end: str) -> bytes:
    parts = []
    for method, target, fields, body in operations:
        lines = ["--b", "Content-Type: application/http", "", f"{method} {target} HTTP/1.1"]
        lines += [f"{name}: {value}" for name, value in fields]
        lines += [f"Content-Length: {len(body)}", "", ""]
        parts.append(line_end.join(lines).encode() + body + line_end.encode())
    return b"".join(parts) + b"--b--" + line_end.encode()


@LAW
@given(st.lists(_any_operation(), min_size=1, max_size=5), st.sampled_from(["\n", "\r\n"]))
def test_a_batch_comes_back_as_it_was_written(
    operations: list[tuple[str, str, tuple[tuple[str, str], ...], bytes]], line_end: str
) -> None:
    if any(b"--b" in body for *_, body in operations):
        return  # a writer takes another boundary

    batch = _GOOGLE.parse(_call(_written(operations, line_end))).batch

    assert batch == Batch(
        [
            Operation(str(index), method, target, fields, body, bool(body))
            for index, (method, target, fields, body) in enumerate(operations)
        ],
        pointer="",
    )


_GOOD = _envelope("GET /a HTTP/1.1\nA: b\n", "PUT /b?c=d HTTP/1.1\nContent-Length: 4\n\nbody")


@LAW
@given(spoiled(_GOOD) | st.binary(max_size=200))
def test_any_bytes_are_a_batch_or_an_envelope_error(body: bytes) -> None:
    try:
        read = _GOOGLE.parse(_call(body))
    except EnvelopeError:
        return

    page = _GOOGLE.answer(read, [Outcome(index, 200) for index, _ in enumerate(read.batch.operations)])
    page.body.decode("utf-8")
