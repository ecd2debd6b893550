"""An API and a gateway that keeps batches before it, for every test of this folder."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.integration.asynchronous.calls import keeping
from tests.integration.server.api import Api
from tests.integration.server.gateways import Gateway


@pytest.fixture
async def api() -> AsyncIterator[Api]:
    async with Api() as running:
        yield running


@pytest.fixture
async def plain(api: Api, tmp_path: Path) -> AsyncIterator[Gateway]:
    async with keeping(api.url, tmp_path) as running:
        yield running
