"""The part of JSONPath that references may use, against the selectors of RFC 9535."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.batch.jsonpath import found_at, steps_of

DOCUMENT = {"data": [{"id": 1}, {"id": [2, 3]}, {"no": 4}], "a b": {"x": None}, "0": "zero"}


@pytest.mark.parametrize(
    ("path", "values"),
    [
        ("$", [DOCUMENT]),
        ("$.data[*].id", [1, [2, 3]]),
        ("$.data.*.id", [1, [2, 3]]),
        ("$.data[1].id[0]", [2]),
        ("$['a b'].x", [None]),
        ('$["a b"]["x"]', [None]),
        ("$.0", ["zero"]),
        ("$.data[3]", []),
        ("$.data.id", []),
        ("$.nothing", []),
        ("$.0[0]", []),
        ("$['a b'][*]", [None]),
    ],
)
def test_a_path_finds_the_values_in_order(path: str, values: list[Any]) -> None:
    steps = steps_of(path)

    assert steps is not None
    assert found_at(DOCUMENT, steps, lambda _: None) == values


@pytest.mark.parametrize(
    "path", ["", "data", "$x", "$.", "$..id", "$[-1]", "$[?@]", "$['a", "$.a" * 2, "$" + "[0]" * 33]
)
def test_what_is_not_of_this_part_is_no_path(path: str) -> None:
    assert steps_of(path) is None


@given(
    st.text(),
    st.recursive(
        st.none() | st.integers() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
    ),
)
def test_no_path_and_no_document_raises(path: str, document: Any) -> None:
    for steps in (steps_of(path), steps_of("$" + path)):
        assert steps is None or isinstance(found_at(document, steps, lambda _: None), list)
