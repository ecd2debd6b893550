"""An API, and gateways before it whose configuration is a file that tests change."""

import json
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from gateway.app import App
from gateway.config import load
from tests.integration.server.api import Api
from tests.integration.server.gateways import Gateway
from tests.integration.server.wire import Answer, ask, request

Serving = Callable[[Path], AbstractAsyncContextManager[Gateway]]

_FLAGS: dict[str, object] = {
    "listen.host": "127.0.0.1",
    "listen.port": 0,
    "admin.port": 0,
}


@pytest.fixture
async def api() -> AsyncIterator[Api]:
    async with Api() as running:
        yield running


@pytest.fixture
def serving() -> Serving:
    """A gateway that reads `path`."""

    @asynccontextmanager
    async def start(path: Path) -> AsyncIterator[Gateway]:
        def read() -> Any:
            return load(path, {}, _FLAGS)

        app = App(read(), read)
        traffic, admin = await app.start()
        try:
            yield Gateway(app, urlsplit(traffic).port or 0, urlsplit(admin).port or 0)
        finally:
            await app.close()

    return start


def settings(api: Api, **more: object) -> str:
    """A configuration before `api`, as JSON, which is YAML. Its files are looked at only where `more` says so."""
    return json.dumps({"upstream": {"url": api.url}, "log": {"access": False}, "reload": {"interval": "0s"}, **more})


async def admin(running: Gateway, method: str, path: str) -> Answer:
    return await ask(running.admin_port, request(method, path, host="localhost"), method)


async def metric(running: Gateway, name: str) -> float:
    """The value of a metric without labels."""
    text = (await admin(running, "GET", "/metrics")).body.decode()
    (line,) = [line for line in text.splitlines() if line.startswith(f"batch_gateway_{name} ")]
    return float(line.rpartition(" ")[2])
