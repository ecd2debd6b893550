"""Batches as the server would put them on record, and their outcomes read back, without a server."""

import secrets
from collections.abc import Sequence

from gateway.batch.model import Failure, Operation
from gateway.ledger.port import Ledger, NewBatch, Part, View
from gateway.ledger.seal import Sealer
from gateway.ledger.segments import (
    CONTEXT,
    Context,
    Recorded,
    context_to_bytes,
    of_operations,
    of_outcomes,
    operations_to_bytes,
    outcomes_from_bytes,
)
from gateway.upstream.headers import RawFields

_CALLER: RawFields = ((b"Host", b"gateway.test"), (b"Authorization", b"Bearer t"))


async def submit(
    ledger: Ledger,
    sealer: Sealer,
    operations: Sequence[Operation],
    *,
    slice_size: int = 10,
    owner: str = "owner",
    identity: str = "caller",
    on_failure: str = "continue",
    lives_ms: int = 86_400_000,
    spoil: str = "",
    id_: str = "",
) -> str:
    """Accepted: its id, a new one unless it is given.

    `spoil` names a part that shall not open: key, context or operations (of the first slice).
    """
    id_ = id_ or secrets.token_hex(16)
    key, wrapped = sealer.new_key(id_)
    context = Context(_CALLER, identity, "192.0.2.7", on_failure=on_failure, trace_seed=secrets.token_bytes(24))
    slices = [
        key.seal(operations_to_bytes(operations[first : first + slice_size]), of_operations(first // slice_size))
        for first in range(0, len(operations), slice_size)
    ]
    sealed = sealer.seal_apart(id_, context_to_bytes(context), CONTEXT)
    if spoil == "operations":
        slices[0] = key.seal(b"\x91\x01", of_operations(0))
    await ledger.accept(
        NewBatch(
            id=id_,
            owner=owner,
            dialect="native",
            total=len(operations),
            slice_size=slice_size,
            slices=slices,
            context=sealed[:-1] if spoil == "context" else sealed,
            key=wrapped[:-1] if spoil == "key" else wrapped,
            lives_ms=lives_ms,
            kept_ms=86_400_000,
            unfinished_max=1000,
        )
    )
    return id_


async def outcomes_of(ledger: Ledger, sealer: Sealer, batch_id: str) -> dict[int, Recorded]:
    """Every outcome on record, by its index; fails where an index has two."""
    view = await view_of(ledger, batch_id)
    key = sealer.key(batch_id, view.key)
    found: dict[int, Recorded] = {}
    for part in await ledger.parts(batch_id, after=0, limit=view.total):
        sealed = part.sealed and key.open(part.sealed, of_outcomes(part.slice))
        outcomes = outcomes_from_bytes(sealed) if sealed else _unknown(part)
        assert [outcome.index for outcome in outcomes] == list(part.indexes)
        assert not found.keys() & set(part.indexes)
        found.update((outcome.index, outcome) for outcome in outcomes)
    return found


def _unknown(part: Part) -> Sequence[Recorded]:
    failure = Failure("outcome-unknown", "the batch ended without its worker")
    return [Recorded(str(index), index, 502, failure=failure) for index in part.indexes]


async def view_of(ledger: Ledger, batch_id: str) -> View:
    view = await ledger.view(batch_id)
    assert view is not None
    return view
