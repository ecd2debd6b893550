"""Bad configurations, each with the exact line that it is answered with."""

from collections.abc import Callable

import pytest

Refused = Callable[..., list[str]]

_GIVE = "missing; give it in the file"

# After `upstream: {url: http://a}` on line 1, so that the text stands on line 2.
_BAD = [
    # unknown and unfinished keys
    ("lisen: {port: 1}", '2:1: lisen: unknown key, did you mean "listen"?'),
    ("listen: {prot: 1}", '2:10: listen.prot: unknown key, did you mean "port"?'),
    ("listen:\n  idel_timeout: 1s", '3:3: listen.idel_timeout: unknown key, did you mean "idle_timeout"?'),
    ("zebra: 1", "2:1: zebra: unknown key; known here: version, listen, admin, upstream, upstreams, routes, limits,"
                 " limiter, batch, async, dialects, replay, identity, log, drain, reload"),
    ("drain: {zebra: 1}", "2:9: drain.zebra: unknown key; known here: delay, stream_grace, timeout"),
    ("drain: {5s}", "2:9: drain.(no name): unknown key; known here: delay, stream_grace, timeout"),
    ("drain: {delay:5s}", "2:9: drain.(no name): unknown key, did you mean \"delay\"?"),
    ("drain: {zzzzzzzzzz:5s}", "2:9: drain.(no name): unknown key; write a space after the colon"),
    ("admin: {token: {from_env: X}}", '2:17: admin.token.from_env: unknown key, did you mean "fromEnv"?'),
    ("imports: {}", "2:1: imports: not built yet; see README, Not yet"),
    (
        "async: {ledger: mysql}",
        "2:17: async.ledger: must be sqlite, sqlite:PATH, sqlite::memory:, none, or begin with "
     "redis://, rediss://, unix://, redis+sentinel:// or redis+cluster://",
    ),
    (
        "async: {key: {value: short}}",
        "2:14: async.key: must have at least 16 characters; `openssl rand -base64 32` makes a good one",
    ),
    ("dialects: {gogle: {}}", '2:12: dialects.gogle: unknown key, did you mean "google"?'),
    ("dialects: {google: }", "2:19: dialects.google: is empty; give a value or leave it out"),
    ("dialects: {google: {path: batch}}", "2:27: dialects.google.path: must start with /"),
    ("dialects: {google: {origins: [a.b]}}", "2:31: dialects.google.origins[0]: must be a scheme and a host, such as"
                                             " https://www.googleapis.com, without a path"),
    ("imports:", "2:1: imports: not built yet; see README, Not yet"),
    ("listen: {port: 1, port: 2}", "2:19: listen.port: given twice, first on line 2; keep one"),
    ("drain: {delay: 1s}\ndrain: {delay: 2s}", "3:1: drain: given twice, first on line 2; keep one"),
    ("drain:", "2:7: drain: is empty; give a value or leave it out"),
    ("drain: {delay: }", "2:15: drain.delay: is empty; give a value or leave it out"),
    ("routes:\n#  - path: /", "2:8: routes: is empty; give a value or leave it out"),
    ("routes: [~]", "2:10: routes[0]: is empty; give a value or leave it out"),
    # kinds of values
    ("version: 2", "2:10: version: must be 1"),
    ('version: "1"', "2:10: version: must be 1"),
    ("listen: 8207", "2:9: listen: must be a map of settings"),
    ("listen: [8207]", "2:9: listen: must be a map of settings"),
    ('listen: {port: "8207"}', "2:16: listen.port: must be a whole number; take the quotes away"),
    ("listen: {port: 0777}", "2:16: listen.port: must be a whole number; take the quotes away"),
    ("listen: {port: 1:30}", "2:16: listen.port: must be a whole number"),
    ("listen: {port: 82.07}", "2:16: listen.port: must be a whole number"),
    ("listen: {port: true}", "2:16: listen.port: must be a whole number"),
    ("listen: {port: 65536}", "2:16: listen.port: must be at most 65535"),
    ("listen: {port: -1}", "2:16: listen.port: must be at least 0"),
    ("listen: {host: 1}", "2:16: listen.host: must be text; put it in quotes"),
    ("listen: {host: 'a:1/'}", "2:16: listen.host: must be an address or a host name alone, such as 0.0.0.0,"
                              " ::1 or localhost"),
    ("log: {access: yes}", "2:15: log.access: must be true or false; write true"),
    ("log: {access: OFF}", "2:15: log.access: must be true or false; write false"),
    ("log: {access: 2}", "2:15: log.access: must be true or false"),
    ("log: {level: warn}", '2:14: log.level: must be one of debug, info, warning, error, did you mean "warning"?'),
    ("log: {format: 3}", "2:15: log.format: must be one of auto, json, pretty"),
    ("identity: {headers: Authorization}", "2:21: identity.headers: must be a list, such as [a, b]"),
    ("identity: {headers: [X Y]}", "2:22: identity.headers[0]: must be the name of a header, such as X-Api-Key"),
    ("identity: {headers: [A, a]}", "2:21: identity.headers: names a header twice"),
    ("admin: {token: abc}", "2:16: admin.token: must be a map with exactly one of value, fromEnv and fromFile"),
    ("admin: {token: {value: 12345}}", "2:24: admin.token.value: must be text; put it in quotes"),
    # units
    ("drain: {timeout: 25}", "2:18: drain.timeout: a unit is missing: write 25s"),
    ("drain: {timeout: 25000}", "2:18: drain.timeout: a unit is missing: write 25000s or 25000ms"),
    ("drain: {timeout: 25sec}", "2:18: drain.timeout: unknown unit: write 25s"),
    ("drain: {timeout: soon}", "2:18: drain.timeout: must be a duration in whole numbers, such as 250ms, 30s,"
                               " 5m or 1h30m"),
    ("drain: {timeout: 0s}", "2:18: drain.timeout: must be more than 0"),
    ("listen: {line_max: 8192}", "2:20: listen.line_max: a unit is missing: write 8KiB"),
    ("listen: {line_max: 8K}", "2:20: listen.line_max: unknown unit: write 8KiB"),
    ("listen: {line_max: 0B}", "2:20: listen.line_max: must be more than 0"),
    # the batch endpoint
    ("batch: {path: batch}", "2:15: batch.path: must start with /"),
    ("batch: {path: /batch/}", "2:15: batch.path: must be a path such as /batch, without a slash at the end"),
    ("batch: {path: /}", "2:15: batch.path: must be a path such as /batch, without a slash at the end"),
    ("batch: {path: '/{x}'}", "2:15: batch.path: must be a plain path, without {name} or **"),
    ("batch: {concurrency: 0}", "2:22: batch.concurrency: must be at least 1"),
    # routes
    ("routes: {path: /}", "2:9: routes: must be a list, such as [a, b]"),
    ("routes: [/users]", "2:10: routes[0]: must be a map of settings"),
    ("routes:\n  - methods: [GET]", "3:5: routes[0].path: missing; every entry of this list needs it"),
    ("routes: [{path: users}]", "2:17: routes[0].path: must start with /"),
    ("routes: [{path: /a//b}]", "2:17: routes[0].path: must not have an empty segment (//)"),
    ("routes: [{path: '/**/b'}]", "2:17: routes[0].path: ** must be the last segment"),
    ("routes: [{path: '/a*'}]", "2:17: routes[0].path: has a * that is not ** at the end; write {name} for one"
                                " segment"),
    ("routes: [{path: '/a{id}'}]", "2:17: routes[0].path: {name} must be a whole segment, as in /users/{id}"),
    ("routes: [{path: '/{}'}]", "2:17: routes[0].path: {name} must be a whole segment, as in /users/{id}"),
    ("routes: [{path: '/{a}/{a}'}]", "2:17: routes[0].path: uses one {name} twice; give each its own"),
    ("routes: [{path: '/a?b'}]", "2:17: routes[0].path: must not have a query or fragment; a route matches the"
                                " path alone"),
    ("routes: [{path: /a/../b}]", "2:17: routes[0].path: has a segment that is no plain text; write {name} for it"),
    ("routes: [{path: /%2e}]", "2:17: routes[0].path: has a segment that is no plain text; write {name} for it"),
    ("routes: [{path: /, methods: [get]}]", "2:30: routes[0].methods[0]: must be one of GET, HEAD, POST, PUT, PATCH,"
                                            ' DELETE, OPTIONS, did you mean "GET"?'),
    ("routes: [{path: /, methods: GET}]", "2:29: routes[0].methods: must be a list, such as [a, b]"),
    ("routes: [{path: /, methods: []}]", "2:29: routes[0].methods: must name at least one method; leave the key out"
                                         " for all of them"),
    ("routes: [{path: /, methods: [GET, GET]}]", "2:29: routes[0].methods: names a method twice"),
    ("routes: [{path: /, cost: 0}]", "2:26: routes[0].cost: must be at least 1"),
    ("routes: [{path: /, timeout: 0s}]", "2:29: routes[0].timeout: must be more than 0"),
    # limits
    ("limits: [{name: A, key: ip, rate: 1/s}]", "2:17: limits[0].name: must be 1 to 64 of a-z, 0-9 and -"),
    ("limits: [{name: a, key: user, rate: 1/s}]", "2:25: limits[0].key: must be caller, ip, global or header:NAME"),
    ("limits: [{name: a, key: ip, rate: 100}]", "2:35: limits[0].rate: a unit is missing: write 100/s"),
    ("limits: [{name: a, key: ip, rate: 5/m}]", "2:35: limits[0].rate: unknown unit: write 5/min"),
    ("limits: [{name: a, key: ip}]", "2:10: limits[0].rate: missing; every entry of this list needs it"),
    ("limits: [{name: a, key: ip, rate: 1/s, burst: 0}]", "2:47: limits[0].burst: must be at least 1"),
    ("limits: [{name: a, key: ip, rate: 1/s, on_exhausted: deny}]",
     "2:54: limits[0].on_exhausted: must be one of reject, partial, wait"),
]  # fmt: skip

