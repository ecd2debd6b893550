"""Every vendor's dialect: the name of its section in the configuration, and where what makes it is found.

`IN_PLACE` are answered in place, `ON_RECORD` are put on record and answered when they are asked about. One that no
section asks for is never imported: together they are a tenth of a start.
"""

from collections.abc import Iterable, Mapping
from pkgutil import resolve_name
from typing import Any

IN_PLACE: Mapping[str, str] = {
    "google": "gateway.dialects.google:Google",
    "facebook": "gateway.dialects.facebook:Facebook",
    "graph": "gateway.dialects.graph:MicrosoftGraph",
}

ON_RECORD: Mapping[str, str] = {
    "anthropic": "gateway.dialects.anthropic:Anthropic",
    "openai": "gateway.dialects.openai:OpenAI",
}


def made(registry: Mapping[str, str], sections: Mapping[str, Iterable[tuple[str, Any]]], **more: object) -> list[Any]:
    """Those of a registry that have a section, each made of its settings and of `more`."""
    return [resolve_name(where)(**more, **dict(sections[name])) for name, where in registry.items() if name in sections]
