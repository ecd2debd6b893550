"""`batch-gateway demo`: a small API, the gateway in front of it, a batch of mixed methods with one failure, its 207."""

import asyncio
import json
import signal
import sys
from collections.abc import Mapping
from typing import Any

from aiohttp import ClientSession
from aiohttp.web import Application, AppRunner, Request, Response, TCPSite, json_response

from gateway.app import App, begin_to_collect
from gateway.config import load

_USERS: dict[int, dict[str, Any]] = {1: {"id": 1, "name": "Ada"}, 2: {"id": 2, "name": "Grace"}}

ENVELOPE = {
    "operations": [
        {"id": "list", "method": "GET", "path": "/users"},
        {"id": "create", "method": "POST", "path": "/users", "body": {"name": "Edsger"}},
        {"id": "rename", "method": "PUT", "path": "/users/2", "body": {"name": "Grace Hopper"}},
        {"id": "missing", "method": "GET", "path": "/users/99"},
        {"id": "remove", "method": "DELETE", "path": "/users/1"},
    ]
}


async def run() -> int:
    """Show the main job, then serve until Ctrl-C."""
    runner = await _upstream()
    upstream = f"http://127.0.0.1:{runner.addresses[0][1]}"
    app = App(load(None, {}, _flags(upstream)))
    traffic, admin = await app.start()
    begin_to_collect()
    try:
        print(f"demo upstream {upstream}\nbatch gateway {traffic}\nadmin         {admin}\n")
        print(f"POST {traffic}/batch\n{_pretty(ENVELOPE)}\n")
        await _send(traffic)
        print(_TRY.format(traffic=traffic, admin=admin), flush=True)
        await _until_told(app)
    finally:
        await app.close()
        await runner.cleanup()
    return 0


def _flags(upstream: str) -> Mapping[str, object]:
    return {
        "upstream.url": upstream,
        "listen.host": "127.0.0.1",
        "listen.port": 0,
        "admin.port": 0,
        "log.access": False,
        "drain.delay": "0s",
    }


async def _send(traffic: str) -> None:
    async with ClientSession() as session, session.post(f"{traffic}/batch", json=ENVELOPE) as answer:
        print(f"HTTP/1.1 {answer.status} {answer.reason}")
        print(f"Batch-Summary: {answer.headers['Batch-Summary']}\n{_pretty(await answer.json())}\n")


async def _until_told(app: App) -> None:
    told = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, told.set)
    await told.wait()
    print("\ndraining", file=sys.stderr)
    await app.drain(delay_s=0)


def _pretty(document: object) -> str:
    return json.dumps(document, indent=2)


async def _upstream() -> AppRunner:
    """An API that knows nothing of batches."""
    api = Application()
    api.router.add_get("/users", _list)
    api.router.add_post("/users", _create)
    api.router.add_route("*", "/users/{id}", _one)
    runner = AppRunner(api, access_log=None)
    await runner.setup()
    await TCPSite(runner, "127.0.0.1", 0).start()
    return runner


async def _list(_: Request) -> Response:
    return json_response(list(_USERS.values()))


async def _create(request: Request) -> Response:
    id_ = max(_USERS, default=0) + 1
    _USERS[id_] = {"id": id_, **await request.json()}
    return json_response(_USERS[id_], status=201, headers={"Location": f"/users/{id_}"})


async def _one(request: Request) -> Response:
    id_ = int(request.match_info["id"])
    if id_ not in _USERS:
        return json_response({"message": f"no user {id_}"}, status=404)
    if request.method == "DELETE":
        del _USERS[id_]
        return Response(status=204)
    if request.method == "PUT":
        _USERS[id_] |= await request.json()
    return json_response(_USERS[id_])


_TRY = """Still serving; Ctrl-C ends it. Try:
  curl -s {traffic}/batch -H 'Content-Type: application/json' \\
       -d '{{"operations": [{{"method": "GET", "path": "/users"}}, {{"method": "GET", "path": "/users/2"}}]}}'
  curl -s {traffic}/users
  curl -s {admin}/metrics"""
