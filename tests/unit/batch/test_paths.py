"""The path grammar (PROMISES 4) as a table: what two readers could understand differently, and what must pass."""

import re
from urllib.parse import unquote, urlsplit

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from gateway.batch.paths import (
    TARGET_BYTES_MAX,
    _are_plain_once_decoded,
    _refusal_of_segment,
    _refusal_of_whole,
    are_plain,
    decoded,
    refusal,
)
from tests.strategies import LAW, paths, targets

_REFUSED = {
    "dot-segment": [
        "/.", "/..", "/./", "/../", "/a/.", "/a/..", "/a/./b", "/a/../b", "/../etc/passwd", "/a/b/../../c",
        "/%2e", "/%2E", "/%2e%2e", "/%2E%2e", "/.%2e", "/%2e.", "/a/%2e%2e/b", "/a/%2e/b", "/a/.%2E/",
        "/%2e%2e/%2e%2e/x",
        "/a/%2e%2e?x=1", "/a/..?x", "/.?", "/./.", "/a/%2e",
    ],
    "empty-segment": [
        "//", "///", "//a", "//evil.com/x", "//user@evil.com", "/a//b", "/a//", "/a///", "/a//?x", "//?x", "/a/b//c/d",
        "//a/", "//[::1]/",
    ],
    "matrix-param": [
        "/;", "/a;", "/a;x=1", "/a;x=1/b", "/..;x/b", "/a/..;/b", "/;/a", "/a/;/", "/a%3b", "/a%3Bx=1", "/%3b/a",
        "/a/..%3bx/b", "/a;jsessionid=1?q", "/.;/a",
    ],
    "backslash": [
        "/\\", "/a\\b", "/\\\\evil.com", "/..\\..\\x", "/a/..\\b", "/%5c", "/a%5Cb", "/%5c%5cevil", "/..%5c..%5cx",
        "/a\\?x",
    ],
    "encoded-slash": ["/%2f", "/%2F", "/a%2fb", "/a%2F..%2Fb", "/%2f%2fevil.com", "/..%2fx", "/%2e%2e%2fx", "/a/%2f/b"],
    "encoded-percent": [
        "/%25", "/%252e", "/%252E%252e", "/%252f", "/a%2500", "/%25252e", "/%2525", "/a/%252e%252e/b", "/100%25",
    ],
    "control": [
        "/\x00", "/a\x00b", "/a\tb", "/a\nb", "/a\rb", "/a\r\nX: y", "/ ", "/a b", "/a\x7f", "/a\x1fb", "/a\x0bb",
        "/a\x0cb",
        "/%00", "/a%00.html", "/a%09b", "/%0a", "/%0d%0aX:y", "/a%1f", "/%7f", "/a%7Fb", "/a?x=\n", "/a?x y", "/a?\x00",
        "/a ", "/a\t",
    ],
    "non-ascii": [
        "/\u00e9", "/\uff0e\uff0e/a", "/\uff0f", "/a\uff1bb", "/\u2024", "/\u3002", "/a?\u00e9", "\u00e9", "/\u2215",
        "/a\ud800", "/\U0001f600", "/a\xa0b", "/\x85", "/\u202e",
    ],
    "bad-escape": [
        "/%", "/%2", "/a%", "/a%zz", "/%g0", "/%u002e", "/%uff0e", "/%c0%ae", "/%c0%ae%c0%ae/x", "/%c0%af",
        "/%e0%80%ae",
        "/%f0%80%80%ae", "/%ff", "/%fe%ff", "/%80", "/a%c3", "/%ed%a0%80", "/%f4%90%80%80", "/a/%c1%9c", "/%%2e",
        "/%2%65",
        "/%c0%2e", "/a%2",
    ],
    "absolute": [
        "http://evil.com/", "https://evil.com", "HTTP://a/", "a", "a/b", "evil.com:80", "*", "?a=b", "user@host",
        "mailto:x",
        "file:///etc", "ws://a/b", "%2fa", "./a", "../a", "-",
    ],
    "illegal-character": [
        "/#", "/a#b", "/a?x#y", "/a#", "/a\"b", "/<a>", "/a|b", "/{a}", "/a^b", "/a`b", "/[a]", "/a]b",
    ],
    "too-long": ["/" + "a" * 4096, "/a?" + "b" * 4094, "/" + "a/" * 2048 + "a", "/" + "%61" * 1366],
}  # fmt: skip

