"""Requests that two readers could understand differently; each hides another request where a wrong reading finds it.

In every case the target of the ambiguous request is `first`; `hidden` is that of a request in its body, or where one of
the readings has it; `after` that of a plain request behind it. A reader may refuse; if it takes the first, the hidden
one is never a request of its own.
"""

from collections.abc import Iterator

_HIDDEN = b"GET /NNN/hidden HTTP/1.1\r\nHost: a\r\n\r\n"
_AFTER = b"GET /NNN/after HTTP/1.1\r\nHost: a\r\n\r\n"
_LINE = b"POST /NNN/first HTTP/1.1"

_CODINGS = (
    b"xchunked", b"chunkedx", b"chunk", b"identity", b"gzip", b"chunked, identity", b"identity, chunked",
    b"gzip, chunked", b"chunked, gzip", b"chunked, chunked", b"chunked,", b",chunked", b", chunked", b"chunked;q=1",
    b'"chunked"', b"'chunked'", b"c hunked", b"chunked x", b"\x0bchunked", b"\x0cchunked", b"chunked\x0b",
    b"chunked\x00", b"\x00chunked", b"chunked\xa0", b"\xa0chunked", b"chun\xffked", b"chunked\r", b"\rchunked",
    b"\r\n chunked", b"\r\n\tchunked", b"chunked\r\n ", b"", b" ,", b"chunked\x7f", b"chunked\x1f", b"x\nchunked",
    b"chunked\n",
)  # fmt: skip
_CODING_LINES = (
    b"Transfer-Encoding : chunked", b"Transfer-Encoding\t: chunked", b" Transfer-Encoding: chunked",
    b"Transfer-Encoding\x00: chunked", b"Transfer\x0bEncoding: chunked", b"Transfer-Encoding chunked",
    b"Transfer-Encoding", b"X: y\nTransfer-Encoding: chunked", b"X: y\rTransfer-Encoding: chunked",
    b"X: y\r\r\nTransfer-Encoding: chunked", b"X:\nTransfer-Encoding: chunked",
    b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
    b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
    b"Transfer-Encoding: identity\r\nTransfer-Encoding: chunked",
    b"Transfer-Encoding: x\r\nTransfer-Encoding: chunked", b"transfer-Encoding:chunked",
    b"Transfer-Encoding:\tchunked", b": chunked\r\nTransfer-Encoding: chunked", b"(Transfer-Encoding: chunked",
    b"Transfer-Encoding@: chunked",
)  # fmt: skip
_LENGTHS = (
    b"+%d", b"-%d", b"%d %d", b"%d,%d", b"%d, %d", b"%d,", b",%d", b"0x%x", b"%d;", b"%d.0", b"%d\x0b", b"\x0b%d",
    b"%d\x00", b"\x00%d", b"%de0", b"%d\xa0", b"\xef\xbc\x95%d", b"%dx", b"_%d", b"%d_0", b'"%d"', b"0b1", b"five",
    b"", b"1844674407370955161%d", b"9999999999999999999999%d", b"%d\r\n 0", b"\r\n %d", b"%d\n", b"%d\r",
    b"0\r\nContent-Length: %d", b"%d\r\nContent-Length: 0", b"%d\r\nContent-Length: %d", b"%d\r\ncontent-length: %d",
    b"%d\r\nX: y\r\nContent-Length: 0", b"%d\nContent-Length: 0",
)  # fmt: skip
_LENGTH_LINES = (
    b"Content-Length : %d", b"Content-Length\t: %d", b" Content-Length: %d", b"\tContent-Length: %d",
    b"Content-Length %d", b"Content\x00-Length: %d", b"Content-Length\x00: %d", b"Content-Length\xff: %d",
    b"X: y\nContent-Length: %d", b"X: y\rContent-Length: %d", b"Content-Length:\n%d", b"(Content-Length: %d",
    b"Content-Length=%d", b"Content-Length\r\n: %d",
)  # fmt: skip
_SIZES = (
    b"0x%x", b"+%x", b"-%x", b" %x", b"\t%x", b"%x ", b"%x\t", b"%x \t;a", b"%xg", b"g%x", b"%x\x00", b"\x00%x",
    b"%x\x0b", b"%x,", b"%x.0", b"1%016x", b"ffffffffffffffff%x", b"%x;\x00", b"%x;a\nb", b"%x;a\rb", b"%x;\x7f",
    b"%x\r\n;a", b"", b"_%x", b"%x_", b"%x\xa0", b'"%x"', b"%x\r", b"\n%x", b"0_%x",
)  # fmt: skip
_HOSTS = (
    b"", b"Host: a\r\nHost: b", b"Host: a\r\nHost: a", b"Host: a\r\nhost: b", b"Host: a, b", b"Host: a b",
    b"Host: a/b", b"Host: a?b", b"Host: a#b", b"Host: u@a", b"Host: a:b", b"Host: a:99999999", b"Host: [::1",
    b"Host: a\x00", b"Host: a\x0bb", b"Host: a\r\n b", b"Host : a", b" Host: a", b"Host: \xe4", b"Host: a\\b",
    b"Host: a\nHost: b", b'Host: "a"', b"Host: <a>", b"Host: a\r\nHost : b",
)  # fmt: skip
_REQUEST_LINES = (
    b"GET /NNN/first", b"GET  /NNN/first HTTP/1.1", b"GET /NNN/first  HTTP/1.1", b"GET\t/NNN/first HTTP/1.1",
    b"GET /NNN/first\tHTTP/1.1", b"GET /NNN/first HTTP/1.1 ", b"GET /NNN/first HTTP/1.1\t",
    b" GET /NNN/first HTTP/1.1", b"\tGET /NNN/first HTTP/1.1", b"GET /NNN/first HTTP/1.1\x00",
    b"GET /NNN/first http/1.1", b"GET /NNN/first HTTP/1.10", b"GET /NNN/first HTTP/01.1", b"GET /NNN/first HTTP/1.2",
    b"GET /NNN/first HTTP/2.0", b"GET /NNN/first HTTP/0.9", b"GET /NNN/first HTTP/1,1", b"GET /NNN/first HTTP/1.",
    b"GET /NNN/first HTTP/11", b"GET /NNN/first HTTP 1.1", b"GET /NNN/first HTTPS/1.1", b"GET /NNN/first RTSP/1.0",
    b"GET /NNN/first ICE/1.0", b"GET /NNN/first x HTTP/1.1", b"GET /NNN/first\x00 HTTP/1.1",
    b"GET /NNN/first\x01 HTTP/1.1", b"GET /NNN/first\x7f HTTP/1.1", b"GET /NNN/first#x HTTP/1.1",
    b"GET NNN/first HTTP/1.1", b"GET ?/NNN/first HTTP/1.1", b"GET \\/NNN/first HTTP/1.1",
    b"GET http://a/NNN/first HTTP/1.1", b"GET http://evil/NNN/first HTTP/1.1", b"GET https://a/NNN/first HTTP/1.1",
    b"GET http:/NNN/first HTTP/1.1", b"GET http:///NNN/first HTTP/1.1", b"GET http://u@a/NNN/first HTTP/1.1",
    b"CONNECT a:80 HTTP/1.1", b"CONNECT /NNN/first HTTP/1.1", b"GET * HTTP/1.1", b"G\x00T /NNN/first HTTP/1.1",
    b"G(T /NNN/first HTTP/1.1", b"G:T /NNN/first HTTP/1.1", b"\xe4 /NNN/first HTTP/1.1", b"/NNN/first HTTP/1.1",
    b"GET", b"\x16\x03\x01", b"PRI * HTTP/2.0", b"GET /NNN/first HTTP/1.1\rX: y", b"GET /NNN/first HTTP/1.1\nX: y",
    b"\nGET /NNN/first HTTP/1.1", b"\r\r\nGET /NNN/first HTTP/1.1", b"\rGET /NNN/first HTTP/1.1",
)  # fmt: skip
_SEPARATORS = b'()<>@,;\\"/[]?={} '


