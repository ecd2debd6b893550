"""Cheap however much is on record: every statement uses an index, and nothing costs more among 10 000 batches.

Which index SQLite chooses is its own guess; what says INDEXED BY would cost as much as there is on record otherwise.
"""

import sqlite3
from collections.abc import Callable, Iterator
from functools import partial

import pytest

from gateway.batch.states import STATES, TRANSITIONS, Event, State
from gateway.ledger.sqlite import life, reading, work
from gateway.ledger.sqlite.opening import open_memory
from tests.contract.ledger.batches import LEASE_MS, new_batch, part
from tests.contract.ledger.worlds import START_MS, Clock

EVENTS: tuple[Event, ...] = ("lease", "cancel", "settle", "expire", "break")

# Scans of what is always short: the slices that are held now, and one row of an ordered index.
SHORT = (
    "SCAN slices USING INDEX slices_held",
    "SCAN owners USING INDEX owners_waiting",
    "SCAN rubbish",
    "SCAN CONSTANT ROW",
    "SCAN (subquery",
)
STEPS_A_LEASE = 3_000  # of SQLite's virtual machine; about 700 in an empty ledger


@pytest.fixture
def db() -> Iterator[sqlite3.Connection]:
    connection = open_memory(Clock()).writer
    yield connection
    connection.close()


def whole_life(db: sqlite3.Connection) -> None:
    """Every transition and every reading once."""
    for number in range(6):
        life.accept(db, START_MS, new_batch(id=f"b{number}", total=6))
    leases, _ = work.lease(db, START_MS, 3, LEASE_MS)
    work.renew(db, START_MS, leases, LEASE_MS)
    work.intend(db, leases[0], [0, 1])
    work.record(db, START_MS, work.Recording(leases[0], part(0, [0]), False, None, [1], 2))
    work.record(db, START_MS, work.Recording(leases[0], part(0, [1]), True, None, (), None))
    work.record(db, START_MS, work.Recording(leases[1], None, True, 50, (), None))
    for command in ("pause", "resume", "cancel", "delete"):
        life.command(db, START_MS, "b4", command)
    life.command(db, START_MS, "b5", "break")
    life.remove_rubbish(db, 10)
    work.sweep(db, START_MS + LEASE_MS)
    reading.view(db, "b1")
    reading.browse(db, "owner", 10, "b3", "accepted")
    reading.browse(db, "owner", 10, None, None)
    reading.parts(db, "b0", 0, 100)
    reading.operations(db, "b0", 1)


def test_no_statement_looks_through_a_table(db: sqlite3.Connection) -> None:
    statements: set[str] = set()
    db.set_trace_callback(lambda statement: statements.add(statement))
    whole_life(db)
    db.set_trace_callback(None)

    scans = {
        detail
        for statement in statements
        if statement.startswith(("SELECT", "UPDATE", "DELETE", "INSERT"))
        for *_, detail in db.execute(f"EXPLAIN QUERY PLAN {statement}").fetchall()
        if detail.startswith("SCAN") and not detail.startswith(SHORT)
    }

    assert len(statements) > 40
    assert scans == set()


def steps(db: sqlite3.Connection, call: Callable[[], object]) -> int:
    """Instructions of SQLite's virtual machine, to the ten."""
    count = 0

    def ten_more() -> int:
        nonlocal count
        count += 10
        return 0

    db.set_progress_handler(ten_more, 10)
    call()
    db.set_progress_handler(None, 0)
    return count


def crowd(db: sqlite3.Connection, batches: int, owners: int) -> None:
    db.execute("BEGIN")
    for number in range(batches):
        batch = new_batch(id=f"b{number}", total=2, owner=f"owner{number % owners}", begins_after_ms=number % 2 * 1000)
        life.accept(db, START_MS, batch)
    life.accept(db, START_MS, new_batch(id="large", total=100_000, slice_size=50, owner="large"))
    db.execute("COMMIT")


def test_a_lease_costs_the_same_among_ten_thousand_batches(db: sqlite3.Connection) -> None:
    crowd(db, batches=10_000, owners=2_000)

    costs = [steps(db, lambda: work.lease(db, START_MS, 1, LEASE_MS)) for _ in range(50)]
    sweep = steps(db, lambda: work.sweep(db, START_MS))

    assert max(costs) < STEPS_A_LEASE
    assert sweep < STEPS_A_LEASE


def test_a_callers_past_costs_nothing(db: sqlite3.Connection) -> None:
    db.execute("BEGIN")
    for number in range(3_000):
        life.accept(db, START_MS, new_batch(id=f"b{number}", total=2))
        life.command(db, START_MS, f"b{number}", "cancel")
    db.execute("COMMIT")

    accept = steps(db, lambda: life.accept(db, START_MS, new_batch()))
    sweep = steps(db, lambda: work.sweep(db, START_MS))
    page = steps(db, lambda: reading.browse(db, "owner", 10, None, "accepted"))

    assert max(accept, sweep, page) < STEPS_A_LEASE


def test_a_slice_costs_the_same_at_the_end_of_a_long_batch(db: sqlite3.Connection) -> None:
    life.accept(db, START_MS, new_batch(total=100_000, slice_size=50))
    costs = []
    for _ in range(2_000):
        (lease,), _ = work.lease(db, START_MS, 1, LEASE_MS)
        outcomes = part(lease.slice, range(lease.first, lease.first + lease.count))
        asked = work.Recording(lease, outcomes, True, None, (), None)
        costs.append(steps(db, partial(work.record, db, START_MS, asked)))

    assert max(costs) < STEPS_A_LEASE


@pytest.mark.parametrize("event", EVENTS)
@pytest.mark.parametrize("state", STATES)
def test_the_file_says_what_the_table_says(db: sqlite3.Connection, state: State, event: Event) -> None:
    life.accept(db, START_MS, new_batch(id="batch"))
    db.execute("UPDATE batches SET state = ?", (state,))

    answer = life.happen(db, START_MS, 1, state, event)

    found = reading.view_of(db, 1).state
    assert answer == TRANSITIONS.get((state, event))
    assert found == (answer or state)
