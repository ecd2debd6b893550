"""Secrets never rest in clear (PROMISES S8), and what opened the credentials is gone soon after the batch's end."""

import base64
import gzip
import json
import signal
import sqlite3
import tempfile
import zlib
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from pathlib import Path

import pytest
import redis

from tests.contract.stores import STORES
from tests.fakes.until import until
from tests.integration.asynchronous.calls import ASYNC, Hold, call, ended, results, status, submit
from tests.integration.at_rest.scanning import found
from tests.integration.cli.process import Process
from tests.integration.ledger.servers import Server
from tests.integration.server.api import Api, Talk, answer
from tests.integration.server.wire import ask, get, post, request

_WRAPPED_BYTES = 61  # of a key: version, nonce, 32 bytes sealed (gateway.ledger.seal)
_FIELDS = (("Authorization", "Bearer canary-authorization"), ("Cookie", "session=canary-cookie-value"))
SECRETS = [
    b"canary-authorization",
    b"canary-cookie-value",
    b"canary-body-of-an-operation",
    b"canary-query-of-an-operation",
    b"canary-header-of-an-operation",
    b"canary-key-of-an-operation",
]


def envelope(kind: str, count: int = 3) -> bytes:
    return json.dumps(
        {
            "operations": [
                {
                    "method": "POST",
                    "path": f"/{kind}/{index}?token=canary-query-of-an-operation",
                    "headers": {"X-Secret": "canary-header-of-an-operation"},
                    "body": {"password": "canary-body-of-an-operation"},
                    "idempotencyKey": f"canary-key-of-an-operation-{kind}-{index}",
                }
                for index in range(count)
            ]
        }
    ).encode()


@pytest.mark.parametrize(
    "written",
    [
        SECRETS[0],
        b"x" + base64.b64encode(SECRETS[0]),
        base64.b64encode(b"user:" + SECRETS[0] + b"!"),
        SECRETS[0].hex().encode(),
        zlib.compress(b"before" + SECRETS[0]),
        b"junk" + gzip.compress(SECRETS[0], mtime=0) + b"junk",
    ],
    ids=["raw", "base64", "base64 among others", "hex", "zlib", "gzip"],
)
def test_the_scan_finds_what_is_there(written: bytes) -> None:
    assert found(b"something " + written + b" else", SECRETS) == {SECRETS[0]}
    assert found(b"something else", SECRETS) == set()


class Echo(Hold):
    """An API that says what it was asked, credentials and all; `/held` only when it is told to, `/bad` with 500."""

    async def __call__(self, talk: Talk) -> None:
        if talk.request.target.startswith("/held"):
            await super().__call__(talk)
            return
        said = {"headers": list(map(list, talk.request.fields)), "body": (await talk.request.read()).decode()}
        await talk.send(answer(500 if talk.request.target.startswith("/bad") else 200, json.dumps(said).encode()))


@dataclass
class Place:
    """Where a gateway keeps things: its folder, and what else it writes to."""

    folder: Path
    ledger: str
    server: Server | None = None

    def written(self) -> bytes:
        """Every byte at rest: the files of the folder, and the store's own."""
        if self.server is not None:
            self.server.ask("SAVE")
        return b"".join(path.read_bytes() for path in sorted(self.folder.rglob("*")) if path.is_file())

    def contexts(self) -> list[bytes]:
        """What batches have on record of the request that brought them."""
        if self.server is not None:
            with redis.Redis.from_url(self.server.url) as client:
                found = [client.hget(key, "context") for key in client.scan_iter("{bg:*}:meta")]
            return [context for context in found if isinstance(context, bytes)]
        with closing(sqlite3.connect(self.folder / "ledger.db")) as ledger:
            return [sealed for (sealed,) in ledger.execute("SELECT sealed FROM contexts")]

    def live(self) -> bytes:
        """The ledger as it stands, without its history."""
        if self.server is not None:
            with redis.Redis.from_url(self.server.url) as client:
                return b"".join(client.dump(key) or b"" for key in client.scan_iter("*"))
        return b"".join(path.read_bytes() for path in self.folder.glob("ledger.db*"))


