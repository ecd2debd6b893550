"""Reload (EXPERIENCE 3): what triggers it, what it changes, what it leaves alone, and what it says."""

import asyncio
import json
import os
from collections.abc import Sequence
from pathlib import Path, PosixPath
from typing import Any

import pytest

from tests.fakes.until import until
from tests.integration.lifecycle.conftest import Serving, admin, metric, settings
from tests.integration.server.api import Api, Talk, answer
from tests.integration.server.gateways import Gateway
from tests.integration.server.wire import Wire, get, post_batch, request

LIMIT = {"name": "all", "key": "global", "rate": "1/h", "burst": 10}
LOOKED_AT = {"interval": "10ms"}
FILES_OF_THREADS_MAX = 2
TWO = [{"method": "GET", "path": "/a"}, {"method": "GET", "path": "/b"}]


def by_kubelet(folder: Path, text: str) -> None:
    """As a ConfigMap volume: gateway.yaml -> ..data/gateway.yaml, and ..data is a link that is swapped."""
    version = folder / f"..{len(list(folder.iterdir()))}"
    version.mkdir(parents=True)
    (version / "gateway.yaml").write_text(text)
    (folder / "..data_tmp").symlink_to(version.name)
    (folder / "..data_tmp").rename(folder / "..data")
    if not (folder / "gateway.yaml").is_symlink():
        (folder / "gateway.yaml").symlink_to("..data/gateway.yaml")


def in_place(folder: Path, text: str) -> None:
    (folder / "gateway.yaml").write_text(text)


def by_rename(folder: Path, text: str) -> None:
    """As editors save."""
    (folder / ".gateway.yaml.swp").write_text(text)
    (folder / ".gateway.yaml.swp").rename(folder / "gateway.yaml")


async def said_by(running: Gateway) -> Any:
    return (await admin(running, "GET", "/info")).json()["reload"]


async def until_digest_differs(running: Gateway, from_: str) -> str:
    found = [from_]

    async def differs() -> bool:
        found[0] = (await admin(running, "GET", "/info")).json()["configDigest"]
        return found[0] != from_

    await until(differs)
    return found[0]


@pytest.mark.parametrize("write", [by_kubelet, in_place, by_rename])
async def test_three_changes_of_the_file_are_three_reloads(
    api: Api, serving: Serving, tmp_path: Path, write: Any
) -> None:
    folder = tmp_path / "config"
    folder.mkdir()
    write(folder, settings(api, reload=LOOKED_AT))

    async with serving(folder / "gateway.yaml") as running:
        digest = (await admin(running, "GET", "/info")).json()["configDigest"]
        answers = []
        for path in ("/one", "/two", "/three"):
            write(folder, settings(api, batch={"path": path}, reload=LOOKED_AT))
            digest = await until_digest_differs(running, digest)
            answers.append((await post_at(running, path)).status)
        first = await post_at(running, "/batch")

    assert answers == [207, 207, 207]
    assert first.status == 200  # now the upstream's, as everything else


async def post_at(running: Gateway, path: str) -> Any:
    async with await Wire.open(running.port) as wire:
        await wire.send(request("POST", path, [("Content-Type", "application/json")], json.dumps(TWO).encode()))
        return await wire.answer()


async def test_a_page_reloads_and_says_what_has_changed(api: Api, serving: Serving, tmp_path: Path) -> None:
    path = tmp_path / "gateway.yaml"
    path.write_text(settings(api))

    async with serving(path) as running:
        same = await admin(running, "POST", "/reload")
        path.write_text(settings(api, batch={"concurrency": 3}, limits=[LIMIT]))
        changed = await admin(running, "POST", "/reload")
        told = (await get(running.port, "/batch/limits")).json()

    assert (same.status, same.body) == (200, b"reloaded; nothing has changed\n")
    assert (changed.status, changed.body) == (200, b"reloaded\nchanged: limits\nchanged: batch.concurrency\n")
    assert (told["concurrency"], told["limits"][0]["name"]) == (3, "all")


@pytest.mark.parametrize(("method", "status"), [("GET", 405), ("HEAD", 405), ("PUT", 405)])
async def test_reload_is_post_only(api: Api, serving: Serving, tmp_path: Path, method: str, status: int) -> None:
    (tmp_path / "gateway.yaml").write_text(settings(api))

    async with serving(tmp_path / "gateway.yaml") as running:
        assert (await admin(running, method, "/reload")).status == status


