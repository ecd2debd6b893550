"""A multipart/form-data body, read as it comes (RFC 7578, RFC 2046 5.1), never the whole at once.

Lines may end in LF alone, the boundary may be quoted, parts come in any order.
"""

import re
from typing import NamedTuple

from gateway.dialects.port import EnvelopeError

HEAD_BYTES_MAX = 16 * 1024

_BOUNDARY = re.compile(r'boundary\s*=\s*(?:"([^"]{1,200})"|([^\s";,]{1,200}))', re.IGNORECASE)
_HEAD_END = re.compile(rb"\n\r?\n")
_DISPOSITION = re.compile(rb"(?:\A|\n)content-disposition[ \t]*:([^\r\n]*)", re.IGNORECASE)
_PARAMETER = re.compile(rb';[ \t]*(name|filename)[ \t]*=[ \t]*(?:"((?:[^"\\]|\\.)*)"|([^\s;]+))', re.IGNORECASE)


class Piece(NamedTuple):
    """Some bytes of the part `name`; the first piece of a part `begins` it, and may be empty."""

    name: str
    filename: str | None
    data: bytes
    begins: bool


def boundary_of(content_type: str) -> bytes:
    """The boundary that a form's media type names. Raises `EnvelopeError`."""
    essence, _, parameters = content_type.partition(";")
    found = _BOUNDARY.search(parameters)
    if essence.strip().lower() != "multipart/form-data" or found is None:
        raise broken("send Content-Type: multipart/form-data with a boundary")
    return (found[1] or found[2]).encode()


def broken(detail: str) -> EnvelopeError:
    """400: a body that is no form."""
    return EnvelopeError("validation-failed", detail, status=400, members={"code": "invalid_form"})


class Form:
    """Reads one form. What is before the first boundary and behind the last is skipped."""

    def __init__(self, boundary: bytes) -> None:
        self._mark = b"\n--" + boundary
        self._data = b"\n"  # so that a boundary at the very start is one
        self._part: tuple[str, str | None] | None = None
        self._in_head = False
        self.is_whole = False

    def feed(self, data: bytes) -> list[Piece]:
        """What came of the parts. Raises `EnvelopeError` where the bytes are no form."""
        self._data += data
        found: list[Piece] = []
        while not self.is_whole and (self._head(found) if self._in_head else self._content(found)):
            pass
        if self.is_whole:
            self._data = b""
        return found

    def _head(self, found: list[Piece]) -> bool:
        """Read the fields of a part; whether they were there."""
        end = _HEAD_END.search(self._data)
        if (len(self._data) if end is None else end.start()) > HEAD_BYTES_MAX:
            raise broken("the fields of a part are too long")
        if end is None:
            return False
        self._part = _named(self._data[: end.start()])
        self._data = self._data[end.end() :]
        self._in_head = False
        found.append(Piece(*self._part, b"", True))
        return True

    def _content(self, found: list[Piece]) -> bool:
        """Hand on what is surely content; whether a boundary was read."""
        at = self._data.find(self._mark)
        if at < 0:
            self._hand_on(max(0, len(self._data) - len(self._mark)), found)
            return False
        line_end = self._data.find(b"\n", at + len(self._mark))
        rest = self._data[at + len(self._mark) : line_end if line_end >= 0 else len(self._data)]
        is_last = rest.startswith(b"--")
        may_be_last = rest == b"-" and line_end < 0
        if not (is_last or may_be_last) and rest.strip():  # a longer line that begins like the boundary
            self._hand_on(at + len(self._mark), found)
            return True
        if not is_last and line_end < 0:
            self._hand_on(max(0, at - 1), found)
            if len(rest) > HEAD_BYTES_MAX:
                raise broken("a boundary's line does not end")
            return False
        self._hand_on(at, found, at_boundary=True)
        self.is_whole = is_last
        self._data = self._data[line_end - at :]  # its line end may already end an empty head
        self._in_head = not is_last
        return True

    def _hand_on(self, most: int, found: list[Piece], *, at_boundary: bool = False) -> None:
        data, self._data = self._data[:most], self._data[most:]
        if at_boundary:
            data = data.removesuffix(b"\r")
        elif data.endswith(b"\r"):  # it may belong to a boundary
            data, self._data = data[:-1], b"\r" + self._data
        if self._part is not None and data:
            found.append(Piece(*self._part, data, False))


def _named(head: bytes) -> tuple[str, str | None]:
    disposition = _DISPOSITION.search(head)
    if disposition is None:
        raise broken("a part has no Content-Disposition")
    named = {
        name.lower(): quoted.replace(b'\\"', b'"') or bare for name, quoted, bare in _PARAMETER.findall(disposition[1])
    }
    if b"name" not in named:
        raise broken("a part has no name")
    filename = named.get(b"filename")
    return _text(named[b"name"]), None if filename is None else _text(filename)


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "replace").replace("%22", '"')
