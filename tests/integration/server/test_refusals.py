"""Every row of PROMISES D.1 to D.3 that a synchronous batch can meet: bytes in, status, slug and headers out."""

import asyncio
import re
from dataclasses import dataclass, field

import pytest

from gateway.errors import PROBLEMS
from tests.fakes.until import PATIENCE_S
from tests.integration.server.api import Api, Talk
from tests.integration.server.gateways import Gateway, gateway
from tests.integration.server.wire import Answer, Wire, ask, get, post, post_batch, request

GOOD = b'{"operations":[{"method":"GET","path":"/x"}]}'
JSON = b"Content-Type: application/json\r\n"
LENGTH = b"Content-Length: %d\r\n" % len(GOOD)


@dataclass(frozen=True, slots=True)
class Row:
    """What is sent, and what must come back."""

    name: str
    data: bytes
    status: int
    slug: str
    headers: dict[str, str] = field(default_factory=dict)
    closes: bool = False

    def __str__(self) -> str:
        return self.name


def raw(line: bytes, *fields: bytes, body: bytes = b"") -> bytes:
    return b"\r\n".join([line, *fields, b"", b""]) + body


def batch(*fields: bytes, body: bytes = GOOD, line: bytes = b"POST /batch HTTP/1.1") -> bytes:
    """A good envelope but for what is given; its Content-Type and length are left to `fields`."""
    return raw(line, b"Host: api.test", *fields, body=body)


GET = b"GET /x HTTP/1.1"
HOST = b"Host: api.test"
TYPE, LEN = JSON.strip(), LENGTH.strip()
CHUNKED = b"Transfer-Encoding: chunked"

