"""Whose slice is leased next: owners take turns by operations served; within one by priority, then by age.

Start-time fair queueing (Goyal, Vin, Cheng 1996): an owner that begins to wait starts at the virtual time, which is
what the owner that was chosen last had been served. So a newcomer is next but owes nobody, and nobody saves up turns.
"""

import sqlite3

from gateway.batch.states import advance


def refresh(db: sqlite3.Connection, batch: int, now_ms: int) -> None:
    """Put the batch into the queue, or out of it, as its slices and its state say."""
    row = db.execute(
        "SELECT owner, priority, state, paused, begins_ms,"
        " (SELECT min(ready_ms) FROM slices INDEXED BY slices_free WHERE slices.batch = batches.number AND status = 0)"
        " FROM batches WHERE number = ?",
        (batch,),
    ).fetchone()
    owner, priority, state, paused, begins_ms, ready_ms = row
    if ready_ms is None or paused or advance(state, "lease") is None:
        db.execute("DELETE FROM queue WHERE batch = ?", (batch,))
        return
    wakes_ms = max(begins_ms, ready_ms)
    due = wakes_ms <= now_ms
    db.execute(
        "INSERT INTO queue (batch, owner, priority, wakes_ms, due) VALUES (?, ?, ?, ?, ?) ON CONFLICT (batch) DO UPDATE"
        " SET wakes_ms = excluded.wakes_ms, due = excluded.due"
        " WHERE wakes_ms <> excluded.wakes_ms OR due <> excluded.due",  # mostly nothing changes, nor is written
        (batch, owner, priority, wakes_ms, due),
    )
    if due:
        _line_up(db, owner)


def wake(db: sqlite3.Connection, now_ms: int) -> None:
    """Batches whose time has come are due."""
    for batch, owner in db.execute(
        "SELECT batch, owner FROM queue WHERE due = 0 AND wakes_ms <= ?", (now_ms,)
    ).fetchall():
        db.execute("UPDATE queue SET due = 1 WHERE batch = ?", (batch,))
        _line_up(db, owner)


def next_batch(db: sqlite3.Connection) -> int | None:
    """The due batch whose turn it is."""
    while waiting := db.execute(
        "SELECT owner FROM owners WHERE waiting = 1 ORDER BY served, number LIMIT 1"
    ).fetchone():
        batch = db.execute(
            "SELECT batch FROM queue WHERE due = 1 AND owner = ? ORDER BY priority DESC, batch LIMIT 1", waiting
        ).fetchone()
        if batch is not None:
            number: int = batch[0]
            return number
        db.execute("UPDATE owners SET waiting = 0 WHERE owner = ?", waiting)
    return None


def serve(db: sqlite3.Connection, owner: str, operations: int) -> None:
    """Count what the owner was given; the virtual time is where it stood before."""
    db.execute(
        "UPDATE marks SET value = (SELECT served FROM owners WHERE owner = ?) WHERE name = 'virtual_time'", (owner,)
    )
    db.execute("UPDATE owners SET served = served + ? WHERE owner = ?", (operations, owner))


def forget_owners(db: sqlite3.Connection) -> None:
    """Drop those who would start at the virtual time anyway, some at a time."""
    db.execute(
        "DELETE FROM owners WHERE number IN (SELECT number FROM owners WHERE waiting = 0"
        " AND served <= (SELECT value FROM marks WHERE name = 'virtual_time') LIMIT 100)"
    )


def _line_up(db: sqlite3.Connection, owner: str) -> None:
    db.execute(
        "INSERT INTO owners (owner, served, waiting)"
        " SELECT ?, value, 1 FROM marks WHERE name = 'virtual_time'"
        " ON CONFLICT (owner) DO UPDATE SET waiting = 1, served = max(served, excluded.served) WHERE waiting = 0",
        (owner,),
    )
