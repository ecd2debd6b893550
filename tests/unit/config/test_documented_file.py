"""config/gateway.yaml: loads as it stands, holds every key, tells the truth about every default."""

import re
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft7Validator  # type: ignore[import-untyped]  # ships no types
from pydantic_core import PydanticUndefined

from gateway.config import Config, Limit, Loaded, Route, Upstream, json_schema
from gateway.config.shape import leaves

Read = Callable[..., Loaded]

_TEXT = (Path(__file__).parents[3] / "config" / "gateway.yaml").read_text()
# Settings that are off have no single space behind their #, as prose has; this switches all of them on.
_EVERYTHING = re.sub(r"^#(?=\S|  )", "", _TEXT, flags=re.MULTILINE)


def _everything() -> dict[str, Any]:
    found = yaml.safe_load(_EVERYTHING)
    assert isinstance(found, dict)
    return found


def _given(path: tuple[str, ...]) -> object:
    """What stands at a path; `<name>` is any entry, and the first element of a list stands for all."""
    found: Any = _everything()
    for step in path:
        found = found[0] if isinstance(found, list) else found
        found = found["default" if step == "<name>" else step]
    return found


def test_it_loads_as_it_stands_and_changes_no_default(read: Read) -> None:
    config = read(_TEXT).config

    assert config == Config(upstream=Upstream(url="http://127.0.0.1:8080"))


def test_the_schema_accepts_it_as_it_stands_and_each_setting_that_is_off() -> None:
    everything = _everything()
    token = everything["admin"]["token"]
    validator = Draft7Validator(json_schema())

    variants = [yaml.safe_load(_TEXT)]
    for upstreams, secret in product(("upstream", "upstreams"), token):
        admin = {**everything["admin"], "token": {secret: token[secret]}}
        asynchronous = {**everything["async"], "key": {secret: everything["async"]["key"][secret]}}
        variants.append({**everything, "admin": admin, "async": asynchronous})
        del variants[-1][upstreams]

    assert [error.message for each in variants for error in validator.iter_errors(each)] == []


# An entry of `upstreams` has the keys of `upstream`, which the file says once.
@pytest.mark.parametrize("path", [path for path in leaves() if "<name>" not in path], ids=".".join)
def test_every_key_is_in_it(path: tuple[str, ...]) -> None:
    assert _given(path) is not None


@pytest.mark.parametrize(
    "path",
    [("routes", key) for key in Route.model_fields] + [("limits", key) for key in Limit.model_fields],
    ids=".".join,
)
def test_every_key_of_a_route_and_a_limit_is_in_it_with_its_default(path: tuple[str, ...]) -> None:
    key = (Route if path[0] == "routes" else Limit).model_fields[path[1]]

    written = _given(path)

    if key.default not in (None, PydanticUndefined):
        assert written == (list(key.default) if isinstance(key.default, tuple) else key.default)


def test_every_setting_is_explained_on_its_line_or_above() -> None:
    lines = [line for line in _TEXT.splitlines() if re.match(r"#?  +\w+: \S", line)]

    bare = [line.strip() for line in lines if " # " not in line]

    assert bare == ["#    url: http://127.0.0.1:8080", "#    url: http://127.0.0.1:8090"]
