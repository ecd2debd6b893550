"""What is done where a Redis came back, or its clock stepped back: to the end, however often that is cut short."""

import asyncio
from collections.abc import Sequence

import pytest

from gateway.ledger.port import LedgerUnavailableError
from gateway.ledger.redis_durability import Durability, Info

_SECOND_US = 1_000_000


class Server:
    """One that was replaced, or whose clock was set. What follows from that is cut short the first time."""

    def __init__(self, *, hangs: bool = False) -> None:
        self.run, self.time_us = "first", 1000 * _SECOND_US
        self.begun = self.done = 0
        self.durability = Durability(self.infos, self.follow, self.follow, require_durable=False)
        self._hangs = hangs

    async def infos(self) -> Sequence[Info]:
        return [{"run_id": self.run, "server_time_usec": self.time_us}]

    async def follow(self) -> None:
        self.begun += 1
        if self.begun == 1:
            if self._hangs:
                await asyncio.get_running_loop().create_future()
            raise LedgerUnavailableError("away again")
        self.done += 1

    async def asked(self) -> None:
        self.durability._until_s = 0.0  # as if time had passed
        await self.durability.ensure()


@pytest.mark.parametrize("change", [{"run": "second"}, {"time_us": 900 * _SECOND_US}])
async def test_what_failed_half_way_is_done_again(change: dict[str, object]) -> None:
    server = Server()
    await server.asked()
    server.__dict__.update(change)

    with pytest.raises(LedgerUnavailableError):
        await server.asked()
    await server.asked()
    await server.asked()

    assert (server.begun, server.done) == (2, 1)


@pytest.mark.parametrize("change", [{"run": "second"}, {"time_us": 900 * _SECOND_US}])
async def test_a_caller_who_goes_away_cuts_it_short_for_nobody(change: dict[str, object]) -> None:
    server = Server(hangs=True)
    await server.asked()
    server.__dict__.update(change)

    asking = asyncio.ensure_future(server.asked())
    await asyncio.sleep(0)
    asking.cancel()
    await asyncio.wait([asking])
    await server.asked()

    assert (server.begun, server.done) == (2, 1)
