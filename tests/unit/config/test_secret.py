"""A secret comes from exactly one place and is never printed."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from gateway.config import Loaded, Secret, effective

Read = Callable[..., Loaded]
Refused = Callable[..., list[str]]

_UPSTREAM = "upstream: {url: http://a}\n"
_SECRET = "hunter2-s3cret"


def _token(loaded: Loaded) -> str:
    assert loaded.config.admin.token is not None
    return loaded.config.admin.token.reveal()


def test_a_value_is_the_secret(read: Read) -> None:
    assert _token(read(f"{_UPSTREAM}admin: {{token: {{value: {_SECRET}}}}}")) == _SECRET


def test_a_variable_is_read(read: Read) -> None:
    assert _token(read(f"{_UPSTREAM}admin: {{token: {{fromEnv: X}}}}", {"X": _SECRET})) == _SECRET


@pytest.mark.parametrize(("end", "kept"), [("", ""), ("\n", ""), ("\r\n", ""), ("\n\n", "\n"), (" \n", " ")])
def test_a_file_is_read_without_one_newline_at_its_end(read: Read, tmp_path: Path, end: str, kept: str) -> None:
    file = tmp_path / "token"
    file.write_bytes((_SECRET + end).encode())

    assert _token(read(f"{_UPSTREAM}admin: {{token: {{fromFile: '{file}'}}}}")) == _SECRET + kept


def test_a_variable_replaces_the_files_secret_whole(read: Read) -> None:
    environ = {"BATCH_GATEWAY__ADMIN__TOKEN__FROMENV": "X", "X": "new"}

    loaded = read(f"{_UPSTREAM}admin: {{token: {{value: old}}}}", environ)

    assert _token(loaded) == "new"
    assert loaded.sources["admin.token"] == "environment BATCH_GATEWAY__ADMIN__TOKEN__FROMENV"


def test_two_variables_for_one_secret_are_refused(refused: Refused) -> None:
    environ = {"BATCH_GATEWAY__ADMIN__TOKEN__FROMENV": "X", "BATCH_GATEWAY__ADMIN__TOKEN__VALUE": "y", "X": "x"}

    lines = refused(_UPSTREAM, environ)

    assert [line.split(": ", 1)[1] for line in lines] == [
        "admin.token: give exactly one of value, fromEnv and fromFile"
    ]


def test_no_rendering_of_a_configuration_shows_the_secret(read: Read) -> None:
    loaded = read(f"{_UPSTREAM}admin: {{token: {{value: {_SECRET}}}}}")
    config = loaded.config

    shown = [
        repr(config),
        str(config),
        repr(loaded),
        f"{config.admin.token}",
        effective(loaded),
        str(config.model_dump()),
    ]
    shown += [config.model_dump_json(), json.dumps(dict(loaded.sources)), loaded.digest]

    assert not any(_SECRET in text for text in shown)
    assert 'token: "[hidden]"  # <stdin>:2:24' in effective(loaded)


def test_equal_secrets_are_equal_and_others_are_not() -> None:
    assert Secret("a") == Secret("a")
    assert Secret("a") != Secret("b")


@pytest.mark.parametrize(
    "token",
    [
        _SECRET,
        f"{{{_SECRET}}}",
        f"{{{_SECRET}: x}}",
        f"{{value:{_SECRET}}}",
        f"{{vale: {_SECRET}}}",
        f"{{value: {_SECRET}, fromEnv: {_SECRET}}}",
        f"{{fromEnv: {_SECRET}}}",
        f"{{fromFile: {_SECRET}}}",
        f"{{value: [{_SECRET}]}}",
        f"{{value: {{{_SECRET}: {_SECRET}}}}}",
        f"[{_SECRET}]",
        f"*{_SECRET}",
        f"!{_SECRET} x",
        f"!!int {_SECRET}",
        f'"{_SECRET}',
        f"{_SECRET}: {_SECRET}",
        f"%{_SECRET}",
        f"{{value: @{_SECRET}}}",
    ],
)
def test_a_secret_in_the_wrong_form_is_refused_and_not_repeated(refused: Refused, token: str) -> None:
    lines = refused(f"{_UPSTREAM}admin:\n  token: {token}\n")

    assert lines
    assert not any("hunter2" in line for line in lines)


@pytest.mark.parametrize(
    "text",
    [
        f"upstream: {{url: http://user:{_SECRET}@a}}",
        f"upstream: {{url: 'http://a/{_SECRET}'}}",
        f"{_UPSTREAM}admin: {{host: 1.1.1.1, token:{_SECRET}}}",
        f"{_UPSTREAM}identity: {{headers: ['Authorization: {_SECRET}']}}",
        f"{_UPSTREAM}listen: {{port: {_SECRET}, idle_timeout: {_SECRET}, line_max: {_SECRET}, host: 'a {_SECRET}'}}",
        f"{_UPSTREAM}log: {{level: {_SECRET}, access: {_SECRET}}}",
        f"{_UPSTREAM}limits: [{{name: '{_SECRET}!', key: {_SECRET}, rate: {_SECRET}}}]",
        f"{_UPSTREAM}routes: [{{path: {_SECRET}}}]",
    ],
)
def test_a_secret_in_another_place_is_not_repeated_either(refused: Refused, text: str) -> None:
    assert not any("hunter2" in line for line in refused(text))


@pytest.mark.parametrize(
    "name", ["ADMIN__TOKEN", "LISTEN__PORT", "UPSTREAM__URL", "ROUTES", "DRAIN__DELAY", "LOG__LEVEL"]
)
def test_a_secret_in_a_variable_is_not_repeated(refused: Refused, name: str) -> None:
    assert not any("hunter2" in line for line in refused(_UPSTREAM, {f"BATCH_GATEWAY__{name}": _SECRET}))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "the secret is empty"),
        (b"\n", "the secret is empty"),
        (b"\xff", "fromFile: the file is not UTF-8 text"),
        (b"x" * 70_000, "fromFile: larger than 64KiB; is this the right file?"),
    ],
)
def test_a_file_that_holds_no_secret_is_refused(refused: Refused, tmp_path: Path, content: bytes, said: str) -> None:
    file = tmp_path / "token"
    file.write_bytes(content)

    assert refused(f"{_UPSTREAM}admin: {{token: {{fromFile: '{file}'}}}}") == [f"<stdin>:2:16: admin.token: {said}"]


@pytest.mark.parametrize(
    ("token", "said"),
    [
        ("{}", "give exactly one of value, fromEnv and fromFile"),
        ("{value: a, fromEnv: b}", "give exactly one of value, fromEnv and fromFile"),
        ("{fromEnv: NO_SUCH}", "fromEnv: no such environment variable"),
        ("{fromFile: /no/such}", "fromFile: cannot be read (No such file or directory)"),
        ("{fromFile: /}", "fromFile: cannot be read (Is a directory)"),
        ('{fromFile: "a\\0"}', "fromFile: cannot be read (no valid path)"),
        ("{value: ''}", "the secret is empty"),
    ],
)
def test_a_reference_to_nothing_is_refused(refused: Refused, token: str, said: str) -> None:
    assert refused(f"{_UPSTREAM}admin: {{token: {token}}}") == [f"<stdin>:2:16: admin.token: {said}"]
