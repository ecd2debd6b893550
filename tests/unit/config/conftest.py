"""One short way to load a configuration from text, and one to have it refused."""

from collections.abc import Callable, Mapping
from io import StringIO
from pathlib import Path

import pytest

from gateway.config import ConfigError, Loaded, load

Reader = Callable[..., Loaded]
Refuser = Callable[..., list[str]]


@pytest.fixture(scope="session")
def read() -> Reader:
    """Loads a text as `-`, so that every place reads `<stdin>:line:column`."""

    def _read(text: str, environ: Mapping[str, str] | None = None, flags: Mapping[str, object] | None = None) -> Loaded:
        return load(Path("-"), environ or {}, flags or {}, StringIO(text))

    return _read


@pytest.fixture(scope="session")
def refused(read: Reader) -> Refuser:
    """The lines of everything that is wrong with a text; it must be wrong."""

    def _refused(
        text: str, environ: Mapping[str, str] | None = None, flags: Mapping[str, object] | None = None
    ) -> list[str]:
        with pytest.raises(ConfigError) as caught:
            read(text, environ, flags)
        return [str(problem) for problem in caught.value.problems]

    return _refused