@pytest.fixture(params=["sqlite", *STORES])
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if request.param == "sqlite":
            yield Place(folder, f"sqlite:{folder}/ledger.db")
            return
        server = Server(request.param, folder / "store").start("--dbfilename", "dump.rdb")
        try:
            yield Place(folder, server.url, server)
        finally:
            server.kill()


@pytest.fixture
async def echo() -> AsyncIterator[tuple[Api, Echo]]:
    said = Echo()
    async with Api(said) as api:
        yield api, said


@asynccontextmanager
async def serving(api: Api, place: Place) -> AsyncIterator[tuple[Process, int, int]]:
    """A gateway of its own process, with all that it writes in the place's folder; its traffic and its admin port."""
    run, temporary = place.folder / "run", place.folder / "tmp"
    for each in (run, temporary):
        each.mkdir(exist_ok=True)
    process = Process.command(
        run, "serve", "--upstream", api.url, "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--ledger",
        place.ledger,
        environ={
            "TMPDIR": str(temporary),
            "BATCH_GATEWAY__ASYNC__KEY": json.dumps({"value": "0123456789abcdef"}),
            "BATCH_GATEWAY__ASYNC__LEASE": "1s",
            "BATCH_GATEWAY__BATCH__SYNC_TIMEOUT": "1s",
        },
    )  # fmt: skip
    try:
        yield process, *process.ports()
    finally:
        process.kill()


async def test_no_secret_rests_in_clear_whatever_became_of_its_request(place: Place, echo: tuple[Api, Echo]) -> None:
    api, said = echo
    async with serving(api, place) as (process, port, _):
        running = await submit(port, envelope("held"), *_FIELDS)
        await api.until(1)
        process.signal(signal.SIGKILL)
        process.ended()
        killed = place.written()

    said.released.set()
    async with serving(api, place) as (process, port, admin_port):
        in_place = await post(port, "/batch", envelope("good"), *_FIELDS)
        await ask(port, request("GET", "/forwarded?token=canary-query-of-an-operation", _FIELDS))
        await post(port, "/batch", b'{"canary-body-of-an-operation', *_FIELDS)
        failed = await submit(port, envelope("bad"), *_FIELDS)
        ends = [await ended(port, id_, *_FIELDS) for id_ in (running, failed)]
        said.released.clear()
        promoted = await post(port, "/batch", envelope("held/late", 30), *_FIELDS)
        cancelled = await submit(port, envelope("held/never", 200), *_FIELDS)
        await call(port, "POST", f"/batch/{cancelled}/cancel", *_FIELDS)
        lines = await results(port, failed, "", *_FIELDS)
        shown = [(await get(admin_port, path)).body for path in ("/metrics", "/info", "/config")]
        logs = process.out + process.err

    assert (in_place.status, promoted.status) == (207, 202), promoted.body
    assert [end["status"] for end in ends] == ["completed", "completed"]
    assert "canary-authorization" in json.dumps(lines)  # it was kept, and is the caller's to read
    assert found(killed, SECRETS) == set()
    assert found(place.written(), SECRETS) == set()
    assert found(b"".join([*shown, logs.encode()]), SECRETS) == set()


async def test_what_opens_the_credentials_is_gone_from_the_ledger_within_a_minute_of_the_end(
    place: Place, echo: tuple[Api, Echo]
) -> None:
    api, said = echo
    async with serving(api, place) as (_, port, _):
        batch_id = await submit(port, envelope("held"), ASYNC, *_FIELDS)
        await api.until(1)
        (context,) = place.contexts()
        wrapped = context[:_WRAPPED_BYTES]
        during = wrapped in place.live()
        said.released.set()
        await ended(port, batch_id, *_FIELDS)
        contexts = place.contexts()

        async def is_gone() -> bool:
            return wrapped not in place.live()

        await until(is_gone)
        kept = await results(port, batch_id, "", *_FIELDS)
        state = await status(port, batch_id, *_FIELDS)

    assert during
    assert contexts == []
    assert (len(kept), state["succeeded"]) == (3, 3)
