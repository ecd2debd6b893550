"""One store after the other."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.contract.ledger.worlds import WORLDS, Store, World


@pytest.fixture(params=sorted(WORLDS))
async def world(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[World]:
    async with WORLDS[request.param](tmp_path) as found:
        yield found


@pytest.fixture
def store(world: World) -> Store:
    return world.store
