"""Which operations of a batch ask the very same."""

import pytest

from gateway.batch.coalescing import twins_of
from gateway.batch.model import Failure, Operation
from gateway.batch.ordering import graph_of
from gateway.batch.routes import EVERY_ROUTE

FIRST = Operation("a", "GET", "/x?y=1", (("X-A", "1"),))
OTHER = {
    "method": Operation("b", "HEAD", "/x?y=1", (("X-A", "1"),)),
    "query": Operation("b", "GET", "/x?y=2", (("X-A", "1"),)),
    "field": Operation("b", "GET", "/x?y=1", (("X-A", "2"),)),
    "name": Operation("b", "GET", "/x?y=1", (("X-B", "1"),)),
    "time": Operation("b", "GET", "/x?y=1", (("X-A", "1"),), timeout_s=1.0),
    "body": Operation("b", "GET", "/x?y=1", (("X-A", "1"),), b"", True),
    "key": Operation("b", "GET", "/x?y=1", (("X-A", "1"),), key="k"),
}


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS"])
def test_the_first_of_those_that_ask_the_same_stands_for_all(method: str) -> None:
    operations = [
        Operation(id_, method, path) for id_, path in zip("abcde", ["/x", "/y", "/x", "/y", "/x"], strict=True)
    ]

    assert twins_of(operations, [EVERY_ROUTE] * 5, None) == {2: 0, 3: 1, 4: 0}


@pytest.mark.parametrize("other", OTHER.values(), ids=OTHER)
def test_whatever_differs_is_sent(other: Operation) -> None:
    assert twins_of([FIRST, other], [EVERY_ROUTE] * 2, None) == {}


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
def test_what_is_not_safe_is_sent_as_often_as_it_stands_there(method: str) -> None:
    assert twins_of([Operation("a", method, "/x"), Operation("b", method, "/x")], [EVERY_ROUTE] * 2, None) == {}


def test_what_may_not_run_stands_for_nobody_and_nobody_for_it() -> None:
    refused = Failure("rate-limited", "no")
    operations = [Operation(id_, "GET", "/x") for id_ in "abc"]

    assert twins_of(operations, [refused, EVERY_ROUTE, EVERY_ROUTE], None) == {2: 1}
    assert twins_of(operations, [EVERY_ROUTE, refused, EVERY_ROUTE], None) == {2: 0}


def test_those_that_wait_for_others_wait_for_the_same_ones() -> None:
    operations = [Operation(id_, "GET", "/x" if id_ > "b" else f"/{id_}") for id_ in "abcdefg"]
    graph, _ = graph_of([*"abcdefg"], [[], [], ["a"], [], ["b", "a"], ["a"], ["a", "b"]])

    assert twins_of(operations, [EVERY_ROUTE] * 7, graph) == {5: 2, 6: 4}