def cases() -> Iterator[tuple[str, bytes]]:
    """Names and bytes; `NNN` in the bytes is to be replaced by something that tells the case."""
    for name, data in _all():
        yield name, data + _AFTER


def _all() -> Iterator[tuple[str, bytes]]:
    for line in [*(b"Transfer-Encoding: " + coding for coding in _CODINGS), *_CODING_LINES]:
        yield from _coding(line)
    for value in [*(b"Content-Length: " + length for length in _LENGTHS), *_LENGTH_LINES]:
        line = value.replace(b"%d", b"%d" % len(_HIDDEN)).replace(b"%x", b"%x" % len(_HIDDEN))
        yield f"length {value!r}", _request(line, body=_HIDDEN)
    for size in _SIZES:
        yield f"chunk size {size!r}", _chunked(size)
    yield from _chunk_ends()
    for host in _HOSTS:
        yield f"host {host!r}", b"GET /NNN/first HTTP/1.1\r\n%bX: y\r\n\r\n" % (host + b"\r\n" if host else b"")
    for line in _REQUEST_LINES:
        yield f"request line {line!r}", b"%b\r\nHost: a\r\n\r\n" % line
    for number in [*range(0x20), 0x7F]:
        char = bytes([number])
        yield f"control {char!r} in a value", _request(b"X: a%bb" % char)
        yield f"control {char!r} in a name", _request(b"X%bY: a" % char)
    for separator in _SEPARATORS:
        yield f"separator {chr(separator)!r} in a name", _request(b"X%cY: a" % separator)
    yield from _lines()
    yield from _taken()


