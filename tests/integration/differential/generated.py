"""Operations made from a seed, and an API whose answer is a function of the request alone."""

import base64
import hashlib
import json
import random
from dataclasses import dataclass
from typing import Any

from tests.integration.server.api import Received, Talk, answer, chunked

BODILESS = (204, 205, 304)
# Without 401: after the first one the rest of a batch is not sent (PROMISES S20).
STATUSES = [*range(200, 209), *range(301, 309), 400, *range(402, 432), 451, *range(500, 512), 599]
JSON_TEXTS = (
    b'{"a":1}',
    b'{ "a" :\t1.0 ,\n"b":[ ] }',
    b"123456789012345678901234567890",
    b"1e400",
    b'"\\u00e9\\/\\ud83d\\ude00"',
    '{"ä":"€"}'.encode(),
    b'{"a":1,"a":2}',
    b"null",
    b"[[[[[[]]]]]]",
)


@dataclass(frozen=True, slots=True)
class Asked:
    """One request, as it is sent directly; `wire` is the same as an operation."""

    method: str
    target: str
    fields: tuple[tuple[str, str], ...]
    body: bytes | None
    wire: bytes


def asked(seed: int) -> Asked:
    """The request of this seed."""
    chance = random.Random(seed)
    method = chance.choice(["GET", "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
    target = _target(chance)
    own = [(f"X-{_word(chance)}", _word(chance)) for _ in range(chance.randint(0, 4))]
    fields = dict(own)
    members: dict[str, Any] = {"id": f"op-{seed}", "method": method, "path": target}
    body, raw = None, b""
    if method not in ("GET", "HEAD") and chance.random() < 0.7:
        body, raw, media_type, more = _body(chance)
        fields["Content-Type"] = media_type
        members |= more
    if fields:
        members["headers"] = {name: value for name, value in fields.items() if raw == b"" or name != "Content-Type"}
        if raw and fields["Content-Type"] != "application/json":
            members["headers"]["Content-Type"] = fields["Content-Type"]
    wire = json.dumps(members).encode()
    if raw:
        wire = wire[:-1] + b', "body": ' + raw + b"}"
    return Asked(method, target, tuple(fields.items()), body, wire)


async def answer_by_hash(talk: Talk) -> None:
    """Answer what follows from the request, and from nothing else."""
    body = await talk.request.read()
    await talk.send(_answer_to(talk.request, body))


def _answer_to(request: Received, body: bytes) -> bytes:
    told = sorted((n.lower(), v) for n, v in request.fields if n.lower().startswith("x-") and n.lower() not in _OURS)
    identity = repr((request.method, request.target, told, request.header("Content-Type"), body))
    chance = random.Random(hashlib.sha256(identity.encode()).digest())
    status = chance.choice(STATUSES)
    fields = [("X-Digest", hashlib.sha256(identity.encode()).hexdigest())]
    fields += [
        (chance.choice(["X-Again", "x-again", "Set-Cookie"]), _word(chance)) for _ in range(chance.randint(0, 4))
    ]
    content, media_type = _content(chance)
    if status in BODILESS:
        return answer(status, b"", *fields)
    if request.method == "HEAD":
        head = answer(status, content, *fields, ("Content-Type", media_type))
        return head[: len(head) - len(content)]
    typed = [*fields, ("Content-Type", media_type)]
    if chance.random() < 0.5 or not content:
        return answer(status, content, *typed)
    cut = chance.randint(0, len(content))
    pieces = [piece for piece in (content[:cut], content[cut:]) if piece]
    said = chunked(*pieces, fields=typed)
    return said.replace(b"HTTP/1.1 200 OK", b"HTTP/1.1 %d Hashed" % status, 1)


_OURS = {"x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "x-request-id"}


def _content(chance: random.Random) -> tuple[bytes, str]:
    kind = chance.choice(["json", "json", "text", "binary", "broken", "empty", "large"])
    match kind:
        case "json":
            return chance.choice(JSON_TEXTS), chance.choice(["application/json", "application/hal+json; charset=utf-8"])
        case "text":
            return "grüß\r\n\x00".encode() * chance.randint(1, 50), "text/plain"
        case "binary":
            return b"\xff" + chance.randbytes(chance.randint(1, 2000)), "application/octet-stream"
        case "broken":
            return b'{"a":', "application/json"
        case "empty":
            return b"", "text/plain"
    return json.dumps(["x" * 100] * chance.randint(100, 2000)).encode(), "application/json"


def _body(chance: random.Random) -> tuple[bytes, bytes, str, dict[str, Any]]:
    """The bytes that go out, how the envelope writes them, their type, and further members."""
    match chance.choice(["json", "text", "binary"]):
        case "json":
            text = chance.choice(JSON_TEXTS)
            return text, text, "application/json", {}
        case "text":
            words = 'a,"ä"\r\n' * chance.randint(0, 50)
            return words.encode(), json.dumps(words).encode(), "text/csv", {}
    data = chance.randbytes(chance.randint(0, 2000))
    return data, json.dumps(base64.b64encode(data).decode()).encode(), "image/png", {"bodyEncoding": "base64"}


def _target(chance: random.Random) -> str:
    path = "/" + "/".join(
        _word(chance) + chance.choice(["", "%20", "%C3%A4", "@", ":"]) for _ in range(chance.randint(1, 4))
    )
    query = chance.choice(["", "?", "?a=1&a=2", "?q=%2F%2e;x&=", "?'<>[]{}|\\^`", f"?{_word(chance)}"])
    return path + query


def _word(chance: random.Random) -> str:
    return "".join(chance.choices("abcdefghijkXYZ0123456789", k=chance.randint(1, 12)))
