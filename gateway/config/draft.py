"""What can be understood of a configuration that may still be wrong, for the rules across its sections."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar

from pydantic import ValidationError

from gateway.config.asynchronous import Asynchronous
from gateway.config.batch import Batch
from gateway.config.dialects import Dialects
from gateway.config.identity import Identity
from gateway.config.limits import Limit, Limiter
from gateway.config.listeners import Admin, Listen
from gateway.config.model import DEFAULT_UPSTREAM
from gateway.config.problem import KeyPath
from gateway.config.replay import Replay
from gateway.config.routes import Route
from gateway.config.section import Section
from gateway.config.upstream import Upstream

S = TypeVar("S", bound=Section)

# In place of a required key that is missing or wrong, so that the rest of its section can still be looked at.
_STAND_INS: Mapping[type[Section], Mapping[str, object]] = {
    Upstream: {"url": "http://stand-in"},
    Route: {"path": "/"},
    Limit: {"name": "stand-in", "key": "global", "rate": "1/s"},
}


@dataclass(frozen=True, slots=True)
class Draft:
    """Every section that could be read, each entry of a list or map under its path; None for what cannot be known."""

    given: frozenset[str]
    listen: Listen | None
    admin: Admin | None
    batch: Batch | None
    async_: Asynchronous | None
    async_given: frozenset[str]
    replay: Replay | None
    upstreams: Mapping[KeyPath, Upstream]
    upstream_names: frozenset[str] | None
    routes: Mapping[KeyPath, Route]
    templates: frozenset[str] | None
    limits: Mapping[KeyPath, Limit]
    limiter: Limiter | None
    identity: Identity | None
    dialects: Dialects | None


def draft_of(raw: object) -> Draft:
    """The draft of a plain tree."""
    sections = raw if isinstance(raw, dict) else {}
    return Draft(
        given=frozenset(sections),
        listen=_mended(Listen, sections.get("listen", {})),
        admin=_mended(Admin, sections.get("admin", {})),
        batch=_mended(Batch, sections.get("batch", {})),
        async_=_mended(Asynchronous, sections.get("async", {})),
        async_given=frozenset(given) if isinstance(given := sections.get("async"), dict) else frozenset(),
        replay=_mended(Replay, sections.get("replay", {})),
        upstreams=_readable(Upstream, _upstreams(sections)),
        upstream_names=_upstream_names(sections.get("upstreams", {DEFAULT_UPSTREAM: {}})),
        routes=_readable(Route, _elements("routes", sections)),
        templates=_templates(sections.get("routes", [])),
        limits=_readable(Limit, _elements("limits", sections)),
        limiter=_mended(Limiter, sections.get("limiter", {})),
        identity=_mended(Identity, sections.get("identity", {})),
        dialects=_mended(Dialects, sections.get("dialects", {})),
    )


def _upstreams(sections: Mapping[str, object]) -> dict[KeyPath, object]:
    found: dict[KeyPath, object] = {("upstream",): sections["upstream"]} if "upstream" in sections else {}
    named = sections.get("upstreams")
    if isinstance(named, dict):
        found.update({("upstreams", str(name)): each for name, each in named.items()})
    return found


def _upstream_names(named: object) -> frozenset[str] | None:
    return frozenset(map(str, named)) if isinstance(named, dict) else None


def _elements(key: str, sections: Mapping[str, object]) -> dict[KeyPath, object]:
    listed = sections.get(key)
    return {(key, index): each for index, each in enumerate(listed)} if isinstance(listed, list) else {}


def _templates(routes: object) -> frozenset[str] | None:
    if not isinstance(routes, list):
        return None
    paths = (each.get("path") for each in routes if isinstance(each, dict))
    return frozenset(path for path in paths if isinstance(path, str))


def _readable(model: type[S], raw: Mapping[KeyPath, object]) -> dict[KeyPath, S]:
    mended = {path: _mended(model, each) for path, each in raw.items()}
    return {path: section for path, section in mended.items() if section is not None}


def _mended(model: type[S], raw: object) -> S | None:
    """The section without the keys that are wrong; None when it is no section at all."""
    if not isinstance(raw, dict):
        return None
    try:
        return model.model_validate(raw)
    except ValidationError as error:
        refused = {each["loc"][0] for each in error.errors(include_url=False, include_input=False)}
    sound = {key: each for key, each in raw.items() if key not in refused}
    return model.model_validate({**_STAND_INS.get(model, {}), **sound})
