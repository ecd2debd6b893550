"""Signals, draining and the demo: how the process goes away (EXPERIENCE 6)."""

import asyncio
import json
import signal
from pathlib import Path

import pytest

from tests.fakes.until import until
from tests.integration.cli.conftest import Serve
from tests.integration.cli.process import Process
from tests.integration.server.api import Api, after, answer, hang
from tests.integration.server.wire import Wire, ask, get, post_batch, request

BATCH = json.dumps([{"method": "GET", "path": "/slow"}]).encode()
JSON = ("Content-Type", "application/json")


async def readiness(admin: int, status: int) -> None:
    async def told() -> bool:
        return (await get(admin, "/readyz")).status == status

    await until(told)


async def ended(process: Process) -> int:
    return await asyncio.to_thread(process.ended)


async def refused(port: int) -> None:
    """Wait until no further connection is taken."""

    async def is_refused() -> bool:
        try:
            async with await Wire.open(port):
                return False
        except ConnectionError:
            return True

    await until(is_refused)


@pytest.mark.parametrize("kind", ["batch", "forwarded"])
async def test_term_drains_without_losing_a_request(api: Api, serve: Serve, kind: str) -> None:
    release = asyncio.Event()

    api.on("/slow", after(release, answer(200, b'"slow"')))
    process = serve("--upstream", api.url, environ={"BATCH_GATEWAY__DRAIN__DELAY": "500ms"})
    traffic, admin = process.ports()
    slow = request("POST", "/batch", [JSON], BATCH) if kind == "batch" else request("GET", "/slow")

    async with await Wire.open(traffic) as running, await Wire.open(traffic) as idle:
        await running.send(slow)
        await api.until(1)
        process.signal(signal.SIGTERM)
        await readiness(admin, 503)
        during = await get(traffic, "/during")
        await refused(traffic)
        alive = await get(admin, "/livez")
        state = await get(admin, "/readyz?verbose")
        assert process.process.poll() is None
        release.set()
        finished = await running.answer()
        code = await ended(process)
        assert await idle.is_closed()

    assert during.status == 200
    assert during.header("Connection") == "close"
    assert alive.status == 200
    assert b"not draining failed" in state.body
    assert (finished.status, b'"slow"' in finished.body) == (207 if kind == "batch" else 200, True)
    assert finished.header("Connection") == "close"
    assert code == 0
    assert "Traceback" not in process.err


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_an_idle_gateway_ends_with_0(api: Api, serve: Serve, number: signal.Signals) -> None:
    process = serve("--upstream", api.url, environ={"BATCH_GATEWAY__DRAIN__DELAY": "0s"})
    _, admin = process.ports()
    await readiness(admin, 200)  # the ready line comes just before signals are heard

    process.signal(number)

    assert await ended(process) == 0
    assert "Traceback" not in process.err


async def test_a_second_term_ends_it_at_once_with_1(api: Api, serve: Serve) -> None:
    api.on("/slow", hang)
    process = serve("--upstream", api.url, environ={"BATCH_GATEWAY__DRAIN__DELAY": "0s"})
    traffic, admin = process.ports()

    async with await Wire.open(traffic) as running:
        await running.send(request("POST", "/batch", [JSON], BATCH))
        await api.until(1)
        process.signal(signal.SIGTERM)
        await readiness(admin, 503)
        process.signal(signal.SIGTERM)
        code = await ended(process)

    assert code == 1
    assert "Traceback" not in process.err


async def test_a_drain_that_takes_too_long_ends_with_1(api: Api, serve: Serve) -> None:
    api.on("/slow", hang)
    limits = {"BATCH_GATEWAY__DRAIN__DELAY": "0s", "BATCH_GATEWAY__DRAIN__TIMEOUT": "300ms"}
    process = serve("--upstream", api.url, environ=limits)
    traffic, _ = process.ports()

    async with await Wire.open(traffic) as running:
        await running.send(request("POST", "/batch", [JSON], BATCH))
        await api.until(1)
        process.signal(signal.SIGTERM)
        code = await ended(process)

    assert code == 1
    assert "drain timed out" in process.err


async def test_drain_by_the_admin_page_answers_once_drained(api: Api, serve: Serve) -> None:
    process = serve("--upstream", api.url, environ={"BATCH_GATEWAY__DRAIN__DELAY": "100ms"})
    traffic, admin = process.ports()

    answered = await ask(admin, request("POST", "/drain", [("Content-Length", "0")], host="localhost"))
    ready = await get(admin, "/readyz")
    await refused(traffic)
    process.signal(signal.SIGTERM)

    assert (answered.status, answered.body, ready.status) == (200, b"drained\n", 503)
    assert await ended(process) == 0


async def test_a_killed_gateway_leaves_its_port_to_the_next(api: Api, serve: Serve) -> None:
    first = serve("--upstream", api.url)
    traffic, _ = first.ports()
    async with await Wire.open(traffic):
        first.signal(signal.SIGKILL)
        await ended(first)

        second = serve("--listen", f"127.0.0.1:{traffic}", "--upstream", api.url)

        assert second.ports()[0] == traffic


async def test_hangup_reloads(api: Api, serve: Serve, tmp_path: Path) -> None:
    path = tmp_path / "gateway.yaml"
    path.write_text(f"upstream: {{url: '{api.url}'}}\nreload: {{interval: 0s}}\ndrain: {{delay: 0s}}\n")
    process = serve("--config", str(path))
    traffic, admin = process.ports()
    await readiness(admin, 200)

    path.write_text(path.read_text() + "batch: {path: /bulk}\n")
    process.signal(signal.SIGHUP)

    async def is_moved() -> bool:
        return "operationsMax" in (await get(traffic, "/bulk/limits")).json()

    await until(is_moved)
    process.signal(signal.SIGTERM)

    assert await ended(process) == 0
    assert '"trigger":"signal"' in process.err


async def test_hangup_without_a_file_changes_nothing(api: Api, serve: Serve) -> None:
    process = serve("--upstream", api.url, environ={"BATCH_GATEWAY__DRAIN__DELAY": "0s"})
    _, admin = process.ports()
    await readiness(admin, 200)

    process.signal(signal.SIGHUP)

    async def is_told() -> bool:
        return '"changed":[]' in process.err

    await until(is_told)
    process.signal(signal.SIGTERM)

    assert await ended(process) == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_demo_prints_a_207_and_serves_until_it_is_told_to_end(processes: Serve, number: signal.Signals) -> None:
    process = processes("demo")
    said = process.said("/metrics")
    traffic = int(said.partition("batch gateway http://127.0.0.1:")[2].split()[0])

    answered = await post_batch(traffic, [{"method": "GET", "path": "/users"}])
    process.signal(number)

    assert "HTTP/1.1 207 Multi-Status" in said
    assert "Batch-Summary: total=5, succeeded=4, failed=1" in said
    assert answered.status == 207
    assert await ended(process) == 0
    assert "Traceback" not in process.err
