"""A gateway as a process, and an API behind it."""

from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from tests.integration.cli.process import Process
from tests.integration.server.api import Api

Serve = Callable[..., Process]


@pytest.fixture
async def api() -> AsyncIterator[Api]:
    async with Api() as running:
        yield running


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[Serve]:
    """Starts commands, and ends what is left of them."""
    started: list[Process] = []

    def start(*arguments: str, environ: dict[str, str] | None = None) -> Process:
        folder = tmp_path / str(len(started))
        folder.mkdir()
        started.append(Process.command(folder, *arguments, environ=environ))
        return started[-1]

    yield start
    for process in started:
        process.kill()


@pytest.fixture
def serve(processes: Serve) -> Serve:
    """Starts `serve` on free ports."""

    def start(*arguments: str, environ: dict[str, str] | None = None) -> Process:
        return processes("serve", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", *arguments, environ=environ)

    return start
