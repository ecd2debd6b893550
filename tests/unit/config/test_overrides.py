"""Variables and flags: what they set, what wins, and what they are told when they mean nothing."""

import pytest

from gateway.config.overrides import read_environment, read_flags, variable
from gateway.config.shape import leaves
from gateway.config.tree import find, plain


def _environment(**variables: str) -> object:
    tree, problems = read_environment({f"BATCH_GATEWAY__{name}": text for name, text in variables.items()})
    assert problems == ()
    return plain(tree)


def _refusal(name: str, text: str) -> str:
    _, problems = read_environment({name: text})
    assert len(problems) == 1
    return str(problems[0])


def test_a_variable_sets_the_key_of_its_name_as_the_kind_it_has() -> None:
    found = _environment(
        UPSTREAM__URL="http://a", LISTEN__PORT="1", LOG__ACCESS="false", VERSION="1", DRAIN__DELAY="3s"
    )

    assert found == {
        "upstream": {"url": "http://a"},
        "listen": {"port": 1},
        "log": {"access": False},
        "version": 1,
        "drain": {"delay": "3s"},
    }


def test_a_secret_that_looks_like_a_number_stays_text() -> None:
    assert _environment(ADMIN__TOKEN__VALUE="0123") == {"admin": {"token": {"value": "0123"}}}


def test_camel_case_keys_are_reached_in_capitals() -> None:
    assert _environment(ADMIN__TOKEN__FROMENV="X") == {"admin": {"token": {"fromEnv": "X"}}}


def test_lists_and_maps_are_json() -> None:
    found = _environment(IDENTITY__HEADERS='["A", "B"]', UPSTREAMS='{"default": {"url": "u", "retries": 1}}')

    assert found == {"identity": {"headers": ["A", "B"]}, "upstreams": {"default": {"url": "u", "retries": 1}}}


def test_an_entry_of_a_map_has_variables_of_its_own() -> None:
    assert _environment(UPSTREAMS__REPORTS__URL="u") == {"upstreams": {"reports": {"url": "u"}}}


def test_a_single_key_wins_over_its_section_given_as_json() -> None:
    assert _environment(LISTEN='{"port": 1, "host": "h"}', LISTEN__PORT="2") == {"listen": {"port": 2, "host": "h"}}


def test_what_kubernetes_sets_for_a_service_of_our_name_is_ignored() -> None:
    tree, problems = read_environment({"BATCH_GATEWAY_PORT": "tcp://10.0.0.1:80", "PATH": "/bin"})

    assert plain(tree) == {}
    assert problems == ()


@pytest.mark.parametrize("path", [path for path in leaves() if "<name>" not in path])
def test_every_key_has_a_variable(path: tuple[str, ...]) -> None:
    _, problems = read_environment({variable(path): "[]"})

    assert problems == ()


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("UPSTREM__URL", "x", 'unknown variable, did you mean "BATCH_GATEWAY__UPSTREAM__URL"?'),
        ("UPSTREAM__TIMOUT", "x", 'unknown variable, did you mean "BATCH_GATEWAY__UPSTREAM__TIMEOUT"?'),
        ("ZZZ", "x", "unknown variable; see `batch-gateway config schema` for the names"),
        ("ROUTES__0__PATH", "/", "routes: a list has one variable, BATCH_GATEWAY__ROUTES, and is JSON"),
        ("LISTEN__PORT__X", "1", 'unknown variable, did you mean "BATCH_GATEWAY__LISTEN__PORT"?'),
        ("IMPORTS__USERS", "{}", "imports: not built yet; see README, Not yet"),
        ("UPSTREAM__URL", "", "upstream.url: is empty; give a value or unset the variable"),
        ("IDENTITY__HEADERS", "A,B", 'identity.headers: must be JSON, such as ["X-Api-Key"]; character 1 is wrong'),
        ("UPSTREAM", '{"url": }', 'upstream: must be JSON, such as {"key": "value"}; character 9 is wrong'),
        ("UPSTREAM", '{"url": 1, "url": 2}', "upstream: has a key twice in one JSON object; keep one"),
        ("UPSTREAM", '{"retries": NaN}', "upstream: holds a number that JSON does not have"),
        ("ROUTES", "[" * 100_000, "routes: must be JSON that is not nested so deeply"),
    ],
)
def test_a_variable_that_means_nothing_is_named_with_its_cure(name: str, text: str, said: str) -> None:
    assert _refusal(f"BATCH_GATEWAY__{name}", text) == f"environment BATCH_GATEWAY__{name}: {said}"


def test_a_flag_sets_its_path_and_keeps_its_name() -> None:
    tree = read_flags(
        {"upstream.url": "http://a", "listen.host": "h", "listen.port": "1", "admin.port": 2, "admin.host": None}
    )

    assert plain(tree) == {"upstream": {"url": "http://a"}, "listen": {"host": "h", "port": 1}, "admin": {"port": 2}}
    found = find(tree, ("listen", "port"))
    assert found is not None
    assert str(found.place) == "flag --listen"


def test_a_flag_for_no_setting_is_a_bug_of_the_command_line() -> None:
    with pytest.raises(LookupError):
        read_flags({"upstream.nothing": "x"})
