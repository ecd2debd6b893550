"""What every JSON envelope must obey beyond being JSON: UTF-8, no BOM, bounded nesting and numbers, each member once.

All passes run at the speed of C over bytes, so that a hostile envelope costs about what a good one costs.
"""

import json
import re
from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from gateway.dialects.port import EnvelopeError
from gateway.errors import quoted

DIGITS_MAX = 64

_WINDOW_BYTES = 65536
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
    bare = (
        data.replace(b"\\\\", b"").replace(b'\\"', b"") if _BACKSLASH in data else data
    )  # now each quote is a real one
    may_have_too_many = len(data) > 2 * nodes_max  # a value and its comma take two bytes
    if may_have_too_many and len(_outside_strings(_translated(bare, None, _BUT_COUNTED))) > nodes_max:
        raise _too_complex("nodes", nodes_max, "values")
    if data.count(b"{") + data.count(b"[") > depth_max and _is_deeper(bare, depth_max):
        raise _too_complex("depth", depth_max, "levels of nesting")
    if _LONG_NUMBER in _translated(bare, _DIGITS) and _LONG_NUMBER in _outside_strings(bare).translate(_DIGITS):
        raise _too_complex("digits", DIGITS_MAX, "digits in a number")


def _is_deeper(bare: bytes, depth_max: int) -> bool:
    braces = _outside_strings(_translated(bare, _BRACES, _BUT_BRACKETS))
    levels = 0
    while braces and levels < depth_max:
        braces = braces.replace(b"{}", b"")  # one level: the innermost of every branch
        levels += 1
    return bool(braces)


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


def _translated(text: bytes, table: bytes | None, but: bytes = b"") -> bytes:
    """`text.translate`, window by window: a thread that does all of 10 MiB in one call keeps all others waiting."""
    if len(text) <= _WINDOW_BYTES:
        return text.translate(table, but)
    windows = range(0, len(text), _WINDOW_BYTES)
    return b"".join([text[start : start + _WINDOW_BYTES].translate(table, but) for start in windows])


def _outside_strings(bare: bytes) -> bytes:
    """`bare` without its quoted parts, window by window so that memory stays small whatever the text."""
    bare = bare.replace(
        b'""', b""
    )  # an empty pair, or the seam between two strings: either way the rest keeps its side
    if _QUOTE not in bare:
        return bare
    kept, side = [], 0
    for start in range(0, len(bare), _WINDOW_BYTES):
        parts = bare[start : start + _WINDOW_BYTES].split(b'"')
        kept.append(b"".join(parts[side::2]))
        side = (side + len(parts) - 1) % 2
    return b"".join(kept)


def _too_complex(limit: str, most: int, what: str) -> EnvelopeError:
    return EnvelopeError("json-too-complex", f"more than {most} {what}", members={"limit": limit, "max": most})
