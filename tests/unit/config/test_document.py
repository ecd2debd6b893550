"""YAML to placed values: the traps are off, the bounds hold, the messages repeat nothing."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.config.document import read_document
from gateway.config.tree import find, plain


def _plain(text: str) -> object:
    node, problems = read_document(text, "f")
    assert node is not None
    assert problems == ()
    return plain(node)


def _refusal(text: str) -> str:
    node, problems = read_document(text, "f")
    assert node is None
    return str(problems[0])


@pytest.mark.parametrize(
    "text",
    ["on", "off", "yes", "no", "y", "True", "1:30", "0777", "0x1F", "1_000", "2001-01-01", ".inf", "1.", "+", "00"],
)
def test_a_word_that_yaml_1_1_would_change_stays_text(text: str) -> None:
    assert _plain(f"a: {text}") == {"a": text}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("true", True),
        ("false", False),
        ("8207", 8207),
        ("-1", -1),
        ("1.5", 1.5),
        ("1e3", 1000.0),
        ("~", None),
        ("", None),
    ],
)
def test_only_true_false_null_and_decimal_numbers_are_more_than_text(text: str, value: object) -> None:
    assert _plain(f"a: {text}") == {"a": value}


def test_an_empty_file_is_an_empty_map() -> None:
    assert _plain("# nothing\n") == {}


def test_every_value_knows_its_line_and_column() -> None:
    node, _ = read_document("a:\n  - b: 1\n    c: 2\n", "f")

    assert node is not None
    found = find(node, ("a", 0, "c"))
    assert found is not None
    assert (str(found.place), str(found.key)) == ("f:3:8", "f:3:5")


def test_anchors_and_merge_keys_work_and_own_keys_win() -> None:
    text = "a: &a {x: 1, y: 1}\nb: &b {y: 2, z: 2}\nc: {<<: [*a, *b], z: 3}\nd: {<<: *a, x: 4}\ne: *a\n"

    found = _plain(text)

    assert isinstance(found, dict)
    assert found["c"] == {"x": 1, "y": 1, "z": 3}
    assert found["d"] == {"x": 4, "y": 1}
    assert found["e"] == {"x": 1, "y": 1}


def test_a_key_given_twice_is_a_problem_that_names_the_first() -> None:
    _, problems = read_document("a:\n  b: 1\n  b: 2\n", "f")

    assert [str(each) for each in problems] == ["f:3:3: a.b: given twice, first on line 2; keep one"]


@pytest.mark.parametrize("joint", ["*{0},*{0}", "<<: [*{0},*{0}]"])
def test_a_billion_laughs_are_refused(joint: str) -> None:
    levels = ["a0: &a0 {x: 1, y: 2}"]
    for depth in range(1, 28):
        inner = joint.format(f"a{depth - 1}")
        levels.append(f"a{depth}: &a{depth} " + (f"{{{inner}}}" if "<<" in joint else f"[{inner}]"))

    assert "more than 50000 values" in _refusal("\n".join(levels))


def test_a_wide_map_merged_many_times_is_refused() -> None:
    wide = "{" + ",".join(f"k{index}: 1" for index in range(2000)) + "}"

    assert "more than 50000 values" in _refusal(f"a: &a {wide}\nb: {{<<: [{','.join(['*a'] * 2000)}]}}")


@pytest.mark.parametrize("text", ["a: &a [*a]", "a: &a {<<: *a}", "a: " + "[" * 40 + "]" * 40, "[" * 1500])
def test_what_is_nested_without_end_is_refused(text: str) -> None:
    assert "nested deeper than 32 levels" in _refusal(text)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("a: b: c", "f:1:5: not YAML: mapping values are not allowed here; put a text"),
        ("a:\n\tb: 1", "f:2:1: not YAML: found character '\\t' that cannot start any token; indent with spaces"),
        ("a: {p: /users/{id}}", "f:1:15: not YAML: expected ',' or '}', but got '{'; put a text that holds braces"),
        ("a: *hunter2", "f:1:4: not YAML: found undefined alias"),
        ("a: &x 1\nb: &x 2", "f:2:4: not YAML: found duplicate anchor; give each"),
        ("a: 1\n---\nb: 2", "f:2:1: not YAML: expected a single document"),
        ("- a", "f:1:1: the file must be a map of sections"),
        ("just text", "f:1:1: the file must be a map of sections"),
        ("a: 1\nb: \x07", "f:2:4: not YAML: a control character"),
        ("a: !h!unter2 x", "f:1:4: not YAML: found undefined tag handle"),
    ],
)
def test_a_text_that_is_no_document_is_refused_at_its_place(text: str, line: str) -> None:
    said = _refusal(text)

    assert said.startswith(line)
    assert "unter2" not in said


@pytest.mark.parametrize(
    "text", ["a: !hunter2 x", "a: !!int hunter2", "a: !!bool hunter2", "a: !!timestamp 2001-01-01"]
)
def test_a_tag_is_refused_without_repeating_it(text: str) -> None:
    _, problems = read_document(text, "f")

    assert [str(each) for each in problems] == ["f:1:4: a: YAML tags (!...) have no meaning here; leave the tag out"]


def test_a_key_that_is_a_list_and_a_merge_of_no_map_are_problems() -> None:
    _, problems = read_document("? [a]\n: 1\nb: {<<: 3}\n", "f")

    assert [each.line for each in problems] == [1, 3]


@given(st.text(alphabet="ab:-[]{}&*!<>|#'\"%@`,?~ \n\t\\1é\x00\ud800") | st.text())
def test_no_text_raises(text: str) -> None:
    read_document(text, "f")
