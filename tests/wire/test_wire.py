"""Every dialect's envelopes through a gateway, byte for byte.

A case is a folder `<dialect>/<case>`: `request.http` is written to the gateway as it stands, `upstream.json` tells what
the API answers, by method and target and, where those do not tell them apart, body, and `answer.http` is what must come
back: the status line, Content-Type and Location, and the body. Of batches that are answered later `request-2.http`,
`answer-2.http` and so on follow; a GET is asked until it is answered as it should be. What the gateway makes up has a
name, ids by the order in which they come: `{id1}`, `{time}`. A new case's answers are written by UPDATE=1 and then read
by a person. `google/documented` is the example of the vendor's document under other names, with an inner Content-Length
that is wrong: there the boundary alone counts.
"""

import asyncio
import json
import os
import re
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import pytest

from tests.fakes.until import until
from tests.integration.asynchronous.calls import keeping
from tests.integration.server.api import Api, Talk, answer

_CASES = sorted(path.parent for path in Path(__file__).parent.glob("*/*/request.http"))
_WRITES = os.environ.get("UPDATE") == "1"
_WITHIN_S = 1.0 if _WRITES else 10.0
_ID = re.compile(rb"[a-z2-7]{40}")
_TIME = re.compile(rb'"20\d\d-\d\d-\d\dT[\d:.]+Z"|(?<=_at":)\d{10}\b')


def _named(case: Path) -> str:
    return f"{case.parent.name}/{case.name}"


class _Played:
    """An API that answers as `answers` says; what it does not know is a 500, so that a case cannot pass by chance."""

    def __init__(self, answers: Mapping[str, Mapping[str, object]]) -> None:
        self._answers = answers
        self.asked: dict[str, str] = {}

    async def __call__(self, talk: Talk) -> None:
        body = (await talk.request.read()).decode("utf-8")
        target = f"{talk.request.method} {talk.request.target}"
        asked = f"{target} {body}" if f"{target} {body}" in self._answers else target
        self.asked[asked] = body
        said = self._answers.get(asked, {"status": 500, "body": f"unexpected: {asked}"})
        fields = [(name, str(value)) for name, value in dict(said.get("headers", {})).items()]  # type: ignore[call-overload]
        await talk.send(answer(int(str(said["status"])), str(said.get("body", "")).encode(), *fields))


class _MadeUp:
    """Ids and times that no file can hold, and their names in files."""

    def __init__(self) -> None:
        self._ids: list[bytes] = []

    def named(self, answered: bytes) -> bytes:
        for id_ in _ID.findall(answered):
            if id_ not in self._ids:
                self._ids.append(id_)
        for number, id_ in enumerate(self._ids, start=1):
            answered = answered.replace(id_, b"{id%d}" % number)
        return _TIME.sub(b'"{time}"', answered)

    def filled(self, request: bytes) -> bytes:
        for number, id_ in enumerate(self._ids, start=1):
            request = request.replace(b"{id%d}" % number, id_)
        return request


async def _exchange(port: int, request: bytes) -> bytes:
    """Status line, Content-Type, Location and body of the answer."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    async with asyncio.timeout(10):
        whole = await reader.read()
    writer.close()
    head, _, body = whole.partition(b"\r\n\r\n")
    status, *fields = head.split(b"\r\n")
    shown = [field for field in fields if field.lower().startswith((b"content-type:", b"location:"))]
    return b"\r\n".join([status, *shown, b"", body])


async def _settled(port: int, request: bytes, expected: bytes | None, made_up: _MadeUp) -> bytes:
    """The answer; a batch that is still on its way is asked about again."""
    answered = b""

    async def is_settled() -> bool:
        nonlocal answered
        answered = made_up.named(await _exchange(port, made_up.filled(request)))
        return answered == expected or not request.startswith(b"GET ")

    with suppress(TimeoutError):  # what it was in the end is told by who compares
        await until(is_settled, _WITHIN_S)
    return answered


def _exchanges(case: Path) -> list[tuple[bytes, Path]]:
    """What is asked, one after the other, and the file of its answer."""
    files = [case / "request.http", *sorted(case.glob("request-*.http"))]
    return [(file.read_bytes(), case / file.name.replace("request", "answer")) for file in files]


@pytest.mark.parametrize("case", _CASES, ids=_named)
async def test_an_envelope_is_answered_byte_for_byte(case: Path, tmp_path: Path) -> None:
    script = json.loads((case / "upstream.json").read_text())
    played, made_up = _Played(script), _MadeUp()
    spoken = f"dialects: {{{case.parent.name}: {{}}}}"
    async with Api(otherwise=played) as api, keeping(api.url, tmp_path, spoken) as running:
        for request, file in _exchanges(case):
            answered = await _settled(running.port, request, None if _WRITES else file.read_bytes(), made_up)
            if _WRITES:
                file.write_bytes(answered)
            assert answered == file.read_bytes()

    assert played.asked == {asked: said.get("request", "") for asked, said in script.items()}
