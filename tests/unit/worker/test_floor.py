import asyncio
from contextlib import AbstractAsyncContextManager

import pytest

from gateway.worker import floor as floor_module
from gateway.worker.floor import Floor
from tests.fakes.until import PATIENCE_S


class Slice:
    """Stands on the floor from `entered` until `leave` is set."""

    def __init__(self, place: AbstractAsyncContextManager[None]) -> None:
        self.entered, self.leave = asyncio.Event(), asyncio.Event()
        self.task = asyncio.ensure_future(self._stand(place))

    async def _stand(self, place: AbstractAsyncContextManager[None]) -> None:
        async with place:
            self.entered.set()
            await self.leave.wait()


async def settled() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_slices_run_together_and_a_careful_one_when_they_have_left() -> None:
    floor = Floor()
    first, second = Slice(floor.together()), Slice(floor.together())
    careful = Slice(floor.alone())
    await settled()
    before = (first.entered.is_set(), second.entered.is_set(), careful.entered.is_set())
    first.leave.set()
    await settled()
    between = careful.entered.is_set()
    second.leave.set()
    await careful.entered.wait()
    careful.leave.set()
    await careful.task

    assert before == (True, True, False)
    assert not between


async def test_nobody_enters_while_one_is_alone_or_waits_to_be() -> None:
    floor = Floor()
    first, careful = Slice(floor.together()), Slice(floor.alone())
    await settled()
    late, careful_too = Slice(floor.together()), Slice(floor.alone())
    await settled()
    while_it_waits = late.entered.is_set()
    first.leave.set()
    await careful.entered.wait()
    await settled()
    while_it_runs = (late.entered.is_set(), careful_too.entered.is_set())
    careful.leave.set()
    await late.entered.wait()
    late.leave.set()
    await careful_too.entered.wait()
    careful_too.leave.set()
    await careful_too.task

    assert not while_it_waits
    assert while_it_runs == (False, False)


async def test_one_that_waits_to_be_alone_does_not_wait_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(floor_module, "_PATIENCE_S", 0.01)
    floor = Floor()
    slow, careful = Slice(floor.together()), Slice(floor.alone())

    await careful.entered.wait()

    assert slow.entered.is_set()
    for each in (careful, slow):
        each.leave.set()
        await each.task


async def test_a_slice_that_is_cancelled_leaves_the_floor() -> None:
    floor = Floor()
    gone, waiting = Slice(floor.together()), Slice(floor.alone())
    await settled()
    waiting.task.cancel()
    gone.task.cancel()
    await asyncio.gather(gone.task, waiting.task, return_exceptions=True)
    careful = Slice(floor.alone())
    careful.leave.set()

    await asyncio.wait_for(careful.task, PATIENCE_S)

    assert careful.entered.is_set()