def _coding(line: bytes) -> Iterator[tuple[str, bytes]]:
    """The coding alone, and with a length that covers what a reader of chunks would take for the next request."""
    last = b"0\r\n\r\n" + _HIDDEN
    length = b"Content-Length: %d" % len(last)
    yield f"{line!r} with a length before", _request(length, line, body=last)
    yield f"{line!r} with a length behind", _request(line, length, body=last)
    if line.lower().replace(b"\t", b" ").replace(b" ", b"") != b"transfer-encoding:chunked":
        yield f"{line!r} alone", _request(line, body=b"%x\r\n%b\r\n0\r\n\r\n" % (len(_HIDDEN), _HIDDEN))


def _chunked(size: bytes) -> bytes:
    said = size.replace(b"%016x", b"%016x" % len(_HIDDEN)).replace(b"%x", b"%x" % len(_HIDDEN))
    return _request(b"Transfer-Encoding: chunked", body=b"%b\r\n%b\r\n0\r\n\r\n" % (said, _HIDDEN))


def _chunk_ends() -> Iterator[tuple[str, bytes]]:
    size = b"%x\r\n" % len(_HIDDEN)
    bodies = {
        "a chunk that ends in LF": size + _HIDDEN + b"\n0\r\n\r\n",
        "a chunk that ends in CR": size + _HIDDEN + b"\r0\r\n\r\n",
        "a chunk that does not end": size + _HIDDEN + b"0\r\n\r\n",
        "a chunk that is longer than its size": size + _HIDDEN + b"xx\r\n0\r\n\r\n",
        "a size that ends in LF": size[:-2] + b"\n" + _HIDDEN + b"\r\n0\r\n\r\n",
        "a size that ends in CR": size[:-2] + b"\r" + _HIDDEN + b"\r\n0\r\n\r\n",
        "a last chunk that ends in LF": size + _HIDDEN + b"\r\n0\n\r\n",
        "the end is LF": size + _HIDDEN + b"\r\n0\r\n\n",
        "a trailer without a colon": size + _HIDDEN + b"\r\n0\r\nX\r\n\r\n",
        "a folded trailer": size + _HIDDEN + b"\r\n0\r\nX: a\r\n b\r\n\r\n",
        "a blank before a trailer's colon": size + _HIDDEN + b"\r\n0\r\nX : a\r\n\r\n",
        "a control in a trailer": size + _HIDDEN + b"\r\n0\r\nX: \x01\r\n\r\n",
        "a trailer that ends in LF": size + _HIDDEN + b"\r\n0\r\nX: a\n\r\n",
        "a request in place of trailers": size + _HIDDEN + b"\r\n0\r\n" + _HIDDEN,
    }
    for name, body in bodies.items():
        yield name, _request(b"Transfer-Encoding: chunked", body=body)


def _lines() -> Iterator[tuple[str, bytes]]:
    for name, line in {
        "a fold by a blank": b"X: a\r\n b", "a fold by a tab": b"X: a\r\n\tb",
        "a fold of a framing": b"X: a\r\n Content-Length: 5",
        "no colon": b"X", "no name": b": a", "a blank before the colon": b"X : a", "a blank before a name": b" X: a",
        "a bare CR": b"X: a\rY: b", "two CR": b"X: a\r", "a bare LF": b"X: a\nY: b", "LF then CRLF": b"X: a\n",
        "LF LF and a hidden request": b"X: a\n\n" + _HIDDEN[:-4],
        "CR CR and a hidden request": b"X: a\r\r" + _HIDDEN[:-4],
        "a name of obs-text": b"X\xe4: a",
    }.items():  # fmt: skip
        yield name, _request(line)


