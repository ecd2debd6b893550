"""Requests and answers made from a seed: legal HTTP/1.1 and 1.0 in all the ways that it is really written."""

import random
from dataclasses import dataclass

TOKEN = "ABCXYZabcxyz0189!#$%&'*+-.^`|~"
VISIBLE = "".join(map(chr, [*range(0x21, 0x7F), *range(0x80, 0x100)]))
METHODS = (
    "GET",
    "GET",
    "GET",
    "POST",
    "PUT",
    "PATCH",
    "DELETE",
    "HEAD",
    "OPTIONS",
    "TRACE",
    "PROPFIND",
    "BREW",
    "M-SEARCH",
)
NAMES = (
    "Accept",
    "Cookie",
    "cookie",
    "User-Agent",
    "AUTHORIZATION",
    "Content-Type",
    "content-encoding",
    "Range",
    "If-Match",
    "Accept-Encoding",
    "Date",
    "Set-Cookie",
    "X-A",
    "x-a",
    "X-a",
    "X_Y",
    "Referer",
    "Prefer",
    "X-Request-Id",
    "Origin",
)
HOP_BY_HOP = (
    "Keep-Alive: timeout=5",
    "TE: trailers",
    "te: gzip;q=0.5",
    "Proxy-Connection: keep-alive",
    "Proxy-Authorization: b",
    "Connection: X-A, keep-alive",
    "Connection: Upgrade, HTTP2-Settings",
    "Upgrade: h2c",
    "Trailer: X-Sum",
)
SPOOFED = (
    "X-Forwarded-For: 1.2.3.4",
    "x-forwarded-host: evil",
    "X-FORWARDED-PROTO: https",
    "Forwarded: for=evil",
    "Via: 1.0 x",
    "X_Forwarded_For: 1",
    "Content_Length: 5",
    "transfer_encoding: chunked",
)
TARGET_PARTS = (
    "/",
    "//",
    "/a",
    "/%2e%2e",
    "/..",
    "/.",
    ";p=1",
    ";",
    "%zz",
    "%00",
    "\\",
    "/a%2Fb",
    "ä",
    "\xff",
    "€",
    "(x)",
    "[y]",
    "{z}",
    "|",
    "^",
    "`",
    "'",
    '"',
    "<>",
    "~",
    "!",
    "$&",
    "*",
    ",",
    "=",
    ":",
    "@",
    "+",
)
QUERIES = ("", "", "?", "?x=%2f", "?a=1&a=2&", "??", "?q=/../?", "?a=b;c", "?ä", "?%", "?+%20")


@dataclass(frozen=True, slots=True)
class Request:
    """The bytes of one request; `ends`: the connection ends behind its answer."""

    seed: int
    method: str
    data: bytes
    ends: bool


@dataclass(frozen=True, slots=True)
class Answer:
    """The bytes of one answer in the segments in which it is written; `ends`: the connection then ends."""

    segments: tuple[bytes, ...]
    ends: bool


def request(seed: int) -> Request:
    """The request of this seed. It names it in `X-Seed`, so that it is found again."""
    chance = random.Random(seed)
    method = chance.choice(METHODS) if chance.random() < 0.9 else "Z" + _pick(chance, TOKEN, 1, 20)
    old = chance.random() < 0.1
    fields = _fields(chance, 20)
    fields += [chance.choice(HOP_BY_HOP) for _ in range(chance.choice((0, 0, 0, 1, 2)))]
    fields += [chance.choice(SPOOFED) for _ in range(chance.choice((0, 0, 0, 1)))]
    chance.shuffle(fields)
    body, framing = _request_body(chance, may_chunk=not old)
    if not old or chance.random() < 0.7:
        fields.insert(
            chance.randint(0, len(fields)), f"{chance.choice(('Host', 'host', 'HOST'))}: api.test:{seed % 100}"
        )
    ends = old or chance.random() < 0.05
    if old and chance.random() < 0.5:
        ends, fields = False, [field for field in fields if not field.lower().startswith("connection")]
        fields.append("Connection: Keep-Alive")
    elif ends and not old:
        fields.append("Connection: close")
    fields.insert(chance.randint(0, len(fields)), f"X-Seed: {seed}")
    lines = [f"{method} {_target(chance)} HTTP/1.{0 if old else 1}", *fields, *framing]
    before = b"\r\n" if chance.random() < 0.05 else b""
    return Request(seed, method, before + "\r\n".join([*lines, "", ""]).encode("latin-1") + body, ends)


def answer(seed: int, method: str) -> Answer:
    """The answer of this seed to a request by `method`, in some cut."""
    chance = random.Random(f"answer {seed}")
    data = b"".join(_interim(chance) for _ in range(chance.choice((0, 0, 0, 0, 1, 3))))
    status = chance.choice((200, 200, 200, 201, 204, 206, 301, 304, 404, 500, 503, 599, chance.randint(200, 599)))
    fields = _fields(chance, 15)
    old = chance.random() < 0.05
    if chance.random() < 0.2 and not old:
        fields.append(
            chance.choice(("Keep-Alive: timeout=9", "Connection: X-A", "connection: keep-alive, x-a", "Upgrade: h2c"))
        )
    if chance.random() < 0.2:
        fields.append("Via: 1.1 other")
    chance.shuffle(fields)
    body, framing, ends = _answer_body(chance, status, method, old=old)
    if ends and chance.random() < 0.5:
        framing.append("Connection: close")
    at = chance.randint(0, len(fields))
    reason = chance.choice(("OK", "", "Not At All", "\xe4\xff", _pick(chance, VISIBLE + " \t", 1, 80).strip(" \t")))
    lines = [f"HTTP/1.{0 if old else 1} {status} {reason}", *fields[:at], *framing, *fields[at:]]
    data += "\r\n".join([*lines, "", ""]).encode("latin-1") + body
    return Answer(tuple(cut(data, chance)), ends)


