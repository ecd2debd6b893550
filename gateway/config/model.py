"""The whole configuration as one frozen value."""

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, PlainSerializer, Strict

from gateway.config.asynchronous import Asynchronous
from gateway.config.batch import Batch
from gateway.config.dialects import Dialects
from gateway.config.identity import Identity
from gateway.config.limits import Limit, Limiter
from gateway.config.listeners import Admin, Drain, Listen, Log, Reload
from gateway.config.replay import Replay
from gateway.config.routes import Route
from gateway.config.section import Section
from gateway.config.upstream import Upstream

DEFAULT_UPSTREAM = "default"
# No upper case, so that a variable's name (lower-cased) can reach every entry; no dots, which separate levels.
UPSTREAM_NAME_PATTERN = r"^[a-z0-9_-]{1,64}$"


def _named(upstreams: Mapping[str, Upstream]) -> Mapping[str, Upstream]:
    if not all(re.fullmatch(UPSTREAM_NAME_PATTERN, name) for name in upstreams):
        raise ValueError("names must be 1 to 64 of a-z, 0-9, _ and -")
    return MappingProxyType(dict(upstreams))


Upstreams = Annotated[
    Mapping[str, Upstream], AfterValidator(_named), PlainSerializer(dict, return_type=dict[str, Upstream])
]


class Config(Section):
    """Everything the gateway can be told."""

    version: Literal[1] = Field(default=1, description="Version of this file's words.")
    listen: Listen = Field(default=Listen(), description="The traffic listener.")
    admin: Admin = Field(default=Admin(), description="The admin listener: health, metrics, configuration, drain.")
    upstream: Upstream | None = Field(
        default=None,
        description="The API behind the gateway; either this or `upstreams`.",
        examples=[{"url": "http://127.0.0.1:8080"}],
    )
    upstreams: Upstreams | None = Field(
        default=None,
        description="Several APIs by name, `default` among them; a route chooses with `upstream`.",
        examples=[{"default": {"url": "http://127.0.0.1:8080"}, "reports": {"url": "http://127.0.0.1:8090"}}],
    )
    routes: Annotated[tuple[Route, ...], Strict(False)] | None = Field(
        default=None,
        description="Absent: a batch may use every path. Present: only these, the first match decides.",
        examples=[[{"path": "/users/{id}", "methods": ["GET", "PUT"]}]],
    )
    limits: Annotated[tuple[Limit, ...], Strict(False)] = Field(
        default=(),
        description="Token buckets that operations and lone requests take from.",
        examples=[[{"name": "per-caller", "key": "caller", "rate": "100/s"}]],
    )
    limiter: Limiter = Field(default=Limiter(), description="Where the buckets of `limits` are counted.")
    batch: Batch = Field(default=Batch(), description="The batch endpoint.")
    async_: Asynchronous = Field(
        default=Asynchronous(),
        alias="async",
        description="Batches that are answered with 202 and run in the background.",
    )
    dialects: Dialects = Field(
        default=Dialects(),
        description="Vendors' batch formats to speak, each mounted where its own clients look.",
        examples=[{"google": {}}],
    )
    replay: Replay = Field(default=Replay(), description="Idempotency keys: what makes a batch safe to send again.")
    identity: Identity = Field(default=Identity(), description="Who a caller is.")
    log: Log = Field(default=Log(), description="What is written to standard error.")
    drain: Drain = Field(default=Drain(), description="How the gateway goes away.")
    reload: Reload = Field(default=Reload(), description="How a changed configuration is noticed.")

    @property
    def all_upstreams(self) -> Mapping[str, Upstream]:
        """Every upstream by name; a single `upstream` is `default`."""
        if self.upstreams is not None:
            return self.upstreams
        return MappingProxyType({DEFAULT_UPSTREAM: self.upstream} if self.upstream else {})
