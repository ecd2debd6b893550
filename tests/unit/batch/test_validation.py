"""Every violation of a batch at once, and the quick look that must never be kinder than the careful one."""

from collections.abc import Sequence
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.batch.model import METHODS, Fields, Operation
from gateway.batch.ordering import Graph
from gateway.batch.validation import VIOLATIONS_MAX, Rules, Violation, _are_plain, _Judged, order_of, violations
from gateway.upstream.headers import refusals_in_operation
from tests.strategies import LAW, RULES, ids, paths, targets


def _found(*operations: Operation, rules: Rules = RULES) -> list[tuple[int, str, str]]:
    return [(violation.position, violation.member, violation.code) for violation in violations(operations, rules)]


_any_operations = st.lists(
    st.builds(
        Operation,
        ids | st.text("ab\n\u00e9/", max_size=3),
        st.sampled_from([*METHODS, "get", "TRACE", "", "GET\n"]),
        paths | targets | st.sampled_from(["/batch", "/batching", "/batch/x", "/%62atch", "/a\n/b"]),
    ),
    max_size=6,
)


@LAW
@given(_any_operations)
def test_the_quick_look_accepts_nothing_that_the_careful_look_refuses(operations: list[Operation]) -> None:
    judged = _Judged(RULES)

    careful = [found for index, operation in enumerate(operations) for found in judged.whole_of(index, operation)]

    assert not (_are_plain(operations, RULES.own_paths) and careful)


@LAW
@given(st.lists(st.tuples(ids, paths.filter(lambda path: not path.startswith("/batch"))), unique_by=lambda op: op[0]))
def test_a_batch_of_plain_operations_has_no_violation(pairs: list[tuple[str, str]]) -> None:
    assert violations([Operation(id_, "GET", path) for id_, path in pairs], RULES) == []


def test_a_batch_of_nothing_has_no_violation() -> None:
    assert violations([], RULES) == []


def test_one_operation_shows_everything_that_is_wrong_with_it() -> None:
    wrong = Operation("a b", "GET", "/a//b", (("Host", "x"),), b"1", True, timeout_s=0)

    found = _found(wrong)

    assert found == [
        (0, "id", "id"),
        (0, "path", "path-ambiguous"),
        (0, "headers", "header-not-allowed"),
        (0, "body", "body-not-allowed"),
        (0, "timeoutSeconds", "timeout"),
    ]


@pytest.mark.parametrize("id_", ["", "a" * 129, "a b", "a/b", "\u00e9", "a\n", "a\nb", "\n", "a\x00"])
def test_an_id_outside_its_alphabet_or_length_is_refused(id_: str) -> None:
    assert _found(Operation(id_, "GET", "/")) == [(0, "id", "id")]


@pytest.mark.parametrize("id_", ["a", "a" * 128, "A-Z.0_9~"])
def test_an_id_of_up_to_128_plain_characters_is_taken(id_: str) -> None:
    assert _found(Operation(id_, "GET", "/")) == []


def test_the_second_of_two_equal_ids_is_refused() -> None:
    assert _found(Operation("a", "GET", "/"), Operation("b", "GET", "/"), Operation("a", "GET", "/")) == [
        (2, "id", "id")
    ]


@pytest.mark.parametrize("method", METHODS)
def test_each_of_the_seven_methods_is_taken(method: str) -> None:
    assert _found(Operation("a", method, "/")) == []


@pytest.mark.parametrize(
    ("method", "code", "cure"),
    [
        ("", "missing", "write a method"),
        ("get", "method", "write GET"),
        ("TRACE", "method", "use one of"),
        ("CONNECT", "method", "use one of"),
        ("GET /x HTTP/1.1\r\nX:", "method", "use one of"),
    ],
)
def test_any_other_method_is_refused_with_its_cure(method: str, code: str, cure: str) -> None:
    (found,) = violations([Operation("a", method, "/")], RULES)

    assert found[:3] == (0, "method", code)
    assert cure in found.detail


@pytest.mark.parametrize(
    "path", ["/batch", "/batch?x=1", "/batch/", "/batch/limits", "/batch/problems/x", "/%62atch", "/b%61tch/x"]
)
def test_the_gateways_own_paths_are_refused_however_they_are_spelled(path: str) -> None:
    assert _found(Operation("a", "GET", path)) == [(0, "path", "nested-batch")]


@pytest.mark.parametrize("path", ["/batches", "/batch-x", "/x/batch", "/Batch", "/?/batch"])
def test_paths_that_only_look_like_the_gateways_own_are_taken(path: str) -> None:
    assert _found(Operation("a", "GET", path)) == []


@pytest.mark.parametrize(
    ("path", "cure"),
    [
        ("/a b", "space as %20"),
        ("/a\tb", "leave control"),
        ("/a|b", "percent-encode"),
        ("/é", "UTF-8"),
        ("/a//b", "plain"),
    ],
)
def test_the_cure_of_a_path_is_for_what_is_wrong_with_it(path: str, cure: str) -> None:
    (found,) = violations([Operation("a", "GET", path)], RULES)

    assert (found.member, found.code) == ("path", "path-ambiguous")
    assert cure in found.detail


