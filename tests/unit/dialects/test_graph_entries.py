"""Entries of a Graph envelope: URLs that lead to the upstream only, and bodies however a client wrote them."""

import json

import pytest
from msgspec import Raw

from gateway.dialects.graph_entries import (
    Entry,
    EntryError,
    body_of,
    entries_of,
    fields_of,
    operation_id,
    origin_of,
    target_of,
)
from gateway.dialects.port import EnvelopeError, EnvelopeLimits

LIMITS = EnvelopeLimits(operations_max=20)
ORIGINS = frozenset({"https://graph.microsoft.com"})


def refused(data: bytes, limits: EnvelopeLimits = LIMITS) -> EnvelopeError:
    with pytest.raises(EnvelopeError) as caught:
        entries_of(data, limits)
    return caught.value


def target(url: str, *, host: str = "gw:8207", slash_root: str = "") -> str:
    own = {origin_of(f"http://{host}"), origin_of(f"https://{host}")}
    return target_of(url, origins=ORIGINS | own, root="/v1.0", slash_root=slash_root)


@pytest.mark.parametrize(
    ("data", "slug"),
    [
        (b"", "invalid-json"),
        (b'\xef\xbb\xbf{"requests":[]}', "invalid-json"),
        (b'{"requests":[{"id":"\xff"}]}', "invalid-json"),
        (b'{"requests":[{"id":7},', "invalid-json"),
        (b'{"requests":[{"id":"\\ud800","method":"GET","url":"/"}]}', "invalid-json"),
        (b"[]", "invalid-envelope"),
        (b"{}", "invalid-envelope"),
        (b'{"requests":[]}', "invalid-envelope"),
        (b'{"requests":[{"id":7,"method":"GET","url":"/"}]}', "invalid-envelope"),
        (b'{"requests":[{"id":"1","url":"/"}]}', "invalid-envelope"),
        (b'{"requests":[{"id":"1","method":"GET","url":"/","headers":{"a":1}}]}', "invalid-envelope"),
        (b'{"requests":[{"id":"1","method":"GET","url":"/","dependsOn":"0"}]}', "invalid-envelope"),
        (b'{"requests":[{"id":"1","method":"GET","url":"/a","url":"/b"}]}', "duplicate-key"),
        (b'{"requests":[{"id":"1","method":"GET","url":"/","headers":{"a":"1","a":"2"}}]}', "duplicate-key"),
        (b'{"requests":[' + b"[" * 100_000 + b"]" * 100_000 + b"]}", "json-too-complex"),
        (
            b'{"requests":[{"id":"1","method":"PUT","url":"/","body":' + b"[" * 40 + b"]" * 40 + b"}]}",
            "json-too-complex",
        ),
    ],
)
def test_what_is_no_envelope_is_told_apart(data: bytes, slug: str) -> None:
    assert refused(data).problem.slug == slug


def test_a_wrong_shape_is_told_with_its_place_and_without_what_stood_there() -> None:
    error = refused(b'{"requests":[{"id":"1","method":"GET","url":["secret"]}]}')

    assert error.detail == "Expected `str`, got `array` - at `$.requests[0].url`"


def test_an_envelope_with_too_many_values_is_refused_before_it_is_decoded() -> None:
    data = b'{"requests":[' + b"1," * 50 + b"1]}"

    assert refused(data, EnvelopeLimits(nodes_max=20)).problem.slug == "json-too-complex"
    assert refused(data + b"!", EnvelopeLimits(nodes_max=20)).problem.slug == "invalid-json"


def test_one_entry_more_than_fit_is_refused() -> None:
    def envelope(count: int) -> bytes:
        return json.dumps({"requests": [{"id": str(n), "method": "GET", "url": "/"} for n in range(count)]}).encode()

    assert len(entries_of(envelope(20), LIMITS)) == 20
    assert refused(envelope(21)).problem.slug == "too-many-operations"


def test_both_spellings_of_depends_on_count_and_unknown_members_do_not() -> None:
    data = b'{"requests":[{"id":"1","method":"GET","url":"/","dependsOn":["a"],"depends_on":["b"],"x":{"y":1}}],"z":1}'

    assert [entry.parents for entry in entries_of(data, LIMITS)] == [["a", "b"]]
    assert Entry("1", "GET", "/", dependsOn=None).parents == []


@pytest.mark.parametrize(
    ("id_", "as_operation"),
    [
        ("b3c4-01_a.B", "b3c4-01_a.B"),
        ("a b", "a~20b"),
        ("a~20b", "a~7E20b"),
        ("é", "~C3~A9"),
        ("\n", "~0A"),
    ],
)
def test_ids_that_an_operation_cannot_have_are_escaped_so_that_none_becomes_another(
    id_: str, as_operation: str
) -> None:
    assert operation_id(id_) == as_operation