CONNECTION = [
    Row("no request at all", b"garbage\r\n\r\n", 400, "malformed-http", closes=True),
    Row("blank in the target", raw(b"GET /a b HTTP/1.1", HOST), 400, "malformed-http", closes=True),
    Row("folded field", raw(GET, HOST, b"X-A: 1\r\n 2"), 400, "malformed-http", closes=True),
    Row("blank before the colon", raw(GET, HOST, b"X-A : 1"), 400, "malformed-http", closes=True),
    Row("no colon", raw(GET, HOST, b"X-A"), 400, "malformed-http", closes=True),
    Row("empty field name", raw(GET, HOST, b": 1"), 400, "malformed-http", closes=True),
    Row("NUL in a value", raw(GET, HOST, b"X-A: 1\x002"), 400, "malformed-http", closes=True),
    Row("bare CR in a value", raw(GET, HOST, b"X-A: 1\r2"), 400, "malformed-http", closes=True),
    Row("bare LF", b"GET /x HTTP/1.1\nHost: api.test\n\n", 400, "malformed-http", closes=True),
    Row(
        "TLS to a plain port",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
        400,
        "malformed-http",
        closes=True,
    ),
    Row("HTTP/2 preface", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505, "http-version", closes=True),
    Row("fragment in the target", raw(b"GET /a#b HTTP/1.1", HOST), 400, "bad-target", closes=True),
    Row("method that is no token", raw(b"GE(T /x HTTP/1.1", HOST), 400, "malformed-http", closes=True),
    Row("method of 129 letters", raw(b"A" * 129 + b" /x HTTP/1.1", HOST), 400, "malformed-http", closes=True),
    Row(
        "words of another problem", raw(b"GET /Host/Content-Length\x01 HTTP/1.1", HOST), 400, "bad-target", closes=True
    ),
    Row("bad chunk size", batch(TYPE, CHUNKED, body=b"zz\r\n"), 400, "malformed-http", closes=True),
    Row(
        "chunk longer than it says",
        batch(TYPE, CHUNKED, body=b"1\r\n{}\r\n0\r\n\r\n"),
        400,
        "malformed-http",
        closes=True,
    ),
    Row("CL and TE", batch(TYPE, LEN, CHUNKED), 400, "ambiguous-framing", closes=True),
    Row("TE and CL", batch(TYPE, CHUNKED, LEN), 400, "ambiguous-framing", closes=True),
    Row("two lengths", batch(TYPE, LEN, b"Content-Length: 3"), 400, "ambiguous-framing", closes=True),
    Row("two equal lengths", batch(TYPE, LEN, LEN), 400, "ambiguous-framing", closes=True),
    Row("a list of lengths", batch(TYPE, b"Content-Length: 45, 45"), 400, "ambiguous-framing", closes=True),
    Row("signed length", batch(TYPE, b"Content-Length: +45"), 400, "ambiguous-framing", closes=True),
    Row("unknown coding", batch(TYPE, b"Transfer-Encoding: gzip"), 400, "ambiguous-framing", closes=True),
    Row(
        "coding after chunked", batch(TYPE, b"Transfer-Encoding: chunked, gzip"), 400, "ambiguous-framing", closes=True
    ),
    Row(
        "gzip before chunked",
        batch(TYPE, b"Transfer-Encoding: gzip, chunked", body=b"0\r\n\r\n"),
        400,
        "ambiguous-framing",
        closes=True,
    ),
    Row("chunked twice", batch(TYPE, CHUNKED, CHUNKED), 400, "ambiguous-framing", closes=True),
    Row(
        "TE in HTTP/1.0",
        batch(TYPE, CHUNKED, line=b"POST /batch HTTP/1.0", body=b"0\r\n\r\n"),
        400,
        "ambiguous-framing",
        closes=True,
    ),
    Row("version 2.0", raw(b"GET /x HTTP/2.0", HOST), 505, "http-version", closes=True),
    Row("version 1.2", raw(b"GET /x HTTP/1.2", HOST), 505, "http-version", closes=True),
    Row("version 0.9", raw(b"GET /x HTTP/0.9", HOST), 505, "http-version", closes=True),
    Row("no host", raw(GET), 400, "bad-host", closes=True),
    Row("two hosts", raw(GET, HOST, b"Host: other.test"), 400, "bad-host", closes=True),
    Row("two equal hosts", raw(GET, HOST, HOST), 400, "bad-host", closes=True),
    *[
        Row(f"host {host!r}", raw(GET, b"Host: " + host), 400, "bad-host", closes=True)
        for host in (
            b"a/b",
            b"a?b",
            b"a#b",
            b"u@a",
            b"a b",
            b"a:b",
            b"a:123456",
            b"[::1",
            b"a,b/c",
            b'a"b',
            b"a\\b",
            b"\xe4",
        )
    ],
    Row("absolute target", raw(b"GET http://evil.test/x HTTP/1.1", HOST), 400, "bad-target", closes=True),
    Row("star for GET", raw(b"GET * HTTP/1.1", HOST), 400, "bad-target", closes=True),
    Row("relative target", raw(b"GET x HTTP/1.1", HOST), 400, "bad-target", closes=True),
    Row("CONNECT", raw(b"CONNECT evil.test:443 HTTP/1.1", HOST), 501, "method-not-supported", closes=True),
    Row("long request line", raw(b"GET /" + b"a" * 9000 + b" HTTP/1.1", HOST), 414, "target-too-long", closes=True),
    Row("long field", raw(GET, HOST, b"X-A: " + b"a" * 16400), 431, "headers-too-large", closes=True),
    Row("long name", raw(GET, HOST, b"X" * 16400 + b": a"), 431, "headers-too-large", closes=True),
    Row("257 fields", raw(GET, *[b"X-%d: 1" % n for n in range(256)], HOST), 431, "headers-too-large", closes=True),
    Row("HTTP/1.0 without a length", batch(TYPE, line=b"POST /batch HTTP/1.0", body=b""), 411, "length-required"),
    Row("unknown expectation", batch(TYPE, LEN, b"Expect: 200-ok"), 417, "expectation-failed"),
    Row(
        "gzip",
        batch(TYPE, LEN, b"Content-Encoding: gzip"),
        415,
        "unsupported-encoding",
        {"Accept-Encoding": "identity"},
    ),
    Row("br", batch(TYPE, LEN, b"Content-Encoding: br"), 415, "unsupported-encoding", {"Accept-Encoding": "identity"}),
    Row(
        "length above the limit",
        batch(TYPE, b"Content-Length: 10485761"),
        413,
        "envelope-too-large",
        {"X-Limit-Bytes": "10485760"},
        closes=True,
    ),
]

