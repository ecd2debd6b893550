"""The two listeners, the log, draining and reloading: the sections about the gateway itself."""

import ipaddress
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, Strict

from gateway.config.secret import Secret
from gateway.config.section import Duration, Host, Section, Size, Timeout


def _network(written: str) -> str:
    try:
        return str(ipaddress.ip_network(written))
    except ValueError:
        raise ValueError("must be a network such as 10.0.0.0/8 or fd00::/8, without bits behind the prefix") from None


class Listen(Section):
    """The traffic listener: batches and everything that is passed through."""

    host: Host = Field(default="0.0.0.0", description="Address to listen on.")  # noqa: S104 - a sidecar serves its pod
    port: int = Field(default=8207, ge=0, le=65535, description="Port to listen on; 0 picks a free one.")
    header_timeout: Timeout = Field(default=10.0, description="From connect or the previous answer to a whole head.")
    idle_timeout: Timeout = Field(default=75.0, description="How long a connection may wait for its next request.")
    stream_idle_timeout: Duration = Field(
        default=3600.0, description="A tunnel or streamed answer that moves no byte either way; 0s is no limit."
    )
    rate_min: Size = Field(default=1024, description="Slowest a body may come or an answer be read, per second.")
    rate_grace: Timeout = Field(default=10.0, description="How long a caller may stay below rate_min.")
    body_buffer: Size = Field(
        default=64 * 1024, description="How much of a request's body is here before the upstream hears of the request."
    )
    trusted_proxies: Annotated[tuple[Annotated[str, AfterValidator(_network)], ...], Strict(False)] = Field(
        default=(),
        description="Networks of the proxies in front whose X-Forwarded-* and X-Real-IP are believed.",
        examples=[["10.0.0.0/8"]],
    )
    line_max: Size = Field(default=8 * 1024, description="Longest request line.")
    field_max: Size = Field(default=16 * 1024, description="Longest header field.")
    head_max: Size = Field(default=64 * 1024, description="Largest head: request line and all fields.")
    fields_max: int = Field(default=256, ge=1, le=10_000, description="Most header fields of one request.")
    connections_max: int = Field(
        default=0, ge=0, le=1_000_000, description="Most connections at once; 0 is half of the descriptor limit."
    )


class Admin(Section):
    """The admin listener: health, metrics, configuration, drain."""

    host: Host = Field(default="127.0.0.1", description="Address to listen on; the chart sets the pod's.")
    port: int = Field(default=9207, ge=0, le=65535, description="Port to listen on; 0 picks a free one.")
    token: Secret | None = Field(
        default=None,
        description="Bearer token for guarded pages; without it only loopback sees them.",
        examples=[{"fromEnv": "ADMIN_TOKEN"}],
    )


class Log(Section):
    """What is written to standard error."""

    level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="Least severe level written."
    )
    format: Literal["auto", "json", "pretty"] = Field(
        default="auto", description="json or pretty; auto is pretty on a terminal and json elsewhere."
    )
    access: bool = Field(default=True, description="One line per envelope and per request passed through.")


class Drain(Section):
    """How the gateway goes away."""

    delay: Duration = Field(default=5.0, description="Still accepting after readiness is gone: endpoints lag.")
    stream_grace: Duration = Field(
        default=1.0, description="How long WebSocket tunnels and event streams may go on after that."
    )
    timeout: Timeout = Field(default=25.0, description="How long everything that is running may take to finish.")


class Reload(Section):
    """How a changed configuration is noticed."""

    interval: Duration = Field(
        default=1.0, description="How often its files are looked at; 0s is never, then SIGHUP and POST /reload alone."
    )
