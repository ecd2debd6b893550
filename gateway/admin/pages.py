"""What the admin listener answers (CONTRACT 8, EXPERIENCE 4): probes and metrics are open, all else is guarded."""

import hmac
import ipaddress
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape

import msgspec
from aiohttp.web import BaseRequest
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from gateway.errors import GatewayError, quoted
from gateway.server import problem
from gateway.server.answer import Answer
from gateway.server.edge import request_id_of
from gateway.server.steps import in_task

_LOOPBACK_HOSTS = frozenset({"localhost", "127.0.0.1", "[::1]"})  # against DNS rebinding: a browser sends the name
_PLAIN = (b"Content-Type", b"text/plain; charset=utf-8")
_SAFE = (
    (b"Cache-Control", b"no-store"),
    (b"X-Content-Type-Options", b"nosniff"),
    (b"Content-Security-Policy", b"default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"),
)

Check = Callable[[], bool]


@dataclass(frozen=True, slots=True)
class AdminSettings:
    """`ready` holds checks of readiness; `aside` what it does not depend on, each with its trouble, empty without one;
    `wrong` lists what else is wrong now; `config` and `info` give texts.

    `drain` and `reload` say whether they succeeded, and in which words. `report` logs a defect of a page; `base` is the
    batch prefix, under which problems are explained. What a reload may change is asked for each time.
    """

    registry: CollectorRegistry
    ready: Mapping[str, Check]
    aside: Callable[[], Mapping[str, str]]
    config: Callable[[], str]
    info: Callable[[], Mapping[str, object]]
    drain: Callable[[], Awaitable[tuple[bool, str]]]
    reload: Callable[[], Awaitable[tuple[bool, str]]]
    wrong: Callable[[], Sequence[str]]
    report: Callable[[Exception], None]
    base: Callable[[], str]
    token: Callable[[], str | None]


class AdminPages:
    """Answers requests of the admin listener."""

    def __init__(self, settings: AdminSettings) -> None:
        self._settings = settings
        self._open = {
            "/livez": self._live,
            "/healthz": self._live,
            "/startupz": self._live,
            "/readyz": self._ready,
            "/metrics": self._metrics,
        }
        self._guarded = {"/": self._index, "/config": self._config, "/info": self._info}
        # What is done, and the status where it could not be: not in time, or not a configuration.
        self._done = {"/drain": (settings.drain, 503), "/reload": (settings.reload, 422)}

    async def __call__(self, request: BaseRequest) -> Answer:
        await in_task()
        try:
            return await self._answer(request)
        except GatewayError as error:
            return self._refused(request, error)
        except Exception as defect:
            self._settings.report(defect)
            return self._refused(request, GatewayError("internal-error", close=True))

    def _refused(self, request: BaseRequest, error: GatewayError) -> Answer:
        return problem.answer_for(error, base=self._settings.base(), request_id=request_id_of(request))

    async def _answer(self, request: BaseRequest) -> Answer:
        path = request.raw_path.partition("?")[0]
        if path in self._done:
            _must_be(request, "POST")
            self._must_be_trusted(request)
            do, failed_status = self._done[path]
            succeeded, words = await do()
            return Answer(200 if succeeded else failed_status, [_PLAIN, *_SAFE], words.encode())
        page = self._open.get(path) or self._guarded.get(path)
        if page is None:
            raise GatewayError("not-found", f"nothing stands at {quoted(path)}; / lists what does")
        _must_be(request, "GET", "HEAD")
        if path in self._guarded:
            self._must_be_trusted(request)
        return page(request)

    def _must_be_trusted(self, request: BaseRequest) -> None:
        token = self._settings.token()
        said = request.headers.get("Authorization", "").removeprefix("Bearer ")
        if token is not None and hmac.compare_digest(said.encode("utf-8", "surrogateescape"), token.encode()):
            return
        said = request.headers.get("Host", "")
        host = said if said.endswith("]") else said.rpartition(":")[0] or said
        # A page of another site, in a browser on this host, must not drain what is forwarded there.
        of_another_site = request.headers.get("Origin", f"http://{said}").partition("://")[2] != said
        if _is_loopback(request.remote) and host in _LOOPBACK_HOSTS and not of_another_site:
            return
        raise GatewayError(
            "forbidden", "this page is for loopback (kubectl port-forward) or for the holder of admin.token"
        )

    def _live(self, request: BaseRequest) -> Answer:
        return Answer(200, [_PLAIN, *_SAFE], b"ok\n")

    def _ready(self, request: BaseRequest) -> Answer:
        checks = {name: check() for name, check in self._settings.ready.items()}
        ready = all(checks.values())
        lines = [
            f"[{'+' if passed else '-'}] {name} {'ok' if passed else 'failed'}\n" for name, passed in checks.items()
        ]
        lines += [
            f"[-] {name}: {trouble} (readiness does not depend on it)\n" if trouble else f"[+] {name} ok\n"
            for name, trouble in self._settings.aside().items()
        ]
        last = "ready\n" if ready else "not ready\n"
        verbose = "verbose" in request.query_string or not ready
        body = "".join([*lines, last]) if verbose else last
        return Answer(200 if ready else 503, [_PLAIN, *_SAFE], body.encode())

    def _metrics(self, request: BaseRequest) -> Answer:
        encode, content_type = choose_encoder(request.headers.get("Accept", ""))
        return Answer(200, [(b"Content-Type", content_type.encode()), *_SAFE], encode(self._settings.registry))

    def _config(self, request: BaseRequest) -> Answer:
        return Answer(200, [(b"Content-Type", b"text/yaml; charset=utf-8"), *_SAFE], self._settings.config().encode())

    def _info(self, request: BaseRequest) -> Answer:
        body = msgspec.json.encode(self._settings.info())
        return Answer(200, [(b"Content-Type", b"application/json"), *_SAFE], body)

    def _index(self, request: BaseRequest) -> Answer:
        links = [*self._open, *(path for path in self._guarded if path != "/")]
        doers = [f"POST {path}" for path in self._done]
        wrong = [f"{name} failed" for name, check in self._settings.ready.items() if not check()]
        wrong += [f"{name}: {trouble}" for name, trouble in self._settings.aside().items() if trouble]
        wrong += self._settings.wrong()
        if "text/html" not in request.headers.get("Accept", ""):
            body = msgspec.json.encode({"links": [*links, *doers], "wrongNow": wrong})
            return Answer(200, [(b"Content-Type", b"application/json"), *_SAFE], body)
        items = "".join(f'<li><a href="{path}">{path}</a></li>' for path in links)
        items += "".join(f"<li>{doer}</li>" for doer in doers)
        state = "<br>".join(escape(each) for each in wrong) or "nothing"
        html = (
            '<!doctype html><html lang="en"><meta charset="utf-8"><title>batch-gateway</title>'
            '<meta name="color-scheme" content="light dark">'
            "<style>body{font:16px/1.5 system-ui,sans-serif;max-width:40rem;margin:3rem auto}</style>"
            f"<h1>batch-gateway</h1><p>Wrong now: {state}</p><ul>{items}</ul></html>"
        )
        return Answer(200, [(b"Content-Type", b"text/html; charset=utf-8"), *_SAFE], html.encode())


def _must_be(request: BaseRequest, *methods: str) -> None:
    if request.method not in methods:
        raise GatewayError("method-not-allowed", headers={"Allow": ", ".join(methods)})


def _is_loopback(address: str | None) -> bool:
    try:
        return ipaddress.ip_address(address or "").is_loopback
    except ValueError:
        return False
