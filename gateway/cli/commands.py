"""The commands of `batch-gateway` (CONTRACT 1). Data goes to standard output, everything else to standard error."""

import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from gateway.cli import quick
from gateway.cli.lean import lean_imports
from gateway.config import STANDARD_INPUT, ConfigError, Loaded, Problem, effective, json_schema, load

EXIT_CONFIGURATION = 3

_commands = typer.Typer(
    name="batch-gateway",
    help="A reverse proxy that adds POST /batch to an existing HTTP API.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
_config = typer.Typer(help="Show what is in force, or what may be written.", no_args_is_help=True)
_commands.add_typer(_config, name="config")

ConfigPath = Annotated[Path | None, typer.Option("--config", "-c", help="YAML file; - reads standard input.")]
UpstreamUrl = Annotated[str | None, typer.Option("--upstream", help="URL of the API behind the gateway.")]
Listen = Annotated[str | None, typer.Option("--listen", help="HOST:PORT of the traffic listener; port 0: a free one.")]
Admin = Annotated[str | None, typer.Option("--admin", help="HOST:PORT of the admin listener.")]
AdminConfig = Annotated[
    str | None, typer.Option("--config", "-c", help="YAML file whose admin section says where the listener is.")
]
Ledger = Annotated[str | None, typer.Option("--ledger", help="sqlite, sqlite:PATH, redis://HOST:PORT or none.")]


@_commands.command()
def serve(
    config: ConfigPath = None, upstream: UpstreamUrl = None, listen: Listen = None, admin: Admin = None,
    ledger: Ledger = None,
) -> None:  # fmt: skip
    """Serve until SIGTERM; then drain and exit 0."""
    flags = {
        "upstream.url": upstream, "async.ledger": ledger, **_address("listen", listen), **_address("admin", admin),
    }  # fmt: skip
    raise _served(config, flags, works_alone=False)


@_commands.command()
def work(config: ConfigPath = None, upstream: UpstreamUrl = None, admin: Admin = None, ledger: Ledger = None) -> None:
    """Run asynchronous batches of a ledger that replicas share, and serve nobody; on SIGTERM hand them back, exit 0."""
    flags = {"upstream.url": upstream, "async.ledger": ledger, **_address("admin", admin)}
    raise _served(config, flags, works_alone=True)


def _served(config: Path | None, flags: dict[str, object], *, works_alone: bool) -> typer.Exit:
    """Serve, or work, to the end."""
    loaded = _loaded(config, flags)
    if works_alone and not loaded.config.async_.is_shared:
        return _refused(ConfigError([_unshared(loaded.sources["async.ledger"])]))
    with lean_imports():
        import uvloop

        from gateway.app import serve as serve_app

    def again() -> Loaded:
        return loaded if config == STANDARD_INPUT else load(config, os.environ, flags)

    try:
        return typer.Exit(uvloop.run(serve_app(loaded, again, works_alone=works_alone)))
    except ConfigError as error:  # what only shows when it is used, such as a certificate that is none
        return _refused(error)


@_commands.command()
def check(config: ConfigPath = None, upstream: UpstreamUrl = None) -> None:
    """Report every problem of the configuration as file:line:column, and exit 3; or say that it is good."""
    loaded = _loaded(config, {"upstream.url": upstream})
    typer.echo(f"{config or 'the environment'}: good (digest {loaded.digest})")


_commands.command("validate", hidden=True)(check)


@_config.command("show")
def show(config: ConfigPath = None, upstream: UpstreamUrl = None) -> None:
    """Print the effective configuration, secrets hidden, with the source of each value."""
    typer.echo(effective(_loaded(config, {"upstream.url": upstream})), nl=False)


@_config.command("schema")
def schema() -> None:
    """Print the JSON Schema of the configuration file."""
    typer.echo(json.dumps(json_schema(), indent=2))


@_commands.command()
def demo() -> None:
    """Start an upstream and a gateway, send a batch, print its answer, and keep serving."""
    import uvloop

    from gateway.cli.demo import run as run_demo

    raise typer.Exit(uvloop.run(run_demo()))


@_commands.command()
def healthcheck(admin: Admin = None, config: AdminConfig = None) -> None:
    """Exit 0 when the gateway on this host is ready, else 1."""
    raise typer.Exit(quick.healthcheck(admin, config))


@_commands.command()
def drain(admin: Admin = None, config: AdminConfig = None) -> None:
    """Let the gateway on this host finish what is running and take nothing new; wait until it has."""
    raise typer.Exit(quick.drain(admin, config))


@_commands.command()
def reload(admin: Admin = None, config: AdminConfig = None) -> None:
    """Have the gateway on this host read its configuration anew; say what has changed, or what is wrong."""
    raise typer.Exit(quick.reload(admin, config))


@_commands.command()
def version() -> None:
    """Print the version."""
    raise typer.Exit(quick.version())


def run(arguments: Sequence[str]) -> int:
    """Run one command; its exit code: 2 for bad usage, 130 for Ctrl-C, else the command's own."""
    try:
        code: Any = _commands(args=list(arguments), standalone_mode=False)
    except typer.TyperException as error:  # bad usage; typer's own copy of click knows how to show it
        show: Callable[[], None] | None = getattr(error, "show", None)
        if show is not None:
            show()
        return error.exit_code
    except (typer.Abort, KeyboardInterrupt):
        return 130
    return code if isinstance(code, int) else 0


def _loaded(path: Path | None, flags: dict[str, object]) -> Loaded:
    try:
        return load(path, os.environ, flags, sys.stdin)
    except ConfigError as error:
        raise _refused(error) from None


def _refused(error: ConfigError) -> typer.Exit:
    for problem in error.problems:
        typer.echo(str(problem), err=True)
    return typer.Exit(EXIT_CONFIGURATION)


def _unshared(source: str) -> Problem:
    """What a worker alone says of a ledger that no gateway can put anything into."""
    cure = "a worker alone needs a ledger in Redis, that of the gateways: --ledger redis://HOST:PORT"
    return Problem(source, None, None, "async.ledger", cure, "conflict")


def _address(section: str, given: str | None) -> dict[str, object]:
    """HOST:PORT as the two settings that it stands for."""
    if given is None:
        return {}
    host, colon, port = given.rpartition(":")
    if not colon or not port.isdecimal():
        raise typer.BadParameter(f"write HOST:PORT, such as 127.0.0.1:8207, not {given!r}", param_hint=f"--{section}")
    return {f"{section}.host": host.strip("[]") or "0.0.0.0", f"{section}.port": int(port)}  # noqa: S104
