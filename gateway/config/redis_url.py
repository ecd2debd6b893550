"""Where a Redis or Valkey is: the URLs that are understood, and how they are shown. Pure.

A URL may hold a password: no message repeats it, and every dump hides it.
"""

import re
from typing import Annotated
from urllib.parse import SplitResult, urlsplit

from pydantic import AfterValidator, PlainSerializer

from gateway.config.secret import HIDDEN
from gateway.config.section import Text

_SCHEMES = ("redis", "rediss", "unix", "redis+sentinel", "redis+cluster", "rediss+cluster")
SCHEMES_SHOWN = "redis://, rediss://, unix://, redis+sentinel:// or redis+cluster://"


def is_redis(url: str) -> bool:
    """Whether the URL begins as one of a Redis does."""
    return url.partition("://")[0] in _SCHEMES and "://" in url


def redis_url(url: str) -> str:
    """The URL as it is. Raises ValueError with the cure where it cannot be read."""
    if not is_redis(url):
        raise ValueError(f"must begin with {SCHEMES_SHOWN}")
    if not re.fullmatch(r"[!-~]{1,2048}", url):
        raise ValueError("must be a URL in plain ASCII without spaces")
    if "#" in url:
        raise ValueError("must not have a fragment; a # in a password is written %23")
    try:
        parts = urlsplit(url)
        ports = [urlsplit(f"//{place}").port for place in _places(parts)]
    except ValueError:
        raise ValueError("has a host or port that cannot be read; write redis://HOST:PORT") from None
    for is_wrong, message in _faults(parts, ports):
        if is_wrong:
            raise ValueError(message)
    return url


def shown(url: str) -> str:
    """The URL without its password, and without what stands behind a question mark."""
    if not is_redis(url):
        return url
    scheme, _, rest = url.partition("://")
    rest, mark, _ = rest.partition("?")
    before, at, place = rest.rpartition("@")
    user, colon, _ = before.partition(":")
    return f"{scheme}://{user}{colon and ':' + HIDDEN}{at}{place}{mark and mark + HIDDEN}"


def _places(parts: SplitResult) -> list[str]:
    return parts.netloc.rpartition("@")[2].split(",")


def _faults(parts: SplitResult, ports: list[int | None]) -> list[tuple[bool, str]]:
    kind = parts.scheme.partition("+")[2]
    is_alone = not kind
    has_hosts = all(urlsplit(f"//{place}").hostname for place in _places(parts))
    is_socket = parts.scheme == "unix"
    path = parts.path.strip("/")
    return [
        (is_socket and len(parts.path) < 2, "must name a socket: unix:///run/redis.sock"),
        (not is_socket and not has_hosts, "must name a host, such as redis://127.0.0.1:6379"),
        (0 in ports, "must have a port between 1 and 65535, or none"),
        (
            is_alone and not is_socket and len(ports) > 1,
            "names several hosts; use redis+cluster:// or redis+sentinel://",
        ),
        (bool(kind) and bool(parts.query), "must not have a query; only redis://, rediss:// and unix:// take options"),
        (kind == "sentinel" and not path, "must name the service: redis+sentinel://HOST:PORT/SERVICE"),
        (kind == "sentinel" and not re.fullmatch(r"[^/]+(/[0-9]+)?", path), "must end in /SERVICE or /SERVICE/DB"),
        (
            is_alone and not is_socket and not re.fullmatch(r"[0-9]*", path),
            "must end in the number of a database, or none",
        ),
    ]


RedisUrl = Annotated[Text, AfterValidator(redis_url), PlainSerializer(shown, return_type=str)]
