"""Limits: token buckets, who shares one, and what happens when it is empty."""

import re
from typing import Annotated, Literal, cast

from pydantic import AfterValidator, Field, Strict, WithJsonSchema

from gateway.config.redis_url import RedisUrl
from gateway.config.routes import Template
from gateway.config.section import PerTime, Section, Timeout
from gateway.config.units import Rate

NAME_PATTERN = r"^[a-z0-9-]{1,64}$"
KEY_PATTERN = r"^(caller|ip|global|header:[A-Za-z0-9!#$%&'*+.^_`|~-]{1,64})$"


def _name(name: str) -> str:
    if not re.fullmatch(NAME_PATTERN, name):
        raise ValueError("must be 1 to 64 of a-z, 0-9 and -")
    return name


def _key(key: str) -> str:
    if not re.fullmatch(KEY_PATTERN, key):
        raise ValueError("must be caller, ip, global or header:NAME")
    return key


def _tokens(fields: dict[str, object]) -> int:
    return cast(Rate, fields["rate"]).tokens


class Limiter(Section):
    """Where buckets are counted."""

    url: RedisUrl | None = Field(
        default=None,
        description="A Redis or Valkey that counts for all replicas together; absent: each counts for itself.",
        examples=["redis://redis:6379/0"],
    )
    fail: Literal["local", "open", "closed"] = Field(
        default="local",
        description="While it is away: local counts in each replica, open lets all pass, closed refuses with 503.",
    )
    timeout: Timeout = Field(default=0.25, description="How long a request waits for it.")


class Limit(Section):
    """One token bucket for each key."""

    name: Annotated[str, AfterValidator(_name), WithJsonSchema({"type": "string", "pattern": NAME_PATTERN})] = Field(
        description="Name in answers and metrics; unique.", examples=["per-caller"]
    )
    key: Annotated[str, AfterValidator(_key), WithJsonSchema({"type": "string", "pattern": KEY_PATTERN})] = Field(
        description="Who shares a bucket: caller, ip, global, or header:NAME for each value of a header.",
        examples=["caller", "header:X-Tenant"],
    )
    rate: PerTime = Field(description="Tokens that come back, per s, min or h.", examples=["100/s", "1000/min"])
    burst: int = Field(
        default_factory=_tokens,
        ge=1,
        le=1_000_000_000,
        description="Tokens that a full bucket holds; by default the number in `rate`.",
        examples=[1000],
    )
    on_exhausted: Literal["reject", "partial", "wait"] = Field(
        default="reject",
        description="reject refuses the envelope, partial runs what has tokens, wait waits within the deadline.",
    )
    routes: Annotated[tuple[Template, ...], Strict(False)] | None = Field(
        default=None,
        description="Only these routes, each as its `path` stands in `routes`.",
        examples=[["/reports/**"]],
    )
