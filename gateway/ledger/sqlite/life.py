"""A batch from acceptance to its end. Every change of a state asks `gateway.batch.states.advance`."""

import sqlite3
from collections.abc import Sequence
from itertools import groupby
from typing import Any

import msgspec

from gateway.batch.states import FINAL, Event, State, advance
from gateway.errors import GatewayError
from gateway.ledger.port import FIRST_EPOCH, Begun, Command, NewBatch, Part, View
from gateway.ledger.sqlite import reading, turns

FREE, HELD, DONE = 0, 1, 2  # slices.status

to_bytes = msgspec.msgpack.Encoder().encode
from_bytes = reading.from_bytes


def accept(db: sqlite3.Connection, now_ms: int, batch: NewBatch) -> View:
    known = reading.view(db, batch.id)
    if known is not None:
        return known
    _refuse_too_many(db, batch)
    number = _insert(db, now_ms, batch)
    db.execute("INSERT INTO contexts (batch, sealed) VALUES (?, ?)", (number, batch.context))
    db.executemany(
        "INSERT INTO operations (batch, slice, sealed) VALUES (?, ?, ?)",
        ((number, slice_, sealed) for slice_, sealed in enumerate(batch.slices)),
    )
    db.executemany(
        "INSERT INTO slices (batch, slice, status, ready_ms) VALUES (?, ?, 0, 0)",
        ((number, slice_) for slice_ in range(len(batch.slices))),
    )
    if batch.begun is not None:
        _hold(db, now_ms, number, batch.slice_size, batch.begun)
    for part in batch.parts:
        put(db, number, part)
    for slice_ in {part.slice for part in batch.parts}:
        finish_slice(db, number, slice_, batch.total, batch.slice_size)
    turns.refresh(db, number, now_ms)
    return reading.view_of(db, number)


