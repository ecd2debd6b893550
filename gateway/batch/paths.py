"""The grammar of a batched path (PROMISES 4): what two readers could understand differently is refused.

path    = "/" [ segment *( "/" segment ) [ "/" ] ] [ "?" query ]    at most 4096 bytes
segment = 1*( unreserved / sub-delims except ";" / ":" / "@" / %HH )  never "." or "..", raw or decoded
%HH     decodes to valid UTF-8, and never to "%", "/", "\\", ";", a control, or a part of a dot segment
query   any visible ASCII but "#"
"""

import re
from collections.abc import Sequence
from urllib.parse import unquote_to_bytes

TARGET_BYTES_MAX = 4096

# Nearly every path is plain: one pass over one character class, once no segment is empty or begins with a dot.
_PLAIN = re.compile(r"/[A-Za-z0-9._~!$&'()*+,=:@/-]*(?:\?[!-\"$-~]*)?")
_ALL_PLAIN = re.compile(r"\n(?:/[A-Za-z0-9._~!$&'()*+,=:@/-]*(?:\?[!-\"$-~]*)?\n)*")
_OF_PLAIN = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._~!$&'()*+,=:@/-?\n"
_QUERY_ONLY = re.compile(r"[!-\"$-~]*")
_SEGMENT = re.compile(r"(?:[A-Za-z0-9._~!$&'()*+,=:@-]|%[0-9A-Fa-f]{2})+")
_CONFUSING = re.compile(r"[\x00-\x1f\x7f\\;%]")  # once decoded; a % that is left came escaped, or is no escape
_CONTROL = re.compile(r"[\x00-\x20\x7f]")
_ESCAPES_OF = {"/": "encoded-slash", "\\": "backslash", ";": "matrix-param", "%": "encoded-percent"}


def are_plain(targets: Sequence[str], *, without: Sequence[str]) -> bool:
    """Whether every target is plain, has no escape and does not begin with one of `without`: one look over all of them.

    It may only be stricter than `refusal`.
    """
    lines = "\n".join(["", *targets, ""])
    return (
        "/." not in lines
        and "//" not in lines
        and lines.count("\n") == len(targets) + 1
        and (_are_spelled_plainly(lines) or _ALL_PLAIN.fullmatch(lines) is not None)
        and not any("\n" + prefix in lines for prefix in without)
        and (len(lines) <= TARGET_BYTES_MAX or len(max(targets, key=len)) <= TARGET_BYTES_MAX)
    )


def _are_spelled_plainly(lines: str) -> bool:
    """Whether each line begins with a slash, and holds nothing that a path may not hold plainly. Nearly always, and
    takes a tenth of an expression's time."""
    spelled = lines.isascii() and not lines.encode().translate(None, _OF_PLAIN)
    return spelled and lines.count("\n/") == lines.count("\n") - 1


def refusal(target: str) -> str | None:
    """Why `target` (path and query) is ambiguous, as a word of PROMISES D.2, or None when it is plain."""
    if "/." not in target and "//" not in target and _PLAIN.fullmatch(target) and len(target) <= TARGET_BYTES_MAX:
        return None
    return _refusal_of_whole(target) or _refusal_of_segments(target.partition("?")[0])


def decoded(path: str) -> str:
    """A path with its escapes resolved, for comparing only; undecodable bytes become U+FFFD."""
    return unquote_to_bytes(path).decode("utf-8", "replace") if "%" in path else path


def _refusal_of_whole(target: str) -> str | None:
    path, _, query = target.partition("?")
    if not target.isascii():
        return "non-ascii"
    if len(target) > TARGET_BYTES_MAX:
        return "too-long"
    if not target.startswith("/"):
        return "absolute"
    if _CONTROL.search(target):
        return "control"
    if "\\" in path:
        return "backslash"
    if ";" in path:
        return "matrix-param"
    if "#" in target or not _QUERY_ONLY.fullmatch(query):
        return "illegal-character"
    return None


def _refusal_of_segments(path: str) -> str | None:
    if _are_plain_once_decoded(path):
        return None
    segments = path.split("/")[1:]
    if segments[-1] == "":
        segments.pop()  # "/" itself, or a final slash
    return next(filter(None, map(_refusal_of_segment, segments)), None)


def _are_plain_once_decoded(path: str) -> bool:
    """Whether no segment is refused, at one look: to look at 2000 of them, one by one, in each of 1000 operations would
    hold the loop for seconds. It says what the look at each says."""
    if "//" in path or path.encode().translate(None, _OF_PLAIN + b"%"):
        return False
    try:
        text = unquote_to_bytes(path).decode("utf-8") + "/"
    except UnicodeDecodeError:
        return False
    has_dots = "/./" in text or "/../" in text
    return not has_dots and text.count("/") == path.count("/") + 1 and not _CONFUSING.search(text)


def _refusal_of_segment(segment: str) -> str | None:
    if segment == "":
        return "empty-segment"
    if not _SEGMENT.fullmatch(segment):
        return "illegal-character" if "%" not in segment else "bad-escape"
    try:
        text = unquote_to_bytes(segment).decode("utf-8")
    except UnicodeDecodeError:
        return "bad-escape"
    if text in (".", ".."):
        return "dot-segment"
    if _CONTROL.search(text.replace(" ", "")):
        return "control"  # an escaped space is an ordinary character
    return next((reason for character, reason in _ESCAPES_OF.items() if character in text), None)
