"""`work` beside `serve` on one ledger: what one loses the other takes over, and nothing unsafe runs twice."""

import asyncio
import signal
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from tests.fakes.until import until
from tests.integration.asynchronous.calls import call, ended, envelope, results, status, submit
from tests.integration.cli.conftest import Serve
from tests.integration.cli.process import Process, run
from tests.integration.ledger.servers import Server
from tests.integration.server.api import Api, Talk, answer
from tests.integration.server.wire import ask, get, post, request

_LATENCY_S = 0.05
_ADMIN = ("--admin", "127.0.0.1:0")

Start = Callable[..., Process]


async def _slowly(talk: Talk) -> None:
    await talk.request.read()
    is_time = asyncio.Event()
    asyncio.get_running_loop().call_later(_LATENCY_S, is_time.set)
    await is_time.wait()
    await talk.send(answer(200, b"{}"))


@pytest.fixture
async def api() -> AsyncIterator[Api]:
    async with Api(_slowly) as running:
        yield running


@pytest.fixture
def store() -> Iterator[Server]:
    with tempfile.TemporaryDirectory() as folder:
        server = Server("redis", Path(folder)).start()
        yield server
        server.kill()


@pytest.fixture
def start(processes: Serve, api: Api, store: Server) -> Start:
    """Starts `serve` or `work` on the store; keywords are settings of `async`."""

    def started(verb: str, limits: str = "[]", **settings: str) -> Process:
        environ = {f"BATCH_GATEWAY__ASYNC__{name.upper()}": value for name, value in settings.items()}
        environ |= {"BATCH_GATEWAY__ASYNC__KEY__VALUE": "0123456789abcdef", "BATCH_GATEWAY__LIMITS": limits}
        listen = ("--listen", "127.0.0.1:0") if verb == "serve" else ()
        given = (*_ADMIN, *listen, "--upstream", api.url, "--ledger", store.url)
        usual = {"BATCH_GATEWAY__ASYNC__LEASE": "2s", "BATCH_GATEWAY__ASYNC__SLICE": "50"}  # 400 are work for two
        return processes(verb, *given, environ=usual | environ)

    return started


async def _admin(working: Process) -> int:
    """The port that a worker's ready line names, which is all that it says."""
    said = await asyncio.to_thread(working.said, "ready ")
    word, _, url = said.strip().partition(" admin=")
    assert (word, said.count("\n")) == ("ready", 1)
    return int(url.rpartition(":")[2])


async def _runs_something(admin: int) -> bool:
    page = (await get(admin, "/metrics")).body.decode()
    return "batch_gateway_operations_total{" in page


@pytest.mark.parametrize("other", ["work", "serve"])
async def test_what_a_killed_process_held_is_taken_over_and_no_unsafe_operation_is_sent_twice(
    other: str, api: Api, start: Start
) -> None:
    serving, beside = start("serve"), start(other)
    admin = (await asyncio.to_thread(beside.ports))[1] if other == "serve" else await _admin(beside)
    port = (await asyncio.to_thread(serving.ports))[0]
    batch_id = await submit(port, envelope(400, "POST"))
    await until(lambda: _runs_something(admin))
    beside.kill()
    end = await ended(port, batch_id)

    assert (end["status"], end["completed"]) == ("completed", 400)
    assert end["failed"] == end["unknown"] <= 40  # at most what the killed one had on its way
    assert len(api.targets) == len(set(api.targets))


