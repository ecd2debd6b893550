"""How each subject is started: the gateway with its settings, its peers, and the upstream behind them."""

import json
import re
import shutil
import socket
import sys
from collections.abc import Callable
from contextlib import ExitStack
from itertools import count
from pathlib import Path
from typing import Any

from tests.bench.once import send
from tests.bench.processes import LOAD_CORE, MEASURED_CORE, NotMeasuredError, Running, require, run, start
from tests.bench.workloads import ITEM_JSON, REFUSAL_JSON
from tests.fakes.ports import free_port

PEERS = Path(__file__).parent / "peers"
INSTALL_S = 120.0
NPM_OPTIONS = ("--ignore-scripts", "--prefer-offline", "--no-audit", "--no-fund")
UPSTREAM = "upstream"
GATEWAY = "gateway"
PIPELINING = "gateway, pipelining 16"
ENLARGED = "gateway, 1000 operations at once"
LUA = "nginx + Lua"
PROXY = "nginx proxy_pass"
AIOHTTP = "obvious aiohttp"
FLOOR = "bare uvloop, no gateway"
LEAST = "uvloop, llhttp and msgspec, no gateway"
LEAST_PIPELINING = "the same with pipelining, no gateway"
REDIS = "Redis, AOF everysec"
ON_SQLITE = "gateway, ledger on SQLite"
ON_REDIS = "gateway, ledger on Redis"
BULLMQ = "BullMQ worker, 50 at once"
LEAST_PROXY = "uvloop and llhttp, no gateway"
LEAST_AIOHTTP = "aiohttp's server and uvloop, no gateway"
UNLIMITED = "gateway, no limits"
SHARED = "gateway, limits and keys in Redis"
SETTINGS: dict[str, dict[str, Any]] = {
    GATEWAY: {},
    PIPELINING: {"upstream": {"pipelining": 16}},
    ENLARGED: {"batch": {"sync_operations_max": 1000}},
    UNLIMITED: {"limits": []},
    ON_SQLITE: {"batch": {"operations_max": 10_000}},
    ON_REDIS: {"batch": {"operations_max": 10_000}},
}
LIMIT = {"name": "bench", "key": "global", "rate": "10000000/s", "burst": 10_000_000}


class Stage:
    """Everything that runs: one upstream, and each subject once, started when first needed."""

    def __init__(self, folder: Path, seconds: int) -> None:
        self.folder = folder
        self.seconds = seconds
        self.proved: set[tuple[str, bytes]] = set()  # subject and request whose answers were right
        self._subjects: dict[str, Running] = {}
        self._numbers = count()
        self._questions = count(1)
        self._exit = ExitStack()

    def __enter__(self) -> "Stage":
        return self

    def __exit__(self, *_: object) -> None:
        self._exit.close()

    def running(self, subject: str) -> Running:
        """The subject, started at most once."""
        if subject not in self._subjects:
            running = self.fresh(subject)
            self._exit.callback(running.stop)
            self._subjects[subject] = running
        return self._subjects[subject]

    def fresh(self, subject: str) -> Running:
        """Another process of the subject, which the caller stops."""
        folder = self.folder / str(next(self._numbers))
        folder.mkdir()
        if subject == UPSTREAM:
            return start_nginx("upstream.conf", folder, LOAD_CORE, {"ITEM": ITEM_JSON, "REFUSAL": REFUSAL_JSON})
        upstream = self.running(UPSTREAM).url
        if subject == REDIS:
            return start_redis(folder)
        if subject == ON_REDIS:
            ledger = {
                "ledger": f"redis://127.0.0.1:{port_of(self.running(REDIS))}/1",
                "key": {"value": "a key of the bench"},
            }
            return start_gateway(folder, upstream, SETTINGS[subject] | {"async": ledger})
        if subject == BULLMQ:
            return start_bullmq(folder, port_of(self.running(REDIS)), upstream)
        if subject == SHARED:
            url = f"redis://127.0.0.1:{port_of(self.running(REDIS))}/0"
            replay = {"store": url, "keep": "1m", "keys_max": 1_000_000}
            alone = {"ledger": "none", "key": {"value": "a key of the bench"}}
            return start_gateway(folder, upstream, {"limiter": {"url": url}, "replay": replay, "async": alone})
        if subject in SETTINGS:
            return start_gateway(folder, upstream, SETTINGS[subject])
        if subject == AIOHTTP:
            return start_python(folder, ["tests.bench.peers.obvious_aiohttp", "--upstream", upstream])
        if subject == FLOOR:
            return start_python(folder, ["tests.bench.peers.bare_uvloop", "--upstream", upstream])
        if subject == LEAST_PROXY:
            return start_python(folder, ["tests.bench.peers.least_proxy", "--upstream", upstream])
        if subject == LEAST_AIOHTTP:
            return start_python(folder, ["tests.bench.peers.least_aiohttp", "--upstream", upstream])
        if subject in (LEAST, LEAST_PIPELINING):
            depth = "16" if subject == LEAST_PIPELINING else "1"
            module = ["tests.bench.peers.least_python", "--upstream", upstream, "--pipelining", depth]
            return start_python(folder, module)
        site = {LUA: "lua.conf", PROXY: "proxy.conf"}[subject]
        return start_nginx(site, folder, MEASURED_CORE, {"UPSTREAM": upstream.removeprefix("http://")})

    def answered(self) -> int:
        """Requests the upstream has taken so far, without those that ask for this number."""
        _, page = send(self.running(UPSTREAM).url, "/bench/count")
        return int(page.split()[9]) - next(self._questions)


