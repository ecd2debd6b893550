"""Who may run beside whom: any number of slices together, or a careful one alone."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress

_PATIENCE_S = 2.0  # a slow operation of another slice does not hold up the whole worker for longer


class Floor:
    """First come, first served: nobody overtakes a slice that waits to be alone."""

    def __init__(self) -> None:
        self._door = asyncio.Lock()
        self._inside = 0
        self._empty = asyncio.Event()
        self._empty.set()

    @asynccontextmanager
    async def together(self) -> AsyncGenerator[None]:
        async with self._door:
            self._inside += 1
            self._empty.clear()
        try:
            yield
        finally:
            self._inside -= 1
            if not self._inside:
                self._empty.set()

    @asynccontextmanager
    async def alone(self) -> AsyncGenerator[None]:
        """Nobody enters meanwhile; who is inside already is waited for, for `_PATIENCE_S` at most."""
        async with self._door:
            with suppress(TimeoutError):
                async with asyncio.timeout(_PATIENCE_S):
                    await self._empty.wait()
            yield