def cut(data: bytes, chance: random.Random) -> list[bytes]:
    """`data` whole, or in a few pieces."""
    places = sorted(chance.randint(0, len(data)) for _ in range(chance.choice((0, 0, 1, 3, 8))))
    pieces = [data[start:end] for start, end in zip([0, *places], [*places, len(data)], strict=True)]
    return [piece for piece in pieces if piece]


def chunks(chance: random.Random, body: bytes) -> bytes:
    """`body` in chunks as some sender might write them, with trailers now and then."""
    written, at = b"", 0
    while at < len(body):
        piece = body[at : at + chance.choice((1, 2, 7, 16, 255, 4096, 70_000))]
        at += len(piece)
        size = chance.choice(("%x", "%X", "%04x", "00%x")) % len(piece)
        written += f"{size}{_extension(chance)}\r\n".encode("latin-1") + piece + b"\r\n"
    trailers = _fields(chance, 3) if chance.random() < 0.2 else []
    return written + "".join([f"0{_extension(chance)}\r\n", *(f"{line}\r\n" for line in trailers), "\r\n"]).encode(
        "latin-1"
    )


def _extension(chance: random.Random) -> str:
    return chance.choice(("", "", "", ";a", ";a=1", ';a="b c";d', ";" + _pick(chance, TOKEN, 1, 300)))


def _request_body(chance: random.Random, *, may_chunk: bool) -> tuple[bytes, list[str]]:
    kind = chance.choice(("none", "none", "none", "empty", "length", "chunks"))
    body = chance.randbytes(chance.choice((1, 2, 10, 500, 5000)))
    if kind == "length":
        return body, [f"{chance.choice(('Content-Length', 'content-length'))}: {len(body)}"]
    if kind == "chunks" and may_chunk:
        name, value = chance.choice(("Transfer-Encoding", "transfer-encoding")), chance.choice(("chunked", "Chunked"))
        return chunks(chance, body if chance.random() < 0.9 else b""), [f"{name}: {value}"]
    return b"", ["Content-Length: 0"] if kind == "empty" else []


def _answer_body(chance: random.Random, status: int, method: str, *, old: bool) -> tuple[bytes, list[str], bool]:
    body = chance.randbytes(chance.choice((0, 1, 2, 10, 500, 5000, 100_000)))
    length = [f"{chance.choice(('Content-Length', 'content-length'))}: {len(body)}"]
    if status in (204, 304):
        return b"", [] if status == 204 or chance.random() < 0.5 else length, old
    kind = "close" if old else chance.choice(("length", "length", "chunks", "chunks", "close"))
    if method == "HEAD":
        framing = {"length": length, "chunks": ["Transfer-Encoding: chunked"], "close": []}[kind]
        return b"", framing, old
    if kind == "chunks":
        return chunks(chance, body), [f"Transfer-Encoding: {chance.choice(('chunked', 'CHUNKED'))}"], False
    return body, length if kind == "length" else [], kind == "close"


def _interim(chance: random.Random) -> bytes:
    lines = [
        chance.choice(("HTTP/1.1 103 Early Hints", "HTTP/1.1 102 ", "HTTP/1.1 100 Continue", "HTTP/1.1 199 Odd")),
        *_fields(chance, 3),
    ]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


def _fields(chance: random.Random, most: int) -> list[str]:
    return [_field(chance) for _ in range(chance.randint(0, most))]


def _field(chance: random.Random) -> str:
    name = chance.choice(NAMES) if chance.random() < 0.6 else "X-" + _pick(chance, TOKEN, 1, 30)
    value = _pick(chance, VISIBLE, 0, 40)
    shape = chance.random()
    if shape < 0.1:
        value = ""
    elif shape < 0.2:
        value = f"{value} \t {_pick(chance, VISIBLE, 1, 5)}"
    elif shape < 0.23:
        value = _pick(chance, VISIBLE, 1000, 4000)
    return f"{name}:{chance.choice((' ', ' ', ' ', '', '  ', chr(9)))}{value}{chance.choice(('', '', '', ' ', chr(9)))}"


def _target(chance: random.Random) -> str:
    parts = "".join(chance.choice(TARGET_PARTS) for _ in range(chance.randint(0, 6)))
    long = "/" + "l" * 3000 if chance.random() < 0.02 else ""
    return ("/t" + parts + long + chance.choice(QUERIES)).encode().decode("latin-1")


def _pick(chance: random.Random, letters: str, least: int, most: int) -> str:
    return "".join(chance.choices(letters, k=chance.randint(least, most)))
