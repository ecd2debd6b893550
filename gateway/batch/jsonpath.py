"""The part of JSONPath (RFC 9535) that finds values by name, place and `*`: `$.data[*].id`, `$['a b'][0]`. Pure."""

import re
from collections.abc import Callable, Sequence
from typing import Any

Step = str | int | None
"""A member's name, a place in an array, or None for every child."""

STEPS_MAX = 32

_STEP = re.compile(
    r"\.(?P<name>[A-Za-z0-9_:-]+)|\[(?P<place>[0-9]{1,9})\]|\['(?P<quoted>[^'\\]+)'\]|\[\"(?P<double>[^\"\\]+)\"\]"
    r"|\.\*|\[\*\]"
)


def steps_of(path: str) -> Sequence[Step] | None:
    """The steps of a path; None where it is none, or uses another part of JSONPath."""
    if not path.startswith("$"):
        return None
    steps: list[Step] = []
    at = 1
    while at < len(path):
        found = _STEP.match(path, at)
        if found is None or len(steps) == STEPS_MAX:
            return None
        place = found["place"]
        steps.append(found["name"] or found["quoted"] or found["double"] if place is None else int(place))
        at = found.end()
    return steps


def found_at(document: Any, steps: Sequence[Step], looked: Callable[[int], None]) -> Sequence[Any]:
    """Every value that the steps lead to, in the document's order; none where they lead nowhere. `looked` is told how
    many values each step comes to, and may raise."""
    values = [document]
    for step in steps:
        values = [child for value in values for child in _children(value, step)]
        looked(len(values))
    return values


def _children(value: Any, step: Step) -> Sequence[Any]:
    if isinstance(value, dict):
        if step is None:
            return list(value.values())
        return (value[str(step)],) if str(step) in value else ()
    if isinstance(value, list):
        if step is None:
            return value
        return (value[step],) if isinstance(step, int) and step < len(value) else ()
    return ()
