"""What one hostile envelope costs in memory: at most ten times its bytes, where each byte is meant to cost most (S15).

Not so for a native or Graph envelope of hundreds of thousands of tiny header fields or operations: up to 35 times, and
at most some 200 MiB for the largest envelope. `batch.body_max` and `batch.nodes_max` bound it.
"""

import tracemalloc
from collections.abc import Callable
from urllib.parse import unquote_to_bytes

import pytest

from gateway.batch.validation import Rules
from gateway.dialects.facebook import Facebook
from gateway.dialects.google import Google
from gateway.dialects.native import parse
from gateway.dialects.port import Call, EnvelopeError
from gateway.upstream.headers import refusals_in_operation
from tests.strategies import LIMITS, RULES

SIZE = 1_000_000
TIMES_MAX = 10
_RULES = Rules(("/batch",), 1 << 20, lambda fields: refusals_in_operation(fields, credentials=frozenset()))
_FACEBOOK = Facebook(operations_max=50, origins=[], rules=_RULES)
_GOOGLE = Google(path="/batch", operations_max=1000, origins=[], rules=_RULES)
_MULTIPART = "multipart/form-data; boundary=b"


def _many(unit: bytes) -> bytes:
    return unit * (SIZE // len(unit))


def _form(value: bytes) -> Callable[[], object]:
    return lambda: _FACEBOOK.parse(Call("POST", "/", "", "application/x-www-form-urlencoded", value))


def _entry(members: bytes) -> Callable[[], object]:
    entries = b'{"batch":[{"method":"GET","relative_url":"a","name":"a"},{"method":"POST",%b}]}' % members
    return lambda: _FACEBOOK.parse(Call("POST", "/", "", "application/json", entries))


def _attached(members: bytes) -> Callable[[], object]:
    entry = b'[{"method":"POST","relative_url":"a",%b}]' % members
    head = b"--b\r\nContent-Disposition: form-data; "
    body = b'%bname=batch\r\n\r\n%b\r\n%bname=f; filename="f"\r\n\r\nx\r\n--b--\r\n' % (head, entry, head)
    return lambda: _FACEBOOK.parse(Call("POST", "/", "", _MULTIPART, body))


def _google(body: bytes) -> Callable[[], object]:
    return lambda: _GOOGLE.parse(Call("POST", "/batch", "", "multipart/mixed; boundary=b", body))


def _native(body: bytes) -> Callable[[], object]:
    return lambda: parse(body, LIMITS, RULES)


HOSTILE = {
    "facebook: escapes": _form(b"batch=" + _many(b"%20")),
    "facebook: parameters": _form(_many(b"batch=&")),
    "facebook: pieces of a body": _entry(b'"relative_url":"a","body":"%b"' % _many(b"a&")),
    "facebook: pieces beside files": _attached(b'"attached_files":"f","body":"%b"' % _many(b"a&")),
    "facebook: one file again and again": _attached(b'"attached_files":"%bf"' % _many(b"f,")),
    "facebook: parents": _entry(b'"relative_url":"a","depends_on":"%ba"' % _many(b"a,")),
    "facebook: a URL to be escaped": _entry(b'"relative_url":"%b"' % _many("é ".encode())),
    "facebook: pieces of a query": _entry(b'"relative_url":"a?access_token=%b"' % _many(b"&")),
    "facebook: references": _entry(b'"relative_url":"a","body":"%b"' % _many(b"{result=a:$.b}")),
    "facebook: marks": _entry(b'"relative_url":"a","body":"%b"' % _many(b"$ops.")),
    "google: parts": _google(_many(b"--b\r\n\r\n\r\n")),
    "google: fields": _google(
        b"--b\nContent-Type: application/http\n\nGET /a HTTP/1.1\n" + _many(b"a:\n") + b"\n--b--"
    ),
    "native: a long body": _native(b'[{"method":"POST","path":"/","body":"%b"}]' % _many(b"x")),
    "native: values of a body": _native(b'[{"method":"POST","path":"/","body":[%b1]}]' % _many(b"[],")),
    "native: escaped text": _native(b'[{"method":"POST","path":"/","body":"%b"}]' % _many(b"\\u0041")),
}


@pytest.mark.parametrize("parse_it", HOSTILE.values(), ids=HOSTILE.keys())
def test_reading_takes_at_most_ten_times_the_bytes(parse_it: Callable[[], object]) -> None:
    tracemalloc.start()
    try:
        parse_it()
    except EnvelopeError:
        pass  # refused is well
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()

    assert peak <= TIMES_MAX * SIZE


@pytest.mark.parametrize("before", range(65530, 65540))
def test_an_escape_is_read_wherever_it_stands(before: int) -> None:
    value = b"x" * before + b"%5B%5D%C3%A9" * 10
    entry = b'[{"method":"POST","relative_url":"a","body":"%b"}]' % value
    read = _FACEBOOK.parse(Call("POST", "/", "", "application/x-www-form-urlencoded", b"batch=" + entry))

    assert read is not None
    assert read.batch.operations[0].body == unquote_to_bytes(value)
