"""What probes and exec hooks run: nothing heavy is imported, so that it answers within a tenth of a second.

The admin listener is where `--admin` says, else the environment, else the file of `--config`, else the file where the
chart mounts it, else port 9207 of this host.
"""

import os
import sys
from collections.abc import Mapping, Sequence
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any, NamedTuple

from gateway.version import VERSION

_PROBE_TIMEOUT_S = 2.0
_CHANGE_TIMEOUT_S = 3600.0  # a drain takes as long as it is configured to; whoever asks has a limit of its own
_VARIABLE = "BATCH_GATEWAY__ADMIN__"
_EVERY_ADDRESS = ("0.0.0.0", "::", "*")  # noqa: S104 - compared with, not bound
USUAL_FILE = "/etc/batch-gateway/gateway.yaml"


class _Admin(NamedTuple):
    host: str
    port: int
    token: str | None

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


def main(words: Sequence[str]) -> int | None:
    """Run one of these commands as it is nearly always written; None for anything else."""
    match list(words):
        case ["version"] | ["--version"]:
            return version()
        case [("healthcheck" | "drain" | "reload") as verb, *options] if _are_plain(options):
            given = dict(zip(options[::2], options[1::2], strict=True))
            return _VERBS[verb](given.get("--admin"), given.get("--config"))
    return None


def version() -> int:
    print(f"batch-gateway {VERSION}")
    return 0


def healthcheck(admin: str | None = None, config: str | None = None) -> int:
    """Ask `/readyz` of the admin listener: exit 0 when ready, else 1 with one line that says why."""
    return _asked("GET", "/readyz", admin, config, timeout_s=_PROBE_TIMEOUT_S, good="healthy", bad="unhealthy")


def drain(admin: str | None = None, config: str | None = None) -> int:
    """Drain, and wait for it; exit 0 when everything ended in time, else 1."""
    return _asked("POST", "/drain", admin, config, timeout_s=_CHANGE_TIMEOUT_S, good="", bad="not drained")


def reload(admin: str | None = None, config: str | None = None) -> int:
    """Read the configuration anew; exit 0 when it is in force, else 1 with everything that is wrong with it."""
    return _asked("POST", "/reload", admin, config, timeout_s=_CHANGE_TIMEOUT_S, good="", bad="not reloaded")


_VERBS = {"healthcheck": healthcheck, "drain": drain, "reload": reload}


def _are_plain(options: Sequence[str]) -> bool:
    return len(options) % 2 == 0 and set(options[::2]) <= {"--admin", "--config"}


def _asked(
    method: str, path: str, admin: str | None, config: str | None, *, timeout_s: float, good: str, bad: str
) -> int:
    """Ask, and say what came of it: what was answered, or `good` instead; what failed behind `bad`."""
    address: _Admin | str = admin or config or USUAL_FILE
    try:
        address = _admin(admin, config)
        connection = HTTPConnection(address.host, address.port, timeout=timeout_s)
        token = {} if address.token is None else {"Authorization": f"Bearer {address.token}"}
        connection.request(method, path, headers=token)
        answer = connection.getresponse()
        said = answer.read(1 << 20).decode("utf-8", "replace").strip()
    except (OSError, HTTPException, ValueError) as error:
        print(f"{bad}: {address}: {error}", file=sys.stderr)
        return 1
    if answer.status == 200:
        print(good or said)
        return 0
    # A probe's line names the last check alone; what was asked for is told whole.
    words = said if method == "POST" else said.rpartition("\n")[2]
    print(f"{bad}: {address} answered {answer.status}: {words}", file=sys.stderr)
    return 1


def _admin(admin: str | None, config: str | None) -> _Admin:
    """Where to ask. Raises ValueError or OSError where that cannot be told."""
    section = _section(config)
    token = _token(section.get("token"))
    if admin is not None:
        host, _, port = admin.rpartition(":")
        if not port.isdecimal():
            raise ValueError("--admin is HOST:PORT, such as 127.0.0.1:9207")
        return _Admin(host.strip("[]") or "127.0.0.1", int(port), token)
    host = os.environ.get(f"{_VARIABLE}HOST") or str(section.get("host", "127.0.0.1"))
    port = os.environ.get(f"{_VARIABLE}PORT") or str(section.get("port", 9207))
    return _Admin("127.0.0.1" if host in _EVERY_ADDRESS else host, int(port), token)


def _section(config: str | None) -> Mapping[str, Any]:
    """`admin` of the configuration file; empty where there is none."""
    path = Path(config or USUAL_FILE)
    if config is None and not path.is_file():
        return {}
    import yaml

    try:
        section = (yaml.load(path.read_text("utf-8"), _loader(yaml)) or {}).get("admin") or {}  # noqa: S506 - safe ones
    except (yaml.YAMLError, AttributeError):
        raise ValueError("the file is no configuration; see `batch-gateway check`") from None
    return section if isinstance(section, dict) else {}


def _loader(yaml: Any) -> Any:
    return getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def _token(reference: object) -> str | None:
    """The secret behind `admin.token`, of the environment before the file's; None where there is none."""
    given = {key: os.environ.get(f"{_VARIABLE}TOKEN__{key.upper()}") for key in ("value", "fromEnv", "fromFile")}
    if not any(given.values()) and isinstance(reference, dict):
        given = reference
    if given.get("value"):
        return str(given["value"])
    if given.get("fromEnv"):
        return os.environ.get(str(given["fromEnv"]))
    return Path(str(given["fromFile"])).read_text("utf-8").rstrip("\r\n") if given.get("fromFile") else None