ENVELOPE = [
    *[
        Row(
            f"{method} /batch",
            raw(f"{method} /batch HTTP/1.1".encode(), HOST),
            405,
            "method-not-allowed",
            {"Allow": "POST"},
        )
        for method in ("GET", "PUT", "PATCH", "DELETE", "OPTIONS")
    ],
    *[
        Row(
            f"type {said!r}",
            batch(LEN, b"Content-Type: " + said),
            415,
            "unsupported-media-type",
            {"Accept-Post": "application/json"},
        )
        for said in (
            b"text/plain",
            b"application/xml",
            b"application/x-www-form-urlencoded",
            b"application/jsonx",
            b"application/json; charset=utf-16",
            b"application/json; charset=latin-1",
            b"multipart/form-data",
            b"text/plain; application/json",
            b"",
        )
    ],
    Row("two types", batch(TYPE, b"Content-Type: text/plain", LEN), 415, "unsupported-media-type"),
    Row("no type", batch(LEN), 415, "unsupported-media-type", {"Accept-Post": "application/json"}),
    *[
        Row(
            f"accept {said!r}",
            batch(TYPE, LEN, b"Accept: " + said),
            406,
            "not-acceptable",
            {"Accept-Post": "application/json"},
        )
        for said in (b"text/html", b"image/*", b"application/json;q=0", b"application/pdf, text/plain")
    ],
    Row("empty body", batch(TYPE, b"Content-Length: 0", body=b""), 400, "invalid-json"),
    Row("not JSON", batch(TYPE, b"Content-Length: 1", body=b"{"), 400, "invalid-json"),
    Row("no operations", batch(TYPE, b"Content-Length: 2", body=b"{}"), 422, "validation-failed"),
    Row("below the prefix", raw(b"GET /batch/nothing HTTP/1.1", HOST), 404, "not-found"),
    Row("no such problem", raw(b"GET /batch/problems/nothing HTTP/1.1", HOST), 404, "not-found"),
    Row(
        "POST to a problem",
        raw(b"POST /batch/problems/nested-batch HTTP/1.1", HOST, b"Content-Length: 0"),
        405,
        "method-not-allowed",
        {"Allow": "GET, HEAD"},
    ),
    Row(
        "POST to the limits",
        raw(b"POST /batch/limits HTTP/1.1", HOST, b"Content-Length: 0"),
        405,
        "method-not-allowed",
        {"Allow": "GET, HEAD"},
    ),
]


def is_problem(answered: Answer, status: int, slug: str) -> None:
    """Status, slug and every member and header that each refusal has."""
    assert (answered.status, answered.slug) == (status, slug)
    document = answered.json()
    assert answered.header("Content-Type") == "application/problem+json"
    assert answered.header("Cache-Control") == "no-store"
    assert document["type"] == f"/batch/problems/{slug}"
    assert document["title"] == PROBLEMS[slug].title
    assert document["status"] == status
    assert document["detail"]
    assert re.fullmatch(r"[A-Za-z0-9._~-]{1,128}", document["instance"])
    assert answered.header("X-Request-Id") == document["instance"]
    assert answered.header("Content-Length") == str(len(answered.body))


