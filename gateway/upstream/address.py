"""Where an upstream listens, and how much of everything it gets."""

import ssl
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Address:
    """Where the upstream listens: `host` and `port`, or the Unix socket `path`; `tls` verifies `server_name`."""

    host: str = ""
    port: int = 0
    path: str | None = None
    tls: ssl.SSLContext | None = None
    server_name: str | None = None

    def __str__(self) -> str:
        return self.path or f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class PoolLimits:
    """How much of everything one upstream gets; times in seconds.

    `batched_max`: connections that batches may take. `streams_max`: those that uploads still to come may take, and that
    answers which nobody reads may keep. `lone_waiting_max`, `batched_waiting_max`: forwarded requests, and operations,
    in line for one.
    """

    connections_max: int = 100
    batched_max: int = 10_000
    streams_max: int = 10_000
    lone_waiting_max: int = 1000
    batched_waiting_max: int = 10_000
    pipelining_max: int = 1
    connect_timeout_s: float = 2.0
    idle_timeout_s: float = 4.0
    retries_percent: int = 10
    retries_per_s: int = 1
    breaks: bool = True
    adapts: bool = True
