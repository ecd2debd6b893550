"""Seals: what was sealed comes back, and only in its own place under its own key."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.ledger.seal import PayloadCorruptError, Sealer

SEALER = Sealer(b"m" * 32)


@given(st.binary(max_size=200), st.text(max_size=20))
def test_what_is_sealed_comes_back(payload: bytes, purpose: str) -> None:
    key, wrapped = SEALER.new_key("batch")

    sealed = key.seal(payload, purpose)

    assert SEALER.key("batch", wrapped).open(sealed, purpose) == payload


def test_no_byte_of_the_payload_is_in_the_clear_nor_is_a_seal_ever_the_same() -> None:
    key, wrapped = SEALER.new_key("batch")
    sealed = [key.seal(b"canary-canary-canary", "context") for _ in range(2)]

    assert not any(b"canary" in part for part in [*sealed, wrapped])
    assert sealed[0] != sealed[1]


@pytest.mark.parametrize("place", range(0, 48, 7))
def test_a_flipped_bit_is_noticed(place: int) -> None:
    key, _ = SEALER.new_key("batch")
    sealed = bytearray(key.seal(b"payload-payload-payload", "operations/3"))
    sealed[place] ^= 1

    with pytest.raises(PayloadCorruptError):
        key.open(bytes(sealed), "operations/3")


def test_a_truncated_payload_is_noticed() -> None:
    key, _ = SEALER.new_key("batch")
    sealed = key.seal(b"payload", "operations/3")

    for length in range(len(sealed)):
        with pytest.raises(PayloadCorruptError):
            key.open(sealed[:length], "operations/3")


def test_a_payload_opens_in_its_own_place_only() -> None:
    key, _ = SEALER.new_key("batch")
    other, _ = SEALER.new_key("batch")
    sealed = key.seal(b"payload", "operations/3")

    with pytest.raises(PayloadCorruptError):
        key.open(sealed, "operations/4")
    with pytest.raises(PayloadCorruptError):
        other.open(sealed, "operations/3")


def test_what_is_sealed_apart_opens_without_the_batch_s_key_and_in_its_own_place_only() -> None:
    sealed = SEALER.seal_apart("batch", b"credentials", "context")

    assert SEALER.open_apart("batch", sealed, "context") == b"credentials"
    for sealer, batch, purpose in ((SEALER, "another", "context"), (SEALER, "batch", "operations/0")):
        with pytest.raises(PayloadCorruptError):
            sealer.open_apart(batch, sealed, purpose)
    with pytest.raises(PayloadCorruptError):
        Sealer(b"n" * 32).open_apart("batch", sealed, "context")


@pytest.mark.parametrize("length", [0, 1, 60, 61, 80])
def test_what_is_sealed_apart_and_cut_off_does_not_open(length: int) -> None:
    sealed = SEALER.seal_apart("batch", b"credentials", "context")

    with pytest.raises(PayloadCorruptError):
        SEALER.open_apart("batch", sealed[:length], "context")


def test_a_key_opens_for_its_own_batch_and_master_only() -> None:
    _, wrapped = SEALER.new_key("batch")

    with pytest.raises(PayloadCorruptError):
        SEALER.key("another", wrapped)
    with pytest.raises(PayloadCorruptError):
        Sealer(b"n" * 32).key("batch", wrapped)
