"""values.yaml and its schema, read as files: every value explained, every value in the schema, draft-07 only."""

import json
import re
from collections.abc import Iterator
from typing import Any

import yaml

from tests.deploy.helm import CHART, Tree

VALUES: Tree = yaml.safe_load((CHART / "values.yaml").read_text())
SCHEMA: Tree = json.loads((CHART / "values.schema.json").read_text())
# Helm 3 reads draft-07 and silently passes over what is newer.
KEYWORDS = {
    *("$schema", "title", "description", "type", "enum", "properties", "required", "additionalProperties", "items"),
    *("pattern", "minLength", "maxLength", "minimum", "maximum"),
}
CONTRACT = (
    "mode target config existingConfigMap image imagePullSecrets nameOverride fullnameOverride commonLabels "
    "podAnnotations service resources serviceAccount nodeSelector tolerations affinity topologySpreadConstraints "
    "state replicas terminationGracePeriodSeconds nativeSidecar extraEnv extraVolumes extraVolumeMounts"
)


def subschemas(schema: Any) -> Iterator[Tree]:
    if isinstance(schema, dict):
        yield schema
        for name in ("items", "additionalProperties"):
            yield from subschemas(schema.get(name))
        for inner in schema.get("properties", {}).values():
            yield from subschemas(inner)


def explained_keys() -> Iterator[tuple[str, str]]:
    """Each key of values.yaml by its dotted path, with the comment that stands above it."""
    path: list[str] = []
    comment: list[str] = []
    for line in (CHART / "values.yaml").read_text().splitlines():
        if match := re.match(r"( *)([A-Za-z]+):", line):
            path[len(match[1]) // 2 :] = [match[2]]
            yield ".".join(path), " ".join(comment)
            comment = []
        elif line.strip():
            comment.append(line.strip())


def test_every_value_has_a_comment_that_begins_with_its_name() -> None:
    keys = dict(explained_keys())

    assert len(keys) > 30
    assert [key for key, comment in keys.items() if not comment.startswith(f"# {key} ")] == []


def test_the_values_are_the_agreed_words() -> None:
    assert VALUES.keys() == set(CONTRACT.split())


def test_the_schema_knows_every_value_and_no_other() -> None:
    assert SCHEMA["properties"].keys() == VALUES.keys() | {"global", "enabled"}
    for name in ("target", "image", "service", "serviceAccount", "state"):
        assert SCHEMA["properties"][name]["properties"].keys() == VALUES[name].keys()
        assert SCHEMA["properties"][name]["additionalProperties"] is False


def test_the_root_is_strict_and_free_maps_are_open() -> None:
    assert SCHEMA["additionalProperties"] is False
    for name in ("global", "config", "resources", "affinity"):
        assert "additionalProperties" not in SCHEMA["properties"][name]


def test_the_schema_uses_nothing_newer_than_draft_07() -> None:
    assert SCHEMA["$schema"] == "http://json-schema.org/draft-07/schema#"
    assert {keyword for schema in subschemas(SCHEMA) for keyword in schema} <= KEYWORDS


def test_every_property_of_the_root_is_described() -> None:
    assert [name for name, schema in SCHEMA["properties"].items() if not schema.get("description")] == []


def test_what_templates_cannot_do_without_is_required() -> None:
    scalars = {name for name, value in VALUES.items() if isinstance(value, bool | int) or name == "mode"}
    maps = {"target", "config", "image", "service", "serviceAccount", "state"}

    assert set(SCHEMA["required"]) == scalars | maps