def start_gateway(folder: Path, upstream: str, settings: dict[str, Any]) -> Running:
    """The gateway as an operator would run it: defaults, one limit that never refuses, no access log."""
    configuration = {
        "version": 1,
        "upstream": {"url": upstream} | settings.get("upstream", {}),
        "routes": [{"path": "/**"}],
        "limits": settings.get("limits", [LIMIT]),
        "limiter": settings.get("limiter", {}),
        "replay": settings.get("replay", {}),
        "batch": settings.get("batch", {}),
        "async": settings.get("async", {}),
        "log": {"access": False},
    }
    file = folder / "gateway.yaml"
    file.write_text(json.dumps(configuration))  # JSON is YAML
    ports = ["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]
    return start_python(folder, ["gateway", "serve", "--config", str(file), *ports])


def start_redis(folder: Path) -> Running:
    """A Redis beside the upstream that has every change on its disk within a second or two."""
    require("redis-server")
    port = free_port()
    place = ["--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder)]
    durable = ["--save", "", "--appendonly", "yes", "--appendfsync", "everysec"]
    return start(["redis-server", *place, *durable], folder / "log", LOAD_CORE, listening(port))


def start_bullmq(folder: Path, redis_port: int, upstream: str) -> Running:
    """A worker for the queue in that Redis; its packages come from the registry that npm knows."""
    require("node", "npm")
    shutil.copytree(PEERS / "bullmq", folder, dirs_exist_ok=True)
    try:
        run(["npm", "install", *NPM_OPTIONS, "--prefix", str(folder)], INSTALL_S)
    except NotMeasuredError as error:
        raise NotMeasuredError(f"BullMQ missing: {error}", broken=False) from None
    return start_spoken(["node", str(folder / "worker.js"), str(redis_port), upstream], folder)


def start_python(folder: Path, module: list[str]) -> Running:
    """A module of this tree that prints where it listens."""
    return start_spoken([sys.executable, "-m", *module], folder)


def start_spoken(arguments: list[str], folder: Path) -> Running:
    """A program that prints that it is ready, and its address."""
    log = folder / "log"

    def ready() -> str | None:
        found = re.search(r"^ready traffic=(http://\S+)", log.read_text(), re.MULTILINE)
        return found and found[1]

    return start(arguments, log, MEASURED_CORE, ready)


def start_nginx(site: str, folder: Path, core: int, words: dict[str, str]) -> Running:
    """An nginx with one worker serving one site."""
    require("nginx")
    port = free_port()
    words |= {"PORT": str(port), "MODULES": modules_folder(), "CPATH": cjson_folder()}
    for template, name in (("nginx.conf", "nginx.conf"), (site, "site.conf")):
        text = (PEERS / template).read_text()
        (folder / name).write_text(re.sub(r"@([A-Z]+)@", lambda word: words[word[1]], text))
    for directory in (folder, folder.parent):
        directory.chmod(0o711)  # the worker of an nginx started by root is nobody

    return start(["nginx", "-p", f"{folder}/", "-c", "nginx.conf"], folder / "log", core, listening(port))


def listening(port: int) -> Callable[[], str | None]:
    """Tells the address once somebody listens at `port`."""

    def ready() -> str | None:
        with socket.socket() as probe:
            return None if probe.connect_ex(("127.0.0.1", port)) else f"http://127.0.0.1:{port}"

    return ready


def modules_folder() -> str:
    """Where this nginx keeps its modules, if Lua is among them."""
    found = re.search(r"--modules-path=(\S+)", run(["sh", "-c", "nginx -V 2>&1"], 10))
    if not found or not (Path(found[1]) / "ngx_http_lua_module.so").exists():
        raise NotMeasuredError("nginx's Lua module missing", broken=False)
    return found[1]


def cjson_folder() -> str:
    """Where Debian puts Lua modules in C, which differs by architecture."""
    if found := next(Path("/usr/lib").glob("*/lua/5.1/cjson.so"), None):
        return str(found.parent)
    raise NotMeasuredError("lua-cjson missing", broken=False)


def port_of(running: Running) -> int:
    """The port in its address."""
    return int(running.url.rpartition(":")[2])
