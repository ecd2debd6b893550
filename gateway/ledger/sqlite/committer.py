"""Transactions by the group: one thread owns a connection, and whatever waits is committed together.

Each piece of work stands in a savepoint of its own, so that a refusal spares the rest of the group. Nobody hears of an
effect before COMMIT has returned; a COMMIT that fails fails the whole group. A COMMIT costs more than what is in it, so
work that nobody is waiting for says how long it can wait for company.
"""

import asyncio
import math
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

from gateway.ledger.port import LedgerUnavailableError

Result = TypeVar("Result")
Work = Callable[[sqlite3.Connection], Result]

# The store is at fault, not the statement (https://www.sqlite.org/rescode.html): primary codes and what would help.
_CURES = {
    sqlite3.SQLITE_FULL: "the disk is full",
    sqlite3.SQLITE_IOERR: "the disk does not answer as it should",
    sqlite3.SQLITE_READONLY: "its file cannot be written",
    sqlite3.SQLITE_CANTOPEN: "its file cannot be opened",
    sqlite3.SQLITE_PERM: "its file may not be opened",
    sqlite3.SQLITE_BUSY: "its file is held by another program",
    sqlite3.SQLITE_LOCKED: "its file is held by another program",
    sqlite3.SQLITE_NOMEM: "there is no memory left",
    sqlite3.SQLITE_CORRUPT: "its file is damaged; put a backup in its place",
    sqlite3.SQLITE_NOTADB: "its file is no ledger; put a backup in its place",
}


class _Waiting(NamedTuple):
    work: Work[Any]
    answer: "asyncio.Future[Any]"


class Committer:
    """Runs work on `connection`, in groups, between `begin` and COMMIT. At most `waiting_max` pieces wait."""

    def __init__(self, connection: sqlite3.Connection, *, begin: str, name: str, waiting_max: int) -> None:
        self._connection = connection
        self._begin = begin
        self._waiting_max = waiting_max
        self._waiting: deque[_Waiting] = deque()
        self._due_s = math.inf  # when the first of what waits must begin
        self._news = threading.Condition()
        self._closing = False
        self._loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    async def do(self, work: Work[Result], patience_s: float = 0.0) -> Result:
        """What `work` returned, once it is committed. Raises what it raised, or `LedgerUnavailableError`.

        It begins at once, or with the next piece that does, within `patience_s` at the latest.
        """
        due_s = time.monotonic() + patience_s
        answer: asyncio.Future[Result] = self._loop.create_future()
        with self._news:
            if self._closing:
                raise LedgerUnavailableError("the ledger is closed")
            if len(self._waiting) >= self._waiting_max:
                raise LedgerUnavailableError(f"{self._waiting_max} calls of the ledger are waiting already")
            self._waiting.append(_Waiting(work, answer))
            if due_s < self._due_s:
                self._due_s = due_s
                self._news.notify()
        return await answer

    async def close(self) -> None:
        """Finish what waits, then end the thread; the connection is the caller's again."""
        with self._news:
            self._closing = True
            self._news.notify()
        await asyncio.to_thread(self._thread.join)

    def _run(self) -> None:
        while group := self._take():
            answered = self._committed(group)
            self._loop.call_soon_threadsafe(_answer, group, answered)

    def _take(self) -> list[_Waiting]:
        """All that waits, once the first of it is due; nothing when there will be no more."""
        with self._news:
            while not self._closing and (left_s := self._due_s - time.monotonic()) > 0:
                self._news.wait(left_s if self._waiting else None)
            group = list(self._waiting)
            self._waiting.clear()
            self._due_s = math.inf
        return group

    def _committed(self, group: list[_Waiting]) -> list[object]:
        """For each piece what it returned, or the exception that its caller gets."""
        connection = self._connection
        try:
            connection.execute(self._begin)
            answered = [_tried(connection, piece.work) for piece in group]
            connection.execute("COMMIT")
        except Exception as error:
            _roll_back(connection)
            return [_translated(error)] * len(group)
        return answered


def _tried(connection: sqlite3.Connection, work: Work[Any]) -> object:
    """One piece of work, whole or not at all. Raises where the transaction as a whole is lost."""
    connection.execute("SAVEPOINT piece")
    try:
        answer: object = work(connection)
    except Exception as error:
        if not connection.in_transaction:  # SQLite rolled everything back, as it may on a full disk
            raise
        connection.execute("ROLLBACK TO piece")
        answer = _translated(error)
    connection.execute("RELEASE piece")
    return answer


def _roll_back(connection: sqlite3.Connection) -> None:
    if connection.in_transaction:
        try:
            connection.execute("ROLLBACK")
        except sqlite3.Error:  # SQLite has done so itself, or the next BEGIN says what is wrong
            return


def _translated(error: Exception) -> Exception:
    code = getattr(error, "sqlite_errorcode", None)
    cure = None if code is None else _CURES.get(code & 0xFF)  # the low byte is the primary code
    return error if cure is None else LedgerUnavailableError(f"The ledger cannot write or read: {cure}.")


def _answer(group: list[_Waiting], answered: list[object]) -> None:
    for piece, answer in zip(group, answered, strict=True):
        if piece.answer.done():  # its caller went away; the effect stands
            continue
        if isinstance(answer, Exception):
            piece.answer.set_exception(answer)
        else:
            piece.answer.set_result(answer)
