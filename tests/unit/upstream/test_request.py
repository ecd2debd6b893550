"""The bytes of an operation's request, read back by a strict parser."""

import re
from itertools import product

import httptools
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.batch.model import METHODS, Fields, Operation
from gateway.upstream.headers import RawFields
from gateway.upstream.request import Inherited, RequestWriter
from tests.strategies import LAW, ids, paths

_SEED = bytes(range(24))
_TRACE = "0af7651916cd43dd8448eb211c80319c"


class _Read:
    """A request as llhttp understood it; a second one is an error."""

    def __init__(self, data: bytes) -> None:
        self.target = self.body = b""
        self.fields: list[tuple[str, str]] = []
        self.ends = 0
        parser = httptools.HttpRequestParser(self)
        parser.feed_data(data)
        self.method = parser.get_method().decode()

    def on_url(self, url: bytes) -> None:
        self.target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.fields.append((name.decode().lower(), value.decode("latin-1")))

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        self.ends += 1

    def values(self, name: str) -> list[str]:
        return [value for each, value in self.fields if each == name]


def _read(operation: Operation, *fields: tuple[bytes, bytes], index: int = 0, vouched: RawFields = ()) -> _Read:
    writer = RequestWriter(Inherited([(b"Host", b"h"), *fields], vouched), "batch1", _SEED)
    return _Read(writer.write(operation, index))


_own = st.lists(
    st.tuples(st.sampled_from(["X-A", "accept", "Traceparent", "x-request-id"]), st.sampled_from(["", "v"])), max_size=3
)
_outer = st.lists(
    st.sampled_from([(b"Accept", b"*/*"), (b"X-A", b"outer"), (b"Cookie", b"a=b"), (b"Via", b"x")]), max_size=4
)
_operations = st.builds(
    Operation, ids, st.sampled_from(METHODS), paths, _own.map(tuple), st.binary(min_size=1, max_size=20), st.just(True)
)


@LAW
@given(_operations, _outer, st.integers(0, 2**64))
def test_a_request_is_one_message_with_the_operations_method_target_and_body(
    operation: Operation, outer: list[tuple[bytes, bytes]], index: int
) -> None:
    read = _read(operation, *outer, index=index, vouched=[(b"Via", b"1.1 batch-gateway")])

    assert (read.method, read.target.decode(), read.body) == (operation.method, operation.target, operation.body)
    assert read.ends == 1
    assert read.values("host") == ["h"]
    assert read.values("via") == ["1.1 batch-gateway"]


@LAW
@given(_operations, _outer)
def test_an_operations_own_field_replaces_the_inherited_one(
    operation: Operation, outer: list[tuple[bytes, bytes]]
) -> None:
    read = _read(operation, *outer)

    for name in {name.lower() for name, _ in operation.fields}:
        assert read.values(name) == [value for each, value in operation.fields if each.lower() == name]


@pytest.mark.parametrize(
    ("method", "body", "length"),
    [("GET", None, []), ("HEAD", None, []), ("DELETE", None, []), ("OPTIONS", None, []), ("POST", None, ["0"]),
        ("PUT", None, ["0"]),
     ("PATCH", None, ["0"]), ("POST", b"abc", ["3"]), ("DELETE", b"abc", ["3"]), ("POST", b"", ["0"]),
     ("OPTIONS", b"", ["0"])],
)  # fmt: skip
def test_a_length_is_sent_where_a_body_is_or_is_expected(method: str, body: bytes | None, length: list[str]) -> None:
    read = _read(Operation("a", method, "/", (), body or b"", body is not None))

    assert read.values("content-length") == length


