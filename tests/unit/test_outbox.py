"""Who is woken when: what has finished of a batch until it is taken."""

import asyncio
import math

import pytest

from gateway.batch.model import Failure, Outcome
from gateway.outbox import Outbox, is_notable
from tests.fakes.until import PATIENCE_S


def put(outbox: Outbox, *outcomes: Outcome) -> None:
    for outcome in outcomes:
        outbox.outcomes.append(outcome)
        if len(outbox.outcomes) >= outbox.least or (outbox.is_told and is_notable(outcome)):
            outbox.wake()


def success(index: int, body: bytes = b"") -> Outcome:
    return Outcome(index, 200, body=body)


async def waiting(outbox: Outbox, least: int, patience_s: float) -> "asyncio.Task[list[int]]":
    """A task that waits; the indexes of what it is given."""

    async def taken() -> list[int]:
        return [outcome.index for outcome in await outbox.taken(least, patience_s)]

    task = asyncio.ensure_future(taken())
    await asyncio.sleep(0)
    return task


async def test_a_group_is_handed_over_when_it_is_full() -> None:
    outbox = Outbox(asyncio.get_running_loop())
    task = await waiting(outbox, 3, 60.0)

    put(outbox, success(0), success(1))
    await asyncio.sleep(0)
    was_done = task.done()
    put(outbox, success(2))

    assert not was_done
    assert await task == [0, 1, 2]
    assert outbox.outcomes == []


@pytest.mark.parametrize(
    "notable", [Outcome(1, 404), Outcome(1, 502, failure=Failure("x", "")), success(1, b"." * 8193)]
)
async def test_what_is_no_success_or_large_ends_a_group_of_who_is_patient(notable: Outcome) -> None:
    outbox = Outbox(asyncio.get_running_loop())
    task = await waiting(outbox, 3, 60.0)

    put(outbox, success(0), notable)

    assert await task == [0, 1]


async def test_who_wants_all_at_once_is_not_woken_for_a_failure() -> None:
    outbox = Outbox(asyncio.get_running_loop())
    task = await waiting(outbox, 3, math.inf)

    put(outbox, Outcome(0, 404), Outcome(1, 404))
    await asyncio.sleep(0)
    was_done = task.done()
    put(outbox, success(2))

    assert not was_done
    assert await task == [0, 1, 2]


async def test_patience_ends_with_what_is_there_or_with_the_next() -> None:
    outbox = Outbox(asyncio.get_running_loop())
    first = await waiting(outbox, 3, 0.005)
    put(outbox, success(0))
    given = await first
    asyncio.get_running_loop().call_later(0.02, put, outbox, success(1))
    async with asyncio.timeout(PATIENCE_S):
        following = await outbox.taken(3, 0.005)

    assert given == [0]
    assert following == [success(1)]


async def test_that_the_time_is_up_is_told_behind_what_is_there() -> None:
    outbox = Outbox(asyncio.get_running_loop())
    task = await waiting(outbox, 3, math.inf)

    put(outbox, success(0))
    outbox.tell_time()

    assert await task == [0]
    assert await outbox.taken(3, math.inf) == []


async def test_a_closed_outbox_leaves_no_timer() -> None:
    outbox = Outbox(asyncio.get_running_loop())
    task = await waiting(outbox, 3, 0.001)

    outbox.close()
    task.cancel()
    await asyncio.sleep(0)

    assert task.cancelled()
    assert outbox.least == 3
