"""The ledger's one way to Redis: every call is checked before it leaves and its answer is remembered.

Two slots take part in most steps. The batch's own slot is the truth and changes first; the index of work is told
afterwards, and an older answer never overwrites a newer one there. A gateway that dies in between leaves a hint that is
wrong for a while: the sweep mends it.
"""

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from redis.asyncio import RedisCluster

from gateway.ledger import keys, redis_records, scripts
from gateway.ledger.port import LedgerUnavailableError
from gateway.ledger.redis_durability import Durability, Info, infos_of
from gateway.ledger.redis_memory import Memory
from gateway.redis_client import FAILURES, Client
from gateway.redis_scripts import Scripts

_HURRIED_MAX = 1000  # batches, those that are due first
_OTHERS_MEND_S = 3.0  # after a failover nothing is leased for this long: replicas put their intents back first


class Store:
    """`went_back` is told the id of each batch of which the store has lost acknowledged changes."""

    def __init__(
        self, client: Client, *, timeout_s: float, require_durable: bool, went_back: Callable[[str], None]
    ) -> None:
        self._client = client
        self._timeout_s = timeout_s
        self._scripts = Scripts(client, timeout_s, once=True)
        self._by_name = scripts.by_name()
        self._went_back = went_back
        self._leases_from_s = 0.0
        self.memory = Memory()
        self.durability = Durability(self._infos, self._came_back, self._stepped_back, require_durable=require_durable)

    @property
    def may_lease(self) -> bool:
        return time.monotonic() >= self._leases_from_s

    async def batch(self, batch_id: str, script: str, *arguments: bytes | str | int) -> Any:
        """The answer of a script in the batch's slot: `ok`, `gone`, `lost` or `full` first."""
        await self.durability.ensure()
        answer = await self._run(script, keys.of_batch(batch_id), [self.memory.seen(batch_id), *arguments])
        if answer[0] == b"behind":
            await self.mend(batch_id)
        return answer

    async def index(self, script: str, *arguments: bytes | str | int) -> Any:
        """The answer of a script in the index's slot."""
        await self.durability.ensure()
        return await self._run(f"index_{script}", keys.INDEX, arguments)

    async def note(self, batch_id: str, hint: redis_records.Hint, untaken: int = 0) -> None:
        """Tell the index what the batch's slot has answered; `untaken` operations were charged for nothing."""
        self.memory.saw(batch_id, hint.seq, is_final=hint.is_final)
        await self.index("note", batch_id, *hint.as_arguments(), untaken)

    async def forget(self, batch_id: str) -> None:
        self.memory.forget(batch_id)
        await self.index("forget", batch_id)

    async def read(self, *commands: tuple[str | int, ...]) -> list[Any]:
        """The answers of commands that change nothing, in one go."""
        await self.durability.ensure()
        return await self._read(commands)

    async def mend(self, batch_id: str) -> None:
        """Sound the alarm, put this process's intents back on record, and raise `LedgerUnavailableError`."""
        self._went_back(batch_id)
        await self._put_back(batch_id)
        raise LedgerUnavailableError("Redis has lost acknowledged changes of this batch; see the log")

    async def scan(self, cursor: int, node: int) -> tuple[int, list[str], int]:
        """A few batches by their keys: the next cursor and node (0, 0 when all were seen), and ids."""
        await self.durability.ensure()
        command = ("SCAN", cursor, "MATCH", keys.META_OF_ANY_BATCH, "COUNT", 500)
        nodes = self._client.get_primaries() if isinstance(self._client, RedisCluster) else [None]
        if node >= len(nodes):
            return 0, [], 0
        options = {} if nodes[node] is None else {"target_nodes": nodes[node]}
        with self._guarded():
            async with asyncio.timeout(self._timeout_s):
                found = await self._client.execute_command(*command, **options)
        following, names = found if nodes[node] is None else _of_one_node(found)
        at = int(following)
        ids = [keys.batch_of(name) for name in names]
        return (at, ids, node) if at else (0, ids, (node + 1) % len(nodes))

    async def close(self) -> None:
        await self._scripts.close()

    async def _run(self, script: str, names: Sequence[str], arguments: Sequence[bytes | str | int]) -> Any:
        with self._guarded():
            return await self._scripts.run(self._by_name[script], len(names), *names, *arguments)

    async def _read(self, commands: Sequence[tuple[str | int, ...]]) -> list[Any]:
        with self._guarded():
            return await self._scripts.read(commands)

    async def _infos(self) -> Sequence[Info]:
        with self._guarded():
            return await infos_of(self._client, self._timeout_s)

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        """What fails is `LedgerUnavailableError`, and a reason to ask how the server is before the next call."""
        try:
            yield
        except TimeoutError:
            self.durability.doubt()
            raise LedgerUnavailableError(f"Redis did not answer within {self._timeout_s:g} s") from None
        except FAILURES as error:
            self.durability.doubt()
            raise LedgerUnavailableError(f"Redis: {_reason(error)}") from error

    async def _came_back(self) -> None:
        """A server was started anew or replaced: compare what it has with what it had acknowledged to this process."""
        self._leases_from_s = time.monotonic() + _OTHERS_MEND_S
        for batch_id in self.memory.unfinished():
            seen = self.memory.seen(batch_id)  # before the read: what comes meanwhile is newer
            [seq] = await self._read([("HGET", keys.meta(batch_id), "seq")])
            if int(seq or 0) < seen:
                self._went_back(batch_id)
                await self._put_back(batch_id)

    async def _stepped_back(self) -> None:
        """The server's clock: what would wait until it is where it was is looked at now."""
        await self._run("index_hurry", keys.INDEX, [_HURRIED_MAX])

    async def _put_back(self, batch_id: str) -> None:
        intents = redis_records.mask(self.memory.intents(batch_id))
        answer = await self._run("mend", keys.of_batch(batch_id), [self.memory.seen(batch_id), intents])
        if answer[0] == b"ok":
            hint = redis_records.hint(answer[1])
            self.memory.saw(batch_id, hint.seq, is_final=hint.is_final)
            await self._run("index_note", keys.INDEX, [batch_id, *hint.as_arguments(), 0])
        else:
            self.memory.forget(batch_id)  # nothing of it is left: whoever is at it shall hear that, and let go


def _reason(error: Exception) -> str:
    """The first words of an error, without what a server may have echoed of a command."""
    return str(error).partition("\n")[0][:160] or type(error).__name__


def _of_one_node(found: Any) -> tuple[int, list[bytes]]:
    """SCAN's answer of a cluster's node, which redis-py gives with the cursor by node."""
    cursor, names = found
    return (next(iter(cursor.values())) if isinstance(cursor, dict) else int(cursor)), list(names)
