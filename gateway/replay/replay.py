"""Claims the keys of a batch before it runs, and settles them as its outcomes come.

The store is opened when a key is first used: most gateways never see one. What could not be settled because the store
was away is told to it again later; what it never hears ends as unknown, and is not sent again.
"""

import asyncio
import os
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from gateway.batch.model import Batch, Failure
from gateway.batch.routes import Route
from gateway.ledger.port import LedgerUnavailableError
from gateway.replay.keyed import Asked, Keyed, answered, asked_of, refused
from gateway.replay.names import Names
from gateway.replay.port import GROUP_BYTES, Claims, Found, Keys, Settlements, Times

if TYPE_CHECKING:  # it brings the stores with it
    from gateway.replay.kept import Vault

_TICK_S = 1.0
_LATE_MAX, _LATE_BYTES_MAX = 10_000, 64 << 20  # settlements that wait for the store to come back
_NONE = Claims(b"", 0, (), (), (), b"")
_MARGIN_S = 10.0  # a hold outlasts its batch's deadline by so much: the store may be slow


class Store(NamedTuple):
    """An open store of keys, and what its content is named and sealed with."""

    keys: Keys
    names: Names
    vault: "Vault"


class ReplayLimits(NamedTuple):
    """For how long a key is kept, and how many a caller may have."""

    keeps_s: float
    keys_max: int


