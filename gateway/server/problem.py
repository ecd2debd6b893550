"""Refusals as `application/problem+json` (RFC 9457), and the page that each problem's type leads to."""

from html import escape
from typing import Any

import msgspec

from gateway.errors import PROBLEMS, GatewayError, Problem
from gateway.server.answer import Answer

_ENCODER = msgspec.json.Encoder()


def answer_for(error: GatewayError, *, base: str, request_id: str) -> Answer:
    """The one place where an error becomes an answer; `X-Gateway-Error` tells it from an upstream's."""
    document: dict[str, Any] = {
        "type": f"{base}/problems/{error.problem.slug}",
        "title": error.problem.title,
        "status": error.status,
        "detail": error.detail,
        "instance": request_id,
        **error.members,
    }
    fields = [
        (b"Content-Type", b"application/problem+json"),
        (b"X-Request-Id", request_id.encode()),
        (b"Cache-Control", b"no-store"),
        (b"X-Gateway-Error", error.problem.slug.encode()),
        *((name.encode(), value.encode()) for name, value in error.headers.items()),
    ]
    return Answer(error.status, fields, _ENCODER.encode(document), close=error.close)


def page(slug: str, *, accept: str, base: str) -> Answer | None:
    """What `type` of a problem leads to: an explanation as JSON, or as HTML for a browser. None: no such problem."""
    problem = PROBLEMS.get(slug)
    if problem is None:
        return None
    if "text/html" in accept:
        return Answer(200, [(b"Content-Type", b"text/html; charset=utf-8"), *_SAFE], _html(problem))
    document = {"type": f"{base}/problems/{slug}", **problem._asdict()}
    return Answer(200, [(b"Content-Type", b"application/json"), *_SAFE], _ENCODER.encode(document))


_SAFE = (
    (b"Cache-Control", b"max-age=3600"),
    (b"X-Content-Type-Options", b"nosniff"),
    (b"Content-Security-Policy", b"default-src 'none'; style-src 'unsafe-inline'"),
)


def _html(problem: Problem) -> bytes:
    title = f"{problem.status} {escape(problem.title)}"
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title>'
        '<meta name="viewport" content="width=device-width"><meta name="color-scheme" content="light dark">'
        "<style>body{font:16px/1.5 system-ui,sans-serif;max-width:40rem;margin:3rem auto;padding:0 1rem}</style>"
        f"<h1>{title}</h1><p><code>{problem.slug}</code></p><p>{escape(problem.cure)}</p></html>"
    ).encode()