def _hold(db: sqlite3.Connection, now_ms: int, number: int, slice_size: int, begun: Begun) -> None:
    """Lease the slices of what is on its way to who sent it."""
    happen(db, now_ms, number, "accepted", "lease")
    for slice_, indexes in groupby(begun.indexes, lambda index: index // slice_size):
        db.execute(
            "UPDATE slices SET status = 1, ready_ms = ?, epoch = ? WHERE batch = ? AND slice = ?",
            (now_ms + begun.lasts_ms, FIRST_EPOCH, number, slice_),
        )
        add_intents(db, (number, slice_), list(indexes))


def command(db: sqlite3.Connection, now_ms: int, batch_id: str, order: Command) -> View | None:
    row = db.execute("SELECT number, state FROM batches WHERE id = ?", (batch_id,)).fetchone()
    if row is None:
        return None
    number, state = row
    match order:
        case "cancel":
            settle(db, now_ms, number, happen(db, now_ms, number, state, "cancel") or state)
            turns.refresh(db, number, now_ms)
        case "break":
            happen(db, now_ms, number, state, "break")
        case "delete":
            if state in FINAL:
                remove(db, number)
        case "pause" | "resume":
            if advance(state, "lease") is not None:
                db.execute("UPDATE batches SET paused = ? WHERE number = ?", (order == "pause", number))
                turns.refresh(db, number, now_ms)
    return reading.view(db, batch_id)


def happen(db: sqlite3.Connection, now_ms: int, number: int, state: State, event: Event) -> State | None:
    """Let the event happen to the batch; None where it may not. With its end go context, its turn and its doubts."""
    after = advance(state, event)
    if after is None:
        return None
    if after == state:
        return after
    db.execute("UPDATE batches SET state = ? WHERE number = ?", (after, number))
    if event == "lease":
        db.execute("UPDATE batches SET started_ms = ? WHERE number = ? AND started_ms IS NULL", (now_ms, number))
    if after in FINAL:
        db.execute(
            "UPDATE batches SET paused = 0, ended_ms = :now, kept_until_ms = :now + kept_ms WHERE number = :number",
            {"now": now_ms, "number": number},
        )
        db.execute(
            "INSERT INTO temp.ended SELECT dialect, ended_ms - accepted_ms FROM batches WHERE number = ?", (number,)
        )
        _delete(db, number, "contexts", "queue")
        if after != "completed":
            _leave_unknown(db, number)
    return after


def settle(db: sqlite3.Connection, now_ms: int, number: int, state: State) -> None:
    """End the batch where nothing of it is leased and nothing is left to run. In one that has ended, what a worker left
    in doubt is unknown."""
    if state in FINAL:
        _leave_unknown(db, number)
        return
    held, free = db.execute(
        "SELECT EXISTS (SELECT 1 FROM slices INDEXED BY slices_held WHERE batch = ?1 AND status = 1),"
        " EXISTS (SELECT 1 FROM slices INDEXED BY slices_free WHERE batch = ?1 AND status = 0)",
        (number,),
    ).fetchone()
    if not held and (state == "cancelling" or not free):
        happen(db, now_ms, number, state, "settle")


def _leave_unknown(db: sqlite3.Connection, number: int) -> None:
    """Count as unknown what was announced in a batch that has ended, has no outcome and is in no lease: nobody comes
    back to it."""
    slices = db.execute(
        "SELECT DISTINCT slice FROM intents JOIN slices USING (batch, slice) WHERE batch = ? AND status <> ?",
        (number, HELD),
    ).fetchall()
    for (slice_,) in slices:
        place = (number, slice_)
        doubtful = sorted(intended(db, place) - outcomes(db, place))
        if doubtful:
            put(db, number, Part(slice_, doubtful, b"", 0, len(doubtful), len(doubtful)))
        db.execute("DELETE FROM intents WHERE batch = ? AND slice = ?", place)


def put(db: sqlite3.Connection, number: int, part: Part) -> None:
    db.execute(
        "INSERT INTO parts (batch, slice, succeeded, failed, unknown, indexes, sealed) VALUES (?, ?, ?, ?, ?, ?, ?)",
        (number, part.slice, part.succeeded, part.failed, part.unknown, to_bytes(list(part.indexes)), part.sealed),
    )


def outcomes(db: sqlite3.Connection, place: tuple[int, int]) -> set[int]:
    """The indexes of what has an outcome in a slice; `place` is the number of its batch and its own."""
    rows = db.execute("SELECT indexes FROM parts WHERE batch = ? AND slice = ?", place)
    return {index for (indexes,) in rows for index in from_bytes(indexes)}


def intended(db: sqlite3.Connection, place: tuple[int, int]) -> set[int]:
    rows = db.execute("SELECT indexes FROM intents WHERE batch = ? AND slice = ?", place)
    return {index for (indexes,) in rows for index in from_bytes(indexes)}


def add_intents(db: sqlite3.Connection, place: tuple[int, int], indexes: Sequence[int]) -> None:
    db.execute(
        "INSERT INTO intents (batch, slice, number, indexes)"
        " SELECT ?1, ?2, coalesce(max(number), 0) + 1, ?3 FROM intents WHERE batch = ?1 AND slice = ?2",
        (*place, to_bytes(list(indexes))),
    )


def finish_slice(db: sqlite3.Connection, number: int, slice_: int, total: int, slice_size: int) -> bool:
    """The slice is done if every operation of it has an outcome; its operations are erased if all succeeded."""
    count = min(slice_size, total - slice_ * slice_size)
    succeeded, failed = db.execute(
        "SELECT coalesce(sum(succeeded), 0), coalesce(sum(failed), 0) FROM parts WHERE batch = ? AND slice = ?",
        (number, slice_),
    ).fetchone()
    if succeeded + failed < count:
        return False
    place = (number, slice_)
    db.execute("UPDATE slices SET status = 2 WHERE batch = ? AND slice = ?", place)
    db.execute("DELETE FROM intents WHERE batch = ? AND slice = ?", place)
    if succeeded == count:
        db.execute("DELETE FROM operations WHERE batch = ? AND slice = ?", place)
    return True


def remove(db: sqlite3.Connection, number: int) -> None:
    """Nobody finds the batch any more, and its key is gone; its bytes go some at a time (`remove_rubbish`)."""
    _delete(db, number, "contexts", "intents", "queue")
    db.execute("DELETE FROM batches WHERE number = ?", (number,))
    db.execute("INSERT INTO rubbish (batch) VALUES (?)", (number,))


def remove_rubbish(db: sqlite3.Connection, rows_max: int) -> bool:
    """Remove about `rows_max` rows of large bytes that belong to no batch. False: there were none."""
    forgotten = db.execute("SELECT batch FROM rubbish LIMIT ?", (rows_max,)).fetchall()
    left = rows_max
    for (number,) in forgotten:
        most = {"number": number, "most": left}
        removed = db.execute(
            "DELETE FROM parts WHERE number IN (SELECT number FROM parts WHERE batch = :number LIMIT :most)", most
        ).rowcount
        removed += db.execute(
            "DELETE FROM operations WHERE rowid IN (SELECT rowid FROM operations WHERE batch = :number LIMIT :most)",
            most,
        ).rowcount
        if removed < left:  # neither has more
            _delete(db, number, "slices", "rubbish")
        left -= max(1, removed)
        if left <= 0:
            break
    return bool(forgotten)


def _insert(db: sqlite3.Connection, now_ms: int, batch: NewBatch) -> int:
    row: dict[str, Any] = {
        "id": batch.id,
        "owner": batch.owner,
        "dialect": batch.dialect,
        "total": batch.total,
        "slice_size": batch.slice_size,
        "priority": batch.priority,
        "now": now_ms,
        "begins": now_ms + batch.begins_after_ms,
        "expires": now_ms + batch.lives_ms,
        "kept": batch.kept_ms,
        "key": batch.key,
        "retry_of": batch.retry_of,
        "label": msgspec.json.encode(batch.label).decode(),
    }
    number: int = db.execute(
        "INSERT INTO batches (id, owner, dialect, state, total, slice_size, priority, accepted_ms, begins_ms,"
        " expires_ms, kept_ms, key, retry_of, label) VALUES (:id, :owner, :dialect, 'accepted', :total, :slice_size,"
        " :priority, :now, :begins, :expires, :kept, :key, :retry_of, :label)"
        " RETURNING number",
        row,
    ).fetchall()[0][0]
    return number


def _refuse_too_many(db: sqlite3.Connection, batch: NewBatch) -> None:
    most = batch.unfinished_max
    unfinished = db.execute(
        "SELECT count(*) FROM (SELECT 1 FROM batches INDEXED BY batches_unfinished_of_owner"
        " WHERE owner = ? AND ended_ms IS NULL LIMIT ?)",
        (batch.owner, most),
    ).fetchone()[0]
    if unfinished >= most:
        raise GatewayError(
            "too-many-batches",
            f"{most} batches of this caller have not ended; that is the most.",
            headers={"Retry-After": "5"},
            members={"max": most},
        )


def _delete(db: sqlite3.Connection, number: int, *tables: str) -> None:
    for table in tables:
        db.execute(f"DELETE FROM {table} WHERE batch = ?", (number,))  # noqa: S608 - names from above only
