"""The API behind the gateway: where it is, how patiently it is asked, and how its TLS is checked."""

import re
from typing import Annotated
from urllib.parse import SplitResult, urlsplit

from pydantic import AfterValidator, Field

from gateway.config.section import Section, Size, Text, Timeout


class Tls(Section):
    """TLS towards an https upstream; the system's authorities unless told otherwise."""

    ca_file: Text | None = Field(
        default=None, description="PEM file of the authorities to trust instead.", examples=["/etc/gateway/ca.pem"]
    )
    server_name: Text | None = Field(
        default=None, description="Name to ask for and to check, if not the URL's.", examples=["api.internal"]
    )
    client_cert: Text | None = Field(
        default=None, description="PEM file of our certificate, for mutual TLS.", examples=["/etc/gateway/client.pem"]
    )
    client_key: Text | None = Field(
        default=None, description="PEM file of its key.", examples=["/etc/gateway/client.key"]
    )


def _url(url: str) -> str:
    """The URL without a slash at its end. No message repeats it, for it may hold a password."""
    if not re.fullmatch(r"[!-~]{1,2048}", url):
        raise ValueError("must be a URL in plain ASCII without spaces")
    if not url.startswith(("http://", "https://", "http+unix://")):
        raise ValueError("must begin with http://, https:// or http+unix://")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise ValueError("has a host or port that cannot be read; write http://HOST:PORT") from None
    for is_wrong, message in _url_faults(url, parts, port):
        if is_wrong:
            raise ValueError(message)
    return url.rstrip("/")


def _url_faults(url: str, parts: SplitResult, port: int | None) -> list[tuple[bool, str]]:
    is_socket = parts.scheme == "http+unix"
    host = parts.hostname or ""
    return [
        ("@" in parts.netloc, "must not hold a user or password; callers' own headers travel through"),
        ("?" in url, "must not have a query; operations bring their own"),
        ("#" in url, "must not have a fragment; leave out the # and what follows"),
        (is_socket and (bool(parts.netloc) or len(parts.path) < 2), "must name a socket: http+unix:///run/app.sock"),
        (
            not is_socket and not re.fullmatch(r"[a-z0-9._:%-]+", host),
            "must name a host, such as http://127.0.0.1:8080",
        ),
        (not is_socket and (port == 0 or parts.netloc.endswith(":")), "must have a port between 1 and 65535, or none"),
        (
            not is_socket and parts.path not in ("", "/"),
            "must not have a path; paths pass through as they come: end after host and port",
        ),
    ]


class Upstream(Section):
    """One API behind the gateway."""

    url: Annotated[str, AfterValidator(_url)] = Field(
        description="Where it listens: http://, https:// or http+unix:///path/of/socket; no path, query or user.",
        examples=["http://127.0.0.1:8080", "https://api.internal", "http+unix:///run/app.sock"],
    )
    connect_timeout: Timeout = Field(default=2.0, description="To connect, TLS included.")
    timeout: Timeout = Field(
        default=30.0, description="From sending an operation to its whole answer; a route may differ."
    )
    connections: int = Field(default=100, ge=1, le=10_000, description="Most connections at once.")
    batch_percent: int = Field(
        default=80,
        ge=1,
        le=100,
        description="Most of them that batches may take, in percent; the rest is for others.",
    )
    streams_percent: int = Field(
        default=50,
        ge=1,
        le=100,
        description="Most of them for uploads still to come, and for answers that nobody reads, in percent.",
    )
    waiting_max: int = Field(
        default=10_000, ge=1, le=1_000_000, description="Most operations of batches in line for one; more are 503."
    )
    requests_waiting_max: int = Field(
        default=1000, ge=1, le=1_000_000, description="Most forwarded requests in line for one; more are 503 at once."
    )
    pipelining: int = Field(
        default=1, ge=1, le=64, description="Safe requests in flight on one connection; 1 is no pipelining."
    )
    idle_timeout: Timeout = Field(
        default=4.0, description="Close an idle connection after this; keep it below the upstream's own keep-alive."
    )
    answer_max: Size = Field(default=10 * 1024**2, description="Largest answer of one operation.")
    retries: int = Field(
        default=2, ge=0, le=2, description="Extra sends of one operation at most, where a retry is safe."
    )
    retry_percent: int = Field(
        default=10, ge=0, le=100, description="Extra sends of all operations at most, for each 100 of the last 10 s."
    )
    retries_per_second: int = Field(
        default=1, ge=0, le=1000, description="Extra sends on top of that, for an upstream with little traffic."
    )
    breaker: bool = Field(
        default=True, description="Batches, never other requests, stop asking for a while when half of all fails."
    )
    adaptive_concurrency: bool = Field(
        default=True, description="Fewer operations of batches at once where it slows down or says 429 or 503."
    )
    tls: Tls = Field(
        default=Tls(), description="TLS towards an https upstream.", examples=[{"ca_file": "/etc/gateway/ca.pem"}]
    )