async def test_a_bad_file_leaves_the_old_configuration_in_force_and_says_so(
    api: Api, serving: Serving, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "gateway.yaml"
    path.write_text(settings(api, limits=[LIMIT], reload=LOOKED_AT))

    async with serving(path) as running:
        before = await said_by(running)
        path.write_text("upstream:\n  url: nowhere\n  timout: 3s\n")
        refused = await admin(running, "POST", "/reload")
        during = await post_batch(running.port, TWO)
        limits = (await get(running.port, "/batch/limits")).json()["limits"]
        told = await said_by(running)
        config = (await admin(running, "GET", "/config")).body.decode()
        index = (await admin(running, "GET", "/")).json()
        ready = await get(running.admin_port, "/readyz")
        failed = await metric(running, "config_last_reload_successful")
        path.write_text(settings(api, batch={"concurrency": 2}))
        await until_told(running, successful=True)
        mended = await metric(running, "config_last_reload_successful")
        when = await metric(running, "config_last_reload_success_timestamp_seconds")

    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    problems = [f"{path}:2:8: upstream.url:", f"{path}:3:3: upstream.timout: unknown key"]
    logged = next(line for line in lines if line["event"] == "reload refused")
    assert refused.status == 422
    assert during.status == 207
    assert limits[0]["name"] == "all"
    assert (ready.status, failed, mended) == (200, 0, 1)
    assert when > 1.7e9
    assert (told["successful"], told["lastSuccessAt"]) == (False, before["lastSuccessAt"])
    for problem in problems:
        assert problem in refused.body.decode()
        assert any(each.startswith(problem) for each in told["problems"])
        assert any(each.startswith(problem) for each in logged["problems"])
        assert problem in config
        assert any(problem in each for each in index["wrongNow"])
    assert f"url: {api.url}" in config


async def until_told(running: Gateway, *, successful: bool) -> None:
    async def is_told() -> bool:
        return bool((await said_by(running))["successful"] is successful)

    await until(is_told)


async def test_a_listener_waits_for_a_restart_and_the_rest_applies(api: Api, serving: Serving, tmp_path: Path) -> None:
    path = tmp_path / "gateway.yaml"
    path.write_text(settings(api))

    async with serving(path) as running:
        path.write_text(settings(api, listen={"idle_timeout": "3s"}, batch={"concurrency": 2}))
        reloaded = await admin(running, "POST", "/reload")
        config = (await admin(running, "GET", "/config")).body.decode()
        told = await said_by(running)
        index = (await admin(running, "GET", "/")).json()

    assert reloaded.body == b"reloaded\nchanged: batch.concurrency\nneeds a restart: listen.idle_timeout\n"
    assert "idle_timeout: 75s  # default" in config
    assert "# listen.idle_timeout has changed and needs a restart" in config
    assert told["needsRestart"] == ["listen.idle_timeout"]
    assert index["wrongNow"] == ["listen.idle_timeout has changed and needs a restart"]


async def test_a_secret_file_that_changes_is_a_change_and_is_never_shown(
    api: Api, serving: Serving, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, token = tmp_path / "gateway.yaml", tmp_path / "token"
    token.write_text("first-token\n")
    path.write_text(settings(api, admin={"token": {"fromFile": str(token)}}, reload=LOOKED_AT))

    async with serving(path) as running:

        async def status(said: str) -> int:
            async with await Wire.open(running.admin_port) as wire:
                await wire.send(request("GET", "/info", [("Authorization", f"Bearer {said}")], host="evil.test"))
                return (await wire.answer()).status

        before = await status("first-token")
        token.write_text("second-token\n")

        async def is_in_force() -> bool:
            return await status("second-token") == 200

        await until(is_in_force)
        after = await status("first-token")

    logged = capsys.readouterr().err
    assert (before, after) == (200, 403)
    assert '"changed":["admin.token"]' in logged
    assert "second-token" not in logged


async def test_a_batch_ends_under_the_configuration_it_began_with(api: Api, serving: Serving, tmp_path: Path) -> None:
    path, release = tmp_path / "gateway.yaml", asyncio.Event()

    async def wait(talk: Talk) -> None:
        await release.wait()
        await talk.send(answer(200, b'"slow"'))

    api.on("/slow", wait)
    path.write_text(settings(api, batch={"concurrency": 1}))
    many = [{"method": "GET", "path": "/slow"}, *TWO]

    async with Api() as other, serving(path) as running, await Wire.open(running.port) as wire:
        await wire.send(request("POST", "/batch", [("Content-Type", "application/json")], json.dumps(many).encode()))
        await api.until(1)
        path.write_text(settings(other, routes=[{"path": "/new"}]))
        reloaded = await admin(running, "POST", "/reload")
        refused = await post_batch(running.port, TWO)
        forwarded = await get(running.port, "/elsewhere")
        release.set()
        finished = await wire.answer()
        await until_closed(running, api)

    assert reloaded.status == 200
    assert {result["status"] for result in refused.json()["results"]} == {403}
    assert (forwarded.status, other.targets) == (200, ["/elsewhere"])
    assert [result["status"] for result in finished.json()["results"]] == [200, 200, 200]
    assert api.targets == ["/slow", "/a", "/b"]


async def until_closed(running: Gateway, api: Api) -> None:
    """Wait until nothing is open towards an API that is of no use any more."""

    async def is_closed() -> bool:
        return not api.open

    await until(is_closed)
    assert len((await admin(running, "GET", "/info")).json()["upstreams"]) == 1


async def test_an_upstream_that_has_not_changed_keeps_its_connections(
    api: Api, serving: Serving, tmp_path: Path
) -> None:
    path = tmp_path / "gateway.yaml"
    path.write_text(settings(api))

    async with serving(path) as running:
        await get(running.port, "/before")
        path.write_text(settings(api, batch={"concurrency": 2}))
        await admin(running, "POST", "/reload")
        await get(running.port, "/after")
        path.write_text(json.dumps({"upstream": {"url": api.url, "timeout": "9s"}}))
        await admin(running, "POST", "/reload")
        await get(running.port, "/after-that")
        kept = api.connections
        path.write_text(json.dumps({"upstream": {"url": api.url, "connections": 7}}))
        await admin(running, "POST", "/reload")
        await get(running.port, "/last")
        limit = await metric(running, "upstream_concurrency_limit")

    assert kept == 1
    assert api.connections == 2
    assert limit == 6  # what batches may have of 7


@pytest.mark.parametrize(
    ("after", "remaining"),
    [
        (LIMIT, 8),
        ({**LIMIT, "burst": 1000}, 8),
        ({**LIMIT, "burst": 5}, 5),
        ({**LIMIT, "rate": "1/d", "burst": 1000}, 8),
        ({**LIMIT, "name": "another"}, 10),
    ],
)
async def test_a_bucket_keeps_its_fill_and_gets_no_fresh_burst(
    api: Api, serving: Serving, tmp_path: Path, after: dict[str, object], remaining: int
) -> None:
    path = tmp_path / "gateway.yaml"
    path.write_text(settings(api, limits=[LIMIT]))

    async with serving(path) as running:
        await post_batch(running.port, TWO)
        path.write_text(settings(api, limits=[after], batch={"concurrency": 2}))
        await admin(running, "POST", "/reload")
        (limit,) = (await get(running.port, "/batch/limits")).json()["limits"]

    assert limit["remaining"] == remaining


async def test_metrics_go_on_counting(api: Api, serving: Serving, tmp_path: Path) -> None:
    path = tmp_path / "gateway.yaml"
    path.write_text(settings(api))

    async with serving(path) as running:
        await post_batch(running.port, TWO)
        path.write_text(settings(api, batch={"concurrency": 2}))
        await admin(running, "POST", "/reload")
        await post_batch(running.port, TWO)
        text = (await admin(running, "GET", "/metrics")).body.decode()

    assert 'operations_total{dialect="native",method="GET",outcome="ok",route="_other"} 4.0' in text


class Unfinished(PosixPath):
    """A file whose writer adds the next of `pieces` before each look at it."""

    pieces: Sequence[str] = ()

    def stat(self, *, follow_symlinks: bool = True) -> os.stat_result:
        if self.pieces:
            piece, *self.pieces = self.pieces
            with self.open("a") as file:
                file.write(piece)
        return super().stat(follow_symlinks=follow_symlinks)


async def test_a_half_written_file_is_not_read(
    api: Api, serving: Serving, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = Unfinished(tmp_path / "gateway.yaml")
    path.write_text(settings(api, reload=LOOKED_AT))
    text = settings(api, batch={"concurrency": 2}, reload=LOOKED_AT)

    async with serving(path) as running:
        path.write_text("")
        path.pieces = [text[at : at + 10] for at in range(0, len(text), 10)]

        async def is_in_force() -> bool:
            return b"concurrency: 2" in (await admin(running, "GET", "/config")).body

        await until(is_in_force)

    assert path.pieces == []
    assert "reload refused" not in capsys.readouterr().err


async def test_a_hundred_reloads_under_load_lose_no_request_and_leak_nothing(
    api: Api, serving: Serving, tmp_path: Path
) -> None:
    path = tmp_path / "gateway.yaml"
    path.write_text(settings(api))
    over = asyncio.Event()
    statuses: list[int] = []

    async def load_it(running: Gateway, data: bytes) -> None:
        async with await Wire.open(running.port) as wire:
            while not over.is_set():
                await wire.send(data)
                statuses.append((await wire.answer()).status)

    async with Api() as other, serving(path) as running:
        await post_batch(running.port, TWO)
        files, tasks = len(os.listdir("/proc/self/fd")), len(asyncio.all_tasks())
        batch = request("POST", "/batch", [("Content-Type", "application/json")], json.dumps(TWO * 20).encode())
        clients = [asyncio.create_task(load_it(running, data)) for data in (batch, request("GET", "/lone")) * 2]
        reloads = []
        for count in range(100):
            path.write_text(settings((api, other)[count % 2], batch={"concurrency": 2 + count % 3}))
            reloads.append((await admin(running, "POST", "/reload")).body.partition(b"\n")[0])
        over.set()
        await asyncio.gather(*clients)
        path.write_text(settings(api))
        await admin(running, "POST", "/reload")

        async def is_as_before() -> bool:
            leaked_files, leaked_tasks = len(os.listdir("/proc/self/fd")) - files, len(asyncio.all_tasks()) - tasks
            return other.open == 0 and leaked_files <= FILES_OF_THREADS_MAX and leaked_tasks <= 0

        await until(is_as_before)
        pools = (await admin(running, "GET", "/info")).json()["upstreams"]

    assert set(reloads) == {b"reloaded"}
    assert set(statuses) <= {200, 207}
    assert len(statuses) > 200
    assert list(pools) == ["default"]
