"""Work in slices comes to the same when it is done at once."""

import pytest

from gateway.dialects.slices import Sliced, at_once


def _sliced(done: list[str]) -> Sliced[int]:
    done.append("first")
    yield None
    told = yield lambda: len(done)
    assert (yield None) is None
    done.append("last")
    return 10 + int(told)


def _fails() -> Sliced[None]:
    yield lambda: 1 // 0


def test_slices_run_in_their_order_and_are_told_what_whole_work_came_to() -> None:
    done: list[str] = []

    assert at_once(_sliced(done)) == 11
    assert done == ["first", "last"]


def test_whole_work_that_fails_ends_it() -> None:
    with pytest.raises(ZeroDivisionError):
        at_once(_fails())
