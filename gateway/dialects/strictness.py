"""What every JSON envelope must obey beyond being JSON: UTF-8, no BOM, bounded nesting and numbers, each member once.

All passes run at the speed of C over bytes, so that a hostile envelope costs about what a good one costs.
"""

import json
import re
from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from gateway.dialects.port import EnvelopeError
from gateway.dialects.slices import Sliced, at_once
from gateway.errors import quoted

DIGITS_MAX = 64

_WINDOW_BYTES = 1 << 17  # takes 0.3 to 1 ms
_SEAM = re.compile(rb"[^\\0-9]")
_BRACES = bytes.maketrans(b"[]", b"{}")
_BUT_BRACKETS = bytes(code for code in range(256) if code not in b'[]{}"')
_BUT_COUNTED = bytes(code for code in range(256) if code not in b'[{,"')
_DIGITS = bytes(ord("0") if 48 <= code <= 57 else ord(" ") for code in range(256))
_BLANKS = b" \n\r\t"
_BACKSLASH, _QUOTE = b'\\"'  # as numbers: `bytes` finds those ten times as fast as bytes of length one
_LONG_NUMBER = b"0" * (DIGITS_MAX + 1)
_RAW = msgspec.json.Decoder(msgspec.Raw)
_OFFSET = re.compile(r"\(byte (\d+)\)")


def check_text(data: bytes) -> None:
    """Raise `invalid-json` unless `data` is UTF-8 without a byte order mark, and not empty."""
    if not data.strip():
        raise invalid_json("the body is empty; send one JSON text", 0)
    if data.startswith(b"\xef\xbb\xbf"):
        raise invalid_json("the text begins with a byte order mark; leave it out", 0)
    if not data.isascii():
        try:
            data.decode("utf-8")
        except UnicodeDecodeError as error:
            raise invalid_json("the text is not UTF-8", error.start) from None


def check_syntax(data: bytes) -> None:
    """Raise `invalid-json` with the byte where the text stops being JSON."""
    try:
        _RAW.decode(data)
    except msgspec.DecodeError as error:
        words = str(error)
        found = _OFFSET.search(words)
        why = words.partition(" (byte")[0].removeprefix("JSON is malformed: ")
        raise invalid_json(why, int(found[1]) if found else len(data)) from None
    except RecursionError:
        raise EnvelopeError("json-too-complex", "nested far too deeply", members={"limit": "depth"}) from None


def check_structure(data: bytes, *, depth_max: int, nodes_max: int) -> None:
    """Raise `json-too-complex` where nesting, values or a number pass their limit. `data` is valid JSON."""
    at_once(structure_checked(data, depth_max=depth_max, nodes_max=nodes_max))


def structure_checked(data: bytes, *, depth_max: int, nodes_max: int) -> Sliced[None]:
    """What `check_structure` does."""
    structure = _Structure(depth_max, nodes_max, len(data))
    start = 0
    while start < len(data):
        end = _end_of_window(data, start)
        structure.read(data[start:end])
        start = end
        yield None


class _Structure:
    """What is known of a text, now that it has been read so far."""

    def __init__(self, depth_max: int, nodes_max: int, size: int) -> None:
        self._depth_max, self._nodes_max = depth_max, nodes_max
        self._may_have_too_many = size > 2 * nodes_max  # a value and its comma take two bytes
        self._is_long = size > _WINDOW_BYTES
        self._side = self._nodes = self._open = 0

    def read(self, window: bytes) -> None:
        bare = window.replace(b"\\\\", b"").replace(b'\\"', b"") if _BACKSLASH in window else window
        # From here on each quote is a real one.
        side, self._side = self._side, self._side ^ (bare.count(b'"') & 1 if self._is_long else 0)
        if self._may_have_too_many:
            self._nodes += len(_outside_strings(bare.translate(None, _BUT_COUNTED), side))
            if self._nodes > self._nodes_max:
                raise _too_complex("nodes", self._nodes_max, "values")
        if self._is_long or window.count(b"{") + window.count(b"[") > self._depth_max:
            self._nest(_outside_strings(bare.translate(_BRACES, _BUT_BRACKETS), side))
        if _LONG_NUMBER in bare.translate(_DIGITS) and _LONG_NUMBER in _outside_strings(bare, side).translate(_DIGITS):
            raise _too_complex("digits", DIGITS_MAX, "digits in a number")

    def _nest(self, braces: bytes) -> None:
        """Close what is open before and after: as many levels as then can be taken away were nested."""
        before, self._open = self._open, self._open + 2 * braces.count(b"{") - len(braces)
        braces = b"{" * before + braces + b"}" * self._open
        levels = 0
        while braces and levels < self._depth_max:
            braces = braces.replace(b"{}", b"")  # one level: the innermost of every branch
            levels += 1
        if braces:
            raise _too_complex("depth", self._depth_max, "levels of nesting")


def _end_of_window(data: bytes, start: int) -> int:
    """Where the window that begins at `start` ends: behind a byte that neither escapes nor goes on as a number."""
    if start + _WINDOW_BYTES >= len(data):
        return len(data)
    seam = _SEAM.search(data, start + _WINDOW_BYTES - 1)
    return len(data) if seam is None else seam.end()


def check_members_once(data: bytes, again: bytes, levels: Callable[[Any], Iterator[tuple[str, Any]]]) -> None:
    """Raise `duplicate-key` where a member of the envelope stands twice.

    `again` is `data` decoded and encoded: decoding drops a duplicate and can only shorten the rest, so two compact
    texts of one length have the same members. Otherwise `levels` yields each object of the decoded pairs, with its
    pointer.
    """
    if len(again) == len(data) or len(_compact(again)) == len(_compact(data)):
        return
    decoded = json.loads(data, object_pairs_hook=_Pairs, parse_int=str, parse_float=str)
    for pointer, value in levels(decoded):
        seen: set[str] = set()
        for name, _ in value if isinstance(value, _Pairs) else ():
            if name in seen:
                raise EnvelopeError(
                    "duplicate-key", f"{quoted(name)} stands twice; name it once", members={"pointer": pointer}
                )
            seen.add(name)


class _Pairs(list[tuple[str, Any]]):
    """A JSON object as its members in order, duplicates included."""

    def get(self, name: str) -> Any:
        return next((value for key, value in reversed(self) if key == name), None)


def invalid_json(why: str, offset: int) -> EnvelopeError:
    """`invalid-json` with the byte where the text stops being one."""
    return EnvelopeError("invalid-json", f"{why} (byte {offset})", members={"offset": offset})


def _compact(data: bytes) -> bytes:
    if not any(map(data.__contains__, _BLANKS)):
        return data
    return msgspec.json.format(data, indent=-1)


def _outside_strings(bare: bytes, side: int) -> bytes:
    """`bare` without its quoted parts; with `side` 1 it begins within one."""
    # An empty pair, or the seam between two strings: either way the rest keeps its side.
    bare = bare.replace(b'""', b"")
    return bare if _QUOTE not in bare and not side else b"".join(bare.split(b'"')[side::2])


def _too_complex(limit: str, most: int, what: str) -> EnvelopeError:
    return EnvelopeError("json-too-complex", f"more than {most} {what}", members={"limit": limit, "max": most})
