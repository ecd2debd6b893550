"""What every JSON envelope must obey, whatever is inside its strings."""

import json
from collections.abc import Iterator
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.dialects import strictness
from gateway.dialects.port import EnvelopeError
from gateway.dialects.strictness import check_members_once, check_structure, check_syntax, check_text
from tests.strategies import LAW, json_texts, randoms


def _slug(check: Any, *args: Any, **named: Any) -> str | None:
    try:
        check(*args, **named)
    except EnvelopeError as error:
        return error.problem.slug
    return None


def _offset(check: Any, data: bytes) -> object:
    with pytest.raises(EnvelopeError) as caught:
        check(data)
    return caught.value.members["offset"]


@pytest.mark.parametrize(
    ("data", "offset"),
    [
        (b"", 0),
        (b" \n\t", 0),
        (b"\xef\xbb\xbf{}", 0),
        (b'{"a":"\xff"}', 6),
        (b'"\xed\xa0\x80"', 1),
        (b'"\xc0\xae"', 1),
        (b'"\xe2\x82', 1),
    ],
)
def test_what_is_no_utf8_text_is_refused_with_its_first_wrong_byte(data: bytes, offset: int) -> None:
    assert _offset(check_text, data) == offset


def test_utf8_text_is_taken() -> None:
    check_text('{"a":"\u00e9\U0001f600"}'.encode())


@pytest.mark.parametrize(
    ("data", "offset"), [(b'{"a":tru}', 6), (b"[1,]", 3), (b"{} x", 4), (b'{"a"', 4), (b'["\x01"]', 2), (b"[NaN]", 1)]
)
def test_broken_json_is_refused_with_the_byte_where_it_breaks(data: bytes, offset: int) -> None:
    assert _offset(check_syntax, data) == offset


@pytest.mark.parametrize("opening", [b"[", b'{"a":', b'[{"a":'])
def test_absurd_nesting_is_refused_without_exhausting_the_stack(opening: bytes) -> None:
    assert _slug(check_syntax, opening * 200_000) == "json-too-complex"


@LAW
@given(st.binary(max_size=40))
def test_the_syntax_check_takes_only_what_the_standard_library_reads(data: bytes) -> None:
    if _slug(check_text, data) is None and _slug(check_syntax, data) is None:
        json.loads(data)


def _deepest(value: object) -> int:
    if not isinstance(value, (list, dict)):
        return 0
    return 1 + max(map(_deepest, value.values() if isinstance(value, dict) else value), default=0)


@LAW
@given(json_texts, st.integers(0, 6))
def test_nesting_is_measured_outside_strings(text: str, depth_max: int) -> None:
    value = json.loads(text, object_pairs_hook=lambda pairs: [each for _, each in pairs])

    slug = _slug(check_structure, text.encode(), depth_max=depth_max, nodes_max=1000)

    assert (slug == "json-too-complex") is (_deepest(value) > depth_max)


@pytest.mark.parametrize("nested", [b"[", b'{"a":'])
def test_nesting_may_be_exactly_as_deep_as_the_limit(nested: bytes) -> None:
    closing = b"]" if nested == b"[" else b"}"

    assert _slug(check_structure, nested * 32 + b"1" + closing * 32, depth_max=32, nodes_max=1000) is None
    assert _slug(check_structure, nested * 33 + b"1" + closing * 33, depth_max=32, nodes_max=1000) == "json-too-complex"


_TRICKY = [
    '"[[[["',
    '"\\""',
    '"\\\\"',
    '"\\\\\\"["',
    '""',
    '"{\\"}"',
    '"' + "0" * 100 + '"',
    '"\\u005b"',
    '"a,b,c,d,e"',
]


@LAW
@given(st.lists(st.sampled_from(_TRICKY), min_size=1, max_size=12))
def test_what_stands_in_strings_is_never_counted(strings: list[str]) -> None:
    data = ("[" + ",".join(strings) + "]").encode()

    assert _slug(check_structure, data, depth_max=1, nodes_max=len(strings)) is None


@pytest.mark.parametrize(("digits", "slug"), [(63, None), (64, None), (65, "json-too-complex")])
@pytest.mark.parametrize("form", ["[%s]", '{"":%s}', "[-%s]", "[1.%s]", "[1e%s]", '["\\"",%s]', '["",%s,""]'])
def test_a_number_may_have_64_digits_in_a_row(digits: int, slug: str | None, form: str) -> None:
    assert _slug(check_structure, (form % ("1" * digits)).encode(), depth_max=32, nodes_max=1000) == slug


def test_two_short_numbers_are_no_long_one() -> None:
    data = ("[" + ",".join(["1" * 40, '""', "1" * 40, '"1"', "1" * 40]) + "]").encode()

    assert _slug(check_structure, data, depth_max=32, nodes_max=1000) is None


