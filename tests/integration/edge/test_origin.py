"""What the upstream is told of where a request came from, and whose address a bucket and the log see."""

import json
from collections.abc import Sequence

import pytest

from tests.integration.server.api import Api
from tests.integration.server.gateways import gateway
from tests.integration.server.wire import get, post_batch

Fields = Sequence[tuple[str, str]]

LOOPBACK = json.dumps({"listen": {"trusted_proxies": ["127.0.0.0/8", "10.0.0.0/8", "fd00::/8"]}})
ELSEWHERE = json.dumps({"listen": {"trusted_proxies": ["10.0.0.0/8"]}})
CHAIN = ("X-Forwarded-For", "203.0.113.9")
SAID: Fields = [CHAIN, ("X-Forwarded-Proto", "https"), ("X-Forwarded-Host", "api.example")]


async def told(api: Api, port: int, fields: Fields, *, batched: bool) -> dict[str, str | None]:
    """What the upstream was told of a request, or of an operation, with these fields."""
    if batched:
        assert (await post_batch(port, [{"method": "GET", "path": "/x"}], *fields)).status == 207
    else:
        assert (await get(port, "/x", *fields)).status == 200
    names = ("X-Forwarded-For", "X-Forwarded-Proto", "X-Forwarded-Host", "Forwarded")
    return {name: api.last.header(name) for name in names}


@pytest.mark.parametrize("batched", [False, True], ids=["lone", "operation"])
@pytest.mark.parametrize("settings", ["", ELSEWHERE], ids=["nobody is trusted", "another is trusted"])
async def test_a_peer_that_is_not_trusted_says_nothing_about_itself(api: Api, settings: str, batched: bool) -> None:
    async with gateway(api.url, settings) as running:
        heard = await told(api, running.port, [*SAID, ("Forwarded", "for=203.0.113.9")], batched=batched)

    assert heard == {
        "X-Forwarded-For": "127.0.0.1", "X-Forwarded-Proto": "http", "X-Forwarded-Host": "api.test", "Forwarded": None,
    }  # fmt: skip


@pytest.mark.parametrize("batched", [False, True], ids=["lone", "operation"])
async def test_a_trusted_proxy_is_believed_and_added(api: Api, batched: bool) -> None:
    async with gateway(api.url, LOOPBACK) as running:
        heard = await told(api, running.port, [*SAID, ("Forwarded", "for=203.0.113.9")], batched=batched)
        twice = await told(api, running.port, [CHAIN, ("x-forwarded-for", "10.1.1.1")], batched=batched)
        nothing = await told(api, running.port, [], batched=batched)

    assert heard == {
        "X-Forwarded-For": "203.0.113.9, 127.0.0.1", "X-Forwarded-Proto": "https", "X-Forwarded-Host": "api.example",
        "Forwarded": None,
    }  # fmt: skip
    assert twice["X-Forwarded-For"] == "203.0.113.9, 10.1.1.1, 127.0.0.1"
    assert (nothing["X-Forwarded-For"], nothing["X-Forwarded-Proto"]) == ("127.0.0.1", "http")


@pytest.mark.parametrize("mode", ["lone", "in place", "on record"])
@pytest.mark.parametrize(
    ("settings", "said", "heard"),
    [
        ("", ["203.0.113.9"], "127.0.0.1"),
        (LOOPBACK, ["203.0.113.9"], "203.0.113.9"),
        (LOOPBACK, ["::ffff:203.0.113.9"], "203.0.113.9"),
        (LOOPBACK, ["203.0.113.9", "203.0.113.8"], "198.51.100.1"),
        (LOOPBACK, ["somebody"], "198.51.100.1"),
        (LOOPBACK, [], None),
    ],
)
async def test_x_real_ip_is_there_where_it_came_and_is_true(
    api: Api, settings: str, said: list[str], heard: str | None, mode: str
) -> None:
    fields = [("X-Forwarded-For", "198.51.100.1"), ("X-Forwarded-Port", "443"), *(("X-Real-IP", each) for each in said)]
    async with gateway(api.url, settings, async__ledger="sqlite::memory:") as running:
        if mode == "lone":
            await get(running.port, "/x", *fields)
        else:
            wish = [("Prefer", "respond-async")] if mode == "on record" else []
            await post_batch(running.port, [{"method": "GET", "path": "/x"}], *fields, *wish)
        await api.until(1)

    if mode == "on record" and said and settings:  # what is put on record is the caller's address alone
        heard = "198.51.100.1"
    assert api.last.header("X-Real-IP") == heard
    assert api.last.header("X-Forwarded-Port") == ("443" if settings and mode != "on record" else None)


@pytest.mark.parametrize(
    "fields",
    [
        [("X-Forwarded-Proto", "gopher"), ("X-Forwarded-Host", "a/b")],
        [("X-Forwarded-Proto", "https"), ("X-Forwarded-Proto", "http"), ("X-Forwarded-Host", "a, b")],
        [("X_Forwarded_Proto", "https"), ("X-Forwarded-Host", "a"), ("X-Forwarded-Host", "a")],
        [("X-Forwarded-For", "\xff\xfe")],
    ],
)
async def test_what_a_trusted_proxy_says_wrongly_is_replaced(api: Api, fields: Fields) -> None:
    async with gateway(api.url, LOOPBACK) as running:
        heard = await told(api, running.port, fields, batched=False)

    assert heard["X-Forwarded-For"] == "127.0.0.1"
    assert (heard["X-Forwarded-Proto"], heard["X-Forwarded-Host"]) == ("http", "api.test")


@pytest.mark.parametrize(
    ("chain", "same_as"),
    [
        ("203.0.113.9", "8.8.8.8, 203.0.113.9"),  # what stands left of the first stranger is made up
        ("203.0.113.9", "203.0.113.9, 10.1.1.1, 10.2.2.2"),
        ("203.0.113.9", "203.0.113.9:4711"),
        ("203.0.113.9", "::ffff:203.0.113.9"),
        ("2001:db8::1", "[2001:db8::1]:80, fd00::1"),
        ("127.0.0.1", "203.0.113.9, unknown"),
    ],
)
async def test_the_caller_is_the_right_most_address_that_is_not_trusted(api: Api, chain: str, same_as: str) -> None:
    limits = {"limits": [{"name": "per-ip", "key": "ip", "rate": "1/h", "burst": 1}]}

    async with gateway(api.url, json.dumps(json.loads(LOOPBACK) | limits)) as running:
        statuses = [
            (await get(running.port, "/x", ("X-Forwarded-For", "198.51.100.1"))).status,
            (await get(running.port, "/x", ("X-Forwarded-For", chain))).status,
            (await get(running.port, "/x", ("X-Forwarded-For", same_as))).status,
            (await post_batch(running.port, [{"method": "GET", "path": "/x"}], ("X-Forwarded-For", same_as))).status,
        ]

    assert statuses == [200, 200, 429, 429]
