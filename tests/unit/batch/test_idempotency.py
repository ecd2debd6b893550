"""What an idempotency key looks like."""

import pytest

from gateway.batch.idempotency import BadKeyError, bare, is_key, keyed


@pytest.mark.parametrize(
    "said", ["k", "8e03978e-40d5-43dd-bc93-6894a57f9324", "~!#$%&'()*+,-./:;<=>?@[]^_`{|}", "x" * 255]
)
def test_a_key_is_the_same_bare_and_in_quotes(said: str) -> None:
    assert is_key(said)
    assert is_key(f'"{said}"')
    assert bare(said) == bare(f'"{said}"') == said


@pytest.mark.parametrize("said", ["", '""', '"', '"a', 'a"', "a b", "a\\b", "é", "a\n", "x" * 256, '"a""b"'])
def test_anything_else_is_none(said: str) -> None:
    assert not is_key(said)


def test_a_member_is_the_key_as_it_was_said() -> None:
    assert keyed((("X-A", "b"),), '"k"') == ((("X-A", "b"),), '"k"')


def test_so_is_a_field_which_goes() -> None:
    assert keyed((("IDEMPOTENCY-key", "k"), ("X-A", "b")), None) == ((("X-A", "b"),), "k")


def test_most_operations_have_none() -> None:
    assert keyed((("X-A", "b"),), None) == ((("X-A", "b"),), "")


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ((("Idempotency-Key", "a"), ("idempotency-key", "a")), None),
        ((("Idempotency-Key", "a"),), "a"),
        ((), "a b"),
    ],
    ids=["two fields", "both", "malformed"],
)
def test_what_is_no_key_is_refused_in_words(fields: tuple[tuple[str, str], ...], said: str | None) -> None:
    with pytest.raises(BadKeyError, match="write"):
        keyed(fields, said)
