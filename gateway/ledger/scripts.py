"""The ledger's Lua scripts, one for each transition, made so that the same call again has no further effect."""

from importlib.resources import files

from gateway.redis_scripts import Script

OF_BATCH = ("accept", "command", "forget", "intend", "lease", "mend", "parts", "record", "renew", "tend")
OF_INDEX = ("browse", "due", "forget", "health", "hurry", "lost", "note", "pick", "reserve", "waits")


def by_name() -> dict[str, Script]:
    """Of a batch's slot, and those of the index's behind `index_`."""
    of_index = {f"index_{name}": _behind("index", f"index_{name}") for name in OF_INDEX}
    return {name: _behind("batch", name) for name in OF_BATCH} | of_index


def _behind(prelude: str, name: str) -> Script:
    """The text of a file behind what all of its kind begin with."""
    folder = files("gateway.ledger") / "lua"
    return Script("\n".join((folder / f"{part}.lua").read_text(encoding="utf-8") for part in (prelude, name)))
