"""From a URL to a client of Redis or Valkey: alone, behind Sentinel, or a cluster.

    redis://, rediss://, unix://                               one server, as redis-py reads these URLs
    redis+sentinel://[user:password@]host:port,.../service[/db]   the primary that the sentinels name
    redis+cluster://[user:password@]host:port,...              a cluster; `rediss+cluster://` with TLS

Nothing is ever sent twice: redis-py would by itself execute a command up to eleven times (PROMISES 1.2).
"""

from typing import Any
from urllib.parse import SplitResult, unquote, urlsplit

from redis.asyncio import BlockingConnectionPool, Redis, RedisCluster
from redis.asyncio.cluster import ClusterNode
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel, SentinelConnectionPool
from redis.backoff import NoBackoff
from redis.exceptions import RedisClusterException, RedisError

Client = Redis | RedisCluster
FAILURES = (RedisError, RedisClusterException, OSError)  # TimeoutError is an OSError
"""What a call raises when the server cannot be used; a cluster that is not whole raises what is no RedisError."""

_PORT = {"sentinel": 26379, "cluster": 6379}
_PROTOCOL = 2  # RESP3 brings nothing here, and makes redis-py ask each server for maintenance notices


def connect(url: str, *, timeout_s: float, connections_max: int) -> Client:
    """A client that connects when it is first used. Raises `ValueError` for a URL that it cannot read."""
    parts = urlsplit(url)
    options: dict[str, Any] = {
        "retry": Retry(NoBackoff(), 0),
        "protocol": _PROTOCOL,
        "socket_timeout": None,  # every call has a deadline of its own
        "socket_connect_timeout": timeout_s,
    }
    match parts.scheme:
        case "redis" | "rediss" | "unix":
            pool = BlockingConnectionPool.from_url(url, max_connections=connections_max, timeout=timeout_s, **options)
            return Redis.from_pool(pool)  # which closes the pool with the client
        case "redis+sentinel":
            return _behind_sentinels(parts, timeout_s, connections_max, options)
        case "redis+cluster" | "rediss+cluster":
            nodes = [ClusterNode(host, port) for host, port in _addresses(parts, _PORT["cluster"])]
            tls = parts.scheme.startswith("rediss")
            options |= {"ssl": tls, "max_connections": connections_max, **_credentials(parts)}
            return RedisCluster(startup_nodes=nodes, **options)
    raise ValueError(f"nothing in Redis has the scheme {parts.scheme!r}")


async def close(client: Client) -> None:
    """Closes the client, and what redis-py leaves open: the nodes of a cluster that failed, and clients that it asks
    sentinels with."""
    await client.aclose()
    if isinstance(client, RedisCluster):
        await client.nodes_manager.aclose()
        await client.nodes_manager.aclose("startup_nodes")
    if isinstance(client, Redis) and isinstance(client.connection_pool, SentinelConnectionPool):
        for sentinel in client.connection_pool.sentinel_manager.sentinels:
            await sentinel.aclose()


def _behind_sentinels(parts: SplitResult, timeout_s: float, connections_max: int, options: dict[str, Any]) -> Client:
    service, _, db = parts.path.strip("/").partition("/")
    if not service:
        raise ValueError("a redis+sentinel:// URL names the service: redis+sentinel://host:port/service")
    asked = {"socket_timeout": timeout_s, "socket_connect_timeout": timeout_s, "retry": options["retry"], "protocol": 2}
    sentinel = Sentinel(_addresses(parts, _PORT["sentinel"]), sentinel_kwargs=asked)  # type: ignore[no-untyped-call]
    options |= {"db": int(db or 0), "max_connections": connections_max, **_credentials(parts)}
    client: Redis = sentinel.master_for(service, **options)
    return client


def _addresses(parts: SplitResult, port: int) -> list[tuple[str, int]]:
    addresses = []
    for place in parts.netloc.rpartition("@")[2].split(","):
        one = urlsplit(f"//{place}")
        if not one.hostname:
            raise ValueError("the URL of a cluster or of sentinels names at least one host")
        addresses.append((one.hostname, one.port or port))
    return addresses


def _credentials(parts: SplitResult) -> dict[str, str]:
    user, _, password = parts.netloc.rpartition("@")[0].partition(":")
    named = {"username": unquote(user), "password": unquote(password)}
    return {name: value for name, value in named.items() if value}
