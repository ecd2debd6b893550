"""The same API and gateway as in the tests of the server, on the loop of production."""

import asyncio
from collections.abc import Callable, Mapping

import pytest
import uvloop

from tests.integration.server.conftest import api, plain

__all__ = ["api", "plain"]


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    return {"uvloop": uvloop.new_event_loop}
