"""Redis away in every way there is: the ledger says so in bounded time, and comes back by itself (D9, D10)."""

import asyncio
import signal
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest

from gateway.ledger.port import Lease, LedgerUnavailableError
from gateway.ledger.redis import RedisLedger
from gateway.ledger.redis_durability import objection
from tests.contract.stores import STORES
from tests.fakes.machine import Stopwatch
from tests.fakes.until import pass_by, until
from tests.integration.ledger.relay import Relay
from tests.integration.ledger.servers import ALWAYS, Server, batch, ledger_at, part, server, until_it_works

OUTAGE_S = 1.0
DEADLINE_S = 1.0
BACK_WITHIN_S = 10.0


def ledger(url: str) -> AbstractAsyncContextManager[RedisLedger]:
    return ledger_at(url, timeout_s=DEADLINE_S)


async def is_refused(call: Callable[[], Awaitable[object]]) -> None:
    """For as long as an outage has to last, every call says so, within its deadline."""
    until_s = time.monotonic() + OUTAGE_S
    while time.monotonic() < until_s:
        with Stopwatch() as watch, pytest.raises(LedgerUnavailableError):
            await call()
        assert watch.ran_s < 2 * DEADLINE_S + 0.5
        await pass_by(0.02)


async def becomes_refused(call: Callable[[], Awaitable[object]]) -> None:
    """An outage that is noticed by asking is noticed within seconds."""

    async def is_refused_now() -> bool:
        try:
            await call()
        except LedgerUnavailableError:
            return True
        return False

    await until(is_refused_now)


async def goes_on(store: RedisLedger) -> None:
    """What was accepted before is still there, and the work goes on within ten seconds."""
    _, waited_s = await until_it_works(lambda: store.accept(batch("after")), BACK_WITHIN_S)
    before = await store.view("before")
    assert before is not None
    assert waited_s < BACK_WITHIN_S
    lease = await until_leased(store)
    await store.record(lease, part(lease.slice, range(lease.first, lease.first + lease.count)), ends=True)


async def until_leased(store: RedisLedger) -> Lease:
    return (await until(lambda: store.lease("worker", most=1, lasts_ms=15_000), BACK_WITHIN_S))[0]


@pytest.mark.parametrize("kind", STORES)
async def test_a_killed_server_is_missed_and_found_again(kind: str) -> None:
    with server(kind, *ALWAYS) as running:
        async with ledger(running.url) as store:
            await store.accept(batch("before"))
            running.kill()

            await is_refused(lambda: store.accept(batch("lost")))
            running.start()

            await goes_on(store)


async def test_a_stopped_server_is_missed_and_found_again(running: Server) -> None:
    async with ledger(running.url) as store:
        await store.accept(batch("before"))
        running.signal(signal.SIGSTOP)

        await is_refused(lambda: store.view("before"))
        running.signal(signal.SIGCONT)

        await goes_on(store)


async def test_a_sleeping_server_is_missed_and_found_again() -> None:
    with server("redis", "--enable-debug-command", "yes") as running:
        async with ledger(running.url) as store:
            await store.accept(batch("before"))
            asleep = asyncio.create_task(asyncio.to_thread(running.ask, "DEBUG", "SLEEP", 2.5))
            await becomes_refused(lambda: store.view("before"))
            await asleep

            await goes_on(store)


async def test_connections_that_are_killed_are_made_anew(running: Server) -> None:
    async with ledger(running.url) as store:
        await store.accept(batch("before"))
        killed = []
        for _ in range(20):
            killed.append(running.ask("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"))
            await until_it_works(lambda: store.view("before"))

        await goes_on(store)

    assert 0 not in killed


@pytest.mark.parametrize("kind", ["reset", "swallowed", "closed"])
async def test_a_broken_network_is_missed_and_found_again(running: Server, kind: str) -> None:
    relay = await Relay(running.port).open()
    async with ledger(f"redis://127.0.0.1:{relay.port}/0") as store:
        await store.accept(batch("before"))
        if kind == "swallowed":
            relay.swallows = True
        else:
            await relay.close()

        if kind == "reset":
            await pass_by(OUTAGE_S)
        else:
            await is_refused(lambda: store.view("before"))
        relay.swallows = False
        await relay.close()
        await relay.open()

        await goes_on(store)
    await relay.close()


