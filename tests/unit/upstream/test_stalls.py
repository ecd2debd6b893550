"""Which answers that nobody reads are ended: where connections run short, above the share, the oldest first."""

import math
from collections.abc import Sequence

import pytest

from gateway.upstream.exchange import Exchange
from gateway.upstream.stalls import STALLED_S, to_end

NOW_S = 100.0


def exchange(index: int, stalled_at_s: float) -> Exchange:
    return Exchange("GET", b"", math.inf, True, lambda _: None, index=index, stalled_at_s=stalled_at_s)


def ended(stalled_at_s: Sequence[float], *, free: int, streams_max: int) -> list[int]:
    exchanges = [exchange(index, at_s) for index, at_s in enumerate(stalled_at_s)]
    chosen = to_end(exchanges, NOW_S, free=free, connections_max=10, streams_max=streams_max)
    return [each.index for each in chosen]


@pytest.mark.parametrize(
    ("stalled_at_s", "free", "streams_max", "expected"),
    [
        ([90.0, 80.0, 70.0], 2, 1, []),  # a fifth is free: they are in nobody's way
        ([90.0, 80.0, 70.0], 1, 1, [2]),  # one is lacking: the one that has stood still for longest
        ([90.0, 80.0, 70.0], 0, 1, [2, 1]),
        ([90.0, 80.0, 70.0], 0, 2, [2]),  # their share is theirs
        ([90.0, 80.0, 70.0], 0, 3, []),
        ([math.inf] * 9, 0, 1, []),  # read as they come
        ([NOW_S - STALLED_S / 2] * 9, 0, 1, []),  # a round trip
        ([NOW_S - STALLED_S] * 3, 0, 1, [0, 1]),
        ([], 0, 1, []),
    ],
)
def test_answers_are_ended_where_connections_run_short(
    stalled_at_s: Sequence[float], free: int, streams_max: int, expected: list[int]
) -> None:
    assert ended(stalled_at_s, free=free, streams_max=streams_max) == expected


def test_one_connection_alone_is_short_when_it_is_taken() -> None:
    stalled = [exchange(0, 0.0)]

    assert to_end(stalled, NOW_S, free=0, connections_max=1, streams_max=1) == []
    assert to_end(stalled, NOW_S, free=0, connections_max=1, streams_max=0) == stalled
