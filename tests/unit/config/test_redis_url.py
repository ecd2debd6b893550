"""The URLs of a Redis: which are understood, what is said of the others, and that none shows its password."""

from collections.abc import Callable

import pytest

from gateway.config import Loaded, effective
from gateway.config.redis_url import redis_url, shown
from gateway.redis_client import connect

Read = Callable[..., Loaded]
Refused = Callable[..., list[str]]

_GOOD = [
    "redis://127.0.0.1:6379/0",
    "rediss://user:p%40ss@redis.internal/3?ssl_ca_certs=/etc/ca.pem",
    "redis://[::1]:6379",
    "unix:///run/redis.sock",
    "unix:///run/redis.sock?db=2",
    "redis+sentinel://:word@a:26379,b:26379,c/primary/1",
    "redis+cluster://a:7000,b:7001",
    "rediss+cluster://a",
]


@pytest.mark.parametrize("url", _GOOD)
async def test_a_good_url_is_taken_as_it_is_and_makes_a_client(url: str) -> None:
    taken = redis_url(url)

    await connect(taken, timeout_s=1.0, connections_max=2).aclose()

    assert taken == url


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("mysql://a", "must begin with redis://"),
        ("redis:a", "must begin with redis://"),
        ("redis://a b", "plain ASCII"),
        ("redis://a:port", "host or port that cannot be read"),
        ("redis://a:0", "port between 1 and 65535"),
        ("redis://", "must name a host"),
        ("redis://:word@", "must name a host"),
        ("redis://a/zero", "number of a database"),
        ("redis://a:1,b:2", "names several hosts"),
        ("redis://:pa#ss@a", "%23"),
        ("unix://", "must name a socket"),
        ("redis+sentinel://a:1", "must name the service"),
        ("redis+sentinel://a:1/primary/x", "must end in /SERVICE"),
        ("redis+cluster://a:1,,b:2", "must name a host"),
        ("redis+cluster://a?ssl=1", "must not have a query"),
    ],
)
def test_a_bad_url_is_refused_with_the_cure(url: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        redis_url(url)


@pytest.mark.parametrize(
    ("url", "seen"),
    [
        ("redis://a:1/0", "redis://a:1/0"),
        ("redis://user:word@a:1", "redis://user:[hidden]@a:1"),
        ("redis://:word@a:1/2?password=word", "redis://:[hidden]@a:1/2?[hidden]"),
        ("redis+sentinel://u:w@a,b/s", "redis+sentinel://u:[hidden]@a,b/s"),
        ("sqlite:/a/b@c:d", "sqlite:/a/b@c:d"),
    ],
)
def test_a_password_is_never_shown(url: str, seen: str) -> None:
    assert shown(url) == seen


def test_a_dump_of_the_configuration_hides_the_password_and_keeps_the_place(read: Read) -> None:
    loaded = read("upstream: {url: http://a}\nasync: {ledger: 'redis://:w0rd@r:1', key: {value: 0123456789abcdef}}")

    assert "redis://:[hidden]@r:1" in effective(loaded)
    assert "w0rd" not in effective(loaded)


def test_a_refusal_does_not_repeat_the_password(refused: Refused) -> None:
    lines = refused(
        "upstream: {url: http://a}\nasync: {ledger: 'redis://:w0rd@r:port', key: {value: 0123456789abcdef}}"
    )

    assert lines == [
        "<stdin>:2:17: async.ledger: has a host or port that cannot be read; write redis://HOST:PORT",
    ]


def test_a_key_from_an_environment_that_lacks_it_is_one_problem(refused: Refused) -> None:
    lines = refused("upstream: {url: http://a}\nasync: {ledger: 'redis://r', key: {fromEnv: NONE}}")

    assert lines == ["<stdin>:2:35: async.key: fromEnv: no such environment variable"]