async def test_what_a_killed_process_had_sent_is_not_called_cancelled_and_no_retry_sends_it(
    api: Api, start: Start
) -> None:
    serving, working = start("serve", worker="false"), start("work")
    admin = await _admin(working)
    port = (await asyncio.to_thread(serving.ports))[0]
    batch_id = await submit(port, envelope(400, "POST"))
    await until(lambda: _runs_something(admin))
    working.kill()
    await call(port, "POST", f"/batch/{batch_id}/cancel")
    start("work")  # finds the loss
    end = await ended(port, batch_id)
    lines = await results(port, batch_id)
    sent = set(api.targets)
    retried = await post(port, f"/batch/{batch_id}/retry", b"")
    again = await ended(port, retried.json()["batchId"])

    called = {f"/items/{index}": line.get("error", {}).get("type", "") for index, line in enumerate(lines)}
    unsent = {target for target, kind in called.items() if kind.endswith("/cancelled")}
    unknown = {target for target, kind in called.items() if kind.endswith("/outcome-unknown")}
    assert (end["status"], end["cancelled"], end["unknown"]) == ("cancelled", len(unsent), len(unknown))
    assert [line["id"] for line in lines] == [f"op{index}" for index in range(400)]
    assert unsent
    assert not unsent & sent
    assert unknown  # some were on their way
    assert (again["status"], again["total"], again["succeeded"]) == ("completed", len(unsent), len(unsent))
    assert len(api.targets) == len(set(api.targets))


async def test_a_worker_hands_back_what_it_holds_when_it_is_told_to_end(api: Api, start: Start) -> None:
    serving, working = start("serve"), start("work", lease="1h")
    admin = await _admin(working)
    port = (await asyncio.to_thread(serving.ports))[0]
    batch_id = await submit(port, envelope(400, "POST"))
    await until(lambda: _runs_something(admin))
    working.signal(signal.SIGTERM)
    code = await asyncio.to_thread(working.ended)
    at_the_end = await status(port, batch_id)
    end = await ended(port, batch_id)

    assert code == 0
    assert at_the_end["status"] == "processing"
    assert (end["status"], end["succeeded"], end["unknown"]) == ("completed", 400, 0)
    assert len(api.targets) == len(set(api.targets)) == 400
    assert "Traceback" not in working.err


async def test_a_gateway_that_does_not_work_leaves_its_batches_to_a_worker_with_its_upstream_and_limits(
    api: Api, start: Start
) -> None:
    limits = '[{"name": "all", "key": "global", "rate": "20/s", "burst": 10}]'
    serving = start("serve", limits, worker="false")
    port = (await asyncio.to_thread(serving.ports))[0]
    batch_id = await submit(port, envelope(30))
    working = start("work", limits, lease="1h")
    admin = await _admin(working)
    began_s = time.monotonic()
    before = await status(port, batch_id)
    end = await ended(port, batch_id)
    took_s = time.monotonic() - began_s
    pages = [(await get(admin, path)).status for path in ("/livez", "/readyz", "/metrics")]
    info = (await ask(admin, request("GET", "/info", host="localhost"))).json()
    drained = await asyncio.to_thread(run, "drain", "--admin", f"127.0.0.1:{admin}")
    unready = (await get(admin, "/readyz")).status

    assert before["completed"] <= 10
    assert (end["status"], end["succeeded"], len(api.targets)) == ("completed", 30, 30)
    assert took_s > 0.5  # ten at once, the others at twenty a second
    assert pages == [200, 200, 200]
    assert (info["state"], info["ledger"].startswith("redis://")) == ("working", True)
    assert (drained.returncode, unready) == (0, 503)


@pytest.mark.parametrize(
    ("given", "source"),
    [(("--ledger", "none"), "flag --ledger"), (("--ledger", "sqlite:/tmp/x.db"), "flag --ledger"), ((), "default")],
)
def test_a_worker_alone_refuses_a_ledger_that_nobody_shares_with_it(given: tuple[str, ...], source: str) -> None:
    done = run("work", "--upstream", "http://127.0.0.1:1", *_ADMIN, *given)

    assert done.returncode == 3
    assert done.stdout == ""
    cure = "a worker alone needs a ledger in Redis, that of the gateways: --ledger redis://HOST:PORT"
    assert done.stderr == f"{source}: async.ledger: {cure}\n"
