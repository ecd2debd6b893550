"""A caller over HTTP that writes down what it was told: which batches were acknowledged, their progress and outcomes.

It asks any of the gateways, one question at a time; one that does not answer is asked again later, like a caller would.
"""

import asyncio
import json
import random
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any

from tests.fakes.until import PATIENCE_S, until
from tests.faults.killing.checker import Kept, Seen
from tests.faults.killing.plan import Plan
from tests.integration.asynchronous.calls import ASYNC
from tests.integration.server.wire import Answer, get, post

_LOOK_EVERY_S = 0.02
_FINAL = frozenset({"completed", "failed", "cancelled", "expired"})


class Caller:
    """`ids` are those that the gateways gave to the acknowledged batches, by the plan's names."""

    def __init__(self, plan: Plan, ports: Sequence[int], chance: random.Random) -> None:
        self._plan = plan
        self.ports = ports
        self._chance = chance
        self.submits = False
        self.attempted = 0
        self.ids: dict[str, str] = {}
        self.states: dict[str, str] = {}
        self.outcomes: dict[str, list[Kept]] = {}
        self.progress: dict[str, list[Seen]] = {}

    async def submit(self, name: str) -> None:
        """Hand it in until somebody listens. What is not acknowledged then may be on record all the same."""
        operations = [
            {"id": each.id, "method": each.method, "path": each.target, "dependsOn": each.depends_on}
            for each in self._plan.operations(name)
        ]
        try:
            answered = await self._whoever_listens(
                lambda port: post(port, "/batch", json.dumps(operations).encode(), ASYNC)
            )
        except (OSError, EOFError):
            return
        assert answered.status in (202, 503), answered
        if answered.status == 202:
            self.ids[name] = str(answered.json()["batchId"])

    async def keep_busy(self, unfinished: int) -> None:
        """Keep so many batches unfinished, until `enough` is called."""
        self.submits = True
        names = iter(self._plan.ids)
        while self.submits:
            if len(self.unfinished) < unfinished:
                self.attempted += 1
                await self.submit(next(names))
            await asyncio.sleep(_LOOK_EVERY_S)

    def enough(self) -> None:
        self.submits = False

    async def watch(self) -> None:
        """Look at what has not ended, one after the other, until all has ended, and then read all outcomes."""
        while self.submits or self.unfinished:
            for name in self.unfinished:
                seen = await self.look(name)
                at = self._plan.cancelled_at(name)
                if seen is not None and at is not None and seen.completed >= at:
                    await self._cancel(name)
                await asyncio.sleep(_LOOK_EVERY_S)
            await asyncio.sleep(_LOOK_EVERY_S)
        for name in self.ids:
            await until(lambda name=name: self.read(name))  # type: ignore[misc]

    @property
    def unfinished(self) -> list[str]:
        return [name for name in self.ids if self.states.get(name) not in (*_FINAL, "missing")]

    async def look(self, name: str) -> Seen | None:
        """What a gateway says of the batch now; None where it cannot say."""
        answered = await self._asked(name, "")
        if answered is None:
            return None
        if answered.status == 404:
            self.states[name] = "missing"
            return None
        told = answered.json()
        self.states[name] = told["status"]
        seen = Seen(*(told[word] for word in Seen._fields))
        self.progress.setdefault(name, []).append(seen)
        return seen

    async def has_completed(self, name: str, *, more_than: int) -> bool:
        seen = await self.look(name)
        return seen is not None and seen.completed > more_than

    async def read(self, name: str) -> bool:
        """Whether the outcomes that there are could be read."""
        answered = await self._asked(name, "/results?partial=true")
        if answered is None:
            return False
        lines = [json.loads(line) for line in answered.body.splitlines()] if answered.status == 200 else []
        self.outcomes[name] = [_kept(each) for each in lines]
        return True

    async def _cancel(self, name: str) -> None:
        with suppress(OSError, EOFError):  # it is looked at again
            await self._whoever_listens(lambda port: post(port, f"/batch/{self.ids[name]}/cancel", b""))

    async def _asked(self, name: str, of: str) -> Answer | None:
        try:
            answered = await self._whoever_listens(lambda port: get(port, f"/batch/{self.ids[name]}{of}"))
        except (OSError, EOFError):
            return None
        assert answered.status in (200, 404, 503), answered
        return None if answered.status == 503 else answered

    async def _whoever_listens(self, ask: Callable[[int], Awaitable[Answer]]) -> Answer:
        """The answer of any gateway; another one is asked only where nobody listened."""
        async with asyncio.timeout(PATIENCE_S):
            while True:
                try:
                    return await ask(self._chance.choice(self.ports))
                except ConnectionRefusedError:
                    await asyncio.sleep(_LOOK_EVERY_S)


def _kept(told: dict[str, Any]) -> Kept:
    """An upstream's refusal is its answer, like every other."""
    error = told.get("error", {})
    slug = error.get("type", "").rpartition("/")[2]
    if slug == "upstream-error":
        return Kept(int(told["id"]), told["status"], None, str(error.get("body", "")))
    return Kept(int(told["id"]), told["status"], slug or None, str(told.get("result", "")), error.get("cause", ()))
