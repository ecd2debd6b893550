"""Groups: a refusal spares the rest, a COMMIT that fails spares nobody, and nobody hears of anything before."""

import asyncio
import sqlite3
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.ledger.port import LedgerUnavailableError, LostLeaseError
from gateway.ledger.sqlite.committer import Committer
from gateway.ledger.sqlite.opening import connect
from tests.fakes.machine import Stopwatch
from tests.fakes.until import PATIENCE_S

WAITING_MAX = 8
SCHEMA = """
CREATE TABLE words (word TEXT PRIMARY KEY);
CREATE TABLE late (word TEXT REFERENCES words DEFERRABLE INITIALLY DEFERRED);
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "words.db"


@pytest.fixture
async def committer(file: Path) -> AsyncIterator[Committer]:
    connection = connect(str(file))
    connection.execute("PRAGMA foreign_keys = ON")
    connection.executescript(SCHEMA)
    found = Committer(connection, begin="BEGIN IMMEDIATE", name="test", waiting_max=WAITING_MAX)
    yield found
    await found.close()
    connection.close()


def says(word: str) -> "Say":
    return Say(word)


class Say:
    """Work that puts a word on record."""

    def __init__(self, word: str) -> None:
        self.word = word

    def __call__(self, db: sqlite3.Connection) -> str:
        db.execute("INSERT INTO words VALUES (?)", (self.word,))
        return self.word


def refuses(db: sqlite3.Connection) -> None:
    db.execute("INSERT INTO words VALUES ('never')")
    raise LostLeaseError("no")


def breaks_the_commit(db: sqlite3.Connection) -> None:
    db.execute("INSERT INTO late VALUES ('a word that is not there')")


def words(file: Path) -> set[str]:
    connection = sqlite3.connect(file)
    found = {word for (word,) in connection.execute("SELECT word FROM words")}
    connection.close()
    return found


class Gate:
    """Work that holds the thread until it is opened, so that what comes meanwhile is one group."""

    def __init__(self) -> None:
        self._entered = threading.Event()
        self._opened = threading.Event()

    def __call__(self, db: sqlite3.Connection) -> None:
        self._entered.set()
        assert self._opened.wait(10)

    async def entered(self) -> None:
        assert await asyncio.to_thread(self._entered.wait, 10)

    def open(self) -> None:
        self._opened.set()


async def test_a_refusal_spares_the_rest_of_its_group(committer: Committer, file: Path) -> None:
    gate = Gate()
    holding = asyncio.create_task(committer.do(gate))
    await gate.entered()
    group = asyncio.gather(
        committer.do(says("one")), committer.do(refuses), committer.do(says("two")), return_exceptions=True
    )
    await asyncio.sleep(0)
    gate.open()

    answers = await group
    await holding

    assert (answers[0], type(answers[1]), answers[2]) == ("one", LostLeaseError, "two")
    assert words(file) == {"one", "two"}


async def test_a_commit_that_fails_fails_its_whole_group(committer: Committer, file: Path) -> None:
    gate = Gate()
    holding = asyncio.create_task(committer.do(gate))
    await gate.entered()
    group = asyncio.gather(committer.do(says("one")), committer.do(breaks_the_commit), return_exceptions=True)
    await asyncio.sleep(0)
    gate.open()

    answers = await group
    await holding

    assert all(isinstance(answer, sqlite3.IntegrityError) for answer in answers)
    assert words(file) == set()
    assert await committer.do(says("after")) == "after"


async def test_nobody_hears_of_an_effect_before_it_is_committed(committer: Committer, file: Path) -> None:
    for number in range(20):
        word = await committer.do(says(str(number)))

        assert word in words(file)


async def test_too_many_calls_are_refused_at_once(committer: Committer, file: Path) -> None:
    gate = Gate()
    holding = asyncio.create_task(committer.do(gate))
    await gate.entered()
    waiting = [asyncio.create_task(committer.do(says(str(number)))) for number in range(WAITING_MAX)]
    await asyncio.sleep(0)

    with pytest.raises(LedgerUnavailableError, match="waiting already"):
        await committer.do(says("too many"))

    gate.open()
    await asyncio.gather(holding, *waiting)
    assert len(words(file)) == WAITING_MAX


async def test_the_effect_stands_though_its_caller_went_away(committer: Committer, file: Path) -> None:
    gate = Gate()
    holding = asyncio.create_task(committer.do(gate))
    await gate.entered()
    leaving = asyncio.create_task(committer.do(says("kept")))
    await asyncio.sleep(0)

    leaving.cancel()
    gate.open()
    await holding
    await committer.do(says("next"))

    assert words(file) == {"kept", "next"}


async def test_a_file_that_another_program_holds_is_said_within_two_seconds(committer: Committer, file: Path) -> None:
    other = sqlite3.connect(file, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")

    with Stopwatch() as watch, pytest.raises(LedgerUnavailableError, match="another program"):
        await committer.do(says("one"))

    assert watch.ran_s <= 2
    other.execute("ROLLBACK")
    other.close()
    assert await committer.do(says("two")) == "two"


async def test_what_waits_is_finished_before_the_end_and_nothing_comes_after(committer: Committer, file: Path) -> None:
    waiting = [asyncio.create_task(committer.do(says(str(number)))) for number in range(3)]
    await asyncio.sleep(0)

    await committer.close()

    assert sorted(await asyncio.gather(*waiting)) == ["0", "1", "2"]
    with pytest.raises(LedgerUnavailableError, match="closed"):
        await committer.do(says("late"))


async def test_work_that_can_wait_shares_the_commit_of_what_cannot(committer: Committer) -> None:
    commits: list[str] = []
    await committer.do(lambda db: db.set_trace_callback(commits.append))

    patient = asyncio.create_task(committer.do(says("patient"), 60.0))
    await asyncio.sleep(0)
    await committer.do(says("hurried"))

    async with asyncio.timeout(PATIENCE_S):
        assert await patient == "patient"
    assert commits.count("BEGIN IMMEDIATE") == 1
    assert commits.count("COMMIT") <= 2  # that of the callback's own group may be seen


async def test_work_that_can_wait_begins_by_itself_in_the_end(committer: Committer, file: Path) -> None:
    began_s = asyncio.get_running_loop().time()
    await committer.do(says("patient"), 0.04)

    assert asyncio.get_running_loop().time() - began_s >= 0.035
    assert words(file) == {"patient"}


async def test_work_that_can_wait_is_done_before_the_end(committer: Committer, file: Path) -> None:
    patient = asyncio.create_task(committer.do(says("patient"), 60.0))
    await asyncio.sleep(0)

    await committer.close()

    assert (await patient, words(file)) == ("patient", {"patient"})
