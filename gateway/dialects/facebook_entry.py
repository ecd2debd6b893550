"""One entry of a Facebook batch as an operation: its target, fields, body, files and what it waits for (WIRE 7.1).

- `{result=name:$.path}` in `relative_url` and `body`, percent-encoded or not, becomes a reference of the model.
- What looks like a reference of the model's own is the caller's text, and its `$` is percent-encoded.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple
from urllib.parse import quote, unquote, unquote_plus, unquote_to_bytes

from gateway.batch.jsonpath import steps_of
from gateway.batch.model import Fields, Operation
from gateway.batch.references import MARK
from gateway.batch.validation import wrong_target
from gateway.dialects.facebook_envelope import FORM, PARTS_MAX, File
from gateway.errors import quoted
from gateway.upstream.headers import HOP_BY_HOP, rendered

REFERENCES_MAX = 100
URL_MAX = 16384  # before it is escaped, and references are shorter than what they become

# What is between the braces stops at the next one, so that many that are never closed cost no more than others. Not
# possessive: with a look ahead in it, Python before 3.11.5 matches that wrongly (python/cpython#106052).
_REFERENCE = re.compile(r"(?:\{|%7[Bb])result(?:=|%3[Dd])((?:[^{}%]|%(?!7[BbDd]))*)(?:\}|%7[Dd])")
_VERSION = re.compile(r"v[0-9]{1,3}\.[0-9]{1,3}(?=[/?]|\Z)")
_ABSOLUTE = re.compile(r"(https?)://([^/?#]*)(.*)", re.IGNORECASE | re.DOTALL)
_NOT_IN_A_TARGET = re.compile(r"[^!-~]+")
_TOKEN = re.compile(r"(?:\A|[&?])access_token=")
_NOT_SENT = frozenset(name.decode() for name in HOP_BY_HOP) | {"host", "content-length", "accept-encoding"}


class EntryError(Exception):
    """Why an entry is no request; the others run."""


@dataclass(frozen=True, slots=True)
class Around:
    """What an entry takes from its envelope. `places` are the places of the named entries; `credentials` is the query
    that an entry without a token of its own gets; `base` is the version's path; `origins` may stand in front of a path;
    `own_paths` are the gateway's.
    """

    base: str
    own_paths: tuple[str, ...]
    credentials: str
    places: Mapping[str, int]
    files: Mapping[str, File]
    boundary: str
    origins: frozenset[str]


class Entry(NamedTuple):
    """`has_own_token`: it names a credential of its own."""

    operation: Operation
    has_own_token: bool


def entry_of(place: int, wire: Any, around: Around) -> Entry:
    """The entry at `place`. Raises `EntryError`."""
    if not isinstance(wire, dict):
        raise EntryError("an entry is an object with method and relative_url")
    method, text = _text_in(wire, "method").upper(), _text_in(wire, "body")
    named: dict[int, None] = {}
    target = _target(_text_in(wire, "relative_url"), around, named)
    fields = _fields(wire.get("headers"))
    has_own_token = _names_token(target.partition("?")[2]) or _names_token(text)
    if wrong := wrong_target(target, around.own_paths):  # judged before the token, which no error should show
        raise EntryError(f"relative_url: {wrong[1]}")
    if around.credentials and not has_own_token:
        target += ("&" if "?" in target else "?") + around.credentials
    if wire.get("attached_files"):
        media_type, body = _with_files(text, _text_in(wire, "attached_files"), around)
    else:
        media_type, body = FORM, _body(text, fields, around, named).encode("utf-8", "replace")
    if not any(name.lower() == "content-type" for name, _ in fields) and body:
        fields += (("Content-Type", media_type),)
    parents = (*_parents(wire.get("depends_on"), around), *named)
    waits = tuple(str(parent) for parent in dict.fromkeys(parents))
    return Entry(Operation(str(place), method, target, fields, body, bool(body), None, waits), has_own_token)


def _text_in(wire: Mapping[str, Any], name: str) -> str:
    value = wire.get(name)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise EntryError(f"{name} is a string")
    return value


def _target(url: str, around: Around, named: dict[int, None]) -> str:
    if len(url) > URL_MAX:
        raise EntryError(f"relative_url has {len(url)} characters; at most {URL_MAX}")
    if whole := _ABSOLUTE.fullmatch(url):
        if f"{whole[1]}://{whole[2]}".lower() not in around.origins:
            raise EntryError(f"relative_url {quoted(url)} is on another host; write what follows the host")
        url = whole[3]
    path = url.removeprefix("/")
    own = "" if _VERSION.match(path) else around.base
    target = _referring(f"{own}/{path}", around, named)
    return _NOT_IN_A_TARGET.sub(lambda found: quote(found[0].encode("utf-8", "replace")), target)


def _fields(said: Any) -> Fields:
    """Its own fields, without those that only mean the connection to the vendor."""
    if not isinstance(said, list | None):
        raise EntryError("headers is an array of objects with name and value")
    fields = []
    for header in said or ():
        name, value = (header.get("name"), header.get("value")) if isinstance(header, dict) else (None, None)
        if not isinstance(name, str) or not isinstance(value, str | int):
            raise EntryError("headers is an array of objects with name and value")
        if MARK in str(value):
            raise EntryError(f"the value of {quoted(name)} holds {MARK}, which is a word of the gateway's own")
        if name.lower() not in _NOT_SENT:
            fields.append((name, str(value)))
    return tuple(fields)


def _body(text: str, fields: Fields, around: Around, named: dict[int, None]) -> str:
    own = next((value for name, value in fields if name.lower() == "content-type"), FORM)
    if own.partition(";")[0].strip().lower() == FORM:
        return _referring(text, around, named)
    if MARK in text or "\\u0024" in text:
        raise EntryError(f"the body holds {MARK}, which is a word of the gateway's own")
    return text


def _referring(text: str, around: Around, named: dict[int, None]) -> str:
    """The text with the model's references in place of Facebook's; the places that they name go to `named`."""
    count = 0

    def reference(found: re.Match[str]) -> str:
        nonlocal count
        count += 1
        name, _, path = unquote(found[1]).partition(":")
        place = around.places.get(name)
        if place is None or steps_of(path) is None:
            raise EntryError(f"{quoted(found[0])} names no entry with a path such as $.data[*].id")
        if count > REFERENCES_MAX:
            raise EntryError(f"more than {REFERENCES_MAX} references")
        named[place] = None
        return f"{{{MARK}{place}.response.body{path}}}"

    return _REFERENCE.sub(reference, text.replace(MARK, MARK.replace("$", "%24")))


def _parents(said: Any, around: Around) -> Sequence[int]:
    if said is None:
        return ()
    names = [said] if isinstance(said, str) and said in around.places else said
    if isinstance(names, str):
        names = names.split(",", len(around.places))  # the last may be a rest, which names nobody
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise EntryError("depends_on is the name of an entry")
    for name in names:
        if name.strip() not in around.places:
            raise EntryError(f"depends_on {quoted(name)} names no entry of this batch")
    return [around.places[name.strip()] for name in names]


def _names_token(query: str) -> bool:
    return _TOKEN.search(query) is not None


def _with_files(text: str, names: str, around: Around) -> tuple[str, bytes]:
    """Media type and bytes of a `multipart/form-data` (RFC 7578) of the body's parameters and the files named."""
    if _REFERENCE.search(text):
        raise EntryError("a body with files cannot refer to another entry; put the reference into relative_url")
    parts = []
    said, wanted = text.split("&", PARTS_MAX), [name.strip() for name in names.split(",", PARTS_MAX)]
    if len(said) + len(wanted) > PARTS_MAX:
        raise EntryError(f"more than {PARTS_MAX} parameters and files")
    if len(set(wanted)) < len(wanted):
        raise EntryError("attached_files names a file twice")
    for piece in filter(None, said):
        name, _, value = piece.partition("=")
        shown = quote(unquote_plus(name), safe=" !#$&'()*+,./:;<=>?@[]^`{|}~")  # what could end the name does not
        parts.append(b'Content-Disposition: form-data; name="%b"\r\n\r\n%b' % (shown.encode(), _decoded(value)))
    for name in wanted:
        file = around.files.get(name)
        if file is None:
            raise EntryError(f"attached_files {quoted(name)} names no part with a file")
        parts.append(rendered(file.fields) + b"\r\n" + file.content)
    delimiter = b"--" + around.boundary.encode()
    body = b"".join([delimiter + b"\r\n" + part + b"\r\n" for part in parts]) + delimiter + b"--\r\n"
    return f"multipart/form-data; boundary={around.boundary}", body


def _decoded(value: str) -> bytes:
    return unquote_to_bytes(value.replace("+", " ").encode("utf-8", "replace"))
