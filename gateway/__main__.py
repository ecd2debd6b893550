"""`python -m gateway` and the command `batch-gateway`.

What probes and hooks run (`healthcheck`, `drain`, `reload`, `version`) is answered before anything heavy is imported.
"""

import gc
import os
import sys
from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit with its code (CONTRACT 1)."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if words and words[0] in ("version", "--version", "healthcheck", "drain", "reload"):
        from gateway.cli.quick import main as run_quick

        code = run_quick(words)
        if code is not None:
            sys.exit(code)
    gc.disable()  # nothing that starting makes is garbage; whoever serves turns it on again
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")  # it would look for some in every package there is
    from gateway.cli.commands import run

    sys.exit(run(words))


if __name__ == "__main__":
    main()
