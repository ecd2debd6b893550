"""A store of keys whose trouble is known: why it cannot be used now, told when that changes."""

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from gateway.ledger.port import LedgerUnavailableError
from gateway.replay.port import Claims, Found, Keys, Settlements, Times

T = TypeVar("T")


class Health:
    """`heard` is told why the store cannot be used, and "" once it can be again."""

    def __init__(self, heard: Callable[[str], None]) -> None:
        self._heard = heard
        self.trouble = ""

    async def of(self, asked: Awaitable[T]) -> T:
        """The answer; whether there is one is noted."""
        try:
            answer = await asked
        except LedgerUnavailableError as error:
            self._note(error.detail)
            raise
        self._note("")
        return answer

    def _note(self, trouble: str) -> None:
        if trouble != self.trouble:
            self.trouble = trouble
            self._heard(trouble)


class Watched:
    """`Keys` around others."""

    def __init__(self, keys: Keys, health: Health) -> None:
        self._keys = keys
        self._health = health

    async def claim(self, owner: bytes, claims: Claims, times: Times, keys_max: int) -> Sequence[Found]:
        return await self._health.of(self._keys.claim(owner, claims, times, keys_max))

    async def settle(self, owner: bytes, settlements: Settlements, keeps_ms: int) -> Sequence[bool]:
        return await self._health.of(self._keys.settle(owner, settlements, keeps_ms))

    async def sweep(self) -> int:
        return await self._health.of(self._keys.sweep())

    async def close(self) -> None:
        await self._keys.close()
