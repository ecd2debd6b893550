"""So many inside, so many before the door, first come, first served."""

import asyncio

from gateway.upstream.share import Share

LONG_S = 10.0


async def test_those_who_wait_enter_in_their_order_as_others_leave() -> None:
    share, order = Share(1, 10), list[int]()

    async def enter(number: int) -> None:
        assert await share.enter(LONG_S)
        order.append(number)
        share.leave()

    assert await share.enter(0.0)
    waiting = [asyncio.create_task(enter(number)) for number in range(3)]
    await asyncio.sleep(0)
    assert share.waiting == 3
    share.leave()
    await asyncio.gather(*waiting)

    assert (order, share.waiting) == ([0, 1, 2], 0)


async def test_nobody_enters_after_his_time_or_when_too_many_wait() -> None:
    share = Share(1, 1)

    assert await share.enter(LONG_S)
    assert not await share.enter(0.01)
    waits = asyncio.create_task(share.enter(LONG_S))
    await asyncio.sleep(0)
    assert not await share.enter(LONG_S)
    share.leave()
    assert await waits


async def test_who_gives_up_waiting_takes_no_place() -> None:
    share = Share(1, 2)

    assert await share.enter(LONG_S)
    gone = asyncio.create_task(share.enter(LONG_S))
    await asyncio.sleep(0)
    gone.cancel()
    await asyncio.wait([gone])
    share.leave()

    assert await share.enter(0.01)