_TAKEN = [
    "/", "/a", "/a/", "/a/b", "/a/b/", "/a/b/c/d/e/f/g", "/users", "/users/7", "/users/7/orders", "/users/7/orders/12/",
    "/users?notify=no", "/users?a=1&b=2", "/users?", "/?", "/?x", "/a?b?c", "/a?/b", "/a?/../b", "/a?//", "/a?x=%zz",
    "/a?x=%00", "/a?x=%2e%2e", "/a?x=%252e", "/a?x;y", "/a?x=\\", "/a?[x]=1", "/a?x={y}", "/a?q=a|b", "/a?q=\"b\"",
    "/a?q=<b>",
    "/a?q=^`", "/a?x=http://b/c", "/a?x=user@host", "/a?%", "/...", "/....", "/a/.../b", "/.a", "/..a", "/a.", "/a..",
    "/a..b",
    "/.well-known/openid-configuration", "/.git", "/a/.b/c", "/a.b.c", "/a.json", "/a/b.tar.gz", "/v1.0/me",
    "/v1/users:batch",
    "/v1/projects/p-1/topics/t:publish", "/a:b", "/:a", "/a@b", "/@a", "/~user", "/a~b", "/a_b", "/a-b", "/a!b",
    "/$batch",
    "/a$b", "/a&b", "/a'b", "/a(b)", "/Products('x')", "/Products(1)/Name", "/a*b", "/*", "/a+b", "/a,b", "/a=b",
    "/=", "/,",
    "/%20", "/a%20b", "/%20a", "/caf%C3%A9", "/caf%c3%a9", "/%E6%97%A5%E6%9C%AC", "/%F0%9F%98%80", "/%7Euser", "/%61",
    "/a%2Db",
    "/a%2Eb", "/a%2e", "/%2ea", "/%2e%2e%2e", "/%2e%2ea", "/%2E%2Ex", "/a%2Bb", "/a%3Ab", "/a%40b", "/a%3Db",
    "/a%26b", "/a%23b", "/a%3Fb", "/a%22b", "/a%3Cb%3E", "/a%7Bb%7D", "/a%5Bb%5D", "/a%7C", "/a%5E", "/a%60", "/a%21",
    "/%EF%BC%8E", "/%EF%BB%BFa", "/%C2%A0", "/%E2%80%AE", "/batch2", "/A/B/C", "/0", "/00", "/-", "/_", "/.-",
    "/a" * 100,
    "/" + "a" * 4095, "/a?" + "b" * 4093, "/" + "a/" * 2047 + "a", "/index.html",
    "/api/v2/items/550e8400-e29b-41d4-a716-446655440000",
    "/search?q=hello+world&page=2", "/a/b?c=d/e:f@g", "/report.pdf?dl=1", "/a/b/c?x[]=1&x[]=2",
    "/api/users/ada@example.com",
]  # fmt: skip


@pytest.mark.parametrize(("reason", "target"), [(reason, each) for reason, all_ in _REFUSED.items() for each in all_])
def test_a_path_that_readers_could_understand_differently_is_refused(reason: str, target: str) -> None:
    assert refusal(target) == reason


@pytest.mark.parametrize("target", _TAKEN)
def test_a_normal_path_is_taken(target: str) -> None:
    assert refusal(target) is None


def test_the_tables_are_as_large_as_promised() -> None:
    assert len({target for all_ in _REFUSED.values() for target in all_}) >= 120
    assert len(set(_TAKEN)) >= 100


@pytest.mark.parametrize("start", ["/", "/%61", "/a?", "/.a"])
def test_a_target_may_have_exactly_4096_bytes(start: str) -> None:
    most = start + "a" * (TARGET_BYTES_MAX - len(start))

    assert refusal(most) is None
    assert refusal(most + "a") == "too-long"


@LAW
@given(paths)
def test_whatever_the_grammar_makes_is_taken(target: str) -> None:
    assert refusal(target) is None


@LAW
@given(targets)
def test_what_is_taken_holds_no_confusion_raw_or_decoded_twice(target: str) -> None:
    if refusal(target) is not None:
        return
    path = target.partition("?")[0]

    once, twice = unquote(path, errors="strict"), unquote(unquote(path))

    assert target.isascii()
    assert target.startswith("/")
    assert "#" not in target
    assert once == twice
    assert not re.search(r"[\x00-\x1f\x7f\\;]", once)
    assert not {".", ".."} & set(once.split("/"))
    assert "" not in once.split("/")[1:-1]


@LAW
@given(targets | paths)
def test_the_standard_library_reads_a_taken_target_as_a_path_alone(target: str) -> None:
    if refusal(target) is not None:
        return

    read = urlsplit(target)

    assert (read.scheme, read.netloc, read.fragment) == ("", "", "")
    assert read.path == target.partition("?")[0]


@LAW
@given(targets | paths | st.text("ab/.%2eE5FfCc3", max_size=16).map(lambda text: "/" + text))
def test_one_look_at_all_segments_says_what_a_look_at_each_says(target: str) -> None:
    assume(_refusal_of_whole(target) is None)
    path = target.partition("?")[0]

    segments = path.removesuffix("/").split("/")[1:]

    assert _are_plain_once_decoded(path) is not any(map(_refusal_of_segment, segments))


@pytest.mark.parametrize("path", ["/%61" * 1020, "/a" * 2040 + "/%C3%A9/", "/%2e%2e%2e", "/"])
def test_no_segment_of_an_escaped_path_is_looked_at_alone(path: str) -> None:
    assert _are_plain_once_decoded(path)


@LAW
@given(st.lists(targets | paths | st.sampled_from(["/batch", "/batch/x", "/a\n/b", "/a\n"]), max_size=5))
def test_the_quick_look_accepts_only_what_the_careful_look_accepts(several: list[str]) -> None:
    if not are_plain(several, without=("/batch",)):
        return

    assert [refusal(target) for target in several] == [None] * len(several)
    assert not any(decoded(target.partition("?")[0]).startswith("/batch") for target in several)


@pytest.mark.parametrize(
    "several",
    [["/a", "/b?c=d"], ["/"], [], ["/" + "a" * 4095]],
)
def test_the_quick_look_accepts_plain_targets(several: list[str]) -> None:
    assert are_plain(several, without=("/batch",))


@pytest.mark.parametrize(
    "several",
    [
        ["/a", "/b%20"],
        ["/.a"],
        ["/a//b"],
        ["/a\n/b"],
        ["/batch"],
        ["/a", "/batching"],
        ["/" + "a" * 4096],
        ["/a\u00e9"],
        [""],
    ],
)
def test_the_quick_look_leaves_the_rest_to_the_careful_one(several: list[str]) -> None:
    assert not are_plain(several, without=("/batch",))


@pytest.mark.parametrize(
    ("path", "text"),
    [("/a", "/a"), ("/%61%2f", "/a/"), ("/caf%C3%A9", "/caf\u00e9"), ("/%ff", "/\ufffd"), ("/%zz", "/%zz")],
)
def test_a_path_is_decoded_once_and_never_fails(path: str, text: str) -> None:
    assert decoded(path) == text
