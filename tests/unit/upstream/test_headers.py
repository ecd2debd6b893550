"""Which fields travel, as tables: what a caller says, what an upstream says, what the gateway vouches for."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.upstream import headers
from gateway.upstream.headers import (
    CREDENTIALS,
    HOP_BY_HOP,
    VOUCHED,
    Names,
    RawFields,
    announced_idle_s,
    bytes_of,
    canonical,
    connection_options,
    end_to_end,
    ends_with_close,
    forwarded,
    inherited,
    is_event_stream,
    is_head,
    refusals_in_operation,
    rendered,
    requested,
    retry_after_s,
    trailing,
    via_of,
    vouched,
)
from tests.strategies import LAW

_HOP = [name.decode() for name in sorted(HOP_BY_HOP)]
_VOUCHED = [name.decode() for name in sorted(VOUCHED)]


def _cases(name: str) -> list[str]:
    return [name, name.upper(), name.title()]


def _refusal(*fields: tuple[str, str], credentials: frozenset[bytes] = CREDENTIALS) -> str | None:
    found = refusals_in_operation(fields, credentials=credentials)
    return found[0][0] if found else None


@pytest.mark.parametrize(
    ("name", "spelled"),
    [
        ("content-type", "Content-Type"),
        ("CONTENT-TYPE", "Content-Type"),
        ("etag", "ETag"),
        ("www-authenticate", "WWW-Authenticate"),
        ("x-request-id", "X-Request-Id"),
        ("x--a", "X--A"),
        ("DNT", "DNT"),
    ],
)
def test_a_name_is_spelled_in_https_usual_capitals(name: str, spelled: str) -> None:
    assert canonical(name) == spelled


def test_names_are_remembered_and_hop_by_hop_ones_have_no_spelling() -> None:
    names = Names()

    assert [names[b"etag"], names[b"etag"], names[b"Connection"], names[b"TE"]] == ["ETag", "ETag", None, None]


def test_remembered_names_are_bounded() -> None:
    names = Names()

    for number in range(3 * Names.NAMES_MAX):
        assert names[b"x-%d" % number] == f"X-{number}"

    assert len(names) <= Names.NAMES_MAX


# An upstream's answer.


@pytest.mark.parametrize("name", [each for hop in _HOP for each in _cases(hop)])
def test_a_hop_by_hop_field_of_an_answer_is_not_shown(name: str) -> None:
    assert end_to_end([(name.encode(), b"x"), (b"X-A", b"b")], Names()) == {"X-A": "b"}


def test_a_field_that_connection_names_is_not_shown() -> None:
    fields = [(b"connection", b"close, X-Secret"), (b"x-secret", b"1"), (b"x-a", b"2")]

    assert end_to_end(fields, Names()) == {"X-A": "2"}


@pytest.mark.parametrize("value", [b"close", b"keep-alive", b"Keep-Alive", b""])
def test_a_connection_without_names_hides_nothing(value: bytes) -> None:
    assert end_to_end([(b"Connection", value), (b"close", b"1")], Names()) in ({"Close": "1"}, {})
    assert end_to_end([(b"Connection", value), (b"X-A", b"1")], Names()) == {"X-A": "1"}


def test_repeated_fields_are_a_list_in_order() -> None:
    fields = [(b"set-cookie", b"a"), (b"X-A", b"1"), (b"Set-Cookie", b"b"), (b"SET-COOKIE", b"c")]

    assert end_to_end(fields, Names()) == {"Set-Cookie": ["a", "b", "c"], "X-A": "1"}


def test_values_are_read_as_latin_1() -> None:
    assert end_to_end([(b"x-a", b"caf\xe9")], Names()) == {"X-A": "caf\u00e9"}


def test_the_bytes_of_a_head_are_those_of_names_and_values() -> None:
    assert bytes_of([(b"Host", b"a"), (b"X", b"")]) == 6


@pytest.mark.parametrize("code", [*range(9), *range(10, 32), 127])
def test_a_reason_with_a_control_character_makes_no_head(code: int) -> None:
    assert not is_head(200, "1.1", bytes([97, code, 98]), [])


@pytest.mark.parametrize("reason", [b"", b"a\tb", b" ", b"~", b"\x80\xff"])
def test_a_reason_of_visible_text_makes_a_head(reason: bytes) -> None:
    assert is_head(200, "1.0", reason, [(b"Transfer-Encoding", b"chunked")])


@pytest.mark.parametrize(
    ("status", "version", "fields"),
    [
        (99, "1.1", []),
        (600, "1.1", []),
        (200, "2.0", []),
        (200, "1.1", [(b"a", b"b")] * 257),
        (200, "1.1", [(b"transfer-encoding", b"gzip, chunked")]),
    ],
)
def test_what_is_no_answer_makes_no_head(status: int, version: str, fields: list[tuple[bytes, bytes]]) -> None:
    assert not is_head(status, version, b"OK", fields)


@pytest.mark.parametrize(
    ("fields", "ends"),
    [([], True), ([(b"Content-Length", b"1")], False), ([(b"transfer-encoding", b"chunked")], False)],
)
def test_without_a_length_or_chunks_the_close_ends_an_answer(fields: list[tuple[bytes, bytes]], ends: bool) -> None:
    assert ends_with_close(fields) is ends


@pytest.mark.parametrize(
    ("fields", "idle_s"),
    [
        ([], None),
        ([(b"Keep-Alive", b"timeout=5, max=100")], 5.0),
        ([(b"x", b"timeout=1"), (b"keep-alive", b"max=1, timeout=75")], 75.0),
        ([(b"Keep-Alive", b"max=1")], None),
        ([(b"Keep-Alive", b"timeout=x")], None),
    ],
)
def test_an_upstream_may_announce_how_long_it_keeps_a_connection(fields: RawFields, idle_s: float | None) -> None:
    assert announced_idle_s(fields) == idle_s


# A forwarded message.


@pytest.mark.parametrize("name", [each for hop in _HOP for each in _cases(hop)])
def test_a_hop_by_hop_field_is_not_forwarded(name: str) -> None:
    assert forwarded([(b"A", b"1"), (name.encode(), b"x"), (b"a", b"2")]) == [(b"A", b"1"), (b"a", b"2")]


def test_order_case_and_duplicates_are_forwarded() -> None:
    fields = [(b"X-b", b"1"), (b"x-A", b""), (b"X-B", b"1"), (b"Host", b"h")]

    assert forwarded(fields) == fields


def test_a_field_that_connection_names_is_not_forwarded() -> None:
    assert forwarded([(b"Connection", b"X-Hop , close"), (b"x-hop", b"1"), (b"X-A", b"2")]) == [(b"X-A", b"2")]


def test_named_hop_by_hop_fields_are_kept_where_asked() -> None:
    fields = [(b"Connection", b"upgrade"), (b"Upgrade", b"websocket")]

    assert forwarded(fields, keep=frozenset({b"upgrade"})) == [(b"Upgrade", b"websocket")]


@pytest.mark.parametrize("name", ["authorization", "cookie", "host", "content-length", "x-user"])
def test_a_callers_connection_cannot_strip_an_end_to_end_field(name: str) -> None:
    assert requested([(b"Connection", name.title().encode()), (name.encode(), b"v")]) == [(name.encode(), b"v")]


@pytest.mark.parametrize("name", [*_HOP, *_VOUCHED, "X_Forwarded_For", "x_forwarded-host", "Via"])
def test_a_caller_cannot_bring_what_is_hop_by_hop_or_vouched_for(name: str) -> None:
    assert requested([(name.encode(), b"v"), (b"X-A", b"1")]) == [(b"X-A", b"1")]


@pytest.mark.parametrize("name", ["Content_Length", "host_", "HOST_NAME", "X_Forwarded_User", "Transfer_Encoding"])
def test_an_underscore_cannot_stand_in_for_the_hyphen_of_a_field_that_matters(name: str) -> None:
    passes = name in ("host_", "HOST_NAME")  # nobody reads these as Host

    assert bool(requested([(name.encode(), b"50")])) is passes
    assert bool(inherited([(name.encode(), b"50")])) is passes


def test_an_idempotency_key_may_stand_among_the_headers() -> None:
    assert not refusals_in_operation([("Idempotency-Key", "k-1")])


def test_one_operation_cannot_name_two_content_types() -> None:
    fields = [("Content-Type", "text/a"), ("content-type", "text/b")]

    assert refusals_in_operation(fields)


def test_all_that_is_wrong_with_an_operations_fields_is_told_and_no_name_is_echoed_at_length() -> None:
    fields = [("Host", "x"), ("X-A", "fine"), ("Authorization", "y"), ("X_B", "z"), ("X-" + "a" * 500, "\n")]

    found = refusals_in_operation(fields)

    assert [code for code, _ in found] == ["header-not-allowed", "per-op-credentials"] + ["header-not-allowed"] * 2
    assert all(len(detail) < 150 for _, detail in found)


def test_a_callers_upgrade_is_kept_where_asked() -> None:
    assert requested([(b"Upgrade", b"websocket")], keep=frozenset({b"upgrade"})) == [(b"Upgrade", b"websocket")]


def test_connection_options_of_all_its_fields_count() -> None:
    fields = [(b"connection", b"close, X-A"), (b"x", b"y"), (b"Connection", b",upgrade ,")]

    assert connection_options(fields) == {b"close", b"x-a", b"upgrade"}


@LAW
@given(
    st.lists(
        st.tuples(
            st.sampled_from([*_HOP, *_VOUCHED, "x-a", "authorization", "Host", "close"]).map(str.encode),
            st.sampled_from([b"", b"x-a", b"close, X-A", b"Authorization", b"Via, Host", b"te"]),
        ),
        max_size=6,
    )
)
def test_nothing_hop_by_hop_is_ever_forwarded_and_nothing_is_invented(fields: list[tuple[bytes, bytes]]) -> None:
    kept = forwarded(fields)

    assert not {name.lower() for name, _ in kept} & HOP_BY_HOP
    assert [field for field in fields if field in kept] == kept


# What an operation inherits.


@pytest.mark.parametrize(
    "name",
    [
        *_HOP, *_VOUCHED, "content-type", "content-length", "content-encoding", "content-anything", "expect", "prefer",
        "idempotency-key", "accept-encoding", "x-request-id", "traceparent",
    ],
)  # fmt: skip
def test_an_operation_does_not_inherit_what_is_about_the_envelope_or_vouched_for(name: str) -> None:
    assert all(inherited([(each.encode(), b"x")]) == [] for each in _cases(name))


@pytest.mark.parametrize(
    "name",
    [
        "authorization",
        "cookie",
        "accept",
        "accept-language",
        "x-a",
        "x_a",
        "tracestate",
        "user-agent",
        "x-forwarded-user",
    ],
)
def test_an_operation_inherits_end_to_end_fields(name: str) -> None:
    assert inherited([(name.encode(), b"x")]) == [(name.encode(), b"x")]


def test_an_operation_inherits_in_order_with_host_first() -> None:
    fields = [(b"b", b"1"), (b"a", b"2"), (b"HOST", b"h"), (b"b", b"3")]

    assert inherited(fields) == [(b"HOST", b"h"), (b"b", b"1"), (b"a", b"2"), (b"b", b"3")]


# What an operation may say itself.


@pytest.mark.parametrize(
    "name",
    [*_HOP, *_VOUCHED, "host", "content-length", "expect", "x-forwarded-port", "x-forwarded-prefix", "x-forwarded-"],
)
def test_an_operation_cannot_set_what_the_gateway_vouches_for_or_frames(name: str) -> None:
    assert {_refusal((each, "x")) for each in _cases(name)} == {"header-not-allowed"}


@pytest.mark.parametrize(
    "name",
    [
        "",
        "a b",
        "a:",
        "a\r\nb",
        "a\n",
        "a\x00",
        "x_forwarded_for",
        "X_A",
        "\u00e9",
        "a\u00ad",
        "(a)",
        "a/b",
        'a"b',
        "[a]",
        "\ud800",
    ],
)
def test_an_operation_cannot_use_a_name_that_readers_understand_differently(name: str) -> None:
    assert _refusal((name, "x")) == "header-not-allowed"


def test_a_field_that_has_no_name_is_told_by_what_was_written() -> None:
    ((_, detail),) = refusals_in_operation([("Bad Name", "x")], credentials=CREDENTIALS)

    assert detail.startswith('"Bad Name"')


@pytest.mark.parametrize("code", [*range(9), *range(10, 32), 127, 128, 0xE9, 0x2028, 0xD800])
def test_an_operation_cannot_use_a_value_that_is_not_visible_ascii(code: int) -> None:
    assert _refusal(("X-A", f"a{chr(code)}b")) == "header-not-allowed"


@pytest.mark.parametrize("value", ["", "a", "a\tb", " a ", '"~!@#$%^&*()'])
def test_an_operation_may_use_visible_ascii_values(value: str) -> None:
    assert _refusal(("X-A", value)) is None


@pytest.mark.parametrize("name", ["authorization", "cookie"])
def test_credentials_of_an_operations_own_are_refused_unless_allowed(name: str) -> None:
    assert {_refusal((each, "x")) for each in _cases(name)} == {"per-op-credentials"}
    assert {_refusal((each, "x"), credentials=frozenset()) for each in _cases(name)} == {None}


def test_what_else_says_who_the_caller_is_belongs_on_the_batch_too() -> None:
    assert _refusal(("X-TENANT", "x"), credentials=frozenset({b"x-tenant"})) == "per-op-credentials"


def test_an_operation_may_carry_exactly_64_fields() -> None:
    fields = [("X-A", "b")] * headers.OPERATION_FIELDS_MAX

    assert _refusal(*fields) is None
    assert _refusal(*fields, ("X-A", "b")) == "header-not-allowed"


def test_an_operation_may_carry_exactly_16_kib_of_fields() -> None:
    value = "b" * (headers.OPERATION_FIELDS_BYTES_MAX - 3)

    assert _refusal(("X-A", value)) is None
    assert _refusal(("X-A", value + "b")) == "header-not-allowed"


@LAW
@given(st.text(max_size=5), st.text(max_size=5))
def test_a_field_that_is_taken_makes_exactly_one_line(name: str, value: str) -> None:
    if _refusal((name, value), credentials=frozenset()) is not None:
        return

    line = rendered([(name.encode("ascii"), value.encode("ascii"))])

    assert line.count(b"\r") == line.count(b"\n") == 1
    assert line.split(b": ", 1)[0] == name.encode()


# What the upstream asks for.


@pytest.mark.parametrize(
    ("value", "expected_s"),
    [
        (b"0", 0.0),
        (b"120", 120.0),
        (b"Sun, 06 Nov 1994 08:49:40 GMT", 3.0),
        (b"Sunday, 06-Nov-94 08:49:40 GMT", 3.0),
        (b"Sun Nov  6 08:49:40 1994", 3.0),
        (b"Sun, 06 Nov 1994 08:49:30 GMT", 0.0),
        (b"", None),
        (b"-5", None),
        (b"1.5", None),
        (b"1, 2", None),
        (b"soon", None),
        (b"9999999999", None),
        (b"\xff\xfe", None),
        (b"Sun, 99 Nov 99999 08:49:37 GMT", None),
        (b"6 Nov 99999999999999999999 08:49:37 GMT", None),
    ],
)
def test_retry_after_is_read_in_seconds_and_as_each_form_of_date(value: bytes, expected_s: float | None) -> None:
    assert retry_after_s([(b"Date", b"x"), (b"retry-AFTER", value)], now_s=784111777.0) == expected_s


def test_without_the_field_nothing_is_asked_for() -> None:
    assert retry_after_s([(b"Date", b"x")], now_s=0.0) is None


@given(st.binary(max_size=40), st.floats(0, 4e9))
def test_no_value_of_retry_after_breaks_the_reader(value: bytes, now_s: float) -> None:
    found = retry_after_s([(b"Retry-After", value)], now_s)

    assert found is None or found >= 0


# What the gateway says.


def test_the_gateway_vouches_for_peer_scheme_host_and_itself() -> None:
    assert vouched(b"api.example", "10.0.0.1", "http", b"1.1 gateway") == [
        (b"X-Forwarded-For", b"10.0.0.1"),
        (b"X-Forwarded-Proto", b"http"),
        (b"X-Forwarded-Host", b"api.example"),
        (b"Via", b"1.1 gateway"),
    ]


def test_the_gateway_tells_the_callers_address_as_x_real_ip_where_asked() -> None:
    assert vouched(None, "10.0.0.1", "http", b"1.1 gateway", "10.0.0.9")[2] == (b"X-Real-IP", b"10.0.0.9")


def test_via_keeps_the_gateways_before_this_one_and_nobody_else() -> None:
    first, second = b"1.1 batch-gateway (00000001)", b"1.1 batch-gateway (0000000a)"
    said = [(b"Via", b"1.0 squid, " + first), (b"X-A", first), (b"VIA", second), (b"via", b"1.1 batch-gateway (evil)")]

    assert via_of(said, b"1.1 batch-gateway (own)") == b", ".join([first, second, b"1.1 batch-gateway (own)"])
    assert via_of([], b"own") == b"own"


def test_without_a_host_the_gateway_vouches_for_none() -> None:
    assert b"X-Forwarded-Host" not in dict(vouched(None, "10.0.0.1", "http", b"1.1 gateway"))


def test_field_lines_end_in_crlf() -> None:
    assert rendered([(b"A", b"1"), (b"b", b"")]) == b"A: 1\r\nb: \r\n"


@pytest.mark.parametrize(
    ("fields", "is_one"),
    [
        ([], False),
        ([(b"X", b"text/event-stream")], False),
        ([(b"content-type", b"text/event-stream")], True),
        ([(b"X", b"y"), (b"Content-Type", b" Text/Event-Stream ; charset=utf-8")], True),
        ([(b"Content-Type", b"text/event-streams")], False),
    ],
)
def test_an_event_stream_is_told_by_its_media_type(fields: list[tuple[bytes, bytes]], is_one: bool) -> None:
    assert is_event_stream(fields) is is_one


def test_trailers_go_on_without_those_that_would_frame_route_vouch_or_log_in() -> None:
    fields = [
        (b"X-Sum", b"1"),
        (b"Content-Length", b"5"),
        (b"Host", b"x"),
        (b"X-Forwarded-For", b"y"),
        (b"x_forwarded_user", b"y"),
        (b"Cookie", b"y"),
        (b"host_", b"z"),
    ]

    assert trailing(fields) == [(b"X-Sum", b"1"), (b"host_", b"z")]
