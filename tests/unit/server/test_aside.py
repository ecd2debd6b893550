"""Large work is done one after the other, in slices or in a thread that gives way to the loop."""

import asyncio
import sys
import threading
from functools import partial

import pytest

from gateway.dialects.slices import Sliced
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


async def test_between_slices_others_have_their_turn() -> None:
    aside, turns, seen = Aside(), list[str](), list[str]()

    def sliced(name: str) -> Sliced[str]:
        for number in range(3):
            turns.append(f"{name}{number}")
            yield None
        seen.append((yield lambda: threading.current_thread().name.partition("_")[0]))
        return name

    async def other() -> None:
        while len(seen) < 2:
            turns.append("other")
            await asyncio.sleep(0)

    *done, _ = await asyncio.gather(aside.slice_up(sliced("a")), aside.slice_up(sliced("b")), other())

    assert done == ["a", "b"]
    assert [turn for turn in turns if turn != "other"] == ["a0", "a1", "a2", "b0", "b1", "b2"]
    assert all("other" in turns[turns.index(f"{name}0") : turns.index(f"{name}1")] for name in "ab")
    assert seen == ["aside", "aside"]


async def test_whole_work_that_fails_in_slices_fails_for_who_asked() -> None:
    aside = Aside()

    def fails() -> Sliced[None]:
        yield lambda: 1 // 0

    with pytest.raises(ZeroDivisionError):
        await aside.slice_up(fails())

    assert await aside.do(lambda: 1) == 1
