"""What the Redis ledger's scripts are told."""

from hypothesis import example, given
from hypothesis import strategies as st

from gateway.ledger.redis_records import mask

_INDEXES = st.lists(st.integers(0, 2000), min_size=1, unique=True)


@given(_INDEXES)
@example([7, 8])
@example([9_999])
def test_a_mask_has_the_bits_of_its_indexes_in_whatever_order_and_no_other(indexes: list[int]) -> None:
    said = mask(indexes)

    first = int.from_bytes(said[:4], "big") * 8
    bits = "".join(f"{byte:08b}" for byte in said[4:])
    assert [first + place for place, bit in enumerate(bits) if bit == "1"] == sorted(indexes)
    assert 0 not in (said[4], said[-1]), "no byte more than they take"


def test_a_mask_of_nothing_is_empty() -> None:
    assert mask([]) == b""
