"""Gateways started in this process, on free ports, and closed at the end of a test."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from urllib.parse import urlsplit

from gateway.app import App
from gateway.config import load

Start = Callable[..., AbstractAsyncContextManager["Gateway"]]


@dataclass(frozen=True, slots=True)
class Gateway:
    """A running gateway and the ports of its two listeners."""

    app: App
    port: int
    admin_port: int


@asynccontextmanager
async def gateway(upstream: str | None, settings: str = "", **flags: object) -> AsyncIterator[Gateway]:
    """A gateway before `upstream`; `settings` is YAML, `flags` are `section__key=value`."""
    given: dict[str, object] = {
        "upstream.url": upstream,
        "listen.host": "127.0.0.1",
        "listen.port": 0,
        "admin.port": 0,
        "log.access": False,
        "drain.delay": "0s",
        "async.ledger": "none",
    }
    given |= {name.replace("__", "."): value for name, value in flags.items()}
    app = App(load(Path("-"), {}, given, StringIO(settings)))
    traffic, admin = await app.start()
    try:
        yield Gateway(app, urlsplit(traffic).port or 0, urlsplit(admin).port or 0)
    finally:
        await app.close()
