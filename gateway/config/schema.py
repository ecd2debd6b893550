"""The JSON Schema of the file: draft-07 words only, because editors and Helm 3 know no newer ones."""

from collections.abc import Iterator, Mapping
from typing import cast

from pydantic_core import PydanticUndefined

from gateway.config.model import Config
from gateway.config.section import Section
from gateway.config.shape import Elements, Entries, Keys, Shape, shape
from gateway.config.upstream import Upstream

Schema = dict[str, object]


def json_schema() -> Schema:
    """The schema, without references, so that a chart can paste any part of it."""
    generated = cast(Schema, Config.model_json_schema())
    definitions = cast(dict[str, Schema], generated.pop("$defs"))
    # A file may leave the url to a variable or a flag. Entries of lists come from the file alone and stay strict.
    definitions[Upstream.__name__].pop("required")
    for model in _models(shape()):
        _document(generated if model is Config else definitions[model.__name__], _defaults(model))
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        **cast(Schema, _closed(generated, definitions)),
        "title": "batch-gateway configuration",
        "not": {"required": ["upstream", "upstreams"]},
    }


def _models(found: Shape) -> Iterator[type[Section]]:
    match found:
        case Keys():
            yield found.model
            for each in found.each.values():
                yield from _models(each)
        case Entries() | Elements():
            yield from _models(found.each)


def _defaults(model: type[Section]) -> dict[str, object]:
    """Defaults in the file's words; what is required or derived from another key has none."""
    without = {name for name, info in model.model_fields.items() if info.default is PydanticUndefined}
    unset = model.model_construct(**dict.fromkeys(without))
    return unset.model_dump(mode="json", by_alias=True, exclude=without)


def _document(definition: Schema, defaults: Mapping[str, object]) -> None:
    for key, described in cast(dict[str, Schema], definition["properties"]).items():
        if key in defaults:
            # A section's defaults stand at its own keys; repeated here they would only go stale in editors.
            value = defaults[key]
            described["default"] = {} if isinstance(value, dict) else value
            described.setdefault("examples", [_given(value) if isinstance(value, dict) else value])


def _given(section: Mapping[str, object]) -> Schema:
    return {key: each for key, each in section.items() if each is not None}


def _closed(value: object, definitions: Mapping[str, Schema]) -> object:
    """References replaced by what they mean, titles dropped, `null` taken back: an empty key is refused."""
    if isinstance(value, list):
        return [_closed(each, definitions) for each in value]
    if not isinstance(value, dict):
        return value
    schema = dict(value)
    if "anyOf" in schema:
        schema = {**next(each for each in schema.pop("anyOf") if each != {"type": "null"}), **schema}
    if "$ref" in schema:
        schema = {**definitions[str(schema.pop("$ref")).rpartition("/")[2]], **schema}
    kept = {key: each for key, each in schema.items() if key != "title" or not isinstance(each, str)}
    # What follows "default" and "examples" are values, not schemas.
    return {key: each if key in ("default", "examples") else _closed(each, definitions) for key, each in kept.items()}
