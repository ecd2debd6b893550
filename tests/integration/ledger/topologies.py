"""More than one server: a cluster of three nodes, and a primary with its replica under a sentinel."""

import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import redis

from tests.contract.stores import binary, spawn
from tests.fakes.ports import free_port
from tests.integration.ledger.servers import Server

WITHIN_S = 15.0
SLOTS = ((0, 5460), (5461, 10922), (10923, 16383))


@contextmanager
def cluster(store: str, *options: str) -> Iterator[list[Server]]:
    with tempfile.TemporaryDirectory() as folder:
        nodes = [Server(store, Path(folder) / str(i)) for i in range(len(SLOTS))]
        buses = [free_port() for _ in nodes]
        try:
            for node, bus in zip(nodes, buses, strict=True):
                node.start(*clustered(bus), *options)
            for node, slots in zip(nodes, SLOTS, strict=True):
                node.ask("CLUSTER", "ADDSLOTSRANGE", *slots)
            for node, bus in zip(nodes[1:], buses[1:], strict=True):
                nodes[0].ask("CLUSTER", "MEET", "127.0.0.1", node.port, bus)
            yield nodes
        finally:
            for node in nodes:
                node.kill()


def clustered(bus: int) -> tuple[str, ...]:
    return "--cluster-enabled", "yes", "--cluster-port", str(bus), "--cluster-node-timeout", "2000"


def is_whole(nodes: list[Server]) -> bool:
    told = [cluster_info(node) for node in nodes]
    return all("cluster_state:ok" in each and "cluster_known_nodes:3" in each for each in told)


def cluster_info(node: Server) -> str:
    with redis.Redis.from_url(node.url, decode_responses=True) as client:
        found = client.execute_command("CLUSTER INFO")
    return "\n".join(f"{name}:{value}" for name, value in found.items())


@contextmanager
def behind_sentinel(kind: str) -> Iterator[tuple[Server, Server, str]]:
    """A primary, its replica, and the URL of a service that one sentinel watches."""
    with tempfile.TemporaryDirectory() as folder:
        primary, replica = (Server(kind, Path(folder) / name) for name in ("primary", "replica"))
        watched = Path(folder) / "sentinel.conf"
        port = free_port()
        sentinel: subprocess.Popen[bytes] | None = None
        try:
            primary.start("--repl-diskless-sync-delay", "0")
            replica.start("--replicaof", f"127.0.0.1 {primary.port}")
            watched.write_text(
                f"port {port}\nbind 127.0.0.1\ndir {folder}\nlogfile {folder}/sentinel.log\n"
                f"sentinel monitor ledger 127.0.0.1 {primary.port} 1\n"
                "sentinel down-after-milliseconds ledger 1000\nsentinel failover-timeout ledger 3000\n"
            )
            sentinel = spawn(binary(kind), str(watched), "--sentinel")
            yield primary, replica, f"redis+sentinel://127.0.0.1:{port}/ledger"
        finally:
            for server in (primary, replica):
                server.kill()
            if sentinel is not None:
                sentinel.kill()
                sentinel.wait(10)


def knows_replica(url: str) -> bool:
    port = int(url.split(":")[2].split("/")[0])
    with suppress(redis.RedisError), redis.Redis(port=port, decode_responses=True) as client:
        return len(client.sentinel_slaves("ledger")) == 1
    return False


def all_keys(node: Server) -> list[str]:
    with redis.Redis.from_url(node.url, decode_responses=True) as client:
        return [str(key) for key in client.scan_iter(count=1000)]
