"""`python -m gateway` and the command `batch-gateway`.

`healthcheck` and `version` are answered before anything heavy is imported: probes run them every few seconds.
"""

import sys
from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit with its code (CONTRACT 1)."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    match words:
        case ["version"] | ["--version"]:
            from gateway.cli.quick import version

            sys.exit(version())
        case ["healthcheck"] | ["healthcheck", "--admin", _]:
            from gateway.cli.quick import healthcheck

            sys.exit(healthcheck(words[2] if len(words) == 3 else None))
    from gateway.cli.commands import run

    sys.exit(run(words))


if __name__ == "__main__":
    main()
