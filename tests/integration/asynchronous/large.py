"""Large batches through a gateway in a process of its own: sent, followed, downloaded, and what that costs it."""

import json
import re
import zlib
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path
from typing import Any

from tests.bench.processes import cpu_s
from tests.fakes.large_upstream import body_of
from tests.fakes.until import wait_until
from tests.integration.cli.process import Process

WAIT_S = 300.0
_JSON = {"Content-Type": "application/json", "Prefer": "respond-async"}
_READ_BYTES = 1 << 18


class Served:
    """A gateway, and one connection to it."""

    def __init__(self, process: Process, upstream_port: int) -> None:
        self._process = process
        self._pid = process.process.pid
        self._upstream_port = upstream_port
        self.connection = HTTPConnection("127.0.0.1", process.ports()[0], timeout=WAIT_S)

    @contextmanager
    def another(self) -> Iterator["Served"]:
        """The same gateway by a connection of its own."""
        other = Served(self._process, self._upstream_port)
        with closing(other.connection):
            yield other

    @property
    def cpu_s(self) -> float:
        return cpu_s(self._pid)

    @property
    def peak_mib(self) -> int:
        """The most resident memory so far."""
        return int(_field(self._pid, "VmHWM")) // 1024

    @property
    def resident_mib(self) -> int:
        return int(_field(self._pid, "VmRSS")) // 1024

    def asked(self) -> int:
        """How many operations the API was asked for."""
        with closing(HTTPConnection("127.0.0.1", self._upstream_port, timeout=WAIT_S)) as api:
            api.request("GET", "/count")
            return int(api.getresponse().read())

    def call(self, method: str, target: str, body: bytes | None = None) -> dict[str, Any]:
        self.connection.request(method, target, body, _JSON if body else {})
        answered = self.connection.getresponse()
        document = json.loads(answered.read())
        assert answered.status < 300, document
        return dict(document)

    def submit(self, count: int) -> str:
        """A batch of so many small GETs; its URL once it is durable."""
        operations = [{"id": f"op{place}", "method": "GET", "path": target_of(place)} for place in range(count)]
        return str(self.call("POST", "/batch", json.dumps({"operations": operations}).encode())["statusUrl"][:-7])

    def ended(self, batch: str) -> dict[str, Any]:
        """The status of a batch once it has ended."""
        return wait_until(lambda: self.call("GET", batch), WAIT_S, right=lambda found: found["status"] != "processing")

    def get(self, target: str, **headers: str) -> HTTPResponse:
        self.connection.request("GET", target, headers=headers)
        return self.connection.getresponse()


@contextmanager
def served(folder: Path, size: int, ledger: str, **more: Mapping[str, object]) -> Iterator[Served]:
    """A gateway with its ledger at `ledger` before an API whose answers have `size` bytes; `more` are settings."""
    (folder / "upstream").mkdir()
    api = Process.module(folder / "upstream", "tests.fakes.large_upstream", str(size))
    gateway = None
    try:
        port = int(api.said("ready ").split()[1])
        settings = {
            "upstream": {"url": f"http://127.0.0.1:{port}"},
            "batch": {"operations_max": 100_000, "body_max": "32MiB"},
            "async": {"ledger": ledger, "key": {"value": "a secret of the tests"}},
            "log": {"access": False},
            **more,
        }
        (folder / "gateway.yaml").write_text(json.dumps(settings))
        ports = ("--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0")
        gateway = Process.command(folder, "serve", "--config", str(folder / "gateway.yaml"), *ports)
        running = Served(gateway, port)
        with closing(running.connection):
            yield running
    finally:
        for process in (gateway, api):
            if process is not None:
                process.kill()


def target_of(place: int) -> str:
    return f"/items/{place}"


def lines(answered: HTTPResponse) -> Iterator[bytes]:
    """The lines of a body as they come, gzip or not; each ends with a line feed, or the body was cut off."""
    unzip = zlib.decompressobj(16 + zlib.MAX_WBITS) if answered.headers["Content-Encoding"] == "gzip" else None
    rest = b""
    while data := answered.read1(_READ_BYTES):
        *whole, rest = (rest + (unzip.decompress(data) if unzip else data)).split(b"\n")
        yield from whole
    assert rest == b""
    assert unzip is None or unzip.eof


def wrong(place: int, line: bytes, size: int) -> bool:
    """Whether a line is not the result of the operation at `place`."""
    begins, ends = b'{"id":"op%d","status":200,' % place, b'"result":%b}' % body_of(target_of(place), size)
    return not (line.startswith(begins) and line.endswith(ends))


def _field(pid: int, name: str) -> str:
    found = re.search(rf"^{name}:\s+(\d+) kB$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    assert found is not None
    return found[1]
