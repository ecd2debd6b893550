"""Targets in absolute form: read as their path where they name what Host names (RFC 9112 3.2.2), else refused."""

import pytest

from tests.integration.server.api import Api
from tests.integration.server.gateways import Gateway
from tests.integration.server.wire import ask, without_replica


def asked(method: str, target: str, host: str | None, version: str = "1.1") -> bytes:
    named = "" if host is None else f"Host: {host}\r\n"
    return f"{method} {target} HTTP/{version}\r\n{named}\r\n".encode("latin-1")


@pytest.mark.parametrize(
    ("method", "target", "host", "path"),
    [
        ("GET", "http://api.test/x", "api.test", "/x"),
        ("GET", "HTTP://API.test/x?a=%2f", "api.TEST", "/x?a=%2f"),
        ("GET", "https://api.test//x/../y;p", "api.test", "//x/../y;p"),
        ("GET", "http://api.test:80/x", "api.test", "/x"),
        ("GET", "https://api.test/x", "api.test:443", "/x"),
        ("GET", "http://api.test:8207/x", "api.test:8207", "/x"),
        ("GET", "http://[::1]:8207/x", "[::1]:8207", "/x"),
        ("GET", "http://api.test", "api.test", "/"),
        ("GET", "http://api.test?q=/x", "api.test", "/?q=/x"),
        ("OPTIONS", "http://api.test", "api.test", "*"),
        ("OPTIONS", "http://api.test/", "api.test", "/"),
    ],
)
async def test_a_target_that_names_us_is_rewritten(
    api: Api, plain: Gateway, method: str, target: str, host: str, path: str
) -> None:
    answered = await ask(plain.port, asked(method, target, host))

    assert answered.status == 200
    assert api.last.target == path
    assert without_replica(api.last.fields)[0] == ("Host", host)


@pytest.mark.parametrize(
    ("target", "host"),
    [
        ("http://evil.test/x", "api.test"),
        ("http://api.test:8080/x", "api.test"),
        ("http://api.test:443/x", "api.test"),
        ("https://api.test:80/x", "api.test"),
        ("http://api.test.evil/x", "api.test"),
        ("http://u@api.test/x", "api.test"),
        ("http://api.test\\@evil/x", "api.test"),
        ("ftp://api.test/x", "api.test"),
        ("ws://api.test/x", "api.test"),
        ("http:/x", "api.test"),
        ("http:///x", "api.test"),
        ("http:///x", ""),
        ("//api.test", None),
        ("api.test/x", "api.test"),
        ("api.test:80", "api.test:80"),
    ],
)
async def test_a_target_that_names_somebody_else_is_refused(
    api: Api, plain: Gateway, target: str, host: str | None
) -> None:
    answered = await ask(plain.port, asked("GET", target, host))

    assert (answered.status, answered.slug) == (400, "bad-host" if host is None else "bad-target")
    assert answered.header("Connection") == "close"
    assert api.received == []


async def test_an_old_caller_who_names_a_host_in_the_target_alone_is_refused(api: Api, plain: Gateway) -> None:
    answered = await ask(plain.port, asked("GET", "http://api.test/x", None, "1.0"))

    assert (answered.status, answered.slug, api.received) == (400, "bad-target", [])


async def test_a_batch_may_be_asked_for_in_absolute_form(api: Api, plain: Gateway) -> None:
    envelope = b'[{"method": "GET", "path": "/x"}]'
    fields = f"Host: api.test\r\nContent-Type: application/json\r\nContent-Length: {len(envelope)}\r\n\r\n".encode()

    batch = await ask(plain.port, b"POST http://api.test/batch HTTP/1.1\r\n" + fields + envelope)

    assert (batch.status, api.targets) == (207, ["/x"])