class Replay:
    """One for the whole process. `open_store` raises `LedgerUnavailableError`; `replayed` hears how many were."""

    def __init__(
        self, open_store: Callable[[], Awaitable[Store]], limits: ReplayLimits, replayed: Callable[[int], None]
    ) -> None:
        self.keeps_s = limits.keeps_s
        self._open_store = open_store
        self._limits = limits
        self.replayed = replayed
        self._store: Store | None = None
        self._opening = asyncio.Lock()
        self._tasks: set[asyncio.Future[None]] = set()
        self._late: deque[tuple[bytes, int, Settlements]] = deque()
        self._late_count = self._late_bytes = 0
        self._ticking: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Open the store as soon as it can be, and tell it from now on what it has missed."""
        if self._ticking is None:
            self._ticking = asyncio.get_running_loop().create_task(self._tick())

    async def claim_batch(
        self, batch: Batch, routes: Sequence[Route | Failure], identity: str, lasts_s: float
    ) -> Keyed:
        """`claim` for a batch that is answered in place, which nobody resumes."""
        return await self.claim(asked_of(batch, routes, os.urandom(GROUP_BYTES)), identity, lasts_s)

    async def claim(self, asked: Asked, identity: str, lasts_s: float) -> Keyed:
        """Claim the keys of operations that are about to run, in one step. They end within `lasts_s`.

        Where the store does not answer, these operations are refused one by one: without a key on record, sending them
        would not be safe to repeat.
        """
        try:
            store = await self.store()
            owner = store.names.of_owner(identity)
            claims = _claims(asked, store.names, owner)
            found = await self.claimed(store, owner, claims, lasts_s)
        except LedgerUnavailableError as error:
            failure = Failure("ledger-unavailable", error.detail, retryable=True, members={"retryAfter": 5})
            earlier = {place: refused(place, failure) for place in asked.places}
            return Keyed(earlier, (), _NONE, lambda *_: b"", partial(self.settle_soon, b""))
        return self._keyed(store, owner, asked.places, claims, found)

    async def recall(self, asked: Asked, identity: str, lasts_s: float) -> Keyed:
        """Claim the keys of operations that their batch has claimed before and perhaps sent. Whatever happens here, no
        key is freed. Raises `LedgerUnavailableError`."""
        store = await self.store()
        owner = store.names.of_owner(identity)
        claims = _claims(asked, store.names, owner)
        found = await store.keys.claim(owner, claims, self._times(lasts_s), self._limits.keys_max)
        return self._keyed(store, owner, asked.places, claims, found)

    async def store(self) -> Store:
        """The store, opened now where it was not. Raises `LedgerUnavailableError`."""
        if self._store is not None:
            return self._store
        async with self._opening:
            if self._store is None:
                self._store = await self._open_store()
                self.start()
            return self._store

    async def claimed(
        self, store: Store, owner: bytes, claims: Claims, lasts_s: float, keeps_s: float | None = None
    ) -> Sequence[Found]:
        """The store's answers. A caller that goes away meanwhile leaves no key held behind."""
        try:
            return await store.keys.claim(owner, claims, self._times(lasts_s, keeps_s), self._limits.keys_max)
        except (asyncio.CancelledError, LedgerUnavailableError):
            self._forget(owner, claims)  # the store may have heard of them
            raise

    async def settle(self, owner: bytes, settlements: Settlements, keeps_s: float | None = None) -> None:
        """Returns once the store has answered or failed; in the latter case, or where the caller goes away meanwhile,
        it is told again until it answers."""
        try:
            await self._settle(owner, settlements, _ms(keeps_s or self.keeps_s))
        except asyncio.CancelledError:
            self.settle_soon(owner, settlements, keeps_s)
            raise

    def settle_soon(
        self, owner: bytes, settlements: Settlements, keeps_s: float | None = None
    ) -> "asyncio.Future[None]":
        """The same for who does not wait for it; the future never fails."""
        task = asyncio.ensure_future(self._settle(owner, settlements, _ms(keeps_s or self.keeps_s)))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def close(self) -> None:
        """Put on record what is known."""
        while self._tasks:
            await asyncio.wait(self._tasks)
        if self._ticking is not None:
            self._ticking.cancel()
            await asyncio.wait([self._ticking])
        if self._store is not None:
            with suppress(LedgerUnavailableError):
                await self._tell_late()
            await self._store.keys.close()

    def _keyed(
        self, store: Store, owner: bytes, places: Sequence[int], claims: Claims, found: Sequence[Found]
    ) -> Keyed:
        earlier = answered(places, claims, found, store.vault.opened)
        self.replayed(sum(outcome.replayed for outcome in earlier.values()))
        return Keyed(earlier, places, claims, store.vault.seal_outcomes, partial(self.settle_soon, owner))

    def _times(self, lasts_s: float, keeps_s: float | None = None) -> Times:
        return Times(_ms(lasts_s + _MARGIN_S), _ms(keeps_s or self.keeps_s))

    def _forget(self, owner: bytes, claims: Claims) -> None:
        self.settle_soon(owner, claims.forgotten(range(len(claims.names))))

    async def _settle(self, owner: bytes, settlements: Settlements, keeps_ms: int) -> None:
        if self._store is None:
            return  # it could not be opened: it holds nothing
        try:
            await self._store.keys.settle(owner, settlements, keeps_ms)
        except LedgerUnavailableError:
            count, size = self._late_count + len(settlements.names), self._late_bytes + len(settlements.kept)
            if count <= _LATE_MAX and size <= _LATE_BYTES_MAX:
                self._late.append((owner, keeps_ms, settlements))
                self._late_count, self._late_bytes = count, size

    async def _tick(self) -> None:
        """Tell the store what it has missed, and let it remove what has ended; until cancelled."""
        while True:
            with suppress(LedgerUnavailableError):
                store = await self.store()
                await self._tell_late()
                while await store.keys.sweep():  # a few at a time, or more would come than go
                    continue
            await asyncio.sleep(_TICK_S)

    async def _tell_late(self) -> None:
        """Raises `LedgerUnavailableError`; what was not told then is left for the next time."""
        while self._late and self._store is not None:
            owner, keeps_ms, settlements = self._late[0]
            await self._store.keys.settle(owner, settlements, keeps_ms)
            self._late.popleft()
            self._late_count -= len(settlements.names)
            self._late_bytes -= len(settlements.kept)


def _ms(seconds: float) -> int:
    return int(seconds * 1000)


def _claims(asked: Asked, names: Names, owner: bytes) -> Claims:
    of_keys, of_requests = names.of_keys(owner, asked.operations), names.of_requests(asked.operations)
    return Claims(asked.group, asked.epoch, asked.holders, of_keys, of_requests, asked.flags)
