"""The ledger's file made ready: its connections, its schema, its process epoch; an older copy of it is refused.

The process epoch grows with every start and every orderly end, in the file first and then in a note beside it. A file
whose epoch is below the note's is a copy from before: what was sent since then would be sent again (PROMISES D8). A
copy that was taken since the last start and is put back after a crash is not told apart; after an orderly end it is.
"""

import os
import sqlite3
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import NamedTuple

from gateway.ledger.state_folder import StateFolder, StateFolderError, claim

SCHEMA_VERSION = 2
_UPGRADES = {  # from the version before; what is asked of a file is asked of the newest only
    1: "ALTER TABLE slices ADD COLUMN lost_ms INTEGER NOT NULL DEFAULT 0;"
    " INSERT INTO marks (name, value) VALUES ('lost_ms', 0);",
}
# Batches that this process has ended and not told of; of the transaction in which they did.
_ENDED = "CREATE TEMP TABLE ended (dialect TEXT NOT NULL, age_ms INTEGER NOT NULL)"
_BUSY_S = 1.0  # how long a connection waits for a lock: a caller shall hear of trouble within 2 s (PROMISES D10)


class Opened(NamedTuple):
    """A ledger ready to use. A ledger in memory has one connection only, and no folder. `epoch` is this process's."""

    writer: sqlite3.Connection
    reader: sqlite3.Connection | None
    folder: StateFolder | None
    epoch: int
    now_ms: Callable[[], int]


def open_file(file: Path, now_ms: Callable[[], int]) -> Opened:
    """Raises `StateFolderError`."""
    folder = claim(file)
    try:
        os.close(os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))  # SQLite alone would ask the umask
        writer = connect(str(file))
        _refuse_foreign(file, writer)
        _make_tables(writer)
        writer.execute(_ENDED)
        epoch = _next_epoch(writer, folder)
        reader = connect(str(file))
        reader.execute("PRAGMA query_only = ON")
    except (sqlite3.Error, OSError) as error:
        folder.release()
        raise StateFolderError(f"{file}: cannot be opened as a ledger: {error}") from None
    except StateFolderError:
        folder.release()
        raise
    return Opened(writer, reader, folder, epoch, _no_earlier(writer, now_ms))


def open_memory(now_ms: Callable[[], int]) -> Opened:
    writer = connect(":memory:")
    _make_tables(writer)
    writer.execute(_ENDED)
    return Opened(writer, None, None, 1, now_ms)


def connect(place: str) -> sqlite3.Connection:
    """A connection as the ledger wants it; FULL syncs the WAL with every commit, before anybody hears of it."""
    connection = sqlite3.connect(
        place, isolation_level=None, check_same_thread=False, timeout=_BUSY_S, cached_statements=256
    )
    for pragma in (
        "journal_mode = WAL",
        "synchronous = FULL",
        "secure_delete = ON",
        "cache_size = -4096",
        "temp_store = MEMORY",
    ):
        connection.execute(f"PRAGMA {pragma}")
    return connection


def raise_epoch(writer: sqlite3.Connection, folder: StateFolder, epoch: int) -> None:
    writer.execute("UPDATE marks SET value = ? WHERE name = 'process_epoch'", (epoch,))
    folder.record_epoch(epoch)


def _next_epoch(writer: sqlite3.Connection, folder: StateFolder) -> int:
    """Begin this process's epoch; leases of the one before expire at once, since their holder is gone."""
    recorded = folder.recorded_epoch()
    found: int = writer.execute("SELECT value FROM marks WHERE name = 'process_epoch'").fetchone()[0]
    if found < recorded:
        raise StateFolderError(
            f"{folder.file}: older than the ledger that was here (epoch {found}, noted {recorded}); put the newer file"
            f" back. Or remove {folder.file.name}.epoch: then operations that ran since that copy may run again"
        )
    writer.execute("UPDATE slices SET ready_ms = 0 WHERE status = 1")
    raise_epoch(writer, folder, found + 1)
    return found + 1


def _refuse_foreign(file: Path, writer: sqlite3.Connection) -> None:
    version: int = writer.execute("PRAGMA user_version").fetchone()[0]
    if version > SCHEMA_VERSION:
        raise StateFolderError(f"{file}: written by a newer version of the gateway; use that one")
    if version == 0 and writer.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchone():
        raise StateFolderError(f"{file}: a database, but no ledger; name another file")


def _make_tables(writer: sqlite3.Connection) -> None:
    version: int = writer.execute("PRAGMA user_version").fetchone()[0]
    if version == SCHEMA_VERSION:
        return
    if version:
        steps = " ".join(_UPGRADES[each] for each in range(version, SCHEMA_VERSION))
    else:
        steps = files("gateway.ledger.sqlite").joinpath("schema.sql").read_text(encoding="utf-8")
    writer.executescript(f"BEGIN IMMEDIATE; {steps} PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;")


def _no_earlier(writer: sqlite3.Connection, now_ms: Callable[[], int]) -> Callable[[], int]:
    """A clock that goes on from where the ledger was: a wall clock set back while the gateway was down ages nothing."""
    last_ms: int = writer.execute("SELECT value FROM marks WHERE name = 'clock_ms'").fetchone()[0]
    behind_ms = max(0, last_ms - now_ms())
    return lambda: now_ms() + behind_ms
