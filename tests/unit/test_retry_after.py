"""PROMISES L7: who waits as long as it was told is admitted; random buckets, on a clock that is told."""

from collections.abc import Sequence
from random import Random

import pytest

from gateway.admission import Admission, Caller, Limit
from gateway.batch.model import Failure, Operation
from gateway.batch.routes import Route, Routes
from gateway.errors import GatewayError
from gateway.limiter.bucket import Bucket
from gateway.limiter.memory import MemoryLimiter

_TIMES = 500
_US = 1_000_000
_CALLER = Caller("me", "10.0.0.1", [])
_ROUTES = Routes([Route("/one"), Route("/three", cost=3)])


class _World:
    """An admission with one or two random buckets, and the clock that they are on."""

    def __init__(self, chance: Random) -> None:
        self.now_us = chance.randrange(10**12)
        self._chance = chance
        self._limits = [Limit(self._bucket(str(number)), "caller") for number in range(chance.choice([1, 1, 2]))]
        self.admission = Admission(_ROUTES, self._limits, MemoryLimiter(lambda: self.now_us))
        self._size_max = min(limit.bucket.burst for limit in self._limits) // 3

    def _bucket(self, name: str) -> Bucket:
        chance = self._chance
        tokens, per_us = chance.choice([1, 3, 7, 100, 9999]), chance.choice([_US, 60 * _US, 3600 * _US])
        return Bucket(name, tokens, per_us, chance.randint(3, 300), chance.choice(["reject", "partial", "wait"]))

    def envelope(self) -> list[Operation]:
        size = self._chance.randint(1, self._size_max)
        return [Operation(str(at), "GET", self._chance.choice(["/one", "/three"])) for at in range(size)]

    async def told(self, operations: Sequence[Operation]) -> tuple[int, Sequence[Operation]] | None:
        """None where all are admitted; else how many seconds to wait, and what to send then: the batch that was
        refused, or the first operation of it that was."""
        try:
            admitted = await self.admission.admit(operations, _CALLER, batched=True, wait_max_us=2 * _US)
        except GatewayError as refusal:
            return int(refusal.headers["Retry-After"]), operations
        for operation, route in zip(operations, admitted.routes, strict=True):
            if isinstance(route, Failure):
                return int(str(route.members["retryAfter"])), [operation]
        return None


async def _refused(chance: Random) -> tuple[_World, int, Sequence[Operation]]:
    """A caller who has spent until it was told to come back."""
    world = _World(chance)
    while True:
        world.now_us += chance.randrange(10)
        told = await world.told(world.envelope())
        if told is not None:
            return world, *told


async def test_who_waits_as_long_as_told_is_admitted(capsys: pytest.CaptureFixture[str]) -> None:
    chance, admitted = Random(7), 0
    for _ in range(_TIMES):
        world, seconds, operations = await _refused(chance)
        world.now_us += seconds * _US
        told = await world.told(operations)
        admitted += told is None or told[1][0] is not operations[0]  # a partial bucket may leave out what stands behind

    with capsys.disabled():
        print(f"\nRetry-After honoured: {admitted} of {_TIMES} admitted, in memory")
    assert admitted >= 0.99 * _TIMES
