"""The JSON Schema: current, draft-07, documented at every key, and of one mind with the loader."""

import json
import os
from collections.abc import Iterator
from io import StringIO
from pathlib import Path

import pytest
import yaml
from jsonschema import Draft7Validator  # type: ignore[import-untyped]  # ships no types

from gateway.config import ConfigError, json_schema, load

_FILE = Path(__file__).parents[3] / "config" / "gateway.schema.json"
_WITHOUT_DEFAULT = {"url", "path", "name", "key", "rate", "burst", "issuer", "audience"}


def _keys(schema: object) -> Iterator[tuple[str, dict[str, object]]]:
    if isinstance(schema, dict):
        yield from schema.get("properties", {}).items()
        for keyword, inner in schema.items():
            if keyword == "properties":
                for each in inner.values():
                    yield from _keys(each)
            elif keyword in ("items", "additionalProperties"):
                yield from _keys(inner)


_KEYS = list(_keys(json_schema()))


def test_the_committed_schema_is_current() -> None:
    """After a change: UPDATE=1 python -m pytest tests/unit/config/test_schema.py"""
    current = json.dumps(json_schema(), indent=2) + "\n"
    if os.environ.get("UPDATE") == "1":
        _FILE.write_text(current)

    assert _FILE.read_text() == current


def test_it_is_a_draft_07_schema_without_references_or_newer_words() -> None:
    Draft7Validator.check_schema(json_schema())

    text = json.dumps(json_schema())
    assert not [
        word for word in ("$ref", "$defs", "prefixItems", "unevaluated", "dependentRequired", '"null"') if word in text
    ]


@pytest.mark.parametrize(("key", "schema"), _KEYS, ids=[key for key, _ in _KEYS])
def test_every_key_has_a_description_a_default_and_an_example(key: str, schema: dict[str, object]) -> None:
    assert str(schema["description"]).endswith(".")
    assert schema["examples"]
    assert "default" in schema or key in _WITHOUT_DEFAULT


@pytest.mark.parametrize(("key", "schema"), _KEYS, ids=[key for key, _ in _KEYS])
def test_defaults_and_examples_are_valid_themselves(key: str, schema: dict[str, object]) -> None:
    validator = Draft7Validator(schema)

    values = [*_listed(schema["examples"]), *([schema["default"]] if schema.get("default") is not None else [])]

    assert [value for value in values if not validator.is_valid(value)] == []


def _listed(examples: object) -> list[object]:
    return examples if isinstance(examples, list) else []


@pytest.mark.parametrize(
    "text",
    [
        "{}",
        "upstream: {url: http://a, timeout: 1h30m}",
        "upstreams: {default: {url: http://a}, b: {url: http://b}}",
        "upstream: {url: http://a}\nadmin: {token: {value: x}}",
        "upstream: {url: http://a}\nroutes: [{path: /a, methods: [GET]}]\nlimits: [{name: a, key: ip, rate: 1/s}]",
    ],
)
def test_it_accepts_what_the_loader_accepts(text: str) -> None:
    load(Path("-"), {}, {} if "upstream" in text else {"upstream.url": "http://a"}, StringIO(text))

    assert Draft7Validator(json_schema()).is_valid(yaml.safe_load(text))


@pytest.mark.parametrize(
    "text",
    [
        "lisen: {}",
        "version: 2",
        "listen:",
        "listen: {port: x}",
        "drain: {delay: 5}",
        "limits: [{name: a, key: user, rate: 1/s}]",
        "limits: [{name: a, key: ip}]",
        "routes: [{methods: [GET]}]",
        "admin: {token: {value: x, fromEnv: y}}",
        "admin: {token: {}}",
        "upstreams: {default: {url: http://a}}\nupstream: {url: http://a}",
    ],
)
def test_it_refuses_what_the_loader_refuses(text: str) -> None:
    with pytest.raises(ConfigError):
        load(Path("-"), {}, {"upstream.url": "http://a"}, StringIO(text))

    assert not Draft7Validator(json_schema()).is_valid(yaml.safe_load(text))
