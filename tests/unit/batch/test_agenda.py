"""The agenda: what a former run has done is not done again, and what it has lost is lost."""

import pytest

from gateway.batch.agenda import Agenda
from gateway.batch.model import Operation, Outcome
from gateway.batch.ordering import Graph, graph_of

OPERATIONS = [Operation(id_, "GET", "/") for id_ in "abcd"]
GRAPH, _ = graph_of(["a", "b", "c", "d"], [[], ["a"], ["b"], []])


def test_a_batch_in_which_nobody_waits_is_sent_in_order_without_what_was_done() -> None:
    agenda = Agenda(OPERATIONS, None, None, {1: Outcome(1, 200)})

    assert not agenda.is_ordered
    assert list(agenda.ready) == [0, 2, 3]
    assert agenda.finished(Outcome(0, 500)) == ()
    agenda.ready.popleft()
    assert agenda.rest() == [2, 3]
    assert not agenda.ready


def test_what_was_done_before_lets_its_children_run() -> None:
    agenda = Agenda(OPERATIONS, GRAPH, None, {0: Outcome(0, 200)})

    assert sorted(agenda.ready) == [1, 3]
    assert agenda.lost == []


def test_what_was_lost_before_takes_its_children_with_it() -> None:
    agenda = Agenda(OPERATIONS, GRAPH, None, {0: Outcome(0, 500), 2: Outcome(2, 424)})

    assert list(agenda.ready) == [3]
    assert [(each.index, each.status) for each in agenda.lost] == [(1, 424)]


@pytest.mark.parametrize("status", [200, 502])
def test_what_was_done_before_is_not_done_again_when_its_parent_succeeds(status: int) -> None:
    agenda = Agenda(OPERATIONS, GRAPH, None, {1: Outcome(1, status)})
    agenda.begun(agenda.ready.popleft())
    before = list(agenda.ready)

    assert agenda.finished(Outcome(0, 200)) == []
    assert list(agenda.ready) == before == ([3, 2] if status == 200 else [3])


def test_nor_does_it_end_again_when_its_parent_fails() -> None:
    graph, _ = graph_of(["a", "b", "c", "d"], [[], ["a"], ["b", "d"], []])
    agenda = Agenda(OPERATIONS, graph, None, {1: Outcome(1, 200)})
    agenda.begun(agenda.ready.popleft())

    assert agenda.finished(Outcome(0, 500)) == []
    agenda.begun(agenda.ready.popleft())
    agenda.finished(Outcome(3, 200))
    assert list(agenda.ready) == [2]


def test_the_rest_is_what_was_not_begun() -> None:
    agenda = Agenda(OPERATIONS, GRAPH, None, {})
    agenda.begun(agenda.ready.popleft())

    assert agenda.rest() == [1, 2, 3]
    assert agenda.finished(Outcome(0, 500)) == []


@pytest.mark.parametrize("twins", [{}, {2: 1}])
def test_nothing_becomes_ready_once_the_rest_was_given_up(twins: dict[int, int]) -> None:
    agenda = Agenda(OPERATIONS, GRAPH, None, {}, twins)
    agenda.begun(agenda.ready.popleft())
    agenda.rest()

    assert agenda.finished(Outcome(0, 200)) == []
    assert not agenda.ready


def test_an_answer_from_the_graphs_own_mark_on_is_no_success_for_the_children() -> None:
    strict = Agenda(OPERATIONS, GRAPH._replace(fails_from=300), None, {})
    lenient = Agenda(OPERATIONS, GRAPH, None, {})

    assert [each.index for each in strict.finished(Outcome(0, 302))] == [1, 2]
    assert lenient.finished(Outcome(0, 302)) == []


TWINS = {1: 0, 3: 0}


@pytest.mark.parametrize("graph", [None, graph_of(["a", "b", "c", "d"], [[], [], ["b"], []])[0]])
def test_a_twin_is_begun_and_ends_with_the_one_that_is_sent(graph: Graph | None) -> None:
    agenda = Agenda(OPERATIONS, graph, None, {}, TWINS)
    ready = list(agenda.ready)
    agenda.ready.popleft()
    agenda.begun(0)
    shares = agenda.shares(0)

    ended = agenda.finished(Outcome(0, 200, body=b"x", upstream_s=1.0, attempts=1))

    assert ready == ([0, 2] if graph is None else [0])
    assert shares == 3
    assert ended == [Outcome(1, 200, body=b"x"), Outcome(3, 200, body=b"x")]
    assert list(agenda.ready) == [2]
    assert agenda.rest() == [2]


def test_what_a_failure_means_for_those_behind_a_twin() -> None:
    graph, _ = graph_of(["a", "b", "c", "d"], [[], [], ["b"], []])
    agenda = Agenda(OPERATIONS, graph, None, {}, {1: 0})
    agenda.begun(agenda.ready.popleft())

    assert [(each.index, each.status) for each in agenda.finished(Outcome(0, 500))] == [(1, 500), (2, 424)]


def test_twins_whose_parent_fails_are_lost_once_each() -> None:
    graph, _ = graph_of(["a", "b", "c", "d"], [[], ["a"], ["a"], []])
    agenda = Agenda(OPERATIONS, graph, None, {}, {2: 1})
    agenda.begun(agenda.ready.popleft())

    assert [(each.index, each.status) for each in agenda.finished(Outcome(0, 500))] == [(1, 424), (2, 424)]
    assert agenda.rest() == [3]


def test_twins_become_ready_as_one() -> None:
    graph, _ = graph_of(["a", "b", "c", "d"], [[], ["a"], ["a"], ["a"]])
    agenda = Agenda(OPERATIONS, graph, None, {}, {2: 1})
    agenda.begun(agenda.ready.popleft())
    agenda.finished(Outcome(0, 200))

    assert list(agenda.ready) == [1, 3]


def test_twins_of_what_was_not_begun_end_by_themselves() -> None:
    agenda = Agenda(OPERATIONS, None, None, {}, TWINS)

    assert agenda.rest() == [0, 1, 2, 3]
    assert agenda.finished(Outcome(0, 424)) == ()
