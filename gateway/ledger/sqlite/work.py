"""What workers put on record, and what the clock does to leases and batches."""

import sqlite3
from collections.abc import Sequence
from typing import Any, NamedTuple

from gateway.batch.states import FINAL, State, advance
from gateway.ledger.port import Lease, LostLeaseError, Part, Swept
from gateway.ledger.sqlite import turns
from gateway.ledger.sqlite.life import (
    DONE,
    FREE,
    HELD,
    add_intents,
    finish_slice,
    from_bytes,
    happen,
    intended,
    outcomes,
    put,
    remove,
    settle,
    to_bytes,
)

_AT_ONCE = 100  # batches that one sweep ends or forgets: it shares its transaction with others


def lease(db: sqlite3.Connection, now_ms: int, most: int, lasts_ms: int) -> tuple[Sequence[Lease], int]:
    """Slices that were free, and how many leases were found to have expired."""
    rescued = rescue(db, now_ms)
    turns.wake(db, now_ms)
    leases: list[Lease] = []
    while len(leases) < most and (number := turns.next_batch(db)) is not None:
        taken = _take(db, now_ms, number, lasts_ms)
        if taken is not None:
            leases.append(taken)
    return leases, rescued


def _take(db: sqlite3.Connection, now_ms: int, number: int, lasts_ms: int) -> Lease | None:
    """The batch's next free slice; None where it turns out to have none, and then it is out of the queue."""
    state, expires_ms = db.execute("SELECT state, expires_ms FROM batches WHERE number = ?", (number,)).fetchone()
    free = db.execute(
        "SELECT slice FROM slices INDEXED BY slices_free WHERE batch = ? AND status = 0 AND ready_ms <= ?"
        " ORDER BY ready_ms, slice LIMIT 2",
        (number, now_ms),
    ).fetchall()
    if not free or expires_ms <= now_ms or happen(db, now_ms, number, state, "lease") is None:
        db.execute("DELETE FROM queue WHERE batch = ?", (number,))  # what expired is for the sweep to end
        return None
    until_ms = now_ms + lasts_ms
    db.execute(
        "UPDATE slices SET status = 1, ready_ms = ?, epoch = epoch + 1 WHERE batch = ? AND slice = ?",
        (until_ms, number, *free[0]),
    )
    taken = _lease(db, now_ms, number, free[0][0], until_ms)
    turns.serve(db, taken.owner, taken.count - len(taken.done))
    if len(free) == 1:  # else the batch stays where it is in the queue
        turns.refresh(db, number, now_ms)
    return taken


def _lease(db: sqlite3.Connection, now_ms: int, number: int, slice_: int, until_ms: int) -> Lease:
    row = db.execute(
        "SELECT id, owner, dialect, total, slice_size, key, expires_ms, epoch, losses, tries, lost_ms,"
        " (SELECT value FROM marks WHERE name = 'lost_ms'), contexts.sealed, operations.sealed"
        " FROM batches JOIN slices ON slices.batch = number AND slices.slice = ?"
        " LEFT JOIN contexts ON contexts.batch = number"
        " LEFT JOIN operations ON operations.batch = number AND operations.slice = slices.slice WHERE number = ?",
        (slice_, number),
    ).fetchone()
    id_, owner, dialect, total, slice_size, key, expires_ms, epoch, losses, tries, lost_ms, last_ms, *sealed = row
    context, operations = (bytes_ or b"" for bytes_ in sealed)  # lost: no seal, and the worker says that it is corrupt
    done = outcomes(db, (number, slice_))
    return Lease(
        batch=id_,
        slice=slice_,
        epoch=epoch,
        until_ms=until_ms,
        owner=owner,
        dialect=dialect,
        first=slice_ * slice_size,
        count=min(slice_size, total - slice_ * slice_size),
        operations=operations,
        context=context,
        key=key,
        done=sorted(done),
        in_doubt=sorted(intended(db, (number, slice_)) - done),
        losses=losses,
        lost_ago_ms=max(0, now_ms - lost_ms) if losses else 0,
        others_lost=losses > 0 and lost_ms != last_ms,
        tries=tries,
        expires_ms=expires_ms,
    )


class _Slice(NamedTuple):
    """A leased slice and its batch, as they are now."""

    number: int
    state: State
    paused: int
    expires_ms: int
    total: int
    slice_size: int
    status: int
    epoch: int


def _slice(db: sqlite3.Connection, held: Lease) -> _Slice | None:
    row = db.execute(
        "SELECT number, state, paused, expires_ms, total, slice_size, status, epoch FROM batches"
        " JOIN slices ON batch = number AND slice = ? WHERE id = ?",
        (held.slice, held.batch),
    ).fetchone()
    return None if row is None else _Slice(*row)


def renew(db: sqlite3.Connection, now_ms: int, leases: Sequence[Lease], lasts_ms: int) -> Sequence[bool]:
    return [_renewed(db, now_ms, held, lasts_ms) for held in leases]


def _renewed(db: sqlite3.Connection, now_ms: int, held: Lease, lasts_ms: int) -> bool:
    found = _slice(db, held)
    if found is None or found.epoch != held.epoch or found.status != HELD:
        return False
    db.execute(
        "UPDATE slices SET ready_ms = ? WHERE batch = ? AND slice = ?", (now_ms + lasts_ms, found.number, held.slice)
    )
    return advance(found.state, "lease") is not None and not found.paused and found.expires_ms > now_ms


