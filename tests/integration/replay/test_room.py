"""What keys take of a Redis and of its time, whatever their owner does."""

from collections.abc import AsyncIterator, Iterator, Sequence
from random import Random

import pytest
import redis
from msgspec.structs import replace

from gateway.replay.port import Claims, End, Times, Verdict
from gateway.replay.redis import RedisKeys
from tests.contract.ledger.frozen import FrozenClock, frozen
from tests.contract.stores import STORES

_OWNER, _MOST = b"o" * 24, 10_000
_TIMES = Times(60_000, 3_600_000)
_NAMED = f"{{bg:keys:{_OWNER.hex()}}}"


class Place:
    """One owner's keys on a server, whose clock only the test moves."""

    def __init__(self, url: str, clock: FrozenClock) -> None:
        self.clock = clock
        self.keys = RedisKeys(url, timeout_s=60.0)
        self.client = redis.Redis.from_url(url)
        self._groups = 0

    async def claim(self, numbers: Sequence[int], times: Times = _TIMES) -> Claims:
        """Of keys that are named by numbers; each of them is held."""
        self._groups += 1
        count = len(numbers)
        names = [b"%024d" % number for number in numbers]
        claims = Claims(b"%08d" % self._groups, 0, range(count), names, [b"d" * 24] * count, bytes(count))
        found = await self.keys.claim(_OWNER, claims, times, _MOST)
        assert {each.verdict for each in found} == {Verdict.HELD}
        return claims

    async def verdicts(self, claims: Claims) -> set[Verdict]:
        """On the same keys, of somebody else."""
        claims = replace(claims, group=b"another.")
        return {found.verdict for found in await self.keys.claim(_OWNER, claims, _TIMES, _MOST)}

    async def end(self, claims: Claims, how: End) -> None:
        count = len(claims.names)
        await self.keys.settle(_OWNER, claims.ended(range(count), bytes([how]) * count), _TIMES.keeps_ms)

    def looked_for(self) -> int:
        """How many entries say when to look for ended keys."""
        return int(str(self.client.zcard(f"{_NAMED}:ends")))


@pytest.fixture(params=STORES, scope="module")
def server(request: pytest.FixtureRequest) -> Iterator[tuple[str, FrozenClock]]:
    with frozen(request.param) as found:
        yield found


@pytest.fixture
async def place(server: tuple[str, FrozenClock]) -> AsyncIterator[Place]:
    found = Place(*server)
    found.client.flushall()
    yield found
    found.client.close()
    await found.keys.close()


async def test_however_many_that_were_forgotten_are_due_one_call_looks_at_few(place: Place) -> None:
    await place.claim([1_000_000])
    for call in range(6):
        claims = await place.claim(range(1000 * call, 1000 * call + 1000), Times(50, 50))
        await place.end(claims, End.FORGET)
    place.clock.ms += 200

    left = []
    for number in range(4):
        await place.claim([2_000_000 + number])
        left.append(place.looked_for() - number - 2)

    assert left == sorted(left, reverse=True)
    assert left[0] > 0
    assert left[-1] == 0


@pytest.mark.parametrize("how", [End.FAIL, End.FORGET])
async def test_who_claims_the_same_keys_again_and_again_takes_no_more_room(place: Place, how: End) -> None:
    chance = Random(1)
    for _ in range(20):
        for _ in range(30):
            await place.end(await place.claim(chance.sample(range(10), 10)), how)
        place.clock.ms += 7
    last = await place.claim(range(10))

    assert place.looked_for() < 200
    assert await place.verdicts(last) == {Verdict.BUSY}
    place.clock.ms += _TIMES.holds_ms + _TIMES.keeps_ms
    assert await place.verdicts(last) == {Verdict.HELD}
