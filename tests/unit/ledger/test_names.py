"""Names under the master key: what they tell their owner, and nobody else."""

from hypothesis import given
from hypothesis import strategies as st

from gateway.ledger.names import Names, is_id

NAMES = Names(b"k" * 32)
ALICE, BOB = NAMES.owner_of("alice"), NAMES.owner_of("bob")


def test_an_id_tells_its_owner_when_it_was_made() -> None:
    made = NAMES.new_id(ALICE, 1_800_000_000.9)

    assert is_id(made)
    assert NAMES.made_s(made, ALICE) == 1_800_000_000


def test_an_id_tells_nobody_else() -> None:
    made = NAMES.new_id(ALICE, 1_800_000_000)

    assert NAMES.made_s(made, BOB) is None
    assert Names(b"x" * 32).made_s(made, ALICE) is None


def test_one_seed_is_one_id_of_its_owner() -> None:
    made = NAMES.id_of(ALICE, b"seed", 1_800_000_000)

    assert is_id(made)
    assert NAMES.made_s(made, ALICE) == 1_800_000_000
    assert made == NAMES.id_of(ALICE, b"seed", 1_800_000_000)
    others = (NAMES.id_of(BOB, b"seed", 1_800_000_000), NAMES.id_of(ALICE, b"other", 1_800_000_000))
    assert len({made, *others, Names(b"x" * 32).id_of(ALICE, b"seed", 1_800_000_000)}) == 4


def test_ids_and_owners_differ_by_key_and_by_chance() -> None:
    assert len({NAMES.new_id(ALICE, 0) for _ in range(1000)}) == 1000
    assert len({ALICE, BOB, Names(b"x" * 32).owner_of("alice")}) == 3
    assert "alice" not in ALICE


@given(st.text(max_size=60))
def test_an_invented_id_was_never_made(text: str) -> None:
    assert NAMES.made_s(text, ALICE) is None


def test_one_changed_character_is_enough() -> None:
    made = NAMES.new_id(ALICE, 1_800_000_000)
    others = ["b" if character == "a" else "a" for character in made]

    changed = [made[:place] + other + made[place + 1 :] for place, other in enumerate(others)]

    assert {NAMES.made_s(each, ALICE) for each in changed} == {None}
