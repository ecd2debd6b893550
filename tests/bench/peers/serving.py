"""What every peer on uvloop begins with: enough connections to the upstream, a listener, the line that says where."""

import asyncio
from collections.abc import Callable

_CONNECTIONS = 200


async def serve(
    upstream: str, connection: Callable[[], asyncio.Protocol], caller: Callable[[], asyncio.Protocol]
) -> None:
    """`connection` is one to the upstream, `caller` one of somebody who asks."""
    loop = asyncio.get_running_loop()
    host, _, port = upstream.removeprefix("http://").partition(":")
    for _ in range(_CONNECTIONS):
        await loop.create_connection(connection, host, int(port))
    server = await loop.create_server(caller, "127.0.0.1", 0)
    print(f"ready traffic=http://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
    await server.serve_forever()
