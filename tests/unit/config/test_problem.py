"""How a problem reads."""

from gateway.config.problem import ConfigError, Problem, did_you_mean, dotted


def test_a_problem_reads_as_place_path_and_message() -> None:
    problem = Problem("gateway.yaml", 3, 13, "upstream.timout", 'unknown key, did you mean "timeout"?', "unknown-key")

    assert str(problem) == 'gateway.yaml:3:13: upstream.timout: unknown key, did you mean "timeout"?'


def test_a_problem_of_a_variable_names_it_in_place_of_line_and_column() -> None:
    assert str(Problem("environment X", None, None, "a.b", "m", "c")) == "environment X: a.b: m"


def test_an_error_prints_every_problem_on_its_own_line() -> None:
    problems = [Problem("f", line, 1, "a", "m", "c") for line in (1, 2)]

    assert str(ConfigError(problems)) == "f:1:1: a: m\nf:2:1: a: m"


def test_a_path_shows_elements_as_indexes_and_hides_what_is_no_key() -> None:
    assert dotted(("routes", 0, "path")) == "routes[0].path"
    assert dotted(("admin", "p@ss w0rd")) == "admin.(no name)"


def test_the_nearest_word_is_suggested_whatever_its_case() -> None:
    assert did_you_mean("get", ["GET", "PUT"]) == "GET"
    assert did_you_mean("zebra", ["GET", "PUT"]) is None
