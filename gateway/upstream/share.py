"""How many of one kind may be under way at once; the others wait in line for a while."""

import asyncio


class Share:
    """At most `most` inside, and `waiting_max` before the door, first come, first served. Lives on one loop."""

    def __init__(self, most: int, waiting_max: int) -> None:
        self._free = asyncio.Semaphore(most)
        self._waiting_max = waiting_max
        self.waiting = 0

    async def enter(self, wait_max_s: float) -> bool:
        """Whether there was room within that time. Who entered must `leave`."""
        if self.waiting >= self._waiting_max:
            return False
        self.waiting += 1
        try:
            async with asyncio.timeout(wait_max_s):
                await self._free.acquire()
        except TimeoutError:
            return False
        finally:
            self.waiting -= 1
        return True

    def leave(self) -> None:
        self._free.release()