@pytest.mark.parametrize("row", CONNECTION + ENVELOPE, ids=str)
async def test_a_refusal_is_the_row_of_the_table(
    api: Api, plain: Gateway, row: Row, capfd: pytest.CaptureFixture[str]
) -> None:
    async with await Wire.open(plain.port) as wire:
        await wire.send(row.data)
        answered = await wire.answer()
        if row.closes:
            assert answered.header("Connection") == "close"
            wire.writer.write_eof()
            assert await wire.is_closed()

    is_problem(answered, row.status, row.slug)
    assert {name: answered.header(name) for name in row.headers} == row.headers
    assert api.received == []
    assert "Traceback" not in capfd.readouterr().err


async def test_a_head_above_64_kibibytes_is_refused(plain: Gateway) -> None:
    answered = await ask(plain.port, raw(GET, HOST, *[b"X-%d: " % n + b"a" * 15_000 for n in range(5)]))

    assert answered.status == 431


@pytest.mark.parametrize("host", [b"a", b"a.b:80", b"[::1]:80", b"127.0.0.1", b"a:", b"a_b-c~d"])
async def test_a_legal_host_passes(plain: Gateway, host: bytes) -> None:
    answered = await ask(plain.port, raw(GET, b"Host: " + host))

    assert answered.status == 200


@pytest.mark.parametrize(
    "said",
    [
        b"application/json",
        b"Application/JSON; charset=UTF-8",
        b'application/json;charset="utf-8"',
        b"application/json;charset=utf8",
    ],
)
async def test_a_json_media_type_is_taken(plain: Gateway, said: bytes) -> None:
    answered = await ask(plain.port, batch(LEN, b"Content-Type: " + said))

    assert answered.status == 207


async def test_the_longest_allowed_head_passes(plain: Gateway) -> None:
    longest_line = raw(b"GET /" + b"a" * (8192 - len("GET / HTTP/1.1") - 100) + b" HTTP/1.1", HOST)
    many = raw(GET, *[b"X-%d: 1" % n for n in range(255)], HOST)
    large = raw(GET, HOST, *[b"X-%d: " % n + b"a" * 15_000 for n in range(4)])

    answered = [await ask(plain.port, data) for data in (longest_line, many, large)]

    assert [each.status for each in answered] == [200, 200, 200]


async def test_a_head_that_never_ends_is_408(api: Api) -> None:
    async with gateway(api.url, listen__header_timeout="200ms") as running, await Wire.open(running.port) as wire:
        await wire.send(b"GET /x HTTP/1.1\r\nHost: a")
        answered = await wire.answer()
        assert await wire.is_closed()

    is_problem(answered, 408, "request-timeout")
    assert answered.header("Connection") == "close"


async def test_the_second_head_of_a_connection_has_its_deadline_too(api: Api) -> None:
    async with gateway(api.url, listen__header_timeout="200ms") as running, await Wire.open(running.port) as wire:
        await wire.send(raw(GET, HOST))
        first = await wire.answer()
        await wire.send(b"GET /y HTT")
        second = await wire.answer()

    assert first.status == 200
    is_problem(second, 408, "request-timeout")


@pytest.mark.parametrize("part", [b"G", b"GET /y HTTP/1.1\r\nHost: a\r\nX-A"], ids=["line", "fields"])
async def test_a_head_that_begins_behind_a_whole_request_has_its_deadline_too(api: Api, part: bytes) -> None:
    async with gateway(api.url, listen__header_timeout="200ms") as running, await Wire.open(running.port) as wire:
        await wire.send(raw(GET, HOST) * 3 + part)  # in one segment
        first = [(await wire.answer()).status for _ in range(3)]
        last = await wire.answer()

    assert first == [200, 200, 200]
    is_problem(last, 408, "request-timeout")


