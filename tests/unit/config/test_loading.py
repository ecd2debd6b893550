"""Where values come from, which one wins, and what happens when there is no file."""

import json
import os
import sys
from collections.abc import Callable
from io import StringIO
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.config import ConfigError, Loaded, contents_of, load

Read = Callable[..., Loaded]
Refused = Callable[..., list[str]]

_URL = "BATCH_GATEWAY__UPSTREAM__URL"


def test_no_file_at_all_works() -> None:
    loaded = load(None, {}, {"upstream.url": "http://a:1"})

    assert loaded.config.all_upstreams["default"].url == "http://a:1"
    assert loaded.config.routes is None
    assert loaded.path is None


def test_without_anything_the_one_problem_says_what_to_give() -> None:
    with pytest.raises(ConfigError) as caught:
        load(None, {}, {})

    assert str(caught.value) == f"upstream.url: missing; give it in the file, as --upstream URL or as {_URL}"


def test_a_flag_wins_over_a_variable_over_the_file_over_the_default(read: Read) -> None:
    text = "upstream: {url: http://file, retries: 1, timeout: 9s}\n"
    environ = {_URL: "http://variable", "BATCH_GATEWAY__UPSTREAM__RETRIES": "0"}

    loaded = read(text, environ, {"upstream.url": "http://flag", "listen.port": None})

    upstream = loaded.config.all_upstreams["default"]
    assert (upstream.url, upstream.retries, upstream.timeout, upstream.connections) == ("http://flag", 0, 9.0, 100)
    sources = loaded.sources
    assert sources["upstream.url"] == "flag --upstream"
    assert sources["upstream.retries"] == "environment BATCH_GATEWAY__UPSTREAM__RETRIES"
    assert sources["upstream.timeout"] == "<stdin>:1:51"
    assert sources["upstream.connections"] == "default"


def test_entries_of_lists_have_sources_and_lists_of_words_have_one(read: Read) -> None:
    text = "upstream: {url: http://a}\nroutes:\n  - path: /a\n    methods: [GET]\nlimits: []\n"

    sources = read(text).sources

    assert sources["routes[0].path"] == "<stdin>:3:11"
    assert sources["routes[0].methods"] == "<stdin>:4:14"
    assert sources["routes[0].cost"] == "default"
    assert sources["limits"] == "<stdin>:5:9"


def test_a_file_is_read_and_named_as_it_was_given(tmp_path: Path) -> None:
    file = tmp_path / "gateway.yaml"
    file.write_text("\ufeffupstream: {url: http://a}\n", encoding="utf-8")

    loaded = load(file, {}, {})

    assert loaded.path == file
    assert loaded.sources["upstream.url"] == f"{file}:1:17"


def test_a_file_that_is_not_there_is_one_problem_with_its_cure() -> None:
    with pytest.raises(ConfigError) as caught:
        load(Path("no/such.yaml"), {}, {})

    cure = "name another with --config, or leave it out and give --upstream URL"
    assert str(caught.value) == f"no/such.yaml: no such file; {cure}"


@pytest.mark.parametrize(
    ("content", "said"),
    [(b"\xff\xfe", "is not UTF-8 text"), (b"#" * 1_100_000, "larger than 1MiB; is this the right file?")],
)
def test_a_file_that_is_no_configuration_is_refused(tmp_path: Path, content: bytes, said: str) -> None:
    file = tmp_path / "gateway.yaml"
    file.write_bytes(content)

    with pytest.raises(ConfigError) as caught:
        load(file, {}, {})

    assert str(caught.value) == f"{file}: {said}"


def test_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
        load(tmp_path, {}, {})


def test_a_dash_reads_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", StringIO("upstream: {url: http://a}"))

    assert load(Path("-"), {}, {}).sources["upstream.url"] == "<stdin>:1:17"


def test_a_file_that_is_no_yaml_is_reported_beside_unknown_variables(refused: Refused) -> None:
    lines = refused("a: b: c", {"BATCH_GATEWAY__ZZZ": "1"})

    assert [line.split(": ")[0] for line in lines] == ["<stdin>:1:5", "environment BATCH_GATEWAY__ZZZ"]


def test_the_digest_tells_configurations_apart_and_not_how_they_were_given(read: Read) -> None:
    in_file = read("upstream: {url: http://a, timeout: 1m}").digest

    assert in_file == read("upstream: {timeout: 60s}", {_URL: "http://a/"}).digest
    assert in_file != read("upstream: {url: http://b, timeout: 1m}").digest
    assert len(in_file) == 12


def test_the_digest_keeps_a_secret_to_itself(read: Read) -> None:
    digests = {read(f"upstream: {{url: http://a}}\nadmin: {{token: {{value: {token}}}}}").digest for token in "ab"}

    assert len(digests) == 1


@given(st.text(alphabet="upstreamlio: \n{}[],-&*<'\"/0159s") | st.text())
def test_no_text_raises_anything_but_a_config_error(text: str) -> None:
    try:
        load(Path("-"), {}, {"upstream.url": "http://a"}, StringIO(text))
    except ConfigError as error:
        str(error).encode()


_VALUE = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.sampled_from(["GET", "1s", "1/s", "/a", "ip"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["path", "methods", "name", "key", "rate", "routes", "url", "port"]), inner, max_size=3
        )
    ),
    max_leaves=8,
)


@given(
    st.dictionaries(st.sampled_from(["listen", "upstream", "upstreams", "routes", "limits", "admin", "batch"]), _VALUE)
)
def test_no_tree_raises_anything_but_a_config_error(read: Read, tree: dict[str, object]) -> None:
    try:
        read(json.dumps(tree))
    except ConfigError as error:
        str(error).encode()


def test_a_refusal_names_the_files_that_could_mend_it(tmp_path: Path) -> None:
    file, token = tmp_path / "gateway.yaml", tmp_path / "token"
    file.write_text(f"upstream: {{url: http://a}}\nadmin: {{token: {{fromFile: {token}}}}}")

    with pytest.raises(ConfigError) as caught:
        load(file, {}, {})

    assert caught.value.files[token] is None
    assert caught.value.files[file]


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)

    assert contents_of([pipe, Path("a\0b")]) == {pipe: None, Path("a\0b"): None}