_BAD_URLS = [
    ("127.0.0.1:8080", "must begin with http://, https:// or http+unix://"),
    ("ftp://a", "must begin with http://, https:// or http+unix://"),
    ("http://a b", "must be a URL in plain ASCII without spaces"),
    ("http://é", "must be a URL in plain ASCII without spaces"),
    ("http://", "must name a host, such as http://127.0.0.1:8080"),
    ("http://:80", "must name a host, such as http://127.0.0.1:8080"),
    ("http://a:99999", "has a host or port that cannot be read; write http://HOST:PORT"),
    ("http://[::1", "has a host or port that cannot be read; write http://HOST:PORT"),
    ("http://a:0", "must have a port between 1 and 65535, or none"),
    ("http://a:", "must have a port between 1 and 65535, or none"),
    ("http://a/api", "must not have a path; paths pass through as they come: end after host and port"),
    ("http://a//", "must not have a path; paths pass through as they come: end after host and port"),
    ("http://a/?", "must not have a query; operations bring their own"),
    ("http://a?b=1", "must not have a query; operations bring their own"),
    ("http://a/#b", "must not have a fragment; leave out the # and what follows"),
    ("http://u:p@a", "must not hold a user or password; callers' own headers travel through"),
    ("http+unix://", "must name a socket: http+unix:///run/app.sock"),
    ("http+unix://%2Frun%2Fapp.sock", "must name a socket: http+unix:///run/app.sock"),
]


