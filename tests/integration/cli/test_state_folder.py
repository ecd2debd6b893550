"""Where a gateway keeps its state when nobody says so, and its words when it cannot (PROMISES D10).

What needs other mounts or fewer rights runs in a mount namespace of its own, which takes root; nothing of the machine's
own state is touched.
"""

import json
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from tests.integration.asynchronous.calls import ASYNC, ended, envelope
from tests.integration.cli.conftest import Serve
from tests.integration.cli.process import Process
from tests.integration.server.api import Api
from tests.integration.server.wire import ask, get, post, post_batch, request

NAME = "batch-gateway"
PORTS = ("--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0")
ROOM_BYTES = 2 << 20
WITHOUT_RIGHTS = "-dac_override,-dac_read_search"  # root without them may enter no more than what it owns allows

Apart = Callable[..., Process]


@pytest.fixture
def apart(tmp_path: Path) -> Iterator[Apart]:
    """Starts `serve` behind `prefix` in a mount namespace of its own, after `prepare`, a line for the shell."""
    if os.geteuid() != 0 or subprocess.run(["unshare", "-m", "true"], check=False).returncode:
        pytest.skip("a mount namespace needs root")
    (tmp_path / "disk").mkdir()
    started: list[Process] = []

    def start(
        prepare: str, *arguments: str, environ: dict[str, str] | None = None, prefix: Sequence[str] = ()
    ) -> Process:
        command = shlex.join([*prefix, sys.executable, "-m", "gateway", "serve", *PORTS, *arguments])
        folder = tmp_path / f"process{len(started)}"
        folder.mkdir()
        started.append(Process(folder, ["unshare", "-m", "sh", "-ec", f"{prepare}\nexec {command}"], environ))
        return started[-1]

    yield start
    for process in started:
        process.kill()


async def is_kept(process: Process) -> str:
    """Where the ledger is, once an asynchronous batch has come back through it."""
    traffic, admin = process.ports()
    accepted = await post(traffic, "/batch", envelope(1), ASYNC)
    assert accepted.status == 202, accepted
    assert (await ended(traffic, accepted.json()["batchId"]))["status"] == "completed"
    return await ledger_of(admin)


async def ledger_of(admin: int) -> str:
    answered = await ask(admin, request("GET", "/info", host="localhost"))
    return str(answered.json()["ledger"])


async def serves_all_but_asynchronous_batches(process: Process) -> bool:
    traffic, admin = process.ports()
    in_place, large = await post(traffic, "/batch", envelope(3), ASYNC), await post_batch(traffic, envelope(101))
    forwarded, ready = await get(traffic, "/items/7"), await get(admin, "/readyz")
    return [each.status for each in (in_place, large, forwarded, ready)] == [207, 413, 200, 200]


def warned(process: Process) -> str:
    """Why asynchronous batches are off, by the log."""
    lines = [json.loads(line) for line in process.err.splitlines() if line.startswith("{")]
    (reason,) = [line["reason"] for line in lines if line["event"] == "asynchronous batches are off"]
    return str(reason)


async def test_a_fresh_user_s_state_stands_in_the_state_home_for_that_user_alone(
    api: Api, serve: Serve, tmp_path: Path
) -> None:
    home = tmp_path / "home" / "state"

    where = await is_kept(serve("--upstream", api.url, environ={"XDG_STATE_HOME": str(home)}))

    folder = home / NAME
    modes = {path.name: path.stat().st_mode & 0o777 for path in (folder, *folder.iterdir())}
    assert where == f"sqlite:{folder}/ledger.db"
    assert modes[NAME] == 0o700
    assert {"ledger.db", "ledger.db.key", "ledger.db.lock", "ledger.db.epoch"} <= modes.keys()
    assert {modes[name] for name in modes.keys() - {NAME}} == {0o600}


@pytest.mark.parametrize("home", ["", "relative/state"])
async def test_without_a_state_home_the_state_stands_where_services_keep_theirs(
    api: Api, apart: Apart, home: str
) -> None:
    process = apart(
        "mount -t tmpfs tmpfs /var/lib", "--upstream", api.url, environ={"XDG_STATE_HOME": home, "HOME": "/nowhere"}
    )

    assert await is_kept(process) == f"sqlite:/var/lib/{NAME}/ledger.db"


async def test_where_that_cannot_be_made_the_state_stands_in_the_home(api: Api, apart: Apart, tmp_path: Path) -> None:
    process = apart(
        "mount -t tmpfs -o ro tmpfs /var/lib", "--upstream", api.url,
        environ={"XDG_STATE_HOME": "", "HOME": str(tmp_path)},
    )  # fmt: skip

    assert await is_kept(process) == f"sqlite:{tmp_path}/.local/state/{NAME}/ledger.db"


async def test_a_file_where_the_folder_should_be_is_passed_over(api: Api, apart: Apart, tmp_path: Path) -> None:
    (tmp_path / NAME).touch()

    process = apart(
        "mount -t tmpfs tmpfs /var/lib", "--upstream", api.url, environ={"XDG_STATE_HOME": str(tmp_path)}
    )  # fmt: skip

    assert await is_kept(process) == f"sqlite:/var/lib/{NAME}/ledger.db"