def test_a_missing_path_is_called_missing() -> None:
    assert _found(Operation("a", "GET", "")) == [(0, "path", "missing")]


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_body_where_it_has_no_meaning_is_refused(method: str) -> None:
    assert _found(Operation("a", method, "/", (), b"", True)) == [(0, "body", "body-not-allowed")]


@pytest.mark.parametrize(("size", "found"), [(9, []), (10, []), (11, [(0, "body", "body-too-large")])])
def test_a_body_may_be_exactly_as_large_as_the_limit(size: int, found: list[tuple[int, str, str]]) -> None:
    rules = Rules((), 10, RULES.fields_rule)

    assert _found(Operation("a", "POST", "/", (), b"x" * size, True), rules=rules) == found


@pytest.mark.parametrize("timeout_s", [0, -1, 86400.1, float("inf"), float("nan")])
def test_a_timeout_outside_its_range_is_refused(timeout_s: float) -> None:
    assert _found(Operation("a", "GET", "/", timeout_s=timeout_s)) == [(0, "timeoutSeconds", "timeout")]


@pytest.mark.parametrize("timeout_s", [0.001, 5, 86400])
def test_a_timeout_within_its_range_is_taken(timeout_s: float) -> None:
    assert _found(Operation("a", "GET", "/", timeout_s=timeout_s)) == []


def _counting() -> tuple[Rules, list[Fields]]:
    judged: list[Fields] = []

    def judge(fields: Fields) -> Sequence[tuple[str, str]]:
        judged.append(fields)
        return ()

    return Rules((), 10, judge), judged


def test_fields_that_operations_share_are_judged_once() -> None:
    rules, judged = _counting()

    found = _found(*(Operation(str(index), "GET", "/", (("X-A", "b"),)) for index in range(5)), rules=rules)

    assert (found, len(judged)) == ([], 1)


def test_judging_stops_soon_after_the_last_violation_that_can_be_shown() -> None:
    found = violations([Operation("", "", "") for _ in range(1000)], RULES)

    assert VIOLATIONS_MAX < len(found) <= VIOLATIONS_MAX + 5


@LAW
@given(st.lists(st.text(max_size=80), min_size=1, max_size=3), st.text(max_size=100))
def test_a_detail_is_short_printable_ascii_whatever_the_input(texts: list[str], path: str) -> None:
    operations = [Operation(text, text, path, ((text, text),)) for text in texts]

    found: list[Violation] = violations(operations, RULES)

    assert all(violation.detail.isascii() and violation.detail.isprintable() for violation in found)
    assert all(len(violation.detail) < 200 for violation in found)


def test_credentials_of_an_operation_are_taken_where_the_configuration_allows_them() -> None:
    rules = Rules((), 10, partial(refusals_in_operation, credentials=frozenset()))

    assert _found(Operation("a", "GET", "/", (("Authorization", "Bearer x"),)), rules=rules) == []


def test_a_batch_in_which_nobody_waits_has_no_graph() -> None:
    assert order_of([Operation("a", "GET", "/"), Operation("b", "POST", "/", (), b'"\\u0041"', True)]) == (None, [])


def test_names_and_references_make_one_graph() -> None:
    operations = [
        Operation("a", "GET", "/"),
        Operation("b", "GET", "/", depends_on=("a",)),
        Operation("c", "GET", "/{$ops.a.response.status}/{$ops.b.response.status}"),
    ]

    graph, found = order_of(operations)

    assert not found
    assert graph is not None
    assert graph.parents == [[], [0], [0, 1]]


def test_without_references_only_names_count_and_the_graph_knows() -> None:
    operations = [Operation("a", "GET", "/"), Operation("b", "GET", "/{$ops.x.response.status}", depends_on=("a",))]

    graph, found = order_of(operations, fails_from=300, refers=False)

    assert (graph, found) == (Graph([[], [0]], [[1], []], fails_from=300, refers=False), [])


def test_what_cannot_be_is_told_at_its_member() -> None:
    operations = [Operation("a", "GET", "/$ops.", depends_on=("x",)), Operation("b", "GET", "$ops.x.response.status")]

    _, found = order_of(operations)

    assert [(each.position, each.member, each.code) for each in found] == [
        (1, "path", "dependency-invalid"),
        (0, "dependsOn", "dependency-invalid"),
    ]


@pytest.mark.parametrize(("target", "waits"), [("/$$ops.a", False), ("/", False), ("$$ops.a", True)])
def test_a_literal_is_resolved_though_nobody_waits(target: str, waits: bool) -> None:
    graph, tangles = order_of([Operation("a", "GET", "/"), Operation("b", "GET", target)])

    assert (graph is not None, tangles) == (waits, [])
