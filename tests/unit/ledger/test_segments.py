"""Segments: operations, outcomes and contexts survive being bytes."""

import msgspec
import pytest

from gateway.batch.model import Failure, Operation, Outcome
from gateway.ledger.segments import (
    CONTEXT,
    Context,
    Recorded,
    context_from_bytes,
    context_to_bytes,
    of_operations,
    of_outcomes,
    operations_from_bytes,
    operations_to_bytes,
    outcomes_from_bytes,
    outcomes_to_bytes,
)

OPERATIONS = [
    Operation("a", "GET", "/users/1"),
    Operation("b", "POST", "/users?x=1", (("X-A", "b"),), b'{"n": 1e400}\xff', True, 2.5),
]
OUTCOMES = [
    Outcome(3, 200, {"Set-Cookie": ["a", "b"], "ETag": '"x"'}, b"\x00\xff", None, 0.25, 2),
    Outcome(4, 502, failure=Failure("outcome-unknown", "lost", members={"attempt": 1})),
]


def test_operations_come_back() -> None:
    assert operations_from_bytes(operations_to_bytes(OPERATIONS)) == OPERATIONS


def test_outcomes_come_back_under_their_ids() -> None:
    recorded = [Recorded.of(id_, outcome.index, outcome) for id_, outcome in zip("ab", OUTCOMES, strict=True)]

    read = outcomes_from_bytes(outcomes_to_bytes(recorded))

    assert [(each.id, each.outcome) for each in read] == list(zip("ab", OUTCOMES, strict=True))


def test_what_is_usual_takes_no_room() -> None:
    read = msgspec.msgpack.decode(operations_to_bytes(OPERATIONS[:1]))

    assert read == [{"id": "a", "method": "GET", "target": "/users/1"}]


def test_what_names_every_member_is_read_as_well() -> None:
    written = msgspec.msgpack.encode([msgspec.structs.asdict(operation) for operation in OPERATIONS])

    assert operations_from_bytes(written) == OPERATIONS


def test_a_context_comes_back() -> None:
    context = Context([(b"Host", b"x"), (b"Authorization", b"secret")], "identity", "127.0.0.1", trace_seed=b"\x01")

    assert context_from_bytes(context_to_bytes(context)) == context


@pytest.mark.parametrize("read", [operations_from_bytes, outcomes_from_bytes, context_from_bytes])
def test_other_bytes_are_refused(read: object) -> None:
    assert callable(read)
    with pytest.raises(msgspec.DecodeError):
        read(b"\x91\x01")


def test_no_payload_can_stand_in_for_one_of_another_kind_or_slice() -> None:
    purposes = [CONTEXT, *(of(slice_) for of in (of_operations, of_outcomes) for slice_ in (0, 1, 11))]

    assert len(set(purposes)) == len(purposes)
