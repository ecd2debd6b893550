"""A server that a test may stop, and start again: of each kind in turn."""

from collections.abc import Iterator

import pytest

from tests.contract.stores import STORES
from tests.integration.ledger.servers import Server, server


@pytest.fixture(params=STORES)
def running(request: pytest.FixtureRequest) -> Iterator[Server]:
    with server(request.param) as found:
        yield found