@pytest.mark.parametrize("text", ['"', "1", '"[",'])
def test_strings_and_numbers_across_the_windows_of_the_scan_keep_their_side(text: str) -> None:
    window = strictness._WINDOW_BYTES
    padding = "x" * (window - 5)

    for shift in range(8):
        data = f'["{padding}{"y" * shift}","[[[[{"0" * 70}",{"1" * 64},["{"[" * 9}"]]'.encode()
        assert _slug(check_structure, data, depth_max=2, nodes_max=1000) is None
        assert _slug(check_structure, data, depth_max=1, nodes_max=1000) == "json-too-complex"
        assert _slug(check_structure, data.replace(b"1,[", b"11,["), depth_max=2, nodes_max=1000) == "json-too-complex"


@pytest.mark.parametrize("opening", ["[", '{"a":', '["]]}}",'])
@pytest.mark.parametrize("shift", range(8))
def test_nesting_is_measured_across_windows(opening: str, shift: int) -> None:
    closing = "}" if opening.startswith("{") else "]"
    width = strictness._WINDOW_BYTES + shift
    wide = f'"{"x" * width}"'  # opened in one window, deeper in the second, closed in the third
    data = f"{opening * 3}[{wide},{'[' * 4}1{']' * 4},{wide}]{closing * 3}".encode()

    assert _slug(check_structure, data, depth_max=8, nodes_max=1000) is None
    assert _slug(check_structure, data, depth_max=7, nodes_max=1000) == "json-too-complex"


@pytest.mark.parametrize("escape", ["\\\\", '\\"', "\\n"])
@pytest.mark.parametrize("shift", range(4))
def test_an_escape_across_windows_stays_one(escape: str, shift: int) -> None:
    text = "x" * (strictness._WINDOW_BYTES - 12 + shift) + escape * 10 + "[" * 9

    assert _slug(check_structure, f'["{text}","[[["]'.encode(), depth_max=1, nodes_max=1000) is None


@pytest.mark.parametrize("window", [1, 2, 5])
def test_a_number_longer_than_windows_is_seen(window: int) -> None:
    digits = "1" * (window * strictness._WINDOW_BYTES)

    assert _slug(check_structure, digits.encode(), depth_max=1, nodes_max=1 << 20) == "json-too-complex"
    assert _slug(check_structure, f'["{digits}"]'.encode(), depth_max=1, nodes_max=1 << 20) is None


@pytest.mark.parametrize("more", [0, 1])
def test_values_are_counted_across_windows(more: int) -> None:
    most = strictness._WINDOW_BYTES
    data = ("[" + ",".join(["1"] * (most + more)) + "]").encode()

    assert _slug(check_structure, data, depth_max=1, nodes_max=most) == ("json-too-complex" if more else None)


@pytest.mark.parametrize(("count", "slug"), [(1000, None), (1001, "json-too-complex")])
@pytest.mark.parametrize("value", ["1", '"a"', '"[,{"'])
def test_more_values_than_the_limit_are_refused(count: int, slug: str | None, value: str) -> None:
    data = ("[" + ",".join([value] * count) + "]").encode()

    assert _slug(check_structure, data, depth_max=32, nodes_max=1000) == slug


def _levels(decoded: Any) -> Iterator[tuple[str, Any]]:
    yield "", decoded
    yield "/h", decoded.get("h")


@LAW
@given(st.dictionaries(st.sampled_from("abcd"), json_texts, max_size=4), randoms)
def test_members_that_stand_once_are_taken_however_they_are_spaced(members: dict[str, str], random: Random) -> None:
    loose = ", ".join(f'"{name}"\t: {value}' for name, value in members.items())
    tight = ",".join(f'"{name}":{value}' for name, value in members.items())

    check_members_once(f" {{{loose}\n}}".encode(), f"{{{tight}}}".encode(), _levels)


@pytest.mark.parametrize(
    ("data", "again", "pointer"),
    [
        (b'{"a":1,"a":1}', b'{"a":1}', ""),
        (b'{"a":1,"b":2,"\\u0061":1}', b'{"a":1,"b":2}', ""),
        (b'{"h":{"x":1,"x":2}}', b'{"h":{"x":2}}', "/h"),
        (b'{"a":1,"a":"\\u0061"}', b'{"a":"a"}', ""),
    ],
)
def test_a_member_that_stands_twice_is_refused_with_the_pointer_of_its_object(
    data: bytes, again: bytes, pointer: str
) -> None:
    with pytest.raises(EnvelopeError) as caught:
        check_members_once(data, again, _levels)

    assert caught.value.problem.slug == "duplicate-key"
    assert caught.value.members == {"pointer": pointer}


def test_a_shorter_text_without_a_duplicate_is_taken() -> None:
    check_members_once(
        b'{"a":"\\u0061","b":[{"x":1,"x":1}],"h":"x"}', b'{"a":"a","b":[{"x":1,"x":1}],"h":"x"}', _levels
    )
