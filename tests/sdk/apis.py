"""Plain APIs that answer at a pace that a test sets."""

import asyncio

from tests.integration.server.api import Talk


class Turnstile:
    """Answers one request each time that a client has looked at its batch: 200 take ten seconds, far longer than a
    cancel does (2 s)."""

    def __init__(self, answer: bytes) -> None:
        self._answer = answer
        self._passes = asyncio.Semaphore(0)

    def turn(self) -> None:
        self._passes.release()

    async def __call__(self, talk: Talk) -> None:
        await talk.request.read()
        await self._passes.acquire()
        await talk.send(self._answer)


class Stops:
    """Answers `first` requests, and then nothing until it is told to go on."""

    def __init__(self, first: int, answer: bytes) -> None:
        self.bodies: list[bytes] = []
        self.goes_on = asyncio.Event()
        self._first = first
        self._answer = answer

    async def __call__(self, talk: Talk) -> None:
        self.bodies.append(await talk.request.read())
        if len(self.bodies) > self._first:
            await self.goes_on.wait()
        await talk.send(self._answer)
