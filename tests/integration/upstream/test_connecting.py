"""Ways not to get a connection: each has its slug, ends in time, and nothing of a request was sent."""

import asyncio
import datetime
import socket
import ssl
import warnings
from collections.abc import Callable, Iterator

import pytest
import trustme

from gateway.upstream.address import Address, PoolLimits
from tests.fakes.asking import Asking, slug_of
from tests.fakes.machine import Stopwatch
from tests.fakes.upstream import ScriptedUpstream, Then

AUTHORITY = trustme.CA()


@pytest.fixture
def closed_port() -> Iterator[int]:
    """A port that is bound, so that nobody else gets it, but not listened to."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()[1]


@pytest.fixture
def full_port() -> Iterator[int]:
    """A listener that accepts nothing and whose backlog is full."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        filling = [socket.socket() for _ in range(8)]
        for one in filling:
            one.setblocking(False)
            one.connect_ex(listener.getsockname())
        yield listener.getsockname()[1]
        for one in filling:
            one.close()


def server_tls(certificate: trustme.LeafCert) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(context)
    return context


def client_tls(authority: trustme.CA = AUTHORITY) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_refused_connection_is_tried_three_times(closed_port: int, method: str) -> None:
    async with Asking(Address("127.0.0.1", closed_port)) as client:
        exchange = await client.ask(method)

    assert (exchange.status, slug_of(exchange), exchange.attempt) == (502, "upstream-connect", 3)


async def test_all_that_wait_hear_of_a_refused_connection(closed_port: int) -> None:
    async with Asking(Address("127.0.0.1", closed_port), PoolLimits(connections_max=2)) as client:
        with Stopwatch() as watch:
            exchanges = await client.ask_all(*[("POST", "/")] * 20)

    assert {slug_of(exchange) for exchange in exchanges} == {"upstream-connect"}
    assert watch.ran_s < 2


async def test_a_missing_unix_socket_is_a_refused_connection() -> None:
    async with Asking(Address(path="/nonexistent/up.sock")) as client:
        exchange = await client.ask("POST")

    assert slug_of(exchange) == "upstream-connect"


async def test_a_name_that_does_not_resolve_is_a_refused_connection() -> None:
    async with Asking(Address("upstream.invalid", 80)) as client:
        exchange = await client.ask("POST", timeout_s=10)

    assert slug_of(exchange) == "upstream-connect"


async def test_a_connection_that_is_not_accepted_ends_with_the_connect_timeout(full_port: int) -> None:
    async with Asking(Address("127.0.0.1", full_port), PoolLimits(connect_timeout_s=0.2)) as client:
        with Stopwatch() as watch:
            exchange = await client.ask("POST", retries_max=0)

    assert slug_of(exchange) == "upstream-connect"
    assert watch.took_s >= 0.19
    assert watch.ran_s < 0.45


async def test_a_deadline_before_the_connect_timeout_is_kept(full_port: int) -> None:
    async with Asking(Address("127.0.0.1", full_port), PoolLimits(connect_timeout_s=5)) as client:
        with Stopwatch() as watch:
            exchange = await client.ask("POST", timeout_s=0.2)

    assert exchange.status in (502, 503)
    assert watch.took_s >= 0.19
    assert watch.ran_s < 0.45


@pytest.mark.parametrize("then", [Then.CLOSE, Then.RESET])
async def test_a_server_that_closes_what_it_accepts_holds_nobody_up(then: Then) -> None:
    async with ScriptedUpstream(on_accept=lambda _: then) as upstream, Asking(upstream.address) as client:
        exchanges = await asyncio.wait_for(client.ask_all(*[("GET", "/")] * 20, timeout_s=10), 3)

    assert {slug_of(exchange) for exchange in exchanges} <= {"upstream-reset", "upstream-connect"}
    assert upstream.requests == []


async def test_a_verified_upstream_is_answered_over_tls() -> None:
    tls = server_tls(AUTHORITY.issue_cert("localhost"))
    async with ScriptedUpstream(tls=tls, client_tls=client_tls()) as upstream, Asking(upstream.address) as client:
        exchanges = await client.ask_all(*[("POST", f"/{number}") for number in range(10)])

    assert [exchange.body for exchange in exchanges] == [b"POST /%d" % number for number in range(10)]


def _expired() -> ssl.SSLContext:
    past = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=2)
    return server_tls(AUTHORITY.issue_cert("localhost", not_before=past, not_after=past + datetime.timedelta(days=1)))


def _old_version() -> ssl.SSLContext:
    context = server_tls(AUTHORITY.issue_cert("localhost"))
    context.set_ciphers("DEFAULT:@SECLEVEL=0")
    with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
        context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
    return context


UNTRUSTED: dict[str, Callable[[], ssl.SSLContext]] = {
    "another name": lambda: server_tls(AUTHORITY.issue_cert("elsewhere.test")),
    "a name that only begins alike": lambda: server_tls(AUTHORITY.issue_cert("localhost.elsewhere.test")),
    "an address in place of the name": lambda: server_tls(AUTHORITY.issue_cert("127.0.0.1")),
    "expired": _expired,
    "signed by nobody we know": lambda: server_tls(trustme.CA().issue_cert("localhost")),
}


@pytest.mark.parametrize("why", UNTRUSTED)
async def test_an_upstream_that_cannot_be_verified_is_refused_and_sent_nothing(why: str) -> None:
    async with (
        ScriptedUpstream(tls=UNTRUSTED[why](), client_tls=client_tls()) as upstream,
        Asking(upstream.address, PoolLimits(connections_max=2)) as client,
    ):
        exchanges = await client.ask_all(*[("GET", "/"), ("POST", "/")] * 3)

    assert {(exchange.status, slug_of(exchange)) for exchange in exchanges} == {(502, "upstream-tls")}
    assert exchanges[0].failure is not None
    assert exchanges[0].failure.detail == "the upstream's certificate was refused; not sent"
    assert upstream.requests == []


async def test_an_upstream_with_an_old_tls_is_sent_nothing() -> None:
    async with (
        ScriptedUpstream(tls=_old_version(), client_tls=client_tls()) as upstream,
        Asking(upstream.address) as client,
    ):
        exchange = await client.ask("POST")

    assert slug_of(exchange) in ("upstream-tls", "upstream-connect")  # the fake resets; others send an alert
    assert upstream.requests == []


async def test_a_plain_server_is_no_tls_upstream() -> None:
    async with (
        ScriptedUpstream(client_tls=client_tls()) as upstream,
        Asking(upstream.address, PoolLimits(connect_timeout_s=0.3)) as client,
    ):
        exchange = await client.ask("POST", timeout_s=2)

    assert slug_of(exchange) in ("upstream-tls", "upstream-connect")
    assert upstream.requests == []
