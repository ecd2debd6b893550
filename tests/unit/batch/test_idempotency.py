"""What an idempotency key looks like."""

import pytest

from gateway.batch.idempotency import BadKeyError, key_of, keyed


@pytest.mark.parametrize(
    "said", ["k", "8e03978e-40d5-43dd-bc93-6894a57f9324", "~!#$%&'()*+,-./:;<=>?@[]^_`{|}", "x" * 255]
)
def test_a_key_is_the_same_bare_and_in_quotes(said: str) -> None:
    assert key_of(said) == key_of(f'"{said}"') == said


@pytest.mark.parametrize("said", ["", '""', '"', '"a', 'a"', "a b", "a\\b", "é", "a\n", "x" * 256, '"a""b"'])
def test_anything_else_is_none(said: str) -> None:
    assert key_of(said) is None


def test_a_member_goes_among_the_fields_as_it_was_said() -> None:
    assert keyed((("X-A", "b"),), '"k"') == ((("X-A", "b"), ("Idempotency-Key", '"k"')), "k")


def test_a_field_stays_as_it_is() -> None:
    fields = (("IDEMPOTENCY-key", "k"),)

    assert keyed(fields, None) == (fields, "k")


def test_without_a_key_nothing_changes() -> None:
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
