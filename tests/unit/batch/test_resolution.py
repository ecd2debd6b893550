"""Resolution: what comes out of a reference is judged like anything a caller writes."""

import pytest

from gateway.batch.model import Batch, Failure, Operation, Outcome
from gateway.batch.resolution import Resolution, route_ahead
from gateway.batch.routes import Route, Routes
from gateway.batch.validation import Rules
from gateway.upstream.headers import refusals_in_operation

ROUTES = Routes([Route("/users/{id}"), Route("/reports/**", cost=10), Route("/start"), Route("/", cost=1)])
RULES = Rules(("/batch",), 1000, refusals_in_operation)
FIRST = Operation("a", "GET", "/start")


def decide(method: str, target: str) -> Route | Failure:
    return ROUTES.match(method, target) or Failure("route-not-allowed", "no route")


def ran(operation: Operation, body: bytes = b'{"id": 7}', **headers: str) -> tuple[Operation, Route] | Failure:
    """What `operation` becomes after FIRST was answered."""
    batch = Batch([FIRST, operation])
    routes = [route_ahead(each, decide, ROUTES.cost_max) for each in batch.operations]
    resolution = Resolution(batch, routes, RULES, decide)
    outcomes = [Outcome(0, 200, headers, body)]
    return resolution.of(1, lambda id_: outcomes[resolution.place_of(id_)])


def test_a_path_is_routed_by_what_it_becomes() -> None:
    found = ran(Operation("b", "GET", "/users/{$ops.a.response.body#/id}"))

    assert not isinstance(found, Failure)
    assert (found[0].target, found[1].template) == ("/users/7", "/users/{id}")


def test_a_whole_path_may_go_anywhere_that_is_allowed() -> None:
    found = ran(Operation("b", "GET", "$ops.a.response.header.Location"), Location="/reports/2026/11")

    assert not isinstance(found, Failure)
    assert (found[0].target, found[1].template) == ("/reports/2026/11", "/reports/**")


@pytest.mark.parametrize(
    ("location", "slug"),
    [
        ("http://elsewhere.example/users/7", "reference-unresolved"),
        ("//elsewhere.example/users/7", "reference-unresolved"),
        ("/users/../admin", "reference-unresolved"),
        ("/batch", "reference-unresolved"),
        ("/admin", "route-not-allowed"),
        ("", "reference-unresolved"),
    ],
)
def test_what_a_caller_may_not_write_an_answer_may_not_bring(location: str, slug: str) -> None:
    found = ran(Operation("b", "GET", "$ops.a.response.header.Location"), Location=location)

    assert isinstance(found, Failure)
    assert found.slug == slug


def test_a_text_in_a_path_stays_one_segment() -> None:
    found = ran(Operation("b", "GET", "/users/{$ops.a.response.body#/id}"), b'{"id": "../admin"}')

    assert isinstance(found, Failure)
    assert found.slug == "reference-unresolved"


@pytest.mark.parametrize(
    ("body", "fits"),
    [
        (b'"$ops.a.response.body#/id"', True),
        (b'["$ops.a.response.body#/id"]', False),
        (b'["$ops.a.response.body", "$ops.a.response.body"]', False),
        (b"[%b]" % b",".join([b'"$ops.a.response.body"'] * 40), False),
    ],
)
def test_a_body_that_references_fill_is_no_larger_than_another(body: bytes, fits: bool) -> None:
    asked = Operation("b", "POST", "/start", (("Content-Type", "application/json"),), body, True)

    found = ran(asked, b'{"id": "%b"}' % (b"x" * (RULES.body_bytes_max - 2)))

    assert isinstance(found, Failure) is not fits
    assert fits or (isinstance(found, Failure) and found.slug == "reference-unresolved")


def test_nothing_that_costs_more_than_was_charged_is_sent() -> None:
    routes = Routes([Route("/x/y", cost=5), Route("/x/{any}", cost=1)])
    batch = Batch([FIRST, Operation("b", "GET", "/x/{$ops.a.response.body#/id}")])
    ahead = [Route("/start"), Route("/x/{any}", cost=1)]
    resolution = Resolution(batch, ahead, RULES, lambda m, t: routes.match(m, t) or Failure("x", "x"))

    found = resolution.of(1, lambda _: Outcome(0, 200, {}, b'{"id": "y"}'))

    assert isinstance(found, Failure)
    assert found.slug == "route-not-allowed"


def test_a_field_may_not_bring_what_no_operation_may_carry() -> None:
    found = ran(Operation("b", "GET", "/start", (("X-A", "$ops.a.response.body#/id"),)), '{"id": "ä"}'.encode())

    assert isinstance(found, Failure)
    assert found.slug == "reference-unresolved"


@pytest.mark.parametrize(
    ("said", "becomes"),
    [
        ("$ops.a.response.body#/id", "7"),
        ('"pay-{$ops.a.response.body#/id}"', '"pay-7"'),
        ("$$ops.a", "$ops.a"),
        ("k{$ops.a.response.body#/none}", "k"),
    ],
)
def test_a_key_takes_the_text(said: str, becomes: str) -> None:
    found = ran(Operation("b", "POST", "/start", key=said), b'{"id": 7, "none": ""}')

    assert found == (Operation("b", "POST", "/start", key=becomes), ROUTES.match("POST", "/start"))


@pytest.mark.parametrize("value", [b'""', b'"a b"', b'"%b"' % (b"x" * 256)], ids=["empty", "blank", "long"])
def test_a_key_may_not_become_what_is_none(value: bytes) -> None:
    found = ran(Operation("b", "POST", "/start", key="$ops.a.response.body#/id"), b'{"id": %b}' % value)

    assert isinstance(found, Failure)
    assert found.slug == "reference-unresolved"
    assert "visible ASCII" in found.detail


def test_what_finds_nothing_fails_and_what_refers_to_nothing_stays() -> None:
    assert isinstance(ran(Operation("b", "GET", "/users/{$ops.a.response.body#/x}")), Failure)
    plain = Operation("b", "GET", "/users/1")
    assert ran(plain) == (plain, ROUTES.match("GET", "/users/1"))
    by_field = ran(Operation("b", "GET", "/users/1", (("X-A", "$ops.a.response.status"),)))
    assert not isinstance(by_field, Failure)
    assert by_field[0].fields == (("X-A", "200"),)


def test_an_operation_that_was_refused_stays_refused() -> None:
    found = ran(Operation("b", "GET", "/nowhere/{$ops.a.response.status}"))

    assert isinstance(found, Failure)
    assert found.slug == "route-not-allowed"
