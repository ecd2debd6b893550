"""One store after the other. LEDGER_TOPOLOGIES=1: a cluster of three nodes instead, and a primary after a failover."""

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.contract.ledger.worlds import TOPOLOGIES, WORLDS, Store, World

_STORES = TOPOLOGIES if os.environ.get("LEDGER_TOPOLOGIES") else WORLDS


@pytest.fixture(params=sorted(_STORES))
async def world(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[World]:
    async with _STORES[request.param](tmp_path) as found:
        yield found


@pytest.fixture
def store(world: World) -> Store:
    return world.store
