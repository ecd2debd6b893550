"""The agenda: what a former run has done is not done again, and what it has lost is lost."""

from gateway.batch.agenda import Agenda
from gateway.batch.model import Operation, Outcome
from gateway.batch.ordering import graph_of

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


def test_the_rest_is_what_was_not_begun() -> None:
    agenda = Agenda(OPERATIONS, GRAPH, None, {})
    agenda.begun(agenda.ready.popleft())

    assert agenda.rest() == [1, 2, 3]
    assert agenda.finished(Outcome(0, 500)) == []


def test_an_answer_from_the_graphs_own_mark_on_is_no_success_for_the_children() -> None:
    strict = Agenda(OPERATIONS, GRAPH._replace(fails_from=300), None, {})
    lenient = Agenda(OPERATIONS, GRAPH, None, {})

    assert [each.index for each in strict.finished(Outcome(0, 302))] == [1, 2]
    assert lenient.finished(Outcome(0, 302)) == []
