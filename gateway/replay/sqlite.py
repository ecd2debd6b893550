"""Idempotency keys of one replica, in one SQLite file or in memory; one thread writes, and commits by the group."""

import asyncio
import os
import sqlite3
from collections.abc import Callable, Sequence
from importlib.resources import files
from pathlib import Path
from typing import NamedTuple

from gateway.ledger.sqlite.committer import Committer
from gateway.ledger.sqlite.opening import connect
from gateway.ledger.state_folder import StateFolder, StateFolderError, claim
from gateway.replay.port import (
    ANEW,
    HELD,
    HOLDER_BYTES,
    KEPT_NAME_BYTES,
    REPEATABLE,
    Claims,
    End,
    Found,
    Settlements,
    Times,
    Verdict,
)

_VERSION = 2
_WAITING_MAX = 10_000
_SWEPT_AT_ONCE = 500  # a sweep shares the writer with claims that somebody waits for
_HELD, _KEPT, _FAILED, _LOST = range(4)
_STATE_AFTER = {End.KEEP: _KEPT, End.FAIL: _FAILED}


async def open_keys(file: Path | None, now_ms: Callable[[], int]) -> "SqliteKeys":
    """Open the keys in `file`, which only this process may use; in memory where it is None. Raises `StateFolderError`.

    `now_ms` is a clock since 1970 that never jumps (`gateway.ledger.clock`); it is called from another thread.
    """
    if file is None:
        connection = connect(":memory:")
        _make_tables(connection)
        return SqliteKeys(connection, None, now_ms)
    return SqliteKeys(*await asyncio.to_thread(_opened, file), now_ms)


class SqliteKeys:
    """`Keys` for one process. Use `open_keys`."""

    def __init__(self, connection: sqlite3.Connection, folder: StateFolder | None, now_ms: Callable[[], int]) -> None:
        self._connection = connection
        self._folder = folder
        self._now_ms = now_ms
        self._writer = Committer(connection, begin="BEGIN IMMEDIATE", name="replay-writer", waiting_max=_WAITING_MAX)

    async def claim(self, owner: bytes, claims: Claims, times: Times, keys_max: int) -> Sequence[Found]:
        def work(db: sqlite3.Connection) -> Sequence[Found]:
            now_ms = self._now_ms()
            room = keys_max - _count(db, owner, now_ms, keys_max)
            answers = []
            for row in range(len(claims.names)):
                found, is_new = _claimed(db, _wish(owner, claims, row), now_ms, times, has_room=room > 0)
                room -= is_new
                answers.append(found)
            return answers

        return await self._writer.do(work)

    async def settle(self, owner: bytes, settlements: Settlements, keeps_ms: int) -> Sequence[bool]:
        del owner  # a name is of one owner, and here all stand in one table
        return await self._writer.do(lambda db: _settled(db, settlements, self._now_ms() + keeps_ms))

    async def sweep(self) -> int:
        return await self._writer.do(lambda db: _swept(db, self._now_ms()))

    async def close(self) -> None:
        await self._writer.close()
        await asyncio.to_thread(self._connection.close)
        if self._folder is not None:
            self._folder.release()


class _Wish(NamedTuple):
    """One of the claims."""

    name: bytes
    owner: bytes
    digest: bytes
    fence: bytes
    repeatable: bool
    anew: bool


def _wish(owner: bytes, claims: Claims, row: int) -> _Wish:
    flags = claims.flags[row]
    repeatable, anew = bool(flags & REPEATABLE), bool(flags & ANEW)
    return _Wish(claims.names[row], owner, claims.digests[row], claims.fence(row), repeatable, anew)


def _opened(file: Path) -> tuple[sqlite3.Connection, StateFolder]:
    folder = claim(file)
    try:
        os.close(os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))  # SQLite alone would ask the umask
        connection = connect(str(file))
        _make_tables(connection)
        # Whoever held a key was a process that is gone. Nobody knows what became of its operations.
        connection.execute("UPDATE keys SET until_ms = 0 WHERE state = 0")
    except (sqlite3.Error, OSError) as error:
        folder.release()
        raise StateFolderError(f"{file}: cannot be opened as a store of keys: {error}") from None
    except StateFolderError:
        folder.release()
        raise
    return connection, folder


def _make_tables(connection: sqlite3.Connection) -> None:
    version: int = connection.execute("PRAGMA user_version").fetchone()[0]
    if version == _VERSION:
        return
    if version or connection.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchone():
        raise StateFolderError("a database, but no store of keys of this version; name another file")
    schema = files("gateway.replay").joinpath("schema.sql").read_text(encoding="utf-8")
    connection.executescript(f"BEGIN IMMEDIATE; {schema} PRAGMA user_version = {_VERSION}; COMMIT;")


