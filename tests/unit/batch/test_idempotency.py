"""What an idempotency key looks like."""

import pytest

from gateway.batch.idempotency import BadKeyError, key_of, keyed, without_key
from gateway.batch.model import Fields, Operation


@pytest.mark.parametrize(
    "said", ["k", "8e03978e-40d5-43dd-bc93-6894a57f9324", "~!#$%&'()*+,-./:;<=>?@[]^_`{|}", "x" * 255]
)
def test_a_key_is_the_same_bare_and_in_quotes(said: str) -> None:
    assert key_of(said) == key_of(f'"{said}"') == said


@pytest.mark.parametrize("said", ["", '""', '"', '"a', 'a"', "a b", "a\\b", "é", "a\n", "x" * 256, '"a""b"'])
def test_anything_else_is_none(said: str) -> None:
    assert key_of(said) is None


def test_a_member_goes_behind_the_fields_as_it_was_said() -> None:
    assert keyed((("X-A", "b"),), '"k"') == ((("Idempotency-Key", '"k"'),), "k")


def test_a_field_stays_as_it_is() -> None:
    assert keyed((("IDEMPOTENCY-key", "k"),), None) == ((), "k")


def test_without_a_key_nothing_changes() -> None:
    assert keyed((("X-A", "b"),), None) == ((), "")


_A, _KEY = ("X-A", "b"), ("Idempotency-Key", "k")


@pytest.mark.parametrize(
    ("fields", "key", "shared"),
    [
        ((_A, _KEY), "k", (_A,)),
        ((_KEY,), "k", ()),
        ((_KEY, _A), "k", (_KEY, _A)),
        ((("IDEMPOTENCY-key", "k"),), "k", (("IDEMPOTENCY-key", "k"),)),
        ((_A,), "", (_A,)),
        ((), "", ()),
        ((), "k", ()),
    ],
)
def test_others_share_all_fields_but_a_key_at_the_end(fields: Fields, key: str, shared: Fields) -> None:
    assert without_key(Operation("a", "POST", "/", fields, key=key)) == shared


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
