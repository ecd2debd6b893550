"""Large work is done one after the other, in a thread that gives way to the loop, and is nobody else's business."""

import asyncio
import sys
import threading
from functools import partial

import pytest

from gateway.server.aside import Aside


async def test_work_is_done_one_after_the_other_in_a_thread_that_gives_way() -> None:
    aside, usual_s, seen = Aside(), sys.getswitchinterval(), list[tuple[int, float, bool]]()

    def work(number: int) -> int:
        seen.append((number, sys.getswitchinterval(), threading.current_thread() is threading.main_thread()))
        return number

    done = await asyncio.gather(*[aside.do(partial(work, number)) for number in range(5)])

    assert done == [0, 1, 2, 3, 4]
    assert [(number, gives_way_s < usual_s, on_the_loop) for number, gives_way_s, on_the_loop in seen] == [
        (number, True, False) for number in range(5)
    ]
    assert sys.getswitchinterval() == usual_s


async def test_work_that_fails_fails_for_who_asked_and_for_nobody_else() -> None:
    aside, usual_s = Aside(), sys.getswitchinterval()

    with pytest.raises(ZeroDivisionError):
        await aside.do(lambda: 1 // 0)

    assert sys.getswitchinterval() == usual_s
    assert await aside.do(lambda: 1) == 1
