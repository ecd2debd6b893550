"""A store of buckets that is away: what each policy answers, and how the way back is found."""

import pytest

from gateway.limiter.bucket import Bucket, Charge, Denied, Granted
from gateway.limiter.fallback import FallbackLimiter, OnFailure
from gateway.limiter.memory import MemoryLimiter
from gateway.limiter.port import LimiterUnavailableError

BUCKET = Bucket("b", 1, 1_000_000, 2)
CHARGES = [Charge(BUCKET, "k", [1, 1])]


class Store(MemoryLimiter):
    """A shared limiter that can be away."""

    away = False
    asked = 0

    async def take(self, charges, *, wait_max_us):  # type: ignore[no-untyped-def]
        self._fail()
        return await super().take(charges, wait_max_us=wait_max_us)

    async def ask(self, charges, *, wait_max_us):  # type: ignore[no-untyped-def]
        self._fail()
        return await super().ask(charges, wait_max_us=wait_max_us)

    async def look(self, keys):  # type: ignore[no-untyped-def]
        self._fail()
        return await super().look(keys)

    def _fail(self) -> None:
        self.asked += 1
        if self.away:
            raise LimiterUnavailableError


class Stage:
    """A fallback over a store, on a clock that stands still until told."""

    def __init__(self, on_failure: OnFailure) -> None:
        self.now_s = 0.0
        self.heard: list[bool] = []
        self.store = Store(self.now_us)
        local = MemoryLimiter(self.now_us)
        self.limiter = FallbackLimiter(self.store, on_failure, local, lambda: self.now_s, self.heard.append)

    def now_us(self) -> int:
        return int(self.now_s * 1_000_000)


async def test_while_the_store_answers_it_decides() -> None:
    stage = Stage("open")

    assert isinstance(await stage.limiter.take(CHARGES, wait_max_us=0), Granted)
    assert isinstance(await stage.limiter.take(CHARGES, wait_max_us=0), Denied)
    assert [r.remaining for r in await stage.limiter.look([(BUCKET, "k")])] == [0]
    assert stage.heard == []


async def test_open_lets_everything_pass() -> None:
    stage = Stage("open")
    stage.store.away = True

    taken = [await stage.limiter.take(CHARGES, wait_max_us=0) for _ in range(3)]
    asked = await stage.limiter.ask(CHARGES, wait_max_us=0)

    assert [*taken, asked] == [Granted(2, (), (), ())] * 4
    assert await stage.limiter.look([(BUCKET, "k")]) == ()


async def test_closed_passes_the_error_on() -> None:
    stage = Stage("closed")
    stage.store.away = True

    for _ in range(2):
        with pytest.raises(LimiterUnavailableError):
            await stage.limiter.take(CHARGES, wait_max_us=0)
        with pytest.raises(LimiterUnavailableError):
            await stage.limiter.ask(CHARGES, wait_max_us=0)
        with pytest.raises(LimiterUnavailableError):
            await stage.limiter.look([(BUCKET, "k")])


async def test_local_counts_by_itself() -> None:
    stage = Stage("local")
    stage.store.away = True

    assert isinstance(await stage.limiter.ask(CHARGES, wait_max_us=0), Granted)
    assert isinstance(await stage.limiter.take(CHARGES, wait_max_us=0), Granted)
    assert isinstance(await stage.limiter.take(CHARGES, wait_max_us=0), Denied)
    assert [r.remaining for r in await stage.limiter.look([(BUCKET, "k")])] == [0]


async def test_the_store_is_asked_once_a_second_and_its_return_is_noticed() -> None:
    stage = Stage("open")
    stage.store.away = True
    for _ in range(5):
        await stage.limiter.take(CHARGES, wait_max_us=0)
    assert stage.store.asked == 1

    stage.now_s = 1.0
    await stage.limiter.look([(BUCKET, "k")])
    assert stage.store.asked == 2
    stage.store.away, stage.now_s = False, 2.0
    await stage.limiter.look([(BUCKET, "k")])

    assert stage.heard == [False, True]
