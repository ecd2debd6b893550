"""Work that can be done in slices, so that whoever has others to serve serves them in between."""

from collections.abc import Callable, Generator
from typing import Any, TypeVar

T = TypeVar("T")

Sliced = Generator[Callable[[], Any] | None, Any, T]
"""Yields wherever a slice of some milliseconds may end; or work that cannot be sliced, and is sent what that returned.
What it returns is the result."""


def at_once(work: Sliced[T]) -> T:
    """All slices, one behind the other."""
    told: Any = None
    try:
        while True:
            whole = work.send(told)
            told = None if whole is None else whole()
    except StopIteration as end:
        result: T = end.value
        return result
