"""Routes: which operations a batch may hold, and what is known about each of them."""

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, Strict

from gateway.config.section import Section, Text, Timeout

Method = Literal["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]
METHODS: tuple[Method, ...] = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")

# pchar of RFC 3986 without ";" and "*", which the path grammar refuses, and without "%": requests are matched decoded.
_LITERAL = re.compile(r"[A-Za-z0-9._~!$&'()+,=:@-]+")
_PLACEHOLDER = re.compile(r"\{[A-Za-z0-9._-]+\}")


def _template(path: str) -> str:
    """The template itself. `/` alone, segments, `{name}` as a whole segment, `**` as the last one."""
    if not path.startswith("/"):
        raise ValueError("must start with /")
    segments = path[1:].split("/")
    *inner, last = segments
    if "" in inner:
        raise ValueError("must not have an empty segment (//)")
    if "**" in inner:
        raise ValueError("** must be the last segment")
    for segment in inner if last in ("", "**") else segments:
        _check_segment(segment)
    names = [segment for segment in segments if _PLACEHOLDER.fullmatch(segment)]
    if len(set(names)) < len(names):
        raise ValueError("uses one {name} twice; give each its own")
    return path


def _check_segment(segment: str) -> None:
    if _PLACEHOLDER.fullmatch(segment):
        return
    if "{" in segment or "}" in segment:
        raise ValueError("{name} must be a whole segment, as in /users/{id}")
    if "*" in segment:
        raise ValueError("has a * that is not ** at the end; write {name} for one segment")
    if "?" in segment or "#" in segment:
        raise ValueError("must not have a query or fragment; a route matches the path alone")
    if segment in (".", "..") or not _LITERAL.fullmatch(segment):
        raise ValueError("has a segment that is no plain text; write {name} for it")


def _distinct(methods: tuple[Method, ...]) -> tuple[Method, ...]:
    if not methods:
        raise ValueError("must name at least one method; leave the key out for all of them")
    if len(set(methods)) < len(methods):
        raise ValueError("names a method twice")
    return methods


Template = Annotated[str, AfterValidator(_template)]


class Route(Section):
    """Operations of one shape. The first route that matches decides."""

    path: Template = Field(
        description="Template: {name} is one whole segment, ** the rest of the path.",
        examples=["/users/{id}", "/reports/**"],
    )
    methods: Annotated[tuple[Method, ...], Strict(False), AfterValidator(_distinct)] = Field(
        default=METHODS, description="Methods that the route allows."
    )
    idempotent: bool = Field(default=False, description="PUT and DELETE may be sent again after a lost answer.")
    retryable_rejection: bool = Field(
        default=False, description="429 and 503 with Retry-After mean that nothing ran: any method may be sent again."
    )
    batch: bool = Field(default=True, description="May be used in a batch; false for logins and the like.")
    cost: int = Field(default=1, ge=1, le=10_000, description="Tokens that one operation takes from each bucket.")
    timeout: Timeout | None = Field(default=None, description="In place of the upstream's timeout.", examples=["60s"])
    upstream: Text | None = Field(
        default=None, description="Name in `upstreams`; without it the entry `default`.", examples=["reports"]
    )