def _count(db: sqlite3.Connection, owner: bytes, now_ms: int, most: int) -> int:
    """Keys of the owner that have not ended; counting stops at `most`."""
    found: int = db.execute(
        "SELECT count(*) FROM (SELECT 1 FROM keys WHERE owner = ? AND ends_ms > ? LIMIT ?)", (owner, now_ms, most)
    ).fetchone()[0]
    return found


def _claimed(db: sqlite3.Connection, wish: _Wish, now_ms: int, times: Times, *, has_room: bool) -> tuple[Found, bool]:
    """The answer, and whether the key is new."""
    row = db.execute(
        "SELECT digest, state, fence, repeatable, until_ms, kept FROM keys WHERE name = ? AND ends_ms > ?",
        (wish.name, now_ms),
    ).fetchone()
    if row is None:
        return (_hold(db, wish, now_ms, times), True) if has_room else (Found(Verdict.FULL), False)
    digest, state, fence, repeatable, until_ms, kept_name = row
    if wish.anew:
        db.execute("DELETE FROM outcomes WHERE name = ?", (kept_name,))
        return _hold(db, wish, now_ms, times), False
    if digest != wish.digest:
        return Found(Verdict.REUSED), False
    if state == _KEPT:
        kept = db.execute("SELECT kept FROM outcomes WHERE name = ?", (kept_name,)).fetchone()
        return Found(Verdict.KEPT, fence, b"" if kept is None else kept[0]), False
    if state in (_HELD, _LOST) and fence[:HOLDER_BYTES] == wish.fence[:HOLDER_BYTES]:
        return Found(Verdict.BUSY) if fence > wish.fence else _hold(db, wish, now_ms, times), False
    if state == _HELD and until_ms > now_ms:
        return Found(Verdict.BUSY), False
    if state == _FAILED or (state == _HELD and repeatable and wish.repeatable):
        return _hold(db, wish, now_ms, times), False
    if state == _HELD:
        db.execute("UPDATE keys SET state = ? WHERE name = ?", (_LOST, wish.name))
    return Found(Verdict.LOST, fence), False


def _hold(db: sqlite3.Connection, wish: _Wish, now_ms: int, times: Times) -> Found:
    until_ms = now_ms + times.holds_ms
    db.execute(
        "INSERT OR REPLACE INTO keys (name, owner, digest, state, fence, repeatable, until_ms, ends_ms)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (wish.name, wish.owner, wish.digest, _HELD, wish.fence, wish.repeatable, until_ms, until_ms + times.keeps_ms),
    )
    return HELD


def _settled(db: sqlite3.Connection, settlements: Settlements, ends_ms: int) -> list[bool]:
    kept_name = settlements.kept[:KEPT_NAME_BYTES]
    took, is_kept = [], False
    for row, (name, end) in enumerate(zip(settlements.names, settlements.ends, strict=True)):
        ended, is_new = _ended(db, name, settlements.fence(row), End(end), kept_name, ends_ms)
        took.append(ended)
        is_kept |= is_new
    if is_kept:
        db.execute(
            "INSERT OR REPLACE INTO outcomes (name, kept, ends_ms) VALUES (?, ?, ?)",
            (kept_name, settlements.kept, ends_ms),
        )
    return took


def _ended(
    db: sqlite3.Connection, name: bytes, fence: bytes, end: End, kept_name: bytes, ends_ms: int
) -> tuple[bool, bool]:
    """Whether it took effect, now or before; and whether it is kept from now on."""
    row = db.execute("SELECT state, fence FROM keys WHERE name = ?", (name,)).fetchone()
    if row is None:
        return end is End.FORGET, False
    state, held_by = row
    if held_by != fence:
        return False, False
    if state not in (_HELD, _LOST):
        return bool(state == _STATE_AFTER.get(end)), False
    if end is End.FORGET:
        db.execute("DELETE FROM keys WHERE name = ?", (name,))
        return True, False
    is_kept = end is End.KEEP
    db.execute(
        "UPDATE keys SET state = ?, ends_ms = ?, kept = ? WHERE name = ?",
        (_STATE_AFTER[end], ends_ms, kept_name if is_kept else None, name),
    )
    return True, is_kept


def _swept(db: sqlite3.Connection, now_ms: int) -> int:
    """Keys and what they kept, which end together."""
    ended = (now_ms, _SWEPT_AT_ONCE)
    outcomes = "DELETE FROM outcomes WHERE name IN (SELECT name FROM outcomes WHERE ends_ms <= ? LIMIT ?)"
    keys = "DELETE FROM keys WHERE name IN (SELECT name FROM keys WHERE ends_ms <= ? LIMIT ?)"
    return db.execute(outcomes, ended).rowcount + db.execute(keys, ended).rowcount
