"""What is sent and what must come back: envelopes by shape, with the answers that prove a peer right."""

import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

ITEM = {
    "id": 42,
    "name": "Ada King Lovelace",
    "email": "ada@example.org",
    "active": True,
    "tags": ["a", "b"],
    "score": 97.5,
}
ITEM_JSON = json.dumps(ITEM, separators=(",", ":"))  # 106 bytes: a small answer
REFUSAL = {"error": "overloaded"}
REFUSAL_JSON = json.dumps(REFUSAL)
SIZES_BYTES = (0, 64, 256, 1024, 4096, 16384, 65536)
LATE_MS = 5
SLOW_MS = 200
NEW = "@"

Operation = dict[str, Any]
Expectation = tuple[int, Any]  # status, decoded body


@dataclass(frozen=True, slots=True)
class Workload:
    """A request to be repeated: a batch at `/batch`, else a transparent request, a GET when there is no body.

    `is_keyed`: each has an idempotency key of its own, which stands wherever `NEW` does in its body, else in its head.
    """

    path: str
    body: bytes
    operations: int
    expected: tuple[Expectation, ...]
    is_keyed: bool = False


def transparent() -> Workload:
    """A small GET that is no batch."""
    return Workload("/items/1", b"", 1, ((200, ITEM),))


def transparent_post(body_bytes: int) -> Workload:
    """A POST of so many bytes of JSON that is no batch."""
    body = operation(0, "POST", "/items", body_bytes)["body"]
    return Workload("/items", json.dumps(body, separators=(",", ":")).encode(), 1, ((200, ITEM),))


def gets(count: int) -> Workload:
    """A batch of small GETs."""
    return envelope((operation(i, "GET", f"/items/{i}"), (200, ITEM)) for i in range(count))


def keyed(count: int) -> Workload:
    """The same, under a key of the envelope's own."""
    return replace(gets(count), is_keyed=True)


def keyed_each(count: int) -> Workload:
    """The same, with a key for each operation instead."""
    pairs = ((operation(i, "GET", f"/items/{i}") | {"idempotencyKey": f"{NEW}-{i}"}, (200, ITEM)) for i in range(count))
    return replace(envelope(pairs), is_keyed=True)


def posts(count: int, body_bytes: int) -> Workload:
    """A batch of POSTs, each with a JSON body of so many bytes."""
    return envelope((operation(i, "POST", "/items", body_bytes), (200, ITEM)) for i in range(count))


def mixed(count: int) -> Workload:
    """Methods in turn, request bodies and answers from nothing to 64 KiB."""
    return envelope(mixed_operation(i) for i in range(count))


def failing(count: int) -> Workload:
    """Small GETs of which every tenth is answered 503."""
    return envelope(
        (operation(i, "GET", f"/flaky/{i}"), (503, REFUSAL) if i % 10 == 7 else (200, ITEM)) for i in range(count)
    )


def late(count: int) -> bytes:
    """The envelope of GETs that each take LATE_MS."""
    return encode([operation(i, "GET", f"/late/{LATE_MS}/{i}") for i in range(count)])


def one_slow(count: int) -> bytes:
    """The same, but the first takes SLOW_MS."""
    slow = operation(0, "GET", f"/late/{SLOW_MS}/0")
    return encode([slow, *(operation(i, "GET", f"/late/{LATE_MS}/{i}") for i in range(1, count))])


def mixed_operation(i: int) -> tuple[Operation, Expectation]:
    """The sizes and the methods have no common divisor, so every pair of them occurs."""
    method = ("GET", "POST", "PUT", "PATCH", "DELETE")[i % 5]
    size_bytes = SIZES_BYTES[i % len(SIZES_BYTES)]
    if method == "GET":
        return operation(i, method, f"/sized/{size_bytes}"), (200, "x" * (size_bytes - 2) if size_bytes else None)
    return operation(i, method, f"/items/{i}", 0 if method == "DELETE" else size_bytes), (200, ITEM)


def operation(i: int, method: str, path: str, body_bytes: int = 0) -> Operation:
    """One operation; its body, if any, is a JSON object of exactly `body_bytes` once written compactly."""
    entry: Operation = {"id": f"op{i}", "method": method, "path": path}
    if body_bytes:
        entry["body"] = {"text": "x" * (body_bytes - len('{"text":""}'))}
    return entry


def envelope(pairs: Iterable[tuple[Operation, Expectation]]) -> Workload:
    """Write operations as one batch, and keep what they must come to."""
    operations, expected = zip(*pairs, strict=True)
    return Workload("/batch", encode(list(operations)), len(operations), expected)


def encode(operations: list[Operation]) -> bytes:
    """The native envelope, compact."""
    return json.dumps({"operations": operations}, separators=(",", ":")).encode()


def outcomes(workload: Workload, status: int, answer: bytes) -> tuple[Expectation, ...]:
    """Read an answer as (status, body) by operation, whichever peer wrote it."""
    if workload.path != "/batch":
        return ((status, json.loads(answer)),)
    document = json.loads(answer)
    return tuple((entry["status"], body_of(entry)) for entry in document.get("results") or document["responses"])


def body_of(entry: dict[str, Any]) -> object:
    """The gateway says `result` or `error.body`; the others `body`, which the Lua build leaves as text."""
    if "error" in entry:
        return entry["error"].get("body")
    body = entry.get("result", entry.get("body"))
    if isinstance(body, str) and "result" not in entry:
        return json.loads(body) if body else None
    return body