def intend(db: sqlite3.Connection, held: Lease, indexes: Sequence[int]) -> None:
    found = _slice(db, held)
    if found is None or found.epoch != held.epoch or found.status != HELD or found.state in FINAL:
        raise LostLeaseError(_about(held))
    add_intents(db, (found.number, held.slice), indexes)


class Recording(NamedTuple):
    """What `Queue.record` was asked."""

    lease: Lease
    part: Part | None
    ends: bool
    again_after_ms: int | None
    retracts: Sequence[int]
    tries: int | None


def record(db: sqlite3.Connection, now_ms: int, asked: Recording) -> None:
    held, part = asked.lease, asked.part
    found = _slice(db, held)
    if found is None:
        raise LostLeaseError(_about(held))
    place = (found.number, held.slice)
    known = part is None or _is_on_record(db, place, part)
    if not known:
        _refuse_lost(held, found)
    if part is not None and not known:
        put(db, found.number, part)
    if found.epoch != held.epoch:
        if part is None:
            raise LostLeaseError(_about(held))
        return  # said twice: the lease was let go, and taken by another since
    if found.status == DONE or (found.state in FINAL and found.status == FREE):
        return  # said twice
    if asked.retracts:
        _withdraw(db, place, asked.retracts)
    if asked.tries is not None:
        db.execute("UPDATE slices SET tries = ? WHERE batch = ? AND slice = ?", (asked.tries, *place))
    if asked.ends:
        _let_go(db, now_ms, held, found, asked.again_after_ms or 0)


def _let_go(db: sqlite3.Connection, now_ms: int, held: Lease, found: _Slice, again_after_ms: int) -> None:
    done = finish_slice(db, found.number, held.slice, found.total, found.slice_size)
    if not done and found.status == HELD:
        db.execute(
            "UPDATE slices SET status = 0, ready_ms = ? WHERE batch = ? AND slice = ?",
            (now_ms + again_after_ms if again_after_ms else 0, found.number, held.slice),
        )
    settle(db, now_ms, found.number, found.state)
    if not done or found.status == FREE:
        turns.refresh(db, found.number, now_ms)


def _refuse_lost(held: Lease, found: _Slice) -> None:
    """A lease that expired may still record, until another worker has the slice or its batch has ended."""
    if found.epoch != held.epoch or found.status == DONE or (found.status == FREE and found.state in FINAL):
        raise LostLeaseError(_about(held))


def _is_on_record(db: sqlite3.Connection, place: tuple[int, int], part: Part) -> bool:
    """Whether this very part is. Raises `LostLeaseError` where another one holds an index of it."""
    overlaps = False
    indexes = list(part.indexes)
    for number, recorded in db.execute("SELECT number, indexes FROM parts WHERE batch = ? AND slice = ?", place):
        if recorded == to_bytes(indexes):
            sealed = db.execute("SELECT sealed FROM parts WHERE number = ?", (number,)).fetchone()[0]
            if sealed == part.sealed:
                return True
        overlaps = overlaps or not set(indexes).isdisjoint(from_bytes(recorded))
    if overlaps:
        raise LostLeaseError("Some of these operations have an outcome already.")
    return False


def rescue(db: sqlite3.Connection, now_ms: int) -> int:
    """Free the slices whose lease has expired; each of them is a loss, and all of one look are of one worker."""
    expired = db.execute(
        "SELECT batch, slice, state FROM slices INDEXED BY slices_held CROSS JOIN batches ON number = batch"
        " WHERE status = 1 AND ready_ms <= ?",  # all that is held: never much
        (now_ms,),
    ).fetchall()
    for number, slice_, _ in expired:
        db.execute(
            "UPDATE slices SET status = 0, ready_ms = 0, losses = losses + 1, lost_ms = ?"
            " WHERE batch = ? AND slice = ?",
            (now_ms, number, slice_),
        )
    if expired:
        db.execute("UPDATE marks SET value = ? WHERE name = 'lost_ms'", (now_ms,))
    for number, state in {(number, state) for number, _, state in expired}:
        settle(db, now_ms, number, state)
        turns.refresh(db, number, now_ms)
    return len(expired)


def sweep(db: sqlite3.Connection, now_ms: int) -> Swept:
    rescued = rescue(db, now_ms)
    # A batch that a worker holds waits for its outcomes: what was sent shall be on record first.
    due: Sequence[tuple[Any, ...]] = db.execute(
        "SELECT number, state FROM batches INDEXED BY batches_to_expire WHERE ended_ms IS NULL AND expires_ms <= ?"
        " AND NOT EXISTS (SELECT 1 FROM slices INDEXED BY slices_held WHERE batch = number AND status = 1) LIMIT ?",
        (now_ms, _AT_ONCE),
    ).fetchall()
    for number, state in due:
        happen(db, now_ms, number, state, "expire")
    old = db.execute(
        "SELECT number FROM batches INDEXED BY batches_to_forget"
        " WHERE kept_until_ms IS NOT NULL AND kept_until_ms <= ? LIMIT ?",
        (now_ms, _AT_ONCE),
    ).fetchall()
    for (number,) in old:
        remove(db, number)
    turns.forget_owners(db)
    return Swept(expired=len(due), rescued=rescued, forgotten=len(old))


def _withdraw(db: sqlite3.Connection, place: tuple[int, int], indexes: Sequence[int]) -> None:
    left = intended(db, place) - set(indexes)
    db.execute("DELETE FROM intents WHERE batch = ? AND slice = ?", place)
    if left:
        add_intents(db, place, sorted(left))


def _about(held: Lease) -> str:
    return f"Slice {held.slice} of batch {held.batch}, epoch {held.epoch}."
