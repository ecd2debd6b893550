"""A server that executes and hangs up: no command reaches it twice (PROMISES 1.2; redis-py alone would send eleven)."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable

import hiredis
import pytest

from gateway.ledger.port import Lease, LedgerUnavailableError
from gateway.ledger.redis import RedisLedger
from tests.integration.ledger.servers import batch, ledger_at, part

_INFO = b"role:master\r\naof_enabled:1\r\nrun_id:one\r\n"
_LEASE = Lease("b1", 0, 1, 0, "ada", "native", 0, 2, b"", b"", b"")


class HangsUp:
    """Answers what a client asks about the server; everything else it counts, and closes the connection."""

    def __init__(self) -> None:
        self.executed: Counter[str] = Counter()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        parser = hiredis.Reader()
        while data := await reader.read(65536):
            parser.feed(data)
            while isinstance(command := parser.gets(), list):
                name = command[0].decode().upper()
                if name == "INFO":
                    writer.write(b"$%d\r\n%s\r\n" % (len(_INFO), _INFO))
                elif name in ("CLIENT", "SELECT"):
                    writer.write(b"+OK\r\n")
                else:
                    self.executed[name] += 1
                    writer.close()
                    return
        writer.close()


@pytest.fixture
async def fake() -> AsyncIterator[tuple[HangsUp, RedisLedger]]:
    hangs_up = HangsUp()
    server = await asyncio.start_server(hangs_up.serve, "127.0.0.1", 0)
    async with ledger_at(f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}/0") as ledger:
        yield hangs_up, ledger
    server.close()


CALLS: dict[str, Callable[[RedisLedger], Awaitable[object]]] = {
    "accept": lambda ledger: ledger.accept(batch()),
    "view": lambda ledger: ledger.view("b1"),
    "browse": lambda ledger: ledger.browse("ada", limit=1, after=None, state=None),
    "parts": lambda ledger: ledger.parts("b1", after=0, limit=1),
    "operations": lambda ledger: ledger.operations("b1", 0),
    "cancel": lambda ledger: ledger.command("b1", "cancel"),
    "delete": lambda ledger: ledger.command("b1", "delete"),
    "health": lambda ledger: ledger.health(),
    "lease": lambda ledger: ledger.lease("worker", most=1, lasts_ms=1000),
    "renew": lambda ledger: ledger.renew([_LEASE], lasts_ms=1000),
    "intend": lambda ledger: ledger.intend(_LEASE, [0]),
    "record": lambda ledger: ledger.record(_LEASE, part(0, [0]), ends=True),
    "sweep": lambda ledger: ledger.sweep(),
    "wait": lambda ledger: ledger.wait(1),
}


@pytest.mark.parametrize("call", CALLS)
async def test_a_command_whose_answer_is_lost_was_executed_once(fake: tuple[HangsUp, RedisLedger], call: str) -> None:
    hangs_up, ledger = fake

    with pytest.raises(LedgerUnavailableError):
        await CALLS[call](ledger)

    assert hangs_up.executed.total() == 1
