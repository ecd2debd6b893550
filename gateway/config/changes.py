"""What differs between two configurations, and what of it only a restart can change: listeners and stores."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from types import MappingProxyType

from gateway.config.effective import digest_of
from gateway.config.loading import Loaded
from gateway.config.problem import KeyPath, dotted
from gateway.config.section import Section


def changed_keys(before: Loaded, after: Loaded) -> list[str]:
    """The dotted paths of values that differ, secrets among them; a list is one value.

    A file whose content changed although the configuration still names it the same is told by its name's key.
    """
    old, new = dict(_values(before.config, ())), dict(_values(after.config, ()))
    renewed = {str(file) for file, content in after.files.items() if before.files.get(file, content) != content}
    return [
        dotted(path)
        for path in dict.fromkeys((*old, *new))
        if old.get(path) != new.get(path) or (path[-2:-1] == ("tls",) and new.get(path) in renewed)
    ]


def waiting_for_restart(before: Loaded, after: Loaded) -> list[str]:
    """Those of the changed keys that listeners and stores keep until the process is started anew."""
    return [key for key in changed_keys(before, after) if _is_lasting(key)]


def under_listeners_of(before: Loaded, after: Loaded) -> Loaded:
    """`after` with the listeners and the stores of `before`: what can be in force now."""
    admin = before.config.admin.model_copy(update={"token": after.config.admin.token})
    lasting = {
        "listen": before.config.listen,
        "admin": admin,
        "async_": before.config.async_,
        "limiter": before.config.limiter,
        "replay": before.config.replay,
    }
    config = after.config.model_copy(update=lasting)
    sources = {
        **{key: source for key, source in after.sources.items() if not _is_lasting(key)},
        **{key: source for key, source in before.sources.items() if _is_lasting(key)},
    }
    return replace(after, config=config, sources=MappingProxyType(sources), digest=digest_of(config))


def _is_lasting(key: str) -> bool:
    return key.startswith(("listen.", "async.", "limiter.", "replay.")) or (
        key.startswith("admin.") and key != "admin.token"
    )


def _values(value: object, path: KeyPath) -> Iterator[tuple[KeyPath, object]]:
    if isinstance(value, Section):
        for name, info in type(value).model_fields.items():
            yield from _values(getattr(value, name), (*path, info.alias or name))
    elif isinstance(value, Mapping):
        for name, each in value.items():
            yield from _values(each, (*path, name))
    elif value is not None:
        yield path, value
