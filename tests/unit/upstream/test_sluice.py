"""In a turn of the loop as many are let through as have brought 256 KiB before, one at least, in their order."""

import asyncio

import pytest

from gateway.upstream.sluice import MUCH_BYTES, TURN_BYTES, Sluice


async def turns(sluice: Sluice, sizes: list[int], again: int = 0) -> list[list[int]]:
    """Who was let through in each turn; who was joins `again` times more."""
    passed: list[list[int]] = []
    left = dict.fromkeys(range(len(sizes)), again)

    def go_on(number: int) -> None:
        passed[-1].append(number)
        if left[number]:
            left[number] -= 1
            join(number)

    def join(number: int) -> None:
        sluice.join(sizes[number], lambda: go_on(number))

    for number in left:
        join(number)
    while sum(map(len, passed)) < len(sizes) * (again + 1):
        passed.append([])
        await asyncio.sleep(0)
    return passed


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ([TURN_BYTES] * 3, [[0], [1], [2]]),
        ([2 * TURN_BYTES, MUCH_BYTES], [[0], [1]]),
        ([TURN_BYTES // 2] * 3, [[0, 1], [2]]),
        ([MUCH_BYTES] * 20, [[*range(16)], [16, 17, 18, 19]]),
    ],
)
async def test_a_turn_ends_with_what_was_brought(sizes: list[int], expected: list[list[int]]) -> None:
    assert await turns(Sluice(asyncio.get_running_loop()), sizes) == expected


async def test_who_brings_more_stands_behind_those_who_wait() -> None:
    sluice = Sluice(asyncio.get_running_loop())

    assert await turns(sluice, [TURN_BYTES] * 2, again=1) == [[0], [1], [0], [1]]
    assert await turns(sluice, [TURN_BYTES], again=2) == [[0], [0], [0]]