async def test_a_head_that_waits_behind_a_slow_request_has_its_time_after_that(api: Api) -> None:
    async def slow(talk: Talk) -> None:
        await asyncio.wait([asyncio.get_running_loop().create_future()], timeout=0.8)
        await talk.send(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    api.on("/slow", slow)
    async with gateway(api.url, listen__header_timeout="400ms") as running, await Wire.open(running.port) as wire:
        await wire.send(raw(b"GET /slow HTTP/1.1", HOST) + b"GET /x HTTP/1.1\r\n")
        first = await wire.answer()
        await wire.send(b"Host: a\r\n\r\n")
        second = await wire.answer()

    assert [first.status, second.status] == [200, 200]


@pytest.mark.parametrize("slug", sorted(PROBLEMS))
async def test_every_type_leads_to_a_page_in_json_and_in_html(plain: Gateway, slug: str) -> None:
    as_json = await get(plain.port, f"/batch/problems/{slug}")
    as_html = await get(plain.port, f"/batch/problems/{slug}", ("Accept", "text/html,*/*;q=0.8"))

    assert as_json.status == as_html.status == 200
    assert as_json.header("Content-Type") == "application/json"
    assert as_json.json()["type"] == f"/batch/problems/{slug}"
    assert as_json.json()["title"]
    assert as_json.json()["cure"]
    assert as_html.header("Content-Type") == "text/html; charset=utf-8"
    assert slug.encode() in as_html.body
    assert as_html.body.startswith(b"<!doctype html>")


async def test_the_prefix_of_problems_follows_the_configured_path(api: Api) -> None:
    async with gateway(api.url, batch__path="/api/bulk") as running:
        refused = await post(running.port, "/api/bulk", b"{")
        page = await get(running.port, refused.json()["type"])
        passed = await post(running.port, "/batch", b"{}")

    assert refused.json()["type"] == "/api/bulk/problems/invalid-json"
    assert page.status == 200
    assert passed.status == 200
    assert api.targets == ["/batch"]


async def test_an_id_of_the_callers_own_names_the_refusal(plain: Gateway) -> None:
    answered = await post_batch(plain.port, b"{", ("X-Request-Id", "mine-1"))

    assert answered.json()["instance"] == answered.header("X-Request-Id") == "mine-1"


@pytest.mark.parametrize(
    ("name", "said"),
    [("Content-Type", "Z" * 4000), ("Accept", "Z" * 4000), ("X-Request-Id", "Z" * 4000), ("Expect", "Z" * 4000)],
)
async def test_no_header_is_echoed_at_length(plain: Gateway, name: str, said: str) -> None:
    answered = await post(plain.port, "/batch", b"{", (name, said))

    assert answered.status >= 400
    assert answered.body.count(b"Z") <= 64
    assert sum(value.count("Z") for _, value in answered.fields) <= 64


async def test_a_path_is_not_echoed_at_length(plain: Gateway) -> None:
    answered = await get(plain.port, "/batch/" + "Z" * 4000 + "%0d%0a")

    assert answered.status == 404
    assert answered.body.count(b"Z") <= 64


async def test_a_lone_error_does_not_end_the_connection(plain: Gateway) -> None:
    async with await Wire.open(plain.port) as wire:
        await wire.send(batch(TYPE, b"Content-Length: 1", body=b"{"))
        refused = await wire.answer()
        await wire.send(batch(TYPE, LEN))
        executed = await wire.answer()

    assert (refused.status, executed.status) == (400, 207)


async def test_what_follows_a_malformed_request_is_never_run(api: Api, plain: Gateway) -> None:
    async with await Wire.open(plain.port) as wire:
        await wire.send(batch(TYPE, LEN, CHUNKED) + raw(b"GET /smuggled HTTP/1.1", HOST))
        await wire.answer()
        wire.writer.write_eof()
        assert await wire.is_closed()

    assert api.received == []


async def test_a_request_that_came_back_is_a_loop() -> None:
    async def send_back(talk: Talk) -> None:
        """The upstream's own client is sent to the gateway again, as a wrong ingress does."""
        lines = "".join(f"{name}: {value}\r\n" for name, value in talk.request.fields)
        answered = await ask(running.port, f"GET /x HTTP/1.1\r\n{lines}\r\n".encode("latin-1"))
        body = answered.body
        await talk.send(f"HTTP/1.1 {answered.status} R\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)

    async with Api() as api, asyncio.timeout(PATIENCE_S):
        hops = 0

        async def once(talk: Talk) -> None:
            nonlocal hops
            hops += 1
            await (send_back(talk) if hops < 20 else talk.send(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"))

        api.on("/x", once)
        async with gateway(api.url) as running:
            answered = await get(running.port, "/x")

    assert (answered.status, answered.slug) == (508, "loop-detected")  # relayed, so without its head
    assert hops == 1


async def test_a_broken_body_of_a_forwarded_request_is_400_and_no_traceback(
    api: Api, plain: Gateway, capfd: pytest.CaptureFixture[str]
) -> None:
    async with await Wire.open(plain.port) as wire:
        await wire.send(raw(b"POST /x HTTP/1.1", HOST, CHUNKED))
        await wire.send(b"5\r\nhello\r\n")
        await api.until(1)
        await wire.send(b"zz\r\n")
        answered = await wire.answer()

    is_problem(answered, 400, "malformed-http")
    assert "Traceback" not in capfd.readouterr().err


async def test_an_envelope_whose_framing_breaks_later_is_400_at_once(api: Api, plain: Gateway) -> None:
    async with await Wire.open(plain.port) as wire:
        await wire.send(batch(TYPE, CHUNKED, b"Expect: 100-continue", body=b""))
        assert (await wire.head()).status == 100
        await wire.send(b"2\r\n{}\r\nzz\r\n")
        answered = await wire.answer()
        wire.writer.write_eof()
        assert await wire.is_closed()

    is_problem(answered, 400, "malformed-http")
    assert api.received == []


@pytest.mark.parametrize("method", ["PURGE", "REPORT", "PROPFIND", "TRACE"])
async def test_a_registered_method_of_any_kind_is_forwarded(api: Api, plain: Gateway, method: str) -> None:
    answered = await ask(plain.port, request(method, "/x"))

    assert answered.status == 200
    assert api.last.method == method


@pytest.mark.parametrize("path", ["/batch", "/x"])
async def test_a_length_of_thousands_of_digits_is_ambiguous_and_no_defect(
    plain: Gateway, path: str, capfd: pytest.CaptureFixture[str]
) -> None:
    length = "0" * 5000 + "2"

    answered = await ask(
        plain.port, raw(f"POST {path} HTTP/1.1".encode(), HOST, TYPE, f"Content-Length: {length}".encode()) + b"[]"
    )

    is_problem(answered, 400, "ambiguous-framing")
    assert "Traceback" not in capfd.readouterr().err


async def test_an_upgrade_that_is_not_passed_on_leaves_the_connection_clean(api: Api, plain: Gateway) -> None:
    async with await Wire.open(plain.port) as wire:
        await wire.send(raw(b"GET /x HTTP/1.1", HOST, b"Connection: upgrade", b"Upgrade: h2c") + raw(GET, HOST))
        answers = [await wire.answer(), await wire.answer()]

    assert [answered.status for answered in answers] == [200, 200]
    assert [received.header("Upgrade") for received in api.received] == [None, None]


async def test_a_request_before_a_malformed_one_is_answered(api: Api, plain: Gateway) -> None:
    async with await Wire.open(plain.port) as wire:
        await wire.send(raw(GET, HOST) + raw(b"GET /y HTTP/1.1", HOST, b"X-A : 1") + raw(b"GET /z HTTP/1.1", HOST))
        first, second = await wire.answer(), await wire.answer()
        assert await wire.is_closed()

    assert first.status == 200
    is_problem(second, 400, "malformed-http")
    assert api.targets == ["/x"]


BEGINNINGS = {
    "bare LF": (b"GET /x HTTP/1.1\n", 400, "malformed-http"),
    "bare LF in a field": (raw(GET, HOST)[:-2] + b"X: 1\n", 400, "malformed-http"),
    "TLS": (b"\x16\x03\x01\x02", 400, "malformed-http"),
    "bare CR": (b"GET /x\rHTTP", 400, "malformed-http"),
    "a blank before a colon": (b"GET /x HTTP/1.1\r\nHost : a\r\n", 400, "malformed-http"),
    "version 2.0": (b"GET /x HTTP/2.0\r\n", 505, "http-version"),
    "an endless target": (b"GET /" + b"a" * 10_000, 414, "target-too-long"),
    "an endless field": (b"GET /x HTTP/1.1\r\nX-A: " + b"a" * 17_000, 431, "headers-too-large"),
    "endless fields": (b"GET /x HTTP/1.1\r\n" + b"X-A: 12345678901234567890\r\n" * 3000, 431, "headers-too-large"),
}


@pytest.mark.parametrize("name", BEGINNINGS)
async def test_what_cannot_become_a_head_is_refused_before_it_ends(plain: Gateway, name: str) -> None:
    data, status, slug = BEGINNINGS[name]

    async with await Wire.open(plain.port) as wire:
        for at in range(0, len(data), max(1, len(data) // 50)):
            await wire.send(data[at : at + max(1, len(data) // 50)])
        answered = await wire.answer()

    is_problem(answered, status, slug)


BROKEN_BODIES = {
    "a blank before the size": b" 1\r\na\r\n0\r\n\r\n",
    "a blank behind the size": b"1 \r\na\r\n0\r\n\r\n",
    "a size with 0x": b"0x1\r\na\r\n0\r\n\r\n",
    "a signed size": b"+1\r\na\r\n0\r\n\r\n",
    "an underscore in the size": b"1_0\r\n" + b"a" * 16 + b"\r\n0\r\n\r\n",
    "a size above 60 bits": b"1" + b"0" * 15 + b"\r\n",
    "no size": b"\r\na\r\n0\r\n\r\n",
    "a size that ends in LF": b"1\na\r\n0\r\n\r\n",
    "a size that ends in LF, and no more": b"1\n",
    "a chunk that ends in LF": b"1\r\na\n0\r\n\r\n",
    "a chunk that is too long": b"1\r\nab\r\n0\r\n\r\n",
    "a control in an extension": b"1;a\x00\r\na\r\n0\r\n\r\n",
    "LF in an extension": b"1;a\nb\r\na\r\n0\r\n\r\n",
    "an endless extension": b"1;" + b"a" * 5000,
    "a trailer without a colon": b"0\r\nX-A\r\n\r\n",
    "a control in a trailer": b"0\r\nX-A: \x01\r\n\r\n",
    "a folded trailer": b"0\r\nX-A: 1\r\n 2\r\n\r\n",
    "257 trailers": b"0\r\n" + b"X-A: 1\r\n" * 257 + b"\r\n",
    "endless trailers": b"0\r\n" + (b"X-A: " + b"a" * 10_000 + b"\r\n") * 8,
}


@pytest.mark.parametrize("name", BROKEN_BODIES)
@pytest.mark.parametrize("together", [True, False])
async def test_chunks_that_break_end_the_connection_and_nothing_behind_them_is_read(
    api: Api, plain: Gateway, name: str, together: bool, caplog: pytest.LogCaptureFixture
) -> None:
    head, behind = raw(b"POST /x HTTP/1.1", HOST, CHUNKED), raw(b"GET /smuggled HTTP/1.1", HOST)

    async with await Wire.open(plain.port) as wire:
        await wire.send(head if not together else b"")
        if not together:
            await api.until(1)
        await wire.send((head if together else b"") + BROKEN_BODIES[name] + behind)
        answered = await wire.answer()
        assert await wire.is_closed()

    is_problem(answered, 400, "malformed-http")
    assert "/smuggled" not in api.targets
    assert caplog.records == []
