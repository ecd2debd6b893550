"""The obvious Python build: an aiohttp server before an aiohttp client, ten operations at a time by a semaphore."""

import argparse
import asyncio
from collections.abc import AsyncIterator
from typing import Any

from aiohttp import ClientSession, web

CONCURRENCY = 10
HOP_BY_HOP = {"connection", "host", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade"}
SESSION = web.AppKey("session", ClientSession)
UPSTREAM = web.AppKey("upstream", str)


def main() -> None:
    """Serve until told to end; one line on standard output says where."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--upstream", required=True)
    asyncio.run(serve(parser.parse_args().upstream))


async def serve(upstream: str) -> None:
    """Build the application, listen on a free port, print the address."""
    app = web.Application(client_max_size=10 * 1024 * 1024)
    app[UPSTREAM] = upstream
    app.cleanup_ctx.append(open_session)
    app.router.add_post("/batch", batch)
    app.router.add_route("*", "/{path:.*}", forward)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host, port = runner.addresses[0][:2]
    print(f"ready traffic=http://{host}:{port}", flush=True)
    await asyncio.Event().wait()


async def open_session(app: web.Application) -> AsyncIterator[None]:
    """Share one client, and so one pool of connections."""
    async with ClientSession(auto_decompress=False) as session:
        app[SESSION] = session
        yield


async def batch(request: web.Request) -> web.Response:
    """Run the operations of an envelope, ten at a time."""
    envelope = await request.json()
    slots = asyncio.Semaphore(CONCURRENCY)
    results = await asyncio.gather(*(run(request.app, slots, operation) for operation in envelope["operations"]))
    return web.json_response({"results": results}, status=207)


async def run(app: web.Application, slots: asyncio.Semaphore, operation: dict[str, Any]) -> dict[str, Any]:
    """Send one operation and wait for its answer."""
    url = app[UPSTREAM] + operation["path"]
    async with (
        slots,
        app[SESSION].request(
            operation.get("method", "GET"), url, json=operation.get("body"), headers=operation.get("headers")
        ) as answer,
    ):
        body = await answer.json()
        return {"id": operation["id"], "status": answer.status, "headers": dict(answer.headers), "body": body}


async def forward(request: web.Request) -> web.StreamResponse:
    """Pass any other request through, its body and its answer streamed."""
    headers = {name: value for name, value in request.headers.items() if name.lower() not in HOP_BY_HOP}
    body = request.content if request.can_read_body else None
    url = request.app[UPSTREAM] + request.raw_path
    async with request.app[SESSION].request(
        request.method, url, headers=headers, data=body, allow_redirects=False
    ) as answer:
        kept = {name: value for name, value in answer.headers.items() if name.lower() not in HOP_BY_HOP}
        response = web.StreamResponse(status=answer.status, headers=kept)
        await response.prepare(request)
        async for chunk in answer.content.iter_any():
            await response.write(chunk)
        await response.write_eof()
        return response


if __name__ == "__main__":
    main()