def _taken() -> Iterator[tuple[str, bytes]]:
    """Odd but unambiguous: if it is taken, then with its body whole."""
    length = b"Content-Length: %d" % len(_HIDDEN)
    for option in (
        b"Content-Length",
        b"close, Content-Length",
        b"Transfer-Encoding",
        b"Host",
        b"X",
        b"keep-alive, content-length",
        b"TE",
    ):
        yield f"Connection: {option!r}", _request(b"Connection: " + option, length, body=_HIDDEN)
    chunks = b"%x\r\n%b\r\n0\r\n\r\n" % (len(_HIDDEN), _HIDDEN)
    for option in (b"Transfer-Encoding", b"Upgrade, Transfer-Encoding", b"Content-Length"):
        yield (
            f"chunks and Connection: {option!r}",
            _request(b"Connection: " + option, b"Transfer-Encoding: chunked", body=chunks),
        )
    for method in (b"GET", b"HEAD", b"OPTIONS", b"DELETE", b"TRACE", b"PROPFIND", b"BREW", b"get", b"SEARCH"):
        yield f"{method!r} with a body", _request(length, body=_HIDDEN, line=method + b" /NNN/first HTTP/1.1")
        yield (
            f"{method!r} with chunks",
            _request(b"Transfer-Encoding: chunked", body=chunks, line=method + b" /NNN/first HTTP/1.1"),
        )
    for upgrade in (b"h2c", b"websocket", b"WebSocket", b"foo/1, websocket", b"TLS/1.0"):
        lines = (
            b"Connection: Upgrade",
            b"Upgrade: " + upgrade,
            b"Sec-WebSocket-Version: 13",
            b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
        )
        yield f"declined upgrade to {upgrade!r}", _request(*lines, line=b"GET /NNN/first HTTP/1.1")
        yield f"declined upgrade to {upgrade!r} with a body", _request(*lines, length, body=_HIDDEN)
        yield (
            f"declined upgrade to {upgrade!r} with chunks",
            _request(*lines, b"Transfer-Encoding: chunked", body=chunks),
        )
    for expect in (b"100-continue", b"100-Continue", b"x", b"100-continue, x", b""):
        yield f"Expect: {expect!r}", _request(b"Expect: " + expect, length, body=_HIDDEN)
    for line in (
        b"Content_Length: 0",
        b"Transfer_Encoding: chunked",
        b"content-length-x: 1",
        b"X-Content-Length: 0",
        b"Trailer: Content-Length",
    ):
        yield f"{line!r} beside a length", _request(line, length, body=_HIDDEN)
    for trailer in (b"Content-Length: 0", b"Transfer-Encoding: chunked", b"Host: b", b"Connection: close", b"X: y"):
        body = b"%x\r\n%b\r\n0\r\n%b\r\n\r\n" % (len(_HIDDEN), _HIDDEN, trailer)
        yield f"trailer {trailer!r}", _request(b"Transfer-Encoding: chunked", body=body)
    for size in (b"%x", b"%X", b"000%x", b"%x;a", b"%x;a=b", b'%x;a="b;c"', b"%x;", b"%x;;", b"%x;a b"):
        yield f"odd chunk size {size!r}", _chunked(size.replace(b"%X", b"%X" % len(_HIDDEN)))
    old = b"POST /NNN/first HTTP/1.0"
    yield "HTTP/1.0 with a length", _request(length, b"Connection: keep-alive", body=_HIDDEN, line=old)
    yield (
        "HTTP/1.0 with chunks",
        _request(b"Transfer-Encoding: chunked", b"Connection: keep-alive", body=chunks, line=old),
    )
    yield "HTTP/1.0 with chunks and a length", _request(length, b"Transfer-Encoding: chunked", body=_HIDDEN, line=old)
    yield "leading zeros in a length", _request(b"Content-Length: 000%d" % len(_HIDDEN), body=_HIDDEN)
    yield "empty lines before", b"\r\n\r\n" + _request(length, body=_HIDDEN)


def _request(*lines: bytes, body: bytes = b"", line: bytes = _LINE) -> bytes:
    return b"\r\n".join([line, b"Host: a", *lines, b"", b""]) + body
