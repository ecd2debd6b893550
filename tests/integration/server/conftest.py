"""An API and a gateway before it, for every test of this folder."""

from collections.abc import AsyncIterator

import pytest

from tests.integration.server.api import Api
from tests.integration.server.gateways import Gateway, gateway


@pytest.fixture
async def api() -> AsyncIterator[Api]:
    async with Api() as running:
        yield running


@pytest.fixture
async def plain(api: Api) -> AsyncIterator[Gateway]:
    """As `serve --upstream URL` is: every route, no limits."""
    async with gateway(api.url) as running:
        yield running