@pytest.mark.parametrize(
    ("url", "sent"),
    [
        ("/me", "/me"),
        ("/v1.0/me?$select=id", "/v1.0/me?$select=id"),
        ("users?$select=id", "/v1.0/users?$select=id"),
        ("?a=b", "/v1.0/?a=b"),
        ("http://gw:8207/v1.0/me", "/v1.0/me"),
        ("HTTPS://GW:8207", "/"),
        ("https://gw:8207?x=1", "/?x=1"),
        ("https://graph.microsoft.com/v1.0/me", "/v1.0/me"),
        ("https://graph.microsoft.com:443/beta/me", "/beta/me"),
        ("/users?$filter=name eq 'É 1'", "/users?$filter=name%20eq%20'%C3%89%201'"),
        ("/users?$filter=a%20b c", "/users?$filter=a%20b%20c"),
        ("/a\nb c", "/a\nb%20c"),
    ],
)
def test_a_url_leads_to_a_path_of_the_upstream(url: str, sent: str) -> None:
    assert target(url) == sent


def test_a_slash_in_front_may_mean_the_service_root() -> None:
    assert target("/me", slash_root="/v1.0") == "/v1.0/me"
    assert target("users", slash_root="/v1.0") == "/v1.0/users"
    assert target("http://gw:8207/v1.0/me", slash_root="/v1.0") == "/v1.0/me"


@pytest.mark.parametrize(
    "url",
    [
        "",
        "http://evil/me",
        "http://graph.microsoft.com/me",
        "https://graph.microsoft.com@evil/me",
        "https://gw:8207@evil",
        "http://gw:82070/me",
        "/users/{$ops.a.response.status}",
    ],
)
def test_a_url_that_leads_elsewhere_is_refused(url: str) -> None:
    with pytest.raises(EntryError) as caught:
        target(url)

    assert caught.value.member == "url"


def test_a_default_port_is_as_good_as_none() -> None:
    assert target("http://gw:80/me", host="gw") == "/me"
    assert target("https://gw/me", host="gw:443") == "/me"
    assert origin_of("HTTPS://Graph.Microsoft.Com:443") == "https://graph.microsoft.com"


def test_fields_of_the_connection_and_of_a_missing_body_stay_behind() -> None:
    headers = {
        "host": "graph.microsoft.com",
        "Connection": "X-Own",
        "x-own": "1",
        "Accept-Encoding": "gzip",
        "Content-Length": "3",
        "content-type": "application/json",
        "If-Match": "e",
    }

    assert fields_of(headers, has_body=False) == (("If-Match", "e"),)
    assert fields_of(headers, has_body=True) == (("content-type", "application/json"), ("If-Match", "e"))


JSON, BYTES, TEXT = "application/json; charset=utf-8", "image/png", "Text/Plain"


@pytest.mark.parametrize(
    ("body", "content_type", "sent"),
    [
        ('{"a": 1e400}', JSON, b'{"a": 1e400}'),
        ("[1, 2]", "application/ld+json", b"[1, 2]"),
        ('"e30="', JSON, b"{}"),  # msgraph-core: {}
        ('"WzEsMl0="', JSON, b"[1,2]"),  # msgraph-core: [1,2]
        ('"WzEsMl0"', JSON, b"[1,2]"),
        ('"eyJhIjoiw7_DvyJ9"', JSON, '{"a":"ÿÿ"}'.encode()),
        ('"hello there"', JSON, b'"hello there"'),  # a JSON string, as OData has it
        ('"abcd"', JSON, b'"abcd"'),  # base64, but of no JSON
        ('"//79"', BYTES, b"\xff\xfe\xfd"),
        ('"__79"', BYTES, b"\xff\xfe\xfd"),
        ('"_-8"', BYTES, b"\xff\xef"),
        ('"h\\u00e9llo e30="', TEXT, "héllo e30=".encode()),
        ('"e30="', TEXT, b"e30="),
    ],
)
def test_a_body_is_read_however_it_was_written(body: str, content_type: str, sent: bytes) -> None:
    assert body_of(Raw(body.encode()), (("content-type", content_type),)) == (sent, ())


@pytest.mark.parametrize(("body", "sent"), [("[]", b"[]"), ('"e30="', b"{}"), ('"é"', '"é"'.encode())])
def test_a_body_without_a_type_is_json(body: str, sent: bytes) -> None:
    assert body_of(Raw(body.encode()), ()) == (sent, (("Content-Type", "application/json"),))


@pytest.mark.parametrize(("body", "content_type"), [('{"a":1}', TEXT), ("7", BYTES), ('"a"', BYTES), ('"é"', BYTES)])
def test_a_body_that_does_not_fit_its_type_is_refused(body: str, content_type: str) -> None:
    with pytest.raises(EntryError) as caught:
        body_of(Raw(body.encode()), (("Content-Type", content_type),))

    assert caught.value.member == "body"