@pytest.mark.parametrize(
    ("said", "trace", "flags"),
    [
        (f"00-{_TRACE}-b7ad6b7169203331-01", _TRACE, "01"),
        (f" 00-{_TRACE}-b7ad6b7169203331-00 ", _TRACE, "00"),
        (f"cc-{_TRACE}-b7ad6b7169203331-01-more", _TRACE, "01"),
        (f"ff-{_TRACE}-b7ad6b7169203331-01", None, "00"),
        (f"00-{_TRACE.upper()}-b7ad6b7169203331-01", None, "00"),
        (f"00-{'0' * 32}-b7ad6b7169203331-01", None, "00"),
        (f"00-{_TRACE}-{'0' * 16}-01", None, "00"),
        (f"00-{_TRACE}-b7ad6b7169203331", None, "00"),
        ("", None, "00"),
        (None, None, "00"),
    ],
)
def test_the_outer_trace_goes_on_or_a_new_one_begins_unsampled(said: str | None, trace: str | None, flags: str) -> None:
    outer = [] if said is None else [(b"TraceParent", said.encode())]

    (value,) = _read(Operation("a", "GET", "/"), *outer).values("traceparent")

    assert re.fullmatch(rf"00-{trace or _SEED[:16].hex()}-(?!0{{16}})[0-9a-f]{{16}}-{flags}", value)


def test_two_traces_are_none() -> None:
    said = f"00-{_TRACE}-b7ad6b7169203331-01".encode()

    (value,) = _read(Operation("a", "GET", "/"), (b"traceparent", said), (b"traceparent", said)).values("traceparent")

    assert _TRACE not in value


def test_each_operation_has_a_span_of_its_own_and_none_is_zero() -> None:
    writer = RequestWriter(Inherited([], []), "b", b"\x00" * 16 + b"\xff" * 8)

    spans = [
        _Read(writer.write(Operation("a", "GET", "/"), index)).values("traceparent")[0][36:52] for index in range(3)
    ]

    assert spans[:2] == ["f" * 16, "0" * 15 + "1"]
    assert "0" * 16 not in spans


def test_each_operation_has_a_request_id_that_names_batch_and_operation() -> None:
    assert _read(Operation("op-1", "GET", "/"), (b"X-Request-Id", b"outer")).values("x-request-id") == ["batch1.op-1"]


@pytest.mark.parametrize("name", ["traceparent", "X-Request-Id"])
def test_an_operation_may_bring_its_own_trace_or_request_id(name: str) -> None:
    assert _read(Operation("a", "GET", "/", ((name, "own"),))).values(name.lower()) == ["own"]


def test_what_one_operation_brought_is_not_the_next_ones() -> None:
    brought = [(), (("X-A", "1"),), (("Accept", "own"),), (("X-A", "1"),), ()]
    writer = RequestWriter(Inherited([(b"Host", b"h"), (b"Accept", b"outer")], ()), "b", _SEED)

    for index, (fields, key) in enumerate([*product(brought, [""]), *product(brought, ['"k"', "l"])]):
        read = _Read(writer.write(Operation("a", "GET", "/", fields, key=key), index))

        assert read.values("x-a") == [value for name, value in fields if name == "X-A"]
        assert read.values("accept") == [next((value for name, value in fields if name == "Accept"), "outer")]
        assert read.values("idempotency-key") == ([key] if key else [])


def test_fields_of_other_names_leave_the_inherited_ones_alone() -> None:
    own: Fields = (("X-B", "1"), ("X-B", "2"))

    read = _read(Operation("a", "GET", "/", own), (b"X-A", b"outer"), (b"X-Caf", b"\xe9"))

    assert (read.values("x-a"), read.values("x-b"), read.values("x-caf")) == (["outer"], ["1", "2"], ["\u00e9"])


def test_what_the_gateway_vouches_for_is_sent_with_each_operation() -> None:
    vouched = [(b"X-Forwarded-For", b"10.0.0.1"), (b"Via", b"1.1 g")]

    read = _read(
        Operation("a", "GET", "/"), (b"X-Forwarded-For", b"spoofed"), (b"Forwarded", b"for=x"), vouched=vouched
    )

    assert (read.values("x-forwarded-for"), read.values("via"), read.values("forwarded")) == (
        ["10.0.0.1"],
        ["1.1 g"],
        [],
    )
