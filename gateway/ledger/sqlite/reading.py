"""Views, parts and health, read in one short transaction each. What can be counted is counted here."""

import sqlite3
from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

import msgspec

from gateway.batch.states import STATES, State
from gateway.ledger.port import Part, View

from_bytes = msgspec.msgpack.Decoder(list[int]).decode
_labels = msgspec.json.Decoder(dict[str, str]).decode

_BATCH = (
    "SELECT number, id, owner, dialect, state, paused, total, slice_size, accepted_ms, started_ms, ended_ms, "
    "expires_ms, kept_until_ms, key, retry_of, label FROM batches "
)


def view(db: sqlite3.Connection, batch_id: str) -> View | None:
    row = db.execute(_BATCH + "WHERE id = ?", (batch_id,)).fetchone()
    return None if row is None else _view(db, row)


def view_of(db: sqlite3.Connection, number: int) -> View:
    """The batch of this number, which is on record."""
    return _view(db, db.execute(_BATCH + "WHERE number = ?", (number,)).fetchone())


def browse(db: sqlite3.Connection, owner: str, limit: int, after: str | None, state: State | None) -> Sequence[View]:
    """The owner's batches behind `after`, newest first; none where `after` is not one of them."""
    before: int | None = None
    if after is not None:
        found = db.execute("SELECT number FROM batches WHERE id = ? AND owner = ?", (after, owner)).fetchone()
        if found is None:
            return []
        before = found[0]
    where = "WHERE owner = :owner"
    where += "" if state is None else " AND state = :state"
    where += "" if before is None else " AND number < :before"
    named = {"owner": owner, "state": state, "before": before, "limit": limit}
    rows = db.execute(_BATCH + where + " ORDER BY number DESC LIMIT :limit", named).fetchall()
    return [_view(db, row) for row in rows]


def parts(db: sqlite3.Connection, batch_id: str, after: int, limit: int) -> Sequence[Part]:
    found: list[Part] = []
    rows = db.execute(
        "SELECT slice, indexes, sealed, succeeded, failed, unknown FROM parts"
        " WHERE batch = (SELECT number FROM batches WHERE id = ?) AND slice >= ? ORDER BY slice",
        (batch_id, after),
    )
    operations = 0
    for _, rows_of_slice in groupby(rows, key=lambda row: row[0]):
        for slice_, indexes, sealed, *counts in rows_of_slice:
            part = Part(slice_, from_bytes(indexes), sealed, *counts)
            operations += len(part.indexes)
            found.append(part)
        if operations >= limit:
            break
    rows.close()  # or the transaction would go on reading
    return found


def operations(db: sqlite3.Connection, batch_id: str, slice_: int) -> bytes | None:
    row = db.execute(
        "SELECT sealed FROM operations WHERE batch = (SELECT number FROM batches WHERE id = ?) AND slice = ?",
        (batch_id, slice_),
    ).fetchone()
    return None if row is None else row[0]


def health(db: sqlite3.Connection, now_ms: int) -> Mapping[str, float]:
    """What the port names, but for `capacity_bytes`, which the file knows nothing of."""
    found: dict[str, float] = {f"batches_{state}": 0 for state in STATES}
    for state, count in db.execute("SELECT state, count(*) FROM batches GROUP BY state"):
        found[f"batches_{state}"] = count
    waiting = db.execute(
        "SELECT accepted_ms FROM batches WHERE state = 'accepted' AND paused = 0 AND begins_ms <= ?"
        " ORDER BY accepted_ms LIMIT 1",
        (now_ms,),
    ).fetchone()
    found["oldest_waiting_ms"] = 0 if waiting is None else waiting[0]
    found["stored_bytes"] = _pragma(db, "page_size") * (_pragma(db, "page_count") - _pragma(db, "freelist_count"))
    return found


def _pragma(db: sqlite3.Connection, name: str) -> int:
    value: int = db.execute(f"PRAGMA {name}").fetchone()[0]
    return value


def _view(db: sqlite3.Connection, row: tuple[Any, ...]) -> View:
    number, id_, owner, dialect, state, paused, total, slice_size = row[:8]
    accepted_ms, started_ms, ended_ms, expires_ms, kept_until_ms, key, retry_of, label = row[8:]
    succeeded, failed, unknown = db.execute(
        "SELECT coalesce(sum(succeeded), 0), coalesce(sum(failed), 0), coalesce(sum(unknown), 0)"
        " FROM parts WHERE batch = ?",
        (number,),
    ).fetchone()
    return View(
        id=id_,
        owner=owner,
        dialect=dialect,
        state=state,
        paused=bool(paused),
        total=total,
        slice_size=slice_size,
        succeeded=succeeded,
        failed=failed,
        unknown=unknown,
        accepted_ms=accepted_ms,
        started_ms=started_ms,
        ended_ms=ended_ms,
        expires_ms=expires_ms,
        kept_until_ms=kept_until_ms,
        key=key,
        retry_of=retry_of,
        label=_labels(label),
    )
