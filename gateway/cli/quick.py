"""What probes run: nothing is imported but http.client, so that it answers within a tenth of a second."""

import os
import sys
from http.client import HTTPConnection, HTTPException

from gateway.version import VERSION

_TIMEOUT_S = 2.0


def version() -> int:
    print(f"batch-gateway {VERSION}")
    return 0


def healthcheck(admin: str | None = None) -> int:
    """Ask `/readyz` of the admin listener: exit 0 when ready, else 1 with one line that says why.

    `admin` is HOST:PORT; without it the port is that of the environment, or 9207. No configuration file is read.
    """
    port = os.environ.get("BATCH_GATEWAY__ADMIN__PORT", "9207")
    address = admin or f"127.0.0.1:{port}"
    host, _, given = address.rpartition(":")
    try:
        connection = HTTPConnection(host or "127.0.0.1", int(given), timeout=_TIMEOUT_S)
        connection.request("GET", "/readyz")
        answer = connection.getresponse()
        said = answer.read(4096).decode("utf-8", "replace").strip()
    except (OSError, HTTPException, ValueError) as error:
        print(f"unhealthy: {address}: {error}", file=sys.stderr)
        return 1
    if answer.status != 200:
        print(
            f"unhealthy: {address} answered {answer.status}: {said.splitlines()[-1] if said else ''}", file=sys.stderr
        )
        return 1
    print("healthy")
    return 0
