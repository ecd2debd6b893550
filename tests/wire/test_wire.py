"""Every dialect's envelopes through a gateway, byte for byte.

A case is a folder `<dialect>/<case>`: `request.http` is written to the gateway as it stands, `upstream.json` tells what
the API answers, by method and target, and `answer.http` is what must come back: the status line, the Content-Type and
the body. A new case's answer is written by UPDATE=1 and then read by a person.
"""

import asyncio
import json
import os
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.integration.server.api import Api, Talk, answer
from tests.integration.server.gateways import gateway

_CASES = sorted(path.parent for path in Path(__file__).parent.glob("*/*/request.http"))


def _named(case: Path) -> str:
    return f"{case.parent.name}/{case.name}"


class _Played:
    """An API that answers as `answers` says; what it does not know is a 500, so that a case cannot pass by chance."""

    def __init__(self, answers: Mapping[str, Mapping[str, object]]) -> None:
        self._answers = answers
        self.asked: dict[str, str] = {}

    async def __call__(self, talk: Talk) -> None:
        asked = f"{talk.request.method} {talk.request.target}"
        self.asked[asked] = (await talk.request.read()).decode("utf-8")
        said = self._answers.get(asked, {"status": 500, "body": f"unexpected: {asked}"})
        fields = [(name, str(value)) for name, value in dict(said.get("headers", {})).items()]  # type: ignore[call-overload]
        await talk.send(answer(int(str(said["status"])), str(said.get("body", "")).encode(), *fields))


async def _exchange(port: int, request: bytes) -> bytes:
    """Status line, Content-Type and body of the answer."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    async with asyncio.timeout(10):
        whole = await reader.read()
    writer.close()
    head, _, body = whole.partition(b"\r\n\r\n")
    status, *fields = head.split(b"\r\n")
    typed = [field for field in fields if field.lower().startswith(b"content-type:")]
    return b"\r\n".join([status, *typed, b"", body])


@pytest.mark.parametrize("case", _CASES, ids=_named)
async def test_an_envelope_is_answered_byte_for_byte(case: Path) -> None:
    script = json.loads((case / "upstream.json").read_text())
    played = _Played(script)
    async with Api(otherwise=played) as api, gateway(api.url, f"dialects: {{{case.parent.name}: {{}}}}") as running:
        answered = await _exchange(running.port, (case / "request.http").read_bytes())
        if os.environ.get("UPDATE") == "1":
            (case / "answer.http").write_bytes(answered)

    assert answered == (case / "answer.http").read_bytes()
    assert played.asked == {asked: said.get("request", "") for asked, said in script.items()}
