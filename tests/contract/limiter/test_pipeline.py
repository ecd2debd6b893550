"""Calls that share a connection: each has its own answer, whatever becomes of the others and of the connection."""

import asyncio
import signal
import socket
import subprocess
import tempfile
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple, TypeVar

import pytest
import trustme
import uvloop
from redis.asyncio import ConnectionPool, Redis
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import RedisError, ResponseError

from gateway.redis_client import FAILURES, connect
from gateway.redis_pipeline import Pipeline
from tests.contract.stores import STORES, running
from tests.fakes.ports import free_port
from tests.fakes.until import PATIENCE_S

_TIMEOUT_S = 0.5
T = TypeVar("T")
_LARGE_BYTES = 100_000  # more than a server's kernel takes before the server reads, and less than ours does


class Store(NamedTuple):
    process: subprocess.Popen[bytes]
    url: str


class Stage(NamedTuple):
    """A pipeline, and a client beside it."""

    pipeline: Pipeline
    beside: Redis


@pytest.fixture(params=STORES, scope="module")
def store(request: pytest.FixtureRequest) -> Iterator[Store]:
    with tempfile.TemporaryDirectory() as folder, running(request.param, Path(folder)) as found:
        yield Store(*found)


@pytest.fixture
async def stage(store: Store) -> AsyncIterator[Stage]:
    client, beside = (connect(store.url, timeout_s=_TIMEOUT_S, connections_max=4) for _ in range(2))
    assert isinstance(client, Redis)
    assert isinstance(beside, Redis)
    pipeline = Pipeline(client.connection_pool, _TIMEOUT_S)
    yield Stage(pipeline, beside)
    await pipeline.close()
    await client.aclose()
    await beside.aclose()


async def _echoed(pipeline: Pipeline, count: int) -> list[object]:
    return list(await asyncio.gather(*(pipeline.call("ECHO", str(number)) for number in range(count))))


def _numbers(count: int) -> list[object]:
    return [str(number).encode() for number in range(count)]


async def test_each_call_has_its_own_answer(stage: Stage) -> None:
    assert await _echoed(stage.pipeline, 500) == _numbers(500)


async def test_calls_that_come_together_go_out_together(stage: Stage) -> None:
    await stage.pipeline.call("PING")
    before = (await stage.beside.info("stats"))["total_reads_processed"]

    await _echoed(stage.pipeline, 200)

    assert (await stage.beside.info("stats"))["total_reads_processed"] - before <= 10


async def test_a_refusal_is_the_answer_to_its_own_call_alone(stage: Stage) -> None:
    said = await asyncio.gather(
        stage.pipeline.call("ECHO", "a"), stage.pipeline.call("NOSUCH"), stage.pipeline.call("ECHO", "b"),
        return_exceptions=True,
    )  # fmt: skip

    assert (said[0], said[2]) == (b"a", b"b")
    assert isinstance(said[1], ResponseError)


async def test_who_does_not_wait_any_more_takes_no_answer_from_others(stage: Stage) -> None:
    calls = [asyncio.create_task(stage.pipeline.call("ECHO", str(number))) for number in range(50)]
    await asyncio.sleep(0)
    for call in calls[::3]:
        call.cancel()

    said = await asyncio.gather(*calls, return_exceptions=True)

    assert [each for at, each in enumerate(said) if at % 3] == [each for at, each in enumerate(_numbers(50)) if at % 3]


async def test_what_nobody_waits_for_any_more_is_not_sent(stage: Stage, store: Store) -> None:
    await stage.pipeline.call("PING")
    store.process.send_signal(signal.SIGSTOP)
    under_way = asyncio.create_task(stage.pipeline.call("ECHO", "first"))
    await asyncio.sleep(0)
    given_up = asyncio.create_task(stage.pipeline.call("SET", "given", "up"))
    await asyncio.sleep(0)
    given_up.cancel()
    await asyncio.wait([given_up])
    store.process.send_signal(signal.SIGCONT)

    assert await under_way == b"first"
    assert await stage.pipeline.call("EXISTS", "given") == 0


