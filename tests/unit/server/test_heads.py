"""The head of a request: what is one, what is refused and how, and where each limit lies."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import GatewayError
from gateway.server.heads import CHUNKED, Asked, Head, HeadLimits, Heads
from tests.integration.edge import generated
from tests.strategies import LAW

LIMITS = HeadLimits(line_bytes_max=100, field_bytes_max=50, fields_max=5, head_bytes_max=200)
WIDE = HeadLimits(line_bytes_max=8192, field_bytes_max=16384, fields_max=256, head_bytes_max=65536)
LINE = b"GET /x HTTP/1.1"
HOST = b"Host: a"


def head(*lines: bytes, limits: HeadLimits = WIDE) -> Head:
    return Heads(limits).judged(b"\r\n".join(lines))


def slug(*lines: bytes, limits: HeadLimits = WIDE) -> str | None:
    """Why it is refused, None where it is a head. A refusal that would not end the connection is told apart."""
    try:
        head(*lines, limits=limits)
    except GatewayError as error:
        return error.problem.slug if error.close else "stays open"
    return None


def test_a_head_is_what_it_says() -> None:
    judged = head(b"PATCH /a?b=%2f\xff HTTP/1.1", b"host:\ta ", b"X-A: 1", b"x-a:", b"Content-Length: 12")

    assert (judged.method, judged.target.encode("utf-8", "surrogateescape")) == ("PATCH", b"/a?b=%2f\xff")
    assert judged.version == (1, 1)
    assert judged.said.fields == ((b"host", b"a"), (b"X-A", b"1"), (b"x-a", b""), (b"Content-Length", b"12"))
    assert judged.said.headers.getall("X-a") == ["1", ""]
    assert (judged.said.length, judged.said.keep_alive, judged.said.upgrade) == (12, True, False)


@pytest.mark.parametrize(
    "line",
    [
        b"", b" ", b"GET", b"GET /x", b"GET  /x HTTP/1.1", b"GET /x  HTTP/1.1", b"GET /x HTTP/1.1 ",
        b" GET /x HTTP/1.1",
        b"GET\t/x HTTP/1.1", b"GET /x http/1.1", b"GET /x HTTP/1.10", b"GET /x HTTP/11", b"G(T /x HTTP/1.1",
        b"G\xc4T /x HTTP/1.1", b"G" * 129 + b" /x HTTP/1.1", b"GET /x y HTTP/1.1", b"GET /x HTTPS/1.1", b"GET /x /1.1",
    ],
)  # fmt: skip
def test_what_is_no_request_line_is_malformed(line: bytes) -> None:
    assert slug(line, HOST) == "malformed-http"


@pytest.mark.parametrize("version", [b"HTTP/0.9", b"HTTP/1.2", b"HTTP/2.0", b"HTTP/3.0"])
def test_another_version_is_named(version: bytes) -> None:
    assert slug(b"GET /x " + version, HOST) == "http-version"


@pytest.mark.parametrize("code", [*range(0x21), 0x23, 0x7F])
def test_a_target_has_no_blank_no_control_and_no_fragment(code: int) -> None:
    assert slug(b"GET /x%cy HTTP/1.1" % code, HOST) in ("bad-target", "malformed-http")


@pytest.mark.parametrize(
    "target", [b"/", b"*", b"x", b"/\\", b"//", b"/%", b"/%zz", b"/\x80", b"?", b'/"', b"http://b/"]
)
def test_any_other_target_is_for_others_to_judge(target: bytes) -> None:
    assert head(b"GET %b HTTP/1.1" % target, HOST).target.encode("utf-8", "surrogateescape") == target


@pytest.mark.parametrize(
    ("target", "host", "path"),
    [
        (b"http://a", b"a", "/"),
        (b"http://a/", b"a", "/"),
        (b"http://a:/x", b"a", "/x"),
        (b"HTTPS://A:443//x?y", b"a", "//x?y"),
        (b"http://a?", b"a:80", "/?"),
        (b"http://a:443/x", b"a", "http://a:443/x"),
        (b"http://a@b/x", b"b", "http://a@b/x"),
        (b"http:///x", b"", "http:///x"),
        (b"ftp://a/x", b"a", "ftp://a/x"),
    ],
)
def test_an_absolute_target_is_its_path_where_it_names_the_host(target: bytes, host: bytes, path: str) -> None:
    assert head(b"GET %b HTTP/1.1" % target, b"Host: " + host).target == path


def test_options_of_a_whole_server_is_a_star() -> None:
    assert head(b"OPTIONS http://a HTTP/1.1", HOST).target == "*"
    assert head(b"OPTIONS http://a/ HTTP/1.1", HOST).target == "/"


def test_an_absolute_target_without_host_stays_as_it_is() -> None:
    assert head(b"GET http://a/x HTTP/1.0").target == "http://a/x"


@pytest.mark.parametrize(
    "line",
    [
        b"X", b": a", b" X: a", b"\tX: a", b"X : a", b"X\t: a", b"X a: b", b"X(): b", b"X: a\x00", b"X: a\nb",
        b"X: \rb",
        b"X: a\x0b", b"X: \x7f", b"\xc4: a", b"",
    ],
)  # fmt: skip
def test_what_is_no_field_is_malformed(line: bytes) -> None:
    assert slug(LINE, HOST, line) == "malformed-http"


@pytest.mark.parametrize("line", [b"X:", b"X: a\tb", b"X:\xc4\xff", b"X_Y: a", b"!#$%&'*+-.^`|~0z: a", b"X:   a   "])
def test_other_fields_are_taken(line: bytes) -> None:
    name, _, value = line.partition(b":")

    assert head(LINE, HOST, line).said.fields[1] == (name, value.strip())


@pytest.mark.parametrize(
    ("lines", "problem"),
    [
        ([LINE], "bad-host"),
        ([LINE, HOST, HOST], "bad-host"),
        ([LINE, HOST, b"HOST: b"], "bad-host"),
        ([b"GET /x HTTP/1.0", HOST, HOST], "bad-host"),
        ([b"GET /x HTTP/1.0"], None),
    ],
)
def test_there_is_one_host(lines: list[bytes], problem: str | None) -> None:
    assert slug(*lines) == problem


@pytest.mark.parametrize(
    ("fields", "length"),
    [
        ([], 0),
        ([b"Content-Length: 0"], 0),
        ([b"content-length: 0010"], 10),
        ([b"Content-Length: " + b"9" * 19], 10**19 - 1),
        ([b"Transfer-Encoding: Chunked"], CHUNKED),
        ([b"Content_Length: 5", b"Transfer_Encoding: chunked"], 0),
    ],
)
def test_one_field_tells_how_long_the_body_is(fields: list[bytes], length: int) -> None:
    assert head(LINE, HOST, *fields).said.length == length


@pytest.mark.parametrize(
    "fields",
    [
        [b"Content-Length: 1", b"Content-Length: 1"],
        [b"Content-Length: 1", b"Transfer-Encoding: chunked"],
        [b"Transfer-Encoding: chunked", b"transfer-encoding: chunked"],
        *(
            [b"Content-Length: " + said]
            for said in (b"", b"+1", b"-1", b"1 1", b"1,1", b"0x1", b"1.0", b"\xb2", b"9" * 20)
        ),
        *([b"Transfer-Encoding: " + said] for said in (b"", b"gzip", b"gzip, chunked", b"chunked, x", b"xchunked")),
    ],
)
def test_a_body_that_two_readers_could_measure_differently_is_refused(fields: list[bytes]) -> None:
    assert slug(LINE, HOST, *fields) == "ambiguous-framing"


def test_an_old_caller_cannot_send_chunks() -> None:
    assert slug(b"POST /x HTTP/1.0", b"Transfer-Encoding: chunked") == "ambiguous-framing"


@pytest.mark.parametrize(
    ("version", "said", "keeps"),
    [
        (b"1.1", [], True),
        (b"1.1", [b"Close"], False),
        (b"1.1", [b"X-A", b"x, close ,y"], False),
        (b"1.1", [b"keep-alive"], True),
        (b"1.0", [], False),
        (b"1.0", [b"Keep-Alive"], True),
        (b"1.0", [b"keep-alive, close"], False),
    ],
)
def test_the_version_and_connection_tell_whether_the_connection_stays(
    version: bytes, said: list[bytes], keeps: bool
) -> None:
    assert head(b"GET /x HTTP/" + version, HOST, *(b"Connection: " + each for each in said)).said.keep_alive is keeps


@pytest.mark.parametrize(
    ("version", "fields", "upgrades"),
    [
        (b"1.1", [b"Connection: Upgrade", b"Upgrade: WebSocket"], True),
        (b"1.0", [b"Connection: Upgrade", b"Upgrade: websocket"], False),
        (b"1.1", [b"Upgrade: websocket"], False),
        (b"1.1", [b"Connection: upgrade"], False),
        (b"1.1", [b"Connection: upgrade", b"Upgrade: h2c"], False),
        (b"1.1", [b"Connection: upgrade", b"Upgrade: websocket, h2c"], False),
        (b"1.1", [b"Connection: upgrade", b"Upgrade: websocket", b"Upgrade: websocket"], False),
    ],
)
def test_only_websocket_may_come_next(version: bytes, fields: list[bytes], upgrades: bool) -> None:
    assert head(b"GET /x HTTP/" + version, HOST, *fields).said.upgrade is upgrades


# Limits, each exact.


def test_the_longest_request_line_is_taken() -> None:
    longest = b"/".ljust(LIMITS.line_bytes_max - len(b"GET  HTTP/1.1"), b"a")

    assert slug(b"GET %b HTTP/1.1" % longest, HOST, limits=LIMITS) is None
    assert slug(b"GETS %b HTTP/1.1" % longest, HOST, limits=LIMITS) == "target-too-long"
    assert slug(b"GET %ba HTTP/1.1" % longest, HOST, limits=LIMITS) == "target-too-long"
    assert slug(b"GET %b x HTTP/1.1" % (longest * 3), limits=LIMITS) == "target-too-long"


def test_the_longest_field_is_taken() -> None:
    longest = b"X: " + b"a" * (LIMITS.field_bytes_max - 3)

    assert slug(LINE, HOST, longest, limits=LIMITS) is None
    assert slug(LINE, HOST, longest + b"a", limits=LIMITS) == "headers-too-large"


def test_as_many_fields_as_may_be_are_taken() -> None:
    assert slug(LINE, HOST, *[b"X: a"] * (LIMITS.fields_max - 1), limits=LIMITS) is None
    assert slug(LINE, HOST, *[b"X: a"] * LIMITS.fields_max, limits=LIMITS) == "headers-too-large"


def test_the_largest_head_is_taken() -> None:
    fields = [HOST, *[b"X: " + b"a" * 47] * 3]
    rest = LIMITS.head_bytes_max - len(b"\r\n".join([LINE, *fields, b"Y: "]))

    assert slug(LINE, *fields, b"Y: " + b"b" * rest, limits=LIMITS) is None
    assert slug(LINE, *fields, b"Y: " + b"b" * (rest + 1), limits=LIMITS) == "headers-too-large"


# A head that is not whole.


def begun(part: bytes, limits: HeadLimits = WIDE, judged: int = 0) -> str | int:
    """How much is judged, or why it is refused."""
    try:
        return Heads(limits).begun(part, judged)
    except GatewayError as error:
        return error.problem.slug if error.close else "stays open"


@LAW
@given(st.integers(0, 100_000), st.lists(st.integers(0, 1 << 16), max_size=6))
def test_no_part_of_a_head_is_refused(seed: int, places: list[int]) -> None:
    whole = generated.request(seed).data.lstrip(b"\r\n").partition(b"\r\n\r\n")[0]
    heads, judged = Heads(WIDE), 0

    for place in sorted(place % (len(whole) + 1) for place in places):
        judged = heads.begun(whole[:place], judged)
        assert whole[:judged].endswith(b"\r\n") or judged == 0

    assert heads.judged(whole).method == generated.request(seed).method


@pytest.mark.parametrize(
    ("part", "problem"),
    [
        (b"GET /x HTTP/1.1\n", "malformed-http"),
        (b"GET /x\x00", "malformed-http"),
        (b"GET /x HTTP/3.0\r\n", "http-version"),
        (b"GET /x#y HTTP/1.1\r\n", "bad-target"),
        (LINE + b"\r\nHost: a\n", "malformed-http"),
        (LINE + b"\r\nHost : a\r\n", "malformed-http"),
        (LINE + b"\r\nHost: a\x01", "malformed-http"),
        (LINE + b"\r\nHost: a\rb", "malformed-http"),
    ],
)
def test_what_cannot_become_a_head_is_refused_before_it_is_whole(part: bytes, problem: str) -> None:
    assert begun(part) == problem


def test_a_part_is_refused_where_the_whole_would_be_too_large() -> None:
    line, field = b"GET /".ljust(LIMITS.line_bytes_max, b"a"), LINE + b"\r\nX: "
    longest = field + b"a" * (LIMITS.field_bytes_max - 3)

    assert begun(line + b"\r", LIMITS) == 0
    assert begun(line + b"a", LIMITS) == "target-too-long"
    assert begun(longest + b"\r", LIMITS) == len(LINE) + 2
    assert begun(longest + b"a\r", LIMITS) == "headers-too-large"
    assert begun(LINE + b"\r\n" + b"X: a\r\n" * 30, LIMITS) == len(LINE) + 2 + 30 * 6
    assert begun(LINE + b"\r\n" + b"X: a\r\n" * 31, LIMITS) == "headers-too-large"


def test_what_was_judged_is_not_judged_again() -> None:
    part = b"no request line\r\nX: a\r\nY"

    assert begun(part) == "malformed-http"
    assert begun(part, judged=part.index(b"X")) == part.index(b"Y")


def test_a_head_shows_its_fields_as_they_came_and_as_they_go_on() -> None:
    asked = Asked(head(LINE, HOST, b"x-a:\t1 ", b"Connection: close, x-b", b"X-B: 2"), "::1")

    assert asked.raw_headers == ((b"Host", b"a"), (b"x-a", b"1"), (b"Connection", b"close, x-b"), (b"X-B", b"2"))
    assert asked.head.said.lines == b"Host: a\r\nx-a: 1\r\nX-B: 2\r\n"
    assert (asked.method, asked.raw_path, asked.headers["X-A"]) == ("GET", "/x", "1")


# What is remembered.


def test_lines_are_remembered_within_bounds_and_secrets_never() -> None:
    heads = Heads(WIDE)

    for number in range(3 * Heads.LINES_MAX):
        heads.judged(
            b"\r\n".join([LINE, HOST, b"X-A: %d" % number, b"Cookie: %d" % number, b"Authorization: s%d" % number])
        )
        assert len(heads._lines) <= Heads.LINES_MAX
    heads.judged(b"\r\n".join([LINE, HOST, b"X-Long: " + b"a" * Heads.LINE_BYTES_MAX]))

    kept = {line.partition(b":")[0] for line in heads._lines}
    assert kept == {b"Host", b"X-A"}


@pytest.mark.parametrize("name", [b"Idempotency-Key", b"traceparent", b"X-Request-Id"])
def test_what_differs_from_request_to_request_drives_nothing_out(name: bytes) -> None:
    heads = Heads(WIDE)

    for number in range(Heads.LINES_MAX + 1):
        judged = heads.judged(b"\r\n".join([LINE, HOST, name + b": %d" % number]))
        assert judged.said.fields == ((b"Host", b"a"), (name, b"%d" % number))

    assert [*heads._lines] == [HOST]
    assert not heads._blocks


def test_whole_heads_are_remembered_within_bounds_and_stay_right() -> None:
    heads = Heads(WIDE)

    for number in range(Heads.BLOCKS_MAX * 2):
        for _ in range(2):
            judged = heads.judged(b"\r\n".join([LINE, HOST, b"X-Number: %d" % number]))
            assert judged.said.fields == ((b"Host", b"a"), (b"X-Number", b"%d" % number))
            assert len(heads._blocks) <= Heads.BLOCKS_MAX
