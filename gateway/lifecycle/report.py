"""What the admin pages tell of the configuration: the one in force, and the last reload."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Protocol

from gateway.config import Loaded, effective
from gateway.lifecycle.reload import PROBLEMS_SHOWN_MAX, Applied, Last, Refused


def answer(told: Applied | Refused) -> tuple[bool, str]:
    """Whether a reload took effect, and the lines that say so."""
    if isinstance(told, Refused):
        return False, _lines("not reloaded; the configuration before it stays in force", told.problems)
    first = "reloaded" if told.changed else "reloaded; nothing has changed"
    changed = [f"changed: {key}" for key in told.changed]
    return True, _lines(first, [*changed, *(f"needs a restart: {key}" for key in told.needs_restart)])


def config_page(in_force: Loaded, last: Last) -> str:
    """The configuration in force as YAML, below what a reload could not do."""
    return "".join(f"# {line}\n" for line in wrong(last)) + effective(in_force)


def wrong(last: Last) -> list[str]:
    """One line for each thing about the configuration that an operator should mend."""
    if isinstance(last.told, Refused):
        return [f"the reload of {_time(last.at_s)} was refused: {each}" for each in _shown(last.told.problems)]
    return [f"{key} has changed and needs a restart" for key in last.told.needs_restart]


class Store(Protocol):
    """What may be in trouble while the gateway is not."""

    @property
    def trouble(self) -> str: ...


def troubles(stores: Mapping[str, Store | None]) -> Mapping[str, str]:
    """Why each store that there is cannot be used now, empty where it can."""
    return {name: store.trouble for name, store in stores.items() if store is not None}


def facts(last: Last) -> Mapping[str, object]:
    """The last reload, or the start, for `/info`."""
    told = last.told
    return {
        "successful": isinstance(told, Applied),
        "at": _time(last.at_s),
        "lastSuccessAt": _time(last.success_at_s),
        "problems": _shown(told.problems) if isinstance(told, Refused) else [],
        "needsRestart": list(told.needs_restart) if isinstance(told, Applied) else [],
    }


def _lines(first: str, more: Sequence[str]) -> str:
    return "".join(f"{line}\n" for line in (first, *more))


def _shown(problems: Sequence[str]) -> list[str]:
    return list(problems)[:PROBLEMS_SHOWN_MAX]


def _time(at_s: float) -> str:
    return datetime.fromtimestamp(at_s, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