async def test_what_a_server_has_not_read_in_time_does_not_reach_it_later() -> None:
    may_read, is_over, read = asyncio.Event(), asyncio.Event(), bytearray()

    async def server(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while b"SET\r\n" not in (asked := await reader.read(1024)).replace(b"SETINFO", b""):
            writer.write(b"+OK\r\n" * asked.count(b"*"))  # redis-py greets
        read.extend(asked)
        await may_read.wait()
        with suppress(OSError):
            while asked := await reader.read(1 << 16):
                read.extend(asked)
        writer.close()
        is_over.set()

    holds_little = socket.create_server(("127.0.0.1", 0))
    holds_little.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    async with await asyncio.start_server(server, sock=holds_little, limit=1024) as listening:
        client = connect(f"redis://127.0.0.1:{listening.sockets[0].getsockname()[1]}", timeout_s=1, connections_max=1)
        assert isinstance(client, Redis)
        pipeline = Pipeline(client.connection_pool, _TIMEOUT_S)
        with pytest.raises(TimeoutError):
            await pipeline.call("SET", "key", "x" * _LARGE_BYTES)
        may_read.set()
        await is_over.wait()
        await pipeline.close()
        await client.aclose()

    assert len(read) < _LARGE_BYTES


class _Faulty(ConnectionPool):
    """A pool with a defect, once."""

    is_faulty = True

    async def get_connection(self, command_name: object = None, *keys: object, **options: object) -> AbstractConnection:
        if self.is_faulty:
            self.is_faulty = False
            raise RuntimeError("a defect")
        return await super().get_connection()  # type: ignore[no-any-return, no-untyped-call]


async def test_a_defect_in_connecting_reaches_those_who_wait_and_nobody_after_them(store: Store) -> None:
    pool = _Faulty.from_url(store.url)
    pipeline = Pipeline(pool, _TIMEOUT_S)

    with pytest.raises(RuntimeError):
        await pipeline.call("ECHO", "a")

    async with asyncio.timeout(PATIENCE_S):
        assert await pipeline.call("ECHO", "b") == b"b"
    await pipeline.close()
    await pool.aclose()


async def test_a_lost_connection_ends_what_was_under_way_and_the_next_call_has_a_new_one(stage: Stage) -> None:
    own = await stage.pipeline.call("CLIENT", "ID")
    under_way = asyncio.create_task(stage.pipeline.call("BLPOP", "nothing", 0))
    await asyncio.sleep(0)
    await stage.beside.client_kill_filter(_id=str(own))

    with pytest.raises((RedisError, OSError)):
        await under_way

    assert await _echoed(stage.pipeline, 20) == _numbers(20)


async def test_a_server_that_stands_still_is_waited_for_so_long_and_its_late_answers_are_nobodys(
    stage: Stage, store: Store
) -> None:
    await stage.pipeline.call("PING")
    store.process.send_signal(signal.SIGSTOP)
    late = await asyncio.gather(*(stage.pipeline.call("ECHO", "late") for _ in range(5)), return_exceptions=True)
    store.process.send_signal(signal.SIGCONT)

    assert {type(each) for each in late} == {TimeoutError}
    assert await _echoed(stage.pipeline, 20) == _numbers(20)


async def test_who_gives_up_at_a_time_of_its_own_ends_nobody_elses_call(stage: Stage) -> None:
    loop = asyncio.get_running_loop()
    under_way = asyncio.create_task(stage.pipeline.call("BLPOP", "list", 0))
    await asyncio.sleep(0)

    with pytest.raises(TimeoutError):
        await stage.pipeline.call("ECHO", "late", until_s=loop.time() + _TIMEOUT_S / 10)
    await stage.beside.rpush("list", "there")

    assert await under_way == [b"list", b"there"]
    assert await stage.pipeline.call("ECHO", "in time", until_s=loop.time() + PATIENCE_S) == b"in time"


async def test_without_a_server_every_call_fails_at_once(tmp_path: Path) -> None:
    client = connect(f"unix://{tmp_path}/nobody", timeout_s=_TIMEOUT_S, connections_max=1)
    assert isinstance(client, Redis)
    pipeline = Pipeline(client.connection_pool, _TIMEOUT_S)

    said = await asyncio.gather(*(pipeline.call("PING") for _ in range(5)), return_exceptions=True)
    again = await asyncio.gather(pipeline.call("PING"), return_exceptions=True)

    assert all(isinstance(each, (RedisError, OSError)) for each in [*said, *again])
    await client.aclose()


@pytest.mark.parametrize(
    "said", [b"$4\r\nmine\r\n$6\r\nsurplu", b"?nonsense\r\n", b"-LOADING still\r\n", b"-READONLY no\r\n", b""]
)
async def test_what_is_no_answer_ends_the_connection_and_reaches_nobody_else(said: bytes) -> None:
    connections = 0

    async def server(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        is_first = connections == 1
        with suppress(OSError):
            while asked := await reader.read(1 << 16):
                if is_first and b"mine" in asked:
                    writer.write(said)
                    if not said:
                        break
                else:  # whatever redis-py greets with
                    writer.write(b"$5\r\nright\r\n" if b"other" in asked else b"+OK\r\n" * asked.count(b"*"))
        writer.close()

    async with await asyncio.start_server(server, "127.0.0.1", 0) as listening:
        client = connect(f"redis://127.0.0.1:{listening.sockets[0].getsockname()[1]}", timeout_s=2, connections_max=1)
        assert isinstance(client, Redis)
        pipeline = Pipeline(client.connection_pool, 2)
        await asyncio.gather(pipeline.call("ECHO", "mine"), return_exceptions=True)

        assert await pipeline.call("ECHO", "other") == b"right"
        assert connections == 2
        await pipeline.close()
        await client.aclose()


@pytest.fixture
def under_tls() -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """A server, and its URL."""
    authority, port = trustme.CA(), free_port()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        authority.cert_pem.write_to_path(folder / "ca")
        certificate = authority.issue_cert("localhost")
        certificate.cert_chain_pems[0].write_to_path(folder / "cert")
        certificate.private_key_pem.write_to_path(folder / "key")
        options = {"port": str(port), "cert-file": f"{name}/cert", "key-file": f"{name}/key",
                   "ca-cert-file": f"{name}/ca", "auth-clients": "no"}  # fmt: skip
        flags = [part for key, value in options.items() for part in (f"--tls-{key}", value)]
        with running("redis", folder, *flags) as (server, _):
            yield server, f"rediss://localhost:{port}/0?ssl_ca_certs={name}/ca"


_LOOPS = pytest.mark.parametrize("run", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
_Run = Callable[[Coroutine[None, None, T]], T]


@_LOOPS
def test_calls_share_a_connection_under_tls_and_end_it_without_a_farewell(
    under_tls: tuple[subprocess.Popen[bytes], str], run: _Run[tuple[list[object], object]]
) -> None:
    server, url = under_tls

    async def asked() -> tuple[list[object], object]:
        client = connect(url, timeout_s=10, connections_max=4)
        assert isinstance(client, Redis)
        pipeline = Pipeline(client.connection_pool, 10)
        found = await _echoed(pipeline, 20), await pipeline.call("ECHO", "x" * 100_000)
        server.send_signal(signal.SIGSTOP)
        await pipeline.close()
        await client.aclose()
        return found

    numbers, long = run(asked())

    assert numbers == _numbers(20)
    assert long == b"x" * 100_000


@_LOOPS
def test_a_server_that_dies_under_tls_is_told_to_all_who_wait(
    under_tls: tuple[subprocess.Popen[bytes], str], run: _Run[list[object]]
) -> None:
    server, url = under_tls

    async def asked() -> list[object]:
        client = connect(url, timeout_s=10, connections_max=4)
        assert isinstance(client, Redis)
        pipeline = Pipeline(client.connection_pool, 10)
        await _echoed(pipeline, 1)
        server.send_signal(signal.SIGSTOP)
        waiting = asyncio.gather(*(pipeline.call("ECHO", "x") for _ in range(3)), return_exceptions=True)
        await asyncio.sleep(0)
        server.kill()
        found = await waiting
        await pipeline.close()
        await client.aclose()
        return list(found)

    assert [isinstance(error, FAILURES) for error in run(asked())] == [True] * 3