@pytest.mark.parametrize(("text", "line"), _BAD)
def test_a_bad_configuration_is_answered_with_one_line(refused: Refused, text: str, line: str) -> None:
    assert refused(f"upstream: {{url: http://a}}\n{text}\n") == [f"<stdin>:{line}"]


@pytest.mark.parametrize(("url", "said"), _BAD_URLS)
def test_a_bad_url_is_answered_with_its_cure(refused: Refused, url: str, said: str) -> None:
    assert refused(f"upstream:\n  url: '{url}'\n") == [f"<stdin>:2:8: upstream.url: {said}"]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", f"1:1: upstream.url: {_GIVE}, as --upstream URL or as BATCH_GATEWAY__UPSTREAM__URL"),
        ("log: {}\nupstream:\n  timeout: 1s",
         f"2:1: upstream.url: {_GIVE}, as --upstream URL or as BATCH_GATEWAY__UPSTREAM__URL"),
        ("upstreams:\n  default: {url: http://a}\n  b: {}",
         f"3:3: upstreams.b.url: {_GIVE} or as BATCH_GATEWAY__UPSTREAMS__B__URL"),
        ("upstreams:\n  default: {url: http://a}\n  B: {url: http://b}",
         "2:3: upstreams: names must be 1 to 64 of a-z, 0-9, _ and -"),
        ("upstreams: [a]", "1:12: upstreams: must be a map of settings"),
        ("upstream: http://a", "1:11: upstream: must be a map of settings"),
        ("upstream: {url: http://a, retries: 3}", "1:36: upstream.retries: must be at most 2"),
        ("upstream: {url: http://a, pipelining: 65}", "1:39: upstream.pipelining: must be at most 64"),
        ("upstream: {url: http://a, tls: {server_name: ''}}",
         "1:46: upstream.tls.server_name: must be text without control characters, and not empty"),
    ],
)  # fmt: skip
def test_a_bad_upstream_is_answered_with_one_line(refused: Refused, text: str, line: str) -> None:
    assert refused(text) == [f"<stdin>:{line}"]


def test_every_problem_is_reported_at_once_in_the_order_of_the_file_then_variables(refused: Refused) -> None:
    environ = {"BATCH_GATEWAY__UPSTREM__URL": "x", "BATCH_GATEWAY__LOG__LEVEL": "loud"}

    lines = refused("listen: {port: x}\nupstream:\n  timout: 30s\n  tls: {}\n  tls: {}\n", environ)

    assert [line.split(": ")[:2] for line in lines] == [
        ["<stdin>:1:16", "listen.port"],
        ["<stdin>:2:1", "upstream.url"],
        ["<stdin>:3:3", "upstream.timout"],
        ["<stdin>:5:3", "upstream.tls"],
        ["environment BATCH_GATEWAY__LOG__LEVEL", "log.level"],
        ["environment BATCH_GATEWAY__UPSTREM__URL", 'unknown variable, did you mean "BATCH_GATEWAY__UPSTREAM__URL"?'],
    ]


def test_a_problem_of_a_flag_names_the_flag(refused: Refused) -> None:
    lines = refused("", None, {"upstream.url": "a:1", "listen.port": "x"})

    assert lines == [
        "flag --listen: listen.port: must be a whole number",
        "flag --upstream: upstream.url: must begin with http://, https:// or http+unix://",
    ]
