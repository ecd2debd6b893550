"""Routes, limits and upstreams that are right alone and wrong together."""

from collections.abc import Callable

import pytest

from gateway.config import Loaded

Read = Callable[..., Loaded]
Refused = Callable[..., list[str]]

_UPSTREAM = "upstream: {url: http://a}\n"


@pytest.mark.parametrize(
    ("routes", "lines"),
    [
        (["{path: /a}", "{path: /a}"],
         ["4:12: routes[1].path: routes[0] (<stdin>:3:5) has this template with GET, HEAD, POST, PUT, PATCH, DELETE,"
          " OPTIONS already"]),
        (["{path: '/a/{b}', methods: [GET, PUT]}", "{path: '/a/{c}', methods: [PUT]}"],
         ["4:12: routes[1].path: routes[0] (<stdin>:3:5) has this template with PUT already"]),
        (["{path: '/**'}", "{path: /a, methods: [GET]}"],
         ["4:12: routes[1].path: can never match: routes[0] (<stdin>:3:5) takes every path; put it last"]),
        (["{path: '/**'}", "{path: '/**', methods: [GET]}"],
         ["4:12: routes[1].path: routes[0] (<stdin>:3:5) has this template with GET already"]),
        (["{path: /a, upstream: b}"], ["3:26: routes[0].upstream: no such upstream; known: default"]),
        (["{path: /a, upstream: defualt}"], ['3:26: routes[0].upstream: no such upstream, did you mean "default"?']),
    ],
)  # fmt: skip
def test_routes_that_do_not_fit_are_reported(refused: Refused, routes: list[str], lines: list[str]) -> None:
    text = _UPSTREAM + "routes:\n" + "".join(f"  - {route}\n" for route in routes)

    assert refused(text) == [f"<stdin>:{line}" for line in lines]


@pytest.mark.parametrize(
    ("limits", "lines"),
    [
        (["{name: a, key: ip, rate: 9/s}", "{name: a, key: caller, rate: 9/s}"],
         ["5:12: limits[1].name: taken by limits[0] (<stdin>:4:12); each needs its own"]),
        (["{name: a, key: ip, rate: 9/s, routes: [/b, /b/]}"],
         ["4:48: limits[0].routes[1]: not among routes, did you mean \"/b\"?"]),
        (["{name: a, key: ip, rate: 9/s, routes: [/zebra]}"],
         ["4:44: limits[0].routes[0]: not among routes; write it as its path stands there"]),
        (["{name: a, key: ip, rate: 1/s, burst: 4}"],
         ["2:27: routes[0].cost: 5 is above the burst of limits[0] (4): it could never run"]),
    ],
)  # fmt: skip
def test_limits_that_do_not_fit_are_reported(refused: Refused, limits: list[str], lines: list[str]) -> None:
    text = _UPSTREAM + "routes: [{path: /b, cost: 5}]\nlimits:\n" + "".join(f"  - {limit}\n" for limit in limits)

    assert refused(text) == [f"<stdin>:{line}" for line in lines]


def test_a_limit_cannot_name_routes_where_there_are_none(refused: Refused) -> None:
    lines = refused(f"{_UPSTREAM}limits: [{{name: a, key: ip, rate: 1/s, routes: [/b]}}]")

    assert lines == ["<stdin>:2:49: limits[0].routes[0]: not among routes; write it as its path stands there"]


def test_routes_that_leave_each_other_room_are_accepted(read: Read) -> None:
    routes = read(
        f"{_UPSTREAM}routes:\n"
        "  - {path: /a, methods: [GET]}\n"
        "  - {path: /a, methods: [PUT]}\n"
        "  - {path: '/a/{b}'}\n"
        "  - {path: '/a/**'}\n"
        "  - {path: /, methods: [GET]}\n"
        "  - {path: '/v1/things:batch', cost: 7}\n"
        "  - {path: '/**', methods: [GET]}\n"
        "  - {path: /z/}\n"
        "limits: [{name: a, key: 'header:X-Tenant', rate: 7/s, routes: ['/a/**', /z/]}]"
    ).config.routes

    assert routes is not None
    assert len(routes) == 8


def test_a_bad_route_does_not_hide_what_is_wrong_with_the_others(refused: Refused) -> None:
    routes = "  - {path: b}\n  - {path: /a}\n  - {path: /a, cost: x}\n  - {path: /a, methods: [x]}\n"

    lines = refused(f"{_UPSTREAM}routes:\n{routes}")

    assert [line.split(": ")[:2] for line in lines] == [
        ["<stdin>:3:12", "routes[0].path"],
        ["<stdin>:5:12", "routes[2].path"],
        ["<stdin>:5:22", "routes[2].cost"],
        ["<stdin>:6:26", "routes[3].methods[0]"],
    ]


def test_routes_and_limits_of_the_wrong_kind_leave_the_rules_silent(refused: Refused) -> None:
    lines = refused(f"{_UPSTREAM}routes: x\nlimits: [{{name: a, key: ip, rate: 1/s, routes: [/b]}}]")

    assert lines == ["<stdin>:2:9: routes: must be a list, such as [a, b]"]
