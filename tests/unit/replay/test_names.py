"""Whose key it is, and for which request."""

from gateway.batch.model import Operation
from gateway.replay.names import Names

NAMES = Names(bytes(32))
REQUEST = Operation("a", "POST", "/users?x=1", (("Content-Type", "application/json"),), b"{}", True)


def keyed(*keys: str) -> list[Operation]:
    return [Operation("a", "POST", "/", key=key) for key in keys]


def test_a_key_is_its_callers_alone_and_of_its_kind() -> None:
    ada, eve = NAMES.of_owner("ada"), NAMES.of_owner("eve")
    found = {
        *NAMES.of_keys(ada, keyed("k", "l")),
        *NAMES.of_keys(eve, keyed("k")),
        NAMES.of_envelope_key(ada, "k"),
        *Names(b"1" * 32).of_keys(ada, keyed("k")),
    }

    assert len(found) == 5
    assert NAMES.of_keys(ada, keyed("k")) == Names(bytes(32)).of_keys(ada, keyed("k")), "replicas with one secret agree"


def test_only_method_target_type_and_body_make_a_request_another() -> None:
    same = Operation(
        "other", "POST", "/users?x=1", (("X-Trace", "1"), ("content-type", "application/json")), b"{}", True
    )
    others = [
        REQUEST,
        Operation("a", "PUT", *_after_method(REQUEST)),
        Operation("a", "POST", "/users?x=2", REQUEST.fields, b"{}", True),
        Operation("a", "POST", "/users?x=1", (("Content-Type", "text/json"),), b"{}", True),
        Operation("a", "POST", "/users?x=1", (), b"{}", True),
        Operation("a", "POST", "/users?x=1", REQUEST.fields, b"{ }", True),
        Operation("a", "POST", "/users?x=1", REQUEST.fields, b"", True),
        Operation("a", "POST", "/users?x=1", REQUEST.fields),
    ]

    assert NAMES.of_requests([same]) == NAMES.of_requests([REQUEST])
    assert len(set(NAMES.of_requests(others))) == len(others)


def test_parts_cannot_be_cut_in_two_ways() -> None:
    assert NAMES.of_envelope([b"ab", b"c"]) != NAMES.of_envelope([b"a", b"bc"])


def _after_method(operation: Operation) -> tuple[str, tuple[tuple[str, str], ...], bytes, bool]:
    return operation.target, operation.fields, operation.body, operation.has_body
