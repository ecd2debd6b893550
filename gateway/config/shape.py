"""The keys that a configuration may have, read off the models: for variables, suggestions and the schema."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from types import UnionType
from typing import Annotated, Literal, Union, get_args, get_origin

from gateway.config.model import Config
from gateway.config.problem import KeyPath
from gateway.config.secret import Secret, SecretReference
from gateway.config.section import Section


@dataclass(frozen=True, slots=True)
class Keys:
    """A section: fixed keys."""

    model: type[Section]
    each: Mapping[str, "Shape"]


@dataclass(frozen=True, slots=True)
class Entries:
    """A map of names that the operator chooses."""

    each: "Shape"


@dataclass(frozen=True, slots=True)
class Elements:
    """A list."""

    each: "Shape"


@dataclass(frozen=True, slots=True)
class Leaf:
    """One value; `kinds` are the Python types that it may be written as, text with a unit counted as neither."""

    kinds: frozenset[type]


Shape = Keys | Entries | Elements | Leaf


@cache
def shape() -> Keys:
    """The shape of the whole configuration."""
    return _keys(Config)


def at(path: KeyPath) -> Shape | None:
    """The shape at a path, None where nothing may stand."""
    found: Shape | None = shape()
    for step in path:
        match found:
            case Keys(each=keys):
                found = keys.get(str(step))
            case Entries(each=each) | Elements(each=each):
                found = each
            case _:
                return None
    return found


def leaves(within: Shape | None = None, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Every path that a variable may set, `<name>` standing for an operator's own."""
    match within or shape():
        case Keys(each=keys):
            for key, inner in keys.items():
                yield from leaves(inner, (*path, key))
        case Entries(each=inner):
            yield path
            yield from leaves(inner, (*path, "<name>"))
        case _:
            yield path


def _keys(model: type[Section]) -> Keys:
    return Keys(model, {info.alias or name: _shape(info.annotation) for name, info in model.model_fields.items()})


def _shape(annotation: object) -> Shape:
    origin, inner = get_origin(annotation), [each for each in get_args(annotation) if each not in (type(None), ...)]
    if origin in (Annotated, Union, UnionType):
        return _shape(inner[0])
    if origin is tuple:
        return Elements(_shape(inner[0]))
    if origin is Literal:
        return Leaf(frozenset(map(type, inner)))
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return Entries(_shape(inner[1]))
    if annotation is Secret:
        return _keys(SecretReference)
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return _keys(annotation)
    return Leaf(frozenset({annotation} if isinstance(annotation, type) else ()))
