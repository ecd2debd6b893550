"""Answers that need no parser: whole in one read, of a plain head with a length. Pure.

Nearly every answer of an API is one, and its head differs from earlier ones in a line or two, if at all. So heads and
lines are judged once, by a grammar narrower than llhttp's (RFC 9112 without folds, chunks, upgrades and odd bytes), and
remembered. What is not plain is no error: it goes to llhttp as if nobody had looked.
"""

import re
from collections import deque
from collections.abc import Mapping
from typing import NamedTuple

import msgspec

from gateway.upstream.exchange import Exchange
from gateway.upstream.headers import FIELDS_MAX, HOP_BY_HOP, RawFields, canonical

_STATUS_LINE = re.compile(rb"HTTP/1\.1 ([2-5]\d\d) ([ -~]*)")
_FIELD_LINE = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+): ?([!-~\x80-\xff](?:[ -~\x80-\xff]*[!-~\x80-\xff])?|)")
_LENGTH = re.compile(r"[0-9]{1,15}")
_WITHOUT_BODY = frozenset({204, 304})


class Head(msgspec.Struct, frozen=True):
    """A plain head: `length` bytes of body follow it, and the connection stays open.

    `passed` is what of it goes to the caller of a forwarded request; empty where a `Date` has to be added.
    """

    status: int
    reason: bytes
    fields: RawFields
    shown: Mapping[str, str | list[str]]
    length: int
    passed: bytes


class _Line(NamedTuple):
    """A field line: as it came, as an outcome shows it, and as it is passed on."""

    field: tuple[bytes, bytes]
    shown: tuple[str, str]
    passed: bytes


class Heads(dict[bytes, Head | None]):
    """Heads without their empty line, judged when first met; None for one that llhttp shall read. Bounded."""

    HEADS_MAX = 512
    BYTES_MAX = 2048

    def __init__(self) -> None:
        super().__init__()
        self._lines = _Lines()

    def take(self, data: bytes, exchanges: deque[Exchange], answered: list[Exchange]) -> bytes:
        """Move `exchanges` whose whole plain answers `data` begins with to `answered`; what is left is for llhttp."""
        start, size = 0, len(data)
        while exchanges:
            exchange = exchanges[0]
            end = data.find(b"\r\n\r\n", start)
            head = self[data[start:end]] if end > 0 else None
            if head is None or exchange.method == "HEAD" or not exchange.requested:
                break
            start_of_body = end + 4
            end = start_of_body + head.length
            if end > size or head.length > exchange.answer_bytes_max:
                break
            exchange.status, exchange.reason = head.status, head.reason
            exchange.fields, exchange.shown = head.fields, head.shown
            if exchange.streamed:
                exchange.on_whole(data[start_of_body:end], head.passed)
            else:
                exchange.body = data[start_of_body:end]
            answered.append(exchanges.popleft())
            if end == size:
                return b""
            start = end
        return data[start:]

    def __missing__(self, head: bytes) -> Head | None:
        if len(head) > self.BYTES_MAX:
            return None
        if len(self) >= self.HEADS_MAX:
            self.clear()
        judged = self[head] = self._judged(head)
        return judged

    def _judged(self, head: bytes) -> Head | None:
        first, *rest = head.split(b"\r\n")
        memory = self._lines
        lines = [line for text in rest if (line := memory[text]) is not None]
        shown = dict([line.shown for line in lines])
        status_line = _STATUS_LINE.fullmatch(first)
        if status_line is None or not len(rest) == len(shown) <= FIELDS_MAX:  # an odd line, or a name twice
            return None
        shown.pop("Connection", None)
        status, length = int(status_line[1]), shown.get("Content-Length", "")
        if status in _WITHOUT_BODY or _LENGTH.fullmatch(length) is None:
            return None
        passed = b"%b\r\n%b" % (first, b"".join([line.passed for line in lines])) if "Date" in shown else b""
        return Head(status, status_line[2], [line.field for line in lines], shown, int(length), passed)


class _Lines(dict[bytes, _Line | None]):
    """Lines that were met before; None for one that is not plain. Bounded."""

    LINES_MAX = 1024

    def __missing__(self, text: bytes) -> _Line | None:
        if len(self) >= self.LINES_MAX:
            self.clear()
        line = self[text] = _judged_line(text)
        return line


def _judged_line(text: bytes) -> _Line | None:
    found = _FIELD_LINE.fullmatch(text)
    if found is None:
        return None
    name, value = found[1], found[2]
    lowered = name.lower()
    if lowered in HOP_BY_HOP and (lowered != b"connection" or value.lower() != b"keep-alive"):
        return None
    passed = b"" if lowered == b"connection" else b"%b: %b\r\n" % (name, value)
    return _Line((name, value), (canonical(name.decode("latin-1")), value.decode("latin-1")), passed)