async def test_a_replica_takes_nothing(running: Server) -> None:
    async with ledger(running.url) as store:
        await store.accept(batch("before"))
        running.ask("REPLICAOF", "127.0.0.1", 1)

        await is_refused(lambda: store.accept(batch("lost")))
        running.ask("REPLICAOF", "NO", "ONE")

        await goes_on(store)


async def test_a_full_server_takes_nothing_and_what_it_has_can_be_deleted(running: Server) -> None:
    async with ledger(running.url) as store:
        await store.accept(batch("before"))
        await store.accept(batch("done"))
        await store.command("done", "cancel")
        running.ask("CONFIG", "SET", "maxmemory-policy", "noeviction")
        running.ask("CONFIG", "SET", "maxmemory", 1)

        await is_refused(lambda: store.accept(batch("lost")))
        assert await store.view("before") is not None
        running.ask("CONFIG", "SET", "maxmemory", 0)

        assert await store.view("lost") is None
        await goes_on(store)


@pytest.mark.parametrize(
    ("setting", "bad", "good"),
    [("appendonly", "no", "yes"), ("maxmemory-policy", "allkeys-lru", "noeviction")],
)
async def test_a_server_that_may_forget_takes_nothing(running: Server, setting: str, bad: str, good: str) -> None:
    running.ask("CONFIG", "SET", "maxmemory", 100_000_000)
    running.ask("CONFIG", "SET", "maxmemory-policy", "noeviction")
    async with ledger(running.url) as store:
        await store.accept(batch("before"))
        running.ask("CONFIG", "SET", setting, bad)

        await becomes_refused(lambda: store.accept(batch("lost")))
        with pytest.raises(LedgerUnavailableError, match=good):
            await store.accept(batch("lost"))
        running.ask("CONFIG", "SET", setting, good)

        await goes_on(store)


@pytest.mark.parametrize(
    ("info", "cure"),
    [
        ({"role": "slave"}, "primary"),
        ({"loading": 1}, "loading"),
        ({"maxmemory": 1, "maxmemory_policy": "volatile-ttl"}, "noeviction"),
        ({"aof_enabled": 0}, "appendonly yes"),
        ({"aof_enabled": 1, "aof_last_write_status": "err"}, "disk"),
    ],
)
def test_every_objection_names_its_cure(info: dict[str, object], cure: str) -> None:
    found = objection({"aof_enabled": 1, **info}, require_durable=True)

    assert found is not None
    assert cure in found


def test_a_server_that_keeps_nothing_will_do_where_nothing_has_to_last() -> None:
    assert objection({"aof_enabled": 0}, require_durable=False) is None
    assert objection({"aof_enabled": 1, "maxmemory": 1, "maxmemory_policy": "noeviction"}, require_durable=True) is None


async def test_a_server_with_a_full_disk_takes_nothing() -> None:
    with tempfile.TemporaryDirectory() as folder:
        small = Path(folder) / "small"
        small.mkdir()
        if await ran("mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(small)):
            pytest.skip("a small file system cannot be mounted: not root")
        running = Server("redis", small)
        try:
            running.start("--auto-aof-rewrite-percentage", "0")
            async with ledger(running.url) as store:
                await store.accept(batch("before"))
                (small / "ballast").write_bytes(b"x" * 1_900_000)
                await becomes_refused(lambda: store.accept(batch("filler", slices=1, owner="filler" * 100_000)))

                await is_refused(lambda: store.accept(batch("lost")))
                (small / "ballast").unlink()

                await goes_on(store)
        finally:
            running.kill()
            await ran("umount", "-l", str(small))


async def ran(*command: str) -> int:
    process = await asyncio.create_subprocess_exec(*command, stderr=asyncio.subprocess.DEVNULL)
    return await process.wait()
