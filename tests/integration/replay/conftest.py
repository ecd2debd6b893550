"""An API that counts what had an effect, and a gateway before it."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.integration.server.api import Api
from tests.integration.server.gateways import Gateway, gateway


@pytest.fixture
async def api() -> AsyncIterator[Api]:
    async with Api() as running:
        yield running


@pytest.fixture
async def keeping(api: Api, tmp_path: Path) -> AsyncIterator[Gateway]:
    async with gateway(api.url, replay__store=f"sqlite:{tmp_path}/replay.db") as running:
        yield running
