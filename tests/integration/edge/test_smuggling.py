"""Requests that two readers could understand differently, sent to the gateway and, to compare, to nginx and haproxy.

The gateway never makes two requests of one, and whatever it passes on is one request after another by the narrowest
grammar (PROMISES S4). Where it took what both others refuse, the table `TAKEN_ALONE` would say why.
"""

import asyncio
import re
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from tests.integration.edge import ambiguous, beside
from tests.integration.edge.recorder import Recorder
from tests.integration.server.gateways import gateway
from tests.integration.server.wire import Answer, Wire

CASES = dict(ambiguous.cases())
TOGETHER = 100
QUIET_S = 1.0  # after the first words
PATIENCE_S = 5.0

_TARGET = re.compile(rb"/([0-9]{3})/(first|hidden|after)")

TAKEN_ALONE: dict[str, str] = {}


class Told(NamedTuple):
    """What a proxy made of a case: what reached the upstream, and what the caller was answered."""

    targets: tuple[str, ...]
    statuses: tuple[int, ...]
    answered: bytes

    @property
    def takes(self) -> bool:
        return "first" in self.targets


def test_there_are_hundreds_of_cases() -> None:
    assert len(CASES) >= 300


async def test_the_gateway_never_makes_two_requests_of_one() -> None:
    async with Recorder() as recorder, gateway(f"http://127.0.0.1:{recorder.port}") as running:
        told = await all_told(running.port, recorder)
        assert recorder.breaches == []
        assert [target for target in recorder.targets if _TARGET.fullmatch(target) is None] == []
        after = [await _plain(running.port, number) for number in range(20)]

    assert [name for name, each in told.items() if "hidden" in each.targets] == []
    assert [name for name, each in told.items() if each.targets not in ((), ("first",), ("first", "after"))] == []
    assert [name for name, each in told.items() if _answers(each) != list(each.targets)] == []
    assert {answered.status for answered in after} == {200}


async def test_each_refusal_is_one_problem() -> None:
    async with Recorder() as recorder, gateway(f"http://127.0.0.1:{recorder.port}") as running:
        told = await all_told(running.port, recorder)

    refused = {name: each for name, each in told.items() if not each.takes}
    assert len(refused) >= 200
    assert [name for name, each in refused.items() if each.answered.count(b"X-Gateway-Error: ") != 1] == []
    assert [name for name, each in refused.items() if b"application/problem+json" not in each.answered] == []
    assert [
        name for name, each in refused.items() if len(each.statuses) != 1 or each.statuses[0] not in (400, 501, 505)
    ] == []


async def test_what_nginx_and_haproxy_refuse_the_gateway_refuses_or_says_why(tmp_path: Path) -> None:
    async with Recorder() as recorder, gateway(f"http://127.0.0.1:{recorder.port}") as running:
        ours = await all_told(running.port, recorder)
    takes: dict[str, dict[str, Told]] = {}
    for run in (beside.nginx, beside.haproxy):
        async with Recorder() as recorder:
            folder = tmp_path / run.__name__
            folder.mkdir()
            with run(folder, recorder.port) as port:
                takes[run.__name__] = await all_told(port, recorder)

    alone = {name for name in CASES if ours[name].takes and not any(told[name].takes for told in takes.values())}
    assert alone == set(TAKEN_ALONE)


async def all_told(port: int, recorder: Recorder) -> dict[str, Told]:
    """Every case on a connection of its own."""
    free = asyncio.Semaphore(TOGETHER)
    answered = await asyncio.gather(*[_told(port, number, data, free) for number, data in enumerate(CASES.values())])
    by_number: dict[int, list[str]] = {}
    for target in recorder.targets:
        found = _TARGET.search(target)  # haproxy passes absolute targets on
        if found is not None:
            by_number.setdefault(int(found[1]), []).append(found[2].decode())
    return {
        name: Told(tuple(by_number.get(number, [])), _statuses(said), said)
        for number, (name, said) in enumerate(zip(CASES, answered, strict=True))
    }


async def _told(port: int, number: int, data: bytes, free: asyncio.Semaphore) -> bytes:
    """Send the case; all that comes back until the proxy closes or has nothing more to say."""
    said = b""
    async with free, await Wire.open(port) as wire:
        with suppress(OSError, TimeoutError):
            await wire.send(data.replace(b"NNN", b"%03d" % number))
            while True:
                async with asyncio.timeout(QUIET_S if said else PATIENCE_S):
                    piece = await wire.reader.read(1 << 16)
                if not piece:
                    break
                said += piece
    return said


def _statuses(said: bytes) -> tuple[int, ...]:
    lines = [line for line in said.split(b"\r\n") if b"HTTP/1.1 " in line or b"HTTP/1.0 " in line]
    return tuple(int(line.split(b"HTTP/1.")[1][2:5]) for line in lines if line.split(b"HTTP/1.")[1][2:5].isdigit())


def _answers(told: Told) -> list[str]:
    """The targets that the answers of the upstream name, in order."""
    lines = [line for line in told.answered.split(b"\r\n") if line.startswith(b"X-Target: ")]
    return [line.decode("latin-1").split("/", 2)[2] for line in lines]


async def _plain(port: int, number: int) -> Answer:
    async with await Wire.open(port) as wire:
        await wire.send(b"GET /plain/%d HTTP/1.1\r\nHost: a\r\n\r\n" % number)
        answered = await wire.answer()
    assert answered.body == b"/plain/%d" % number
    return answered
