"""Order: held beside a reference that is slow and plain; tangles are all told; nothing is worse than linear."""

import sys
from random import Random
from time import thread_time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.batch.ordering import Graph, Order, graph_of


@st.composite
def graphs(draw: st.DrawFn) -> list[list[int]]:
    """Parents of each operation, cycles and self references among them."""
    count = draw(st.integers(1, 12))
    edges = st.lists(st.integers(0, count - 1), max_size=4)
    return draw(st.lists(edges, min_size=count, max_size=count))


def named(parents: list[list[int]]) -> tuple[list[str], list[list[str]]]:
    return [f"op{i}" for i in range(len(parents))], [[f"op{p}" for p in each] for each in parents]


def on_a_circle(parents: list[list[int]]) -> set[int]:
    """By definition: who can be reached from itself over at least two edges, or who waits for one who can."""
    reach = [set(each) - {i} for i, each in enumerate(parents)]
    for _ in parents:
        reach = [each | {above for p in each for above in reach[p]} for each in reach]
    return {i for i, each in enumerate(reach) if i in each}


@given(graphs())
def test_a_batch_has_tangles_exactly_where_it_cannot_be_run(parents: list[list[int]]) -> None:
    _, tangles = graph_of(*named(parents))

    circles = on_a_circle(parents)
    selves = {i for i, each in enumerate(parents) if i in each}
    assert {t.position for t in tangles if "itself" in t.detail} == selves
    assert bool(circles) == any("cycle" in t.detail for t in tangles)
    assert {t.position for t in tangles if "cycle" in t.detail} <= circles


@given(graphs(), st.sets(st.integers(0, 11)), st.randoms(use_true_random=False))
def test_what_runs_and_what_is_lost_is_what_the_definition_says(
    parents: list[list[int]], failing: set[int], random: Random
) -> None:
    parents = [[p for p in each if p < i] for i, each in enumerate(parents)]
    graph, tangles = graph_of(*named(parents))
    assert not tangles
    order = Order(graph)
    ran: list[int] = []
    lost: dict[int, int] = {}
    while order.ready:
        order.ready.rotate(random.randrange(len(order.ready)))
        index = order.ready.popleft()
        assert all(p in ran and p not in failing for p in parents[index])
        ran.append(index)
        for child, parent in order.finished(index, succeeded=index not in failing):
            assert parent in parents[child]
            assert parent in failing or parent in lost
            lost[child] = parent

    good = set[int]()
    for i, each in enumerate(parents):
        if all(p in good and p not in failing for p in each):
            good.add(i)
    assert set(ran) == good
    assert set(lost) == set(range(len(parents))) - good


def test_an_unknown_name_is_told_and_left_out() -> None:
    graph, tangles = graph_of(["a", "b"], [[], ["a", "zzz", "a"]])

    assert graph == Graph([[], [0]], [[1], []])
    assert [(t.position, t.parent) for t in tangles] == [(1, "zzz")]


def test_a_cycle_is_told_as_a_circle() -> None:
    _, tangles = graph_of(["a", "b", "c"], [["c"], ["a"], ["b"]])

    assert len(tangles) == 1
    assert "a waits for c waits for b waits for a" in tangles[0].detail


def test_what_lost_one_parent_is_not_ready_when_the_other_succeeds() -> None:
    graph, _ = graph_of(["a", "b", "c"], [[], [], ["a", "b"]])
    order = Order(graph)
    order.ready.clear()

    assert order.finished(0, succeeded=False) == [(2, 0)]
    assert order.finished(1, succeeded=True) == []
    assert not order.ready


def test_a_long_circle_is_told_in_few_words() -> None:
    ids = [f"o{i}" for i in range(1000)]

    _, tangles = graph_of(ids, [[ids[i - 1]] for i in range(1000)])

    assert len(tangles) == 1
    assert len(tangles[0].detail) < 200


@pytest.mark.parametrize("shape", ["chain", "star", "circles"])
def test_a_thousand_are_judged_in_milliseconds(shape: str) -> None:
    ids = [f"o{i}" for i in range(1000)]
    parents = {
        "chain": [[ids[i - 1]] if i else [] for i in range(1000)],
        "star": [ids[:20] if i >= 20 else [] for i in range(1000)],
        "circles": [[ids[i ^ 1]] for i in range(1000)],
    }[shape]
    took_s = []
    for _ in range(3):
        began_s = thread_time()
        graph_of(ids, parents)
        took_s.append(thread_time() - began_s)

    limit_s = 0.02 if shape == "chain" else 0.1
    assert min(took_s) < (limit_s if sys.gettrace() is None else 10 * limit_s)  # coverage costs
