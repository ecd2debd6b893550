"""PROMISES S10: nothing that is compressed is ever inflated, of whatever coding, in either direction.

Each bomb is a MiB at most and some GiB inflated; the process's peak memory tells whether anything was.
"""

import asyncio
import base64
import gzip
import zlib
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import pytest

from tests.integration.cli.process import Process
from tests.integration.server.api import Api, answer
from tests.integration.server.wire import ask, get, post, post_batch, request

MIB = 1 << 20
GROWTH_KIB_MAX = 16 * 1024
VENDORS = "dialects: {facebook: {}, google: {path: /google}, graph: {}}"
# 64 MiB of zeros, by Node's zlib.brotliCompressSync.
_BROTLI = "cfffff7ff82700e2b14020f7fe9ffffffff04f00c4610180eefd3fffffffe19f0088c32200ddfbfffcffffc73f0110870500baf7ff"
# RFC 8878: a frame with a window of 1 MiB, and 8,192 blocks of 128 KiB that repeat one byte: 1 GiB.
_ZSTD = b"\x28\xb5\x2f\xfd\x00\x50"
_ZSTD_BLOCK, _ZSTD_LAST_BLOCK = ((last | 1 << 1 | 131_072 << 3).to_bytes(3, "little") + b"\0" for last in (0, 1))

ENCODED = "Content-Encoding"
ENVELOPES = {"/batch": "application/json", "/google": "multipart/mixed; boundary=b", "/v1.0/$batch": "application/json"}


@pytest.fixture(scope="module")
def bombs() -> dict[str, list[bytes]]:
    """By content coding."""
    member = gzip.compress(bytes(MIB))
    return {
        "gzip": [gzip.compress(bytes(64 * MIB)), member * 1000],
        "gzip, gzip": [gzip.compress(member * 1000)],
        "deflate": [zlib.compress(bytes(64 * MIB))],
        "br": [bytes.fromhex(_BROTLI)],
        "zstd": [_ZSTD + _ZSTD_BLOCK * 8191 + _ZSTD_LAST_BLOCK],
    }


@pytest.fixture
def process(api: Api, tmp_path: Path) -> Iterator[Process]:
    config = tmp_path / "gateway.yaml"
    config.write_text(f"upstream: {{url: '{api.url}'}}\n{VENDORS}\nasync: {{ledger: none}}\nlog: {{access: false}}\n")
    listeners = ("--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0")
    started = Process.command(tmp_path, "serve", "--config", str(config), *listeners)
    yield started
    started.kill()


class Peak:
    """The process's peak of memory from now on."""

    def __init__(self, process: Process) -> None:
        self._of = Path(f"/proc/{process.process.pid}")
        (self._of / "clear_refs").write_text("5")  # proc(5): the peak begins anew
        self._before_kib = self._kib("VmRSS")

    @property
    def growth_kib(self) -> int:
        return self._kib("VmHWM") - self._before_kib

    def _kib(self, name: str) -> int:
        return int((self._of / "status").read_text().partition(f"{name}:")[2].split()[0])


async def test_an_envelope_in_any_coding_is_415_and_says_what_is_taken(
    process: Process, bombs: dict[str, list[bytes]]
) -> None:
    port, _ = process.ports()
    peak = Peak(process)

    for coding, bodies in bombs.items():
        for body, (path, media_type) in product(bodies, ENVELOPES.items()):
            async with asyncio.timeout(1):
                fields = [("Content-Type", media_type), (ENCODED, coding)]
                refused = await ask(port, request("POST", path, fields, body), "POST")

            told = refused.status, refused.header("X-Gateway-Error"), refused.header("Accept-Encoding")
            assert told == (415, "unsupported-encoding", "identity"), (coding, path)
    assert peak.growth_kib <= GROWTH_KIB_MAX


async def test_a_body_and_an_answer_pass_as_they_are(api: Api, process: Process, bombs: dict[str, list[bytes]]) -> None:
    port, _ = process.ports()
    await get(port, "/warm")
    peak = Peak(process)

    for coding, body in [(coding, body) for coding, bodies in bombs.items() for body in bodies]:
        api.on("/down", answer(200, body, ("Content-Type", "application/json"), (ENCODED, coding)))
        sent = await post(port, "/up", body, (ENCODED, coding))
        arrived = api.last
        fetched = await get(port, "/down")
        batch = await post_batch(port, [{"method": "GET", "path": "/down"}])

        assert (sent.status, arrived.body == body, arrived.header(ENCODED)) == (200, True, coding)
        assert (fetched.body == body, fetched.header(ENCODED)) == (True, coding)
        (result,) = batch.json()["results"]
        assert (result["headers"][ENCODED], result["encoding"]) == (coding, "base64")
        assert base64.b64decode(result["result"]) == body
    assert peak.growth_kib <= GROWTH_KIB_MAX