async def test_where_no_folder_can_be_made_all_but_asynchronous_batches_is_served(api: Api, apart: Apart) -> None:
    process = apart(
        "mount -t tmpfs -o ro tmpfs /var/lib", "--upstream", api.url,
        environ={"XDG_STATE_HOME": "/proc/nowhere", "HOME": "/proc/nowhere"},
    )  # fmt: skip

    assert await serves_all_but_asynchronous_batches(process)
    assert warned(process).startswith(f"/proc/nowhere/.local/state/{NAME}: cannot hold state: No such file")


async def test_a_second_process_on_a_folder_serves_all_but_asynchronous_batches(
    api: Api, serve: Serve, tmp_path: Path
) -> None:
    environ = {"XDG_STATE_HOME": str(tmp_path)}
    first = serve("--upstream", api.url, environ=environ)
    where = await is_kept(first)

    second = serve("--upstream", api.url, environ=environ)

    assert await serves_all_but_asynchronous_batches(second)
    assert warned(second).startswith(f"{where.removeprefix('sqlite:')}: another process has this ledger; stop it")
    assert await ledger_of(second.ports()[1]) == f"off: {warned(second)}"
    assert await is_kept(first) == where


@pytest.mark.parametrize(
    ("file", "words"),
    [
        ("{0}/file/ledger.db", "{0}/file: cannot hold state: it is a file; name another folder"),
        ("{0}/file/below/ledger.db", "{0}/file/below: cannot hold state: Not a directory; name another folder"),
        ("{0}/folder", "{0}/folder: a folder; name a file in it, such as {0}/folder/ledger.db"),
        ("/proc/nowhere/ledger.db", "/proc/nowhere: cannot hold state: No such file or directory; name another folder"),
    ],
)
def test_a_ledger_that_is_named_and_cannot_be_opened_ends_the_start(
    serve: Serve, tmp_path: Path, file: str, words: str
) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()

    process = serve("--upstream", "http://127.0.0.1:9", "--ledger", f"sqlite:{file.format(tmp_path)}")

    assert process.ended() == 1
    assert words.format(tmp_path) in process.err
    assert "Traceback" not in process.err


async def test_a_folder_that_may_not_be_entered_is_passed_over_unless_it_was_named(
    api: Api, apart: Apart, tmp_path: Path
) -> None:
    (tmp_path / NAME).mkdir(mode=0)
    given = {"environ": {"XDG_STATE_HOME": str(tmp_path)}, "prefix": ("setpriv", "--bounding-set", WITHOUT_RIGHTS)}

    chosen = apart("mount -t tmpfs tmpfs /var/lib", "--upstream", api.url, **given)
    named = apart("true", "--upstream", api.url, "--ledger", f"sqlite:{tmp_path}/{NAME}/ledger.db", **given)

    assert await is_kept(chosen) == f"sqlite:/var/lib/{NAME}/ledger.db"
    assert named.ended() == 1
    assert f"{tmp_path}/{NAME}" in named.err
    assert "Permission denied" in named.err


async def test_a_disk_without_room_for_a_ledger_is_said_at_the_start(api: Api, apart: Apart, tmp_path: Path) -> None:
    process = apart(
        f"mount -t tmpfs -o size=64k tmpfs {tmp_path}/disk", "--upstream", api.url,
        environ={"XDG_STATE_HOME": f"{tmp_path}/disk"},
    )  # fmt: skip

    assert await serves_all_but_asynchronous_batches(process)
    assert "full" in warned(process)


async def test_a_disk_that_fills_up_stops_new_asynchronous_batches_and_nothing_else(
    api: Api, apart: Apart, tmp_path: Path
) -> None:
    process = apart(
        f"mount -t tmpfs -o size={ROOM_BYTES} tmpfs {tmp_path}/disk", "--upstream", api.url,
        environ={"XDG_STATE_HOME": f"{tmp_path}/disk"},
    )  # fmt: skip
    traffic, admin = process.ports()
    body = os.urandom(100_000).hex()
    later = json.dumps({"operations": [{"method": "POST", "path": "/", "body": body}], "notBefore": 3600}).encode()

    accepted = []
    while (answered := await post(traffic, "/batch", later)).status == 202:
        accepted.append(answered.json()["batchId"])
    began_s = time.monotonic()
    refused = await post(traffic, "/batch", later)
    took_s = time.monotonic() - began_s

    assert (refused.status, refused.slug, refused.header("Retry-After")) == (503, "ledger-unavailable", "5")
    assert "the disk is full" in refused.json()["detail"]
    assert took_s <= 2
    listed = (await get(traffic, "/batch?limit=100")).json()["batches"]
    assert [each["batchId"] for each in listed] == accepted[::-1]
    assert (await post_batch(traffic, envelope(3))).status == 207
    assert (await get(traffic, "/items/7")).status == 200
    assert (await get(admin, "/readyz")).status == 200
    assert "Traceback" not in process.err
